package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

const (
	secretPrefix = "forge_" // lets secret scanners and people recognise a leaked key
	secretBytes  = 32
	shownLength  = len(secretPrefix) + 6 // 24 bits tell keys apart and help nobody guess 256
)

// keyRow is a key as its row holds it, with what decides about it of its user.
type keyRow struct {
	bun.BaseModel `bun:"table:api_keys,alias:k"`

	ID        forge.KeyID    `bun:"id,pk"`
	Tenant    forge.TenantID `bun:"tenant"`
	UserID    forge.UserID   `bun:"user_id"`
	Role      forge.Role     `bun:"role"`
	Prefix    string         `bun:"prefix"`
	Hash      string         `bun:"hash"`
	CreatedAt stamp          `bun:"created_at"`
	RevokedAt stamp          `bun:"revoked_at"`
	Name      string         `bun:"name"`
	ExpiresAt stamp          `bun:"expires_at"`
	UsedAt    stamp          `bun:"last_used_at"`
	Replaces  forge.KeyID    `bun:"replaces,nullzero"`

	User         string     `bun:"user_name,scanonly"`
	UserRole     forge.Role `bun:"user_role,scanonly"`
	UserDisabled stamp      `bun:"user_disabled,scanonly"`
	UserCap      *int       `bun:"user_cap,scanonly"`
}

func selectKeys(q *bun.SelectQuery, rows any) *bun.SelectQuery {
	return q.Model(rows).ColumnExpr("k.*, u.name AS user_name, u.role AS user_role, u.disabled_at AS user_disabled, u.max_priority AS user_cap").
		Join("JOIN users AS u ON u.id = k.user_id")
}

// forge makes the noun. When it was used is asked of usage, which is ahead of the row.
func (r *keyRow) forge(u *usage) forge.Key {
	return forge.Key{ID: r.ID, Tenant: r.Tenant, User: r.User, Name: r.Name, Role: r.Role, Prefix: r.Prefix, CreatedAt: r.CreatedAt.time(),
		ExpiresAt: r.ExpiresAt.pointer(), LastUsedAt: max(r.UsedAt, u.last(r.ID)).pointer(), RevokedAt: r.RevokedAt.pointer(), Replaces: r.Replaces}
}

func (r *keyRow) place(string) []any { return []any{r.ID} }

func (r *keyRow) expired(now stamp) bool { return r.ExpiresAt != 0 && r.ExpiresAt <= now }

// acts is the role that the key acts with: a user's role bounds those of its keys from the moment that it changes.
func (r *keyRow) acts() forge.Role { return lesser(r.Role, r.UserRole) }

func lesser(a, b forge.Role) forge.Role {
	if a.Includes(b) {
		return b
	}
	return a
}

// hashSecret is all that is kept of a secret. One round of SHA-256 is enough: there is nothing to guess in 256 random
// bits. It is also what a key is looked up by, so that no comparison of secrets happens whose
// time could tell anything: how far two hashes agree says nothing about the secrets.
func hashSecret(secret string) string {
	h := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(h[:])
}

func newSecret() (string, error) {
	var raw [secretBytes]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", err
	}
	return secretPrefix + hex.EncodeToString(raw[:]), nil
}

// NewKey is what a key is made from.
type NewKey struct {
	User string        // name; made where there is none, by an admin
	Role forge.Role    // at most the user's and the maker's; empty: as much as that
	Name string        // what it is for
	Life time.Duration // 0: for ever
	Why  forge.Why     // empty: somebody asked
}

// CreateKey makes an API key for a user of the tenant; the secret is returned this once. Admins may name a user that
// there is not yet, and it is made with the key's role, member when none is said. KindForbidden for a role
// above the maker's or for a user above the maker; KindInvalid for a role above the user's; KindPrecondition when
// the user is disabled; KindNotFound. A repeated request is answered with the key of the first, without its secret.
func (t *Tenant) CreateKey(ctx context.Context, n NewKey) (forge.Key, string, error) {
	const op = "key.create"
	return t.makeKey(ctx, op, func(tx *tx, secret string) (*keyRow, error) {
		u, err := tx.user(t.p.Tenant, n.User)
		if forge.KindOf(err) == forge.KindNotFound && t.p.Role.Includes(forge.RoleAdmin) {
			u, err = tx.createUser(t.p, forge.User{Name: n.User, Role: n.Role}, forge.WhyRequested)
			if err != nil {
				err = asUserField(err)
			}
		}
		if err != nil {
			return nil, err
		}
		if u.ID != t.p.UserID {
			if err := t.outranks(op, u); err != nil {
				return nil, err
			}
		}
		if n.Role == "" {
			n.Role = lesser(u.Role, t.p.Role)
		}
		switch {
		case !t.p.Role.Includes(n.Role):
			return nil, tooHigh(op, t.p.Role, n.Role)
		case !u.Role.Includes(n.Role):
			return nil, forge.Invalidf("role", "%s is above the role of user %s, which is %s", n.Role, u.Name, u.Role).
				WithOp(op).WithHint("forgectl user edit %s --role %s raises it", u.Name, n.Role)
		case u.DisabledAt != 0:
			return nil, disabledUser(op, u.Name)
		}
		row := &keyRow{Tenant: t.p.Tenant, UserID: u.ID, Role: n.Role, Name: n.Name, User: u.Name, UserRole: u.Role}
		if n.Life > 0 {
			row.ExpiresAt = stampOf(tx.now.Add(n.Life))
		}
		return row, tx.insertKey(t.p, row, secret, cmp.Or(n.Why, forge.WhyRequested))
	})
}

func asUserField(err error) error {
	if forge.KindOf(err) == forge.KindInvalid {
		return forge.Invalidf("user", "%w", err)
	}
	return err
}

func tooHigh(op string, mine, asked forge.Role) error {
	return (&forge.Error{Kind: forge.KindForbidden, Op: op, Field: "role", Err: fmt.Errorf("%s is above your own role, which is %s", asked, mine)}).
		WithHint("ask somebody of that role; forgectl whoami says which is yours")
}

func disabledUser(op, name string) error {
	return forge.Errorf(forge.KindPrecondition, op, "user %s is disabled", name).WithHint("forgectl user enable %s", name)
}

// makeKey is a write that makes a key.
func (t *Tenant) makeKey(ctx context.Context, op string, do func(tx *tx, secret string) (*keyRow, error)) (forge.Key, string, error) {
	fresh, err := newSecret()
	if err != nil {
		return forge.Key{}, "", classify(op, err)
	}
	var row *keyRow
	secret := fresh
	err = t.db.write(ctx, op, func(tx *tx) error {
		return tx.once(t.p, func() (string, error) {
			var err error
			if row, err = do(tx, fresh); err != nil {
				return "", err
			}
			return string(row.ID), nil
		}, func(ref string) (err error) {
			secret = ""
			row, err = tx.key(t.p, ref)
			return err
		})
	})
	if err != nil {
		return forge.Key{}, "", err
	}
	t.db.keys.forget() // a rotation ends an old one
	return row.forge(&t.db.usage), secret, nil
}

func (t *tx) insertKey(p forge.Principal, row *keyRow, secret string, why forge.Why) error {
	row.ID, row.Prefix, row.Hash, row.CreatedAt = forge.KeyID(t.id()), secret[:shownLength], hashSecret(secret), stampOf(t.now)
	if _, err := t.NewInsert().Model(row).Exec(t.ctx); err != nil {
		return err
	}
	if why == forge.WhyRotated {
		return nil // the rotation tells of both
	}
	until := ""
	if row.ExpiresAt != 0 {
		until = ", until " + row.ExpiresAt.time().Format(time.RFC3339)
	}
	return t.keyEvent(p, row, forge.EventKeyCreated, why, fmt.Sprintf("made for %s as %s%s", row.User, row.Role, until))
}

func (t *tx) keyEvent(p forge.Principal, row *keyRow, typ forge.EventType, why forge.Why, what string) error {
	data := map[string]any{"key": string(row.ID), "user": row.User}
	if row.Replaces != "" {
		data["replaces"] = string(row.Replaces)
	}
	return t.event(forge.Event{Tenant: row.Tenant, Actor: p.Actor(), Type: typ, Reason: string(why), Message: "key " + row.Prefix + "… " + what, Data: data})
}

// visibleKeys narrows a query to keys that the principal may see: all of the tenant to admins, to everyone else their own.
func visibleKeys(q *bun.SelectQuery, p forge.Principal) *bun.SelectQuery {
	q = q.Where("k.tenant = ?", p.Tenant)
	if !p.Role.Includes(forge.RoleAdmin) {
		q = q.Where("k.user_id = ?", p.UserID)
	}
	return q
}

// Keys lists the keys that the principal may see, those too that have ended, oldest first, and says where the next page begins.
func (t *Tenant) Keys(ctx context.Context, l Listing) ([]forge.Key, string, error) {
	var rows []keyRow
	q := visibleKeys(selectKeys(t.db.read.NewSelect(), &rows), t.p)
	next, err := pageOf(ctx, t, "key.list", l, []order{{name: "id", columns: []string{"k.id"}}}, q, &rows)
	if err != nil {
		return nil, "", err
	}
	all := make([]forge.Key, len(rows))
	for i := range rows {
		all[i] = rows[i].forge(&t.db.usage)
	}
	return all, next, nil
}

// Key finds a key that the principal may see. KindNotFound.
func (t *Tenant) Key(ctx context.Context, id string) (forge.Key, error) {
	row := &keyRow{}
	err := visibleKeys(selectKeys(t.db.read.NewSelect(), row), t.p).Where("k.id = ?", clean(id)).Scan(ctx)
	if absent(err) {
		return forge.Key{}, noKey(id)
	}
	if err != nil {
		return forge.Key{}, classify("key.show", err)
	}
	return row.forge(&t.db.usage), nil
}

// OwnKey is the key that the principal showed, wherever it acts; nil for one who came without.
func (t *Tenant) OwnKey(ctx context.Context) (*forge.Key, error) {
	if t.p.Key == "" {
		return nil, nil
	}
	row := &keyRow{}
	if err := selectKeys(t.db.read.NewSelect(), row).Where("k.id = ?", t.p.Key).Scan(ctx); err != nil {
		return nil, classify("key.show", err)
	}
	k := row.forge(&t.db.usage)
	return &k, nil
}

func (t *tx) key(p forge.Principal, id string) (*keyRow, error) {
	row := &keyRow{}
	err := visibleKeys(selectKeys(t.NewSelect(), row), p).Where("k.id = ?", clean(id)).Scan(t.ctx)
	if absent(err) {
		return nil, noKey(id)
	}
	return row, err
}

// keyToChange loads a key for a change. Nobody changes a key that can do more than they: a weak key that leaked must
// neither end nor become a strong one.
func (t *tx) keyToChange(op string, p forge.Principal, id string) (*keyRow, error) {
	row, err := t.key(p, id)
	if err != nil {
		return nil, err
	}
	if !p.Role.Includes(row.acts()) || row.UserID != p.UserID && !p.Role.Includes(row.UserRole) {
		return nil, forge.Errorf(forge.KindForbidden, op, "key %s… acts as %s for %s, who is %s; you act as %s", row.Prefix, row.acts(), row.User, row.UserRole, p.Role).
			WithHint("use a key of that role, or ask somebody who has one")
	}
	return row, nil
}

func noKey(id string) *forge.Error {
	return notFound("key.show", "there is no key %q", id).WithHint("forgectl key list")
}
