package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"sync"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

const (
	secretPrefix = "forge_" // lets secret scanners and people recognise a leaked key
	secretBytes  = 32
	shownLength  = len(secretPrefix) + 6 // 24 bits tell keys apart and help nobody guess 256
	maxKeyCache  = 4096
)

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

	User string `bun:"user_name,scanonly"`
}

func (r keyRow) forge() forge.Key {
	k := forge.Key{ID: r.ID, Tenant: r.Tenant, User: r.User, Role: r.Role, Prefix: r.Prefix, CreatedAt: r.CreatedAt.time()}
	if at := r.RevokedAt.time(); !at.IsZero() {
		k.RevokedAt = &at
	}
	return k
}

type userRow struct {
	bun.BaseModel `bun:"table:users,alias:u"`

	ID          forge.UserID   `bun:"id,pk"`
	Tenant      forge.TenantID `bun:"tenant"`
	Name        string         `bun:"name"`
	CreatedAt   stamp          `bun:"created_at"`
	Role        forge.Role     `bun:"role"`
	MaxPriority *int           `bun:"max_priority"`
	UnixUID     *int64         `bun:"unix_uid"`
	DisabledAt  stamp          `bun:"disabled_at"`
}

func hashSecret(secret string) string {
	h := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(h[:])
}

// CreateKey makes an API key for a user of the tenant, and the user where there is none. The secret
// is returned this once; the store keeps its SHA-256 only: 256 random bits need no slow hash.
// KindInvalid for a role or user name that does not exist or is no name; KindNotFound for the tenant.
func (db *DB) CreateKey(ctx context.Context, tenant forge.TenantID, user string, role forge.Role, actor string) (forge.Key, string, error) {
	const op = "key.create"
	if err := forge.CheckName(user); err != nil {
		return forge.Key{}, "", forge.Invalidf("user", "%w", err).WithOp(op)
	}
	if user == actorForged { // holds of that name count towards pausing a cluster
		return forge.Key{}, "", forge.Invalidf("user", "%q is how forge signs what it does by itself; want another name", user).WithOp(op)
	}
	if roles := []forge.Role{forge.RoleViewer, forge.RoleMember, forge.RoleAdmin, forge.RoleOperator}; !slices.Contains(roles, role) {
		return forge.Key{}, "", forge.Invalidf("role", "role %q does not exist; want one of %v", role, roles).WithOp(op)
	}
	var raw [secretBytes]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return forge.Key{}, "", classify(op, err)
	}
	secret := secretPrefix + hex.EncodeToString(raw[:])
	var row keyRow
	err := db.write(ctx, op, func(t *tx) error {
		uid, err := t.ensureUser(tenant, user)
		if err != nil {
			return err
		}
		row = keyRow{ID: forge.KeyID(t.id()), Tenant: tenant, UserID: uid, Role: role, Prefix: secret[:shownLength],
			Hash: hashSecret(secret), CreatedAt: stampOf(t.now), User: user}
		if _, err := t.NewInsert().Model(&row).Exec(t.ctx); err != nil {
			return err
		}
		return t.event(forge.Event{Tenant: tenant, Actor: actor, Type: forge.EventKeyCreated,
			Message: "key " + row.Prefix + "… made for " + user + " as " + string(role), Data: map[string]any{"key": string(row.ID)}})
	})
	if err != nil {
		return forge.Key{}, "", err
	}
	return row.forge(), secret, nil
}

func (t *tx) ensureUser(tenant forge.TenantID, name string) (forge.UserID, error) {
	var known int
	if err := t.one(`SELECT 1 FROM tenants WHERE id = ?`, []any{string(tenant)}, &known); err != nil {
		if absent(err) {
			return "", notFound("key.create", "there is no such tenant")
		}
		return "", err
	}
	var id forge.UserID
	err := t.one(`SELECT id FROM users WHERE tenant = ? AND name = ?`, []any{string(tenant), name}, &id)
	if !absent(err) {
		return id, err
	}
	row := userRow{ID: forge.UserID(t.id()), Tenant: tenant, Name: name, Role: forge.RoleMember, CreatedAt: stampOf(t.now)}
	_, err = t.NewInsert().Model(&row).Exec(t.ctx)
	return row.ID, err
}

// CreateKey makes a key in the principal's tenant; see DB.CreateKey.
func (t *Tenant) CreateKey(ctx context.Context, user string, role forge.Role) (forge.Key, string, error) {
	return t.db.CreateKey(ctx, t.p.Tenant, user, role, t.p.User)
}

// Keys lists the tenant's keys, revoked ones too, oldest first.
func (t *Tenant) Keys(ctx context.Context) ([]forge.Key, error) {
	var rows []keyRow
	err := t.db.read.NewSelect().Model(&rows).ColumnExpr("k.*, u.name AS user_name").
		Join("JOIN users AS u ON u.id = k.user_id").Where("k.tenant = ?", t.p.Tenant).Order("k.id").Scan(ctx)
	if err != nil {
		return nil, classify("key.list", err)
	}
	keys := make([]forge.Key, 0, len(rows))
	for _, r := range rows {
		keys = append(keys, r.forge())
	}
	return keys, nil
}

// RevokeKey ends a key at once; revoking it again changes nothing. KindNotFound when the tenant
// has no such key.
func (t *Tenant) RevokeKey(ctx context.Context, id forge.KeyID) (forge.Key, error) {
	const op = "key.revoke"
	var row keyRow
	err := t.db.write(ctx, op, func(tx *tx) error {
		row = keyRow{}
		err := tx.NewSelect().Model(&row).ColumnExpr("k.*, u.name AS user_name").Join("JOIN users AS u ON u.id = k.user_id").
			Where("k.tenant = ?", t.p.Tenant).Where("k.id = ?", clean(string(id))).Scan(tx.ctx)
		if absent(err) {
			return notFound(op, "there is no key %q", id).WithHint("forgectl key list")
		}
		if err != nil || row.RevokedAt != 0 {
			return err
		}
		row.RevokedAt = stampOf(tx.now)
		if _, err := tx.exec(`UPDATE api_keys SET revoked_at = ? WHERE id = ?`, int64(row.RevokedAt), string(row.ID)); err != nil {
			return err
		}
		return tx.event(forge.Event{Tenant: t.p.Tenant, Actor: t.p.User, Type: forge.EventKeyRevoked,
			Message: "key " + row.Prefix + "… of " + row.User + " revoked", Data: map[string]any{"key": string(row.ID)}})
	})
	if err != nil {
		return forge.Key{}, err
	}
	t.db.keys.forget(row.Hash)
	return row.forge(), nil
}

// Authenticate answers who holds the secret. KindUnauthorized, by the same text, for one that
// is unknown and one that is revoked.
func (db *DB) Authenticate(ctx context.Context, secret string) (forge.Principal, error) {
	const op = "key.authenticate"
	hash := hashSecret(secret)
	p, generation, ok := db.keys.get(hash)
	if ok {
		return p, nil
	}
	var row keyRow
	err := db.read.NewSelect().Model(&row).ColumnExpr("k.*, u.name AS user_name").Join("JOIN users AS u ON u.id = k.user_id").
		Where("k.hash = ?", hash).Where("k.revoked_at = 0").Scan(ctx)
	if absent(err) {
		return forge.Principal{}, forge.Errorf(forge.KindUnauthorized, op, "the API key is not valid").
			WithHint("set FORGE_API_KEY to a key from: forgectl key create")
	}
	if err != nil {
		return forge.Principal{}, classify(op, err)
	}
	p = forge.Principal{Tenant: row.Tenant, User: row.User, UserID: row.UserID, Key: row.ID, Role: row.Role}
	db.keys.put(hash, p, generation)
	return p, nil
}

// keyCache spares every request a query for its key. A revocation raises the generation, so that
// an answer read before it can not be stored after it.
type keyCache struct {
	mu         sync.RWMutex
	generation int
	known      map[string]forge.Principal
}

func (c *keyCache) get(hash string) (forge.Principal, int, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	p, ok := c.known[hash]
	return p, c.generation, ok
}

func (c *keyCache) put(hash string, p forge.Principal, generation int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation != c.generation {
		return
	}
	if c.known == nil || len(c.known) >= maxKeyCache {
		c.known = map[string]forge.Principal{}
	}
	c.known[hash] = p
}

func (c *keyCache) forget(hash string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	delete(c.known, hash)
}
