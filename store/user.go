package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

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

	MaxGPUs    int `bun:"max_gpus"`
	MaxRunning int `bun:"max_running"`
	MaxQueued  int `bun:"max_queued"`
}

func (r *userRow) forge() forge.User {
	return forge.User{ID: r.ID, Tenant: r.Tenant, Name: r.Name, Role: r.Role, MaxPriority: r.MaxPriority, UnixUID: r.UnixUID, Quota: r.quota(),
		CreatedAt: r.CreatedAt.time(), DisabledAt: r.DisabledAt.pointer()}
}

func (r *userRow) place(order string) []any {
	if order == "name" {
		return []any{r.Name}
	}
	return []any{r.CreatedAt, r.ID}
}

// Unset in a UserChange takes a value away again.
const Unset = -1

// UserChange is what to change of a user; nil leaves a thing as it is.
type UserChange struct {
	Role        *forge.Role
	MaxPriority *int   // Unset: the site's default again
	UnixUID     *int64 // Unset: none any more
	MaxGPUs     *int   // 0: no bound, as in the next two
	MaxRunning  *int
	MaxQueued   *int
}

// visibleUsers narrows a query to users that the principal may see: all of the tenant to admins, to everyone else themselves.
func (t *Tenant) visibleUsers(q *bun.SelectQuery) *bun.SelectQuery {
	q = q.Where("u.tenant = ?", t.p.Tenant)
	if !t.p.Role.Includes(forge.RoleAdmin) {
		q = q.Where("u.id = ?", t.p.UserID)
	}
	return q
}

// CreateUser makes a user of the tenant from its name, role, cap and uid. KindConflict when the name is taken, or
// the uid, site-wide: whose it is is not said. KindInvalid for what is no name, role, priority or uid.
func (t *Tenant) CreateUser(ctx context.Context, u forge.User) (forge.User, error) {
	const op = "user.create"
	var row *userRow
	err := t.db.write(ctx, op, func(tx *tx) error {
		return tx.once(t.p, func() (string, error) {
			var err error
			if row, err = tx.createUser(t.p, u, forge.WhyRequested); err != nil {
				return "", err
			}
			return string(row.ID), nil
		}, func(ref string) (err error) { row, err = tx.user(t.p.Tenant, ref); return err })
	})
	if err != nil {
		return forge.User{}, err
	}
	return row.forge(), nil
}

func (t *tx) createUser(p forge.Principal, u forge.User, why forge.Why) (*userRow, error) {
	const op = "user.create"
	if err := forge.CheckName(u.Name); err != nil {
		return nil, forge.Invalidf("name", "%w", err).WithOp(op)
	}
	if u.Name == actorForged { // holds of that name count towards pausing a cluster
		return nil, forge.Invalidf("name", "%q is how forge signs what it does by itself; want another name", u.Name).WithOp(op)
	}
	if err := t.needTenant(p.Tenant); err != nil {
		return nil, err
	}
	row := &userRow{ID: forge.UserID(t.id()), Tenant: p.Tenant, Name: u.Name, CreatedAt: stampOf(t.now), Role: u.Role, MaxPriority: u.MaxPriority, UnixUID: u.UnixUID}
	if row.Role == "" {
		row.Role = forge.RoleMember
	}
	if err := t.checkUser(op, row); err != nil {
		return nil, err
	}
	var known int
	err := t.one(`SELECT 1 FROM users WHERE tenant = ? AND name = ?`, []any{string(p.Tenant), u.Name}, &known)
	if err == nil {
		return nil, forge.Errorf(forge.KindConflict, op, "user %q exists already", u.Name).WithHint("forgectl user show %s", u.Name)
	}
	if !absent(err) {
		return nil, err
	}
	if _, err := t.NewInsert().Model(row).Exec(t.ctx); err != nil {
		return nil, err
	}
	return row, t.userEvent(p, row, forge.EventUserCreated, why, "made as "+string(row.Role)+row.extras())
}

func (r *userRow) extras() string {
	var s strings.Builder
	if r.MaxPriority != nil {
		fmt.Fprintf(&s, ", priority up to %d", *r.MaxPriority)
	}
	if r.UnixUID != nil {
		fmt.Fprintf(&s, ", uid %d", *r.UnixUID)
	}
	return s.String()
}

// checkUser refuses values that the schema would refuse less kindly.
func (t *tx) checkUser(op string, r *userRow) error {
	if !r.Role.Includes(forge.RoleViewer) {
		return forge.Invalidf("role", "role %q does not exist; want one of %v", r.Role, forge.Roles).WithOp(op)
	}
	if m := r.MaxPriority; m != nil && (*m < forge.MinPriority || *m > forge.MaxPriority) {
		return forge.Invalidf("max_priority", "%d: want %d to %d", *m, forge.MinPriority, forge.MaxPriority).WithOp(op)
	}
	if err := checkQuota(op, r.quota()); err != nil {
		return err
	}
	if r.UnixUID == nil {
		return nil
	}
	if *r.UnixUID < 0 || *r.UnixUID >= 1<<32-1 { // the last one is (uid_t)-1: nobody
		return forge.Invalidf("unix_uid", "%d: want 0 to %d", *r.UnixUID, int64(1<<32-2)).WithOp(op)
	}
	var known int
	err := t.one(`SELECT 1 FROM users WHERE unix_uid = ? AND id <> ?`, []any{*r.UnixUID, string(r.ID)}, &known)
	if err == nil {
		return (&forge.Error{Kind: forge.KindConflict, Op: op, Field: "unix_uid", Err: fmt.Errorf("uid %d is another user's already", *r.UnixUID)}).
			WithHint("a uid is one user of the whole site; an operator can say whose")
	}
	if !absent(err) {
		return err
	}
	return nil
}

func (t *tx) needTenant(id forge.TenantID) error {
	var known int
	err := t.one(`SELECT 1 FROM tenants WHERE id = ?`, []any{string(id)}, &known)
	if absent(err) {
		return notFound("tenant.show", "there is no such tenant")
	}
	return err
}

func (t *tx) userEvent(p forge.Principal, u *userRow, typ forge.EventType, why forge.Why, what string) error {
	return t.event(forge.Event{Tenant: u.Tenant, Actor: p.Actor(), Type: typ, Reason: string(why), Message: "user " + u.Name + " " + what,
		Data: map[string]any{"user": string(u.ID), "name": u.Name}})
}

// Users lists the users that the principal may see, and says where the next page begins.
func (t *Tenant) Users(ctx context.Context, l Listing) ([]forge.User, string, error) {
	var rows []userRow
	q := startsWith(t.visibleUsers(t.db.read.NewSelect().Model(&rows)), "u.name", l.Name)
	next, err := pageOf(ctx, t, "user.list", l, namedOrders("u"), q, &rows)
	if err != nil {
		return nil, "", err
	}
	all := make([]forge.User, len(rows))
	for i := range rows {
		all[i] = rows[i].forge()
	}
	return all, next, nil
}

// User finds a user that the principal may see, by id or name. KindNotFound.
func (t *Tenant) User(ctx context.Context, idOrName string) (forge.User, error) {
	row := &userRow{}
	err := t.visibleUsers(t.db.read.NewSelect().Model(row)).Where("(u.id = ? OR u.name = ?)", clean(idOrName), clean(idOrName)).Scan(ctx)
	if absent(err) {
		return forge.User{}, noUser(idOrName)
	}
	if err != nil {
		return forge.User{}, classify("user.show", err)
	}
	return row.forge(), nil
}

// user loads a user of a tenant, by id or name.
func (t *tx) user(tenant forge.TenantID, idOrName string) (*userRow, error) {
	u := &userRow{}
	err := t.NewSelect().Model(u).Where("u.tenant = ?", tenant).Where("(u.id = ? OR u.name = ?)", clean(idOrName), clean(idOrName)).Scan(t.ctx)
	if absent(err) {
		return nil, noUser(idOrName)
	}
	return u, err
}

// UnixUID is the uid of a user, as runs name it. KindPrecondition for one who has none, KindNotFound for one who is not there.
func (db *DB) UnixUID(ctx context.Context, tenant forge.TenantID, actor string) (int64, error) {
	row := &userRow{}
	q := db.read.NewSelect().Model(row)
	if name, visitor := strings.CutSuffix(actor, forge.OperatorMark); visitor { // in a tenant that is not its own
		q = q.Where("u.name = ?", name).Where("u.role = ?", forge.RoleOperator)
	} else {
		q = q.Where("u.tenant = ?", tenant).Where("u.name = ?", actor)
	}
	err := q.Limit(1).Scan(ctx)
	switch {
	case absent(err):
		return 0, noUser(actor)
	case err != nil:
		return 0, classify("user.uid", err)
	case row.UnixUID == nil:
		return 0, forge.Errorf(forge.KindPrecondition, "user.uid", "user %s has no unix_uid, and jobs belong to people's own accounts here", row.Name).
			WithHint("an admin says which account it is: forgectl user edit %s --unix-uid UID", row.Name)
	}
	return *row.UnixUID, nil
}

func noUser(name string) *forge.Error {
	return notFound("user.show", "there is no user %q", name).WithHint("forgectl user list")
}

// changeUser is a write to one user of the tenant. Nobody changes a user above themselves: KindForbidden. It is
// looked at in here because roles change, and the one that counts is that of the moment of the write.
func (t *Tenant) changeUser(ctx context.Context, op, idOrName string, do func(*tx, *userRow) error) (forge.User, error) {
	var u *userRow
	err := t.db.write(ctx, op, func(tx *tx) error {
		return tx.once(t.p, func() (string, error) {
			var err error
			if u, err = tx.user(t.p.Tenant, idOrName); err != nil {
				return "", err
			}
			if err := t.outranks(op, u); err != nil {
				return "", err
			}
			return string(u.ID), do(tx, u)
		}, func(ref string) (err error) { u, err = tx.user(t.p.Tenant, ref); return err })
	})
	if err != nil {
		return forge.User{}, err
	}
	t.db.keys.forget()
	return u.forge(), nil
}

func (t *Tenant) outranks(op string, u *userRow) error {
	if t.p.Role.Includes(u.Role) {
		return nil
	}
	return forge.Errorf(forge.KindForbidden, op, "user %s is %s; only somebody of that role may do this", u.Name, u.Role).
		WithHint("forgectl whoami says which role is yours")
}

func (t *tx) saveUser(u *userRow) error {
	_, err := t.NewUpdate().Model(u).Column("role", "max_priority", "unix_uid", "disabled_at", "max_gpus", "max_running", "max_queued").WherePK().Exec(t.ctx)
	return err
}

// UpdateUser changes a user. What it may do changes with the next request that it sends. KindNotFound; KindConflict
// and KindInvalid as CreateUser; KindForbidden for a user above the principal; KindPrecondition
// when nobody would be left to run the site.
func (t *Tenant) UpdateUser(ctx context.Context, idOrName string, c UserChange) (forge.User, error) {
	const op = "user.update"
	return t.changeUser(ctx, op, idOrName, func(tx *tx, u *userRow) error {
		ran, hadUID := u.runsSite(), u.UnixUID != nil
		var did []string
		if c.Role != nil && *c.Role != u.Role {
			did = append(did, fmt.Sprintf("role %s, was %s", *c.Role, u.Role))
			u.Role = *c.Role
		}
		if c.MaxPriority != nil {
			did = append(did, change("max_priority", &u.MaxPriority, *c.MaxPriority)...)
		}
		if c.UnixUID != nil {
			did = append(did, change("unix_uid", &u.UnixUID, *c.UnixUID)...)
		}
		bounds := u.bound(c)
		if did = append(did, bounds...); len(did) == 0 {
			return nil
		}
		if err := tx.checkUser(op, u); err != nil {
			return err
		}
		if err := tx.saveUser(u); err != nil {
			return err
		}
		if len(bounds) > 0 {
			tx.emit(forge.Delta{User: &forge.UserAccount{Tenant: u.Tenant, UserQuota: forge.UserQuota{User: u.Name, Quota: u.quota()}}})
		}
		if ran && (!u.runsSite() || hadUID && u.UnixUID == nil) {
			if err := tx.someoneRuns(op); err != nil {
				return err
			}
		}
		return tx.userEvent(t.p, u, forge.EventUserChanged, forge.WhyRequested, "changed: "+strings.Join(did, "; "))
	})
}

func change[T int | int64](name string, v **T, to T) []string {
	switch {
	case to == Unset && *v == nil, *v != nil && **v == to:
		return nil
	case to == Unset:
		*v = nil
		return []string{name + " unset"}
	}
	*v = &to
	return []string{fmt.Sprintf("%s %d", name, to)}
}

// DisableUser ends all of a user's ways in until it is enabled again; its runs go on. Disabling twice changes
// nothing. KindNotFound; KindForbidden for a user above the principal; KindPrecondition when nobody would be
// left to run the site; KindInvalid for a reason that does not exist.
func (t *Tenant) DisableUser(ctx context.Context, idOrName string, why forge.Why) (forge.User, error) {
	const op = "user.disable"
	if err := checkReason(op, why); err != nil {
		return forge.User{}, err
	}
	return t.changeUser(ctx, op, idOrName, func(tx *tx, u *userRow) error {
		if u.DisabledAt != 0 {
			return nil
		}
		ran := u.runsSite()
		u.DisabledAt = stampOf(tx.now)
		if err := tx.saveUser(u); err != nil {
			return err
		}
		if ran {
			if err := tx.someoneRuns(op); err != nil {
				return err
			}
		}
		return tx.userEvent(t.p, u, forge.EventUserDisabled, why, "disabled")
	})
}

// EnableUser lets a user in again. Enabling twice changes nothing. KindNotFound, KindForbidden as DisableUser.
func (t *Tenant) EnableUser(ctx context.Context, idOrName string) (forge.User, error) {
	const op = "user.enable"
	return t.changeUser(ctx, op, idOrName, func(tx *tx, u *userRow) error {
		if u.DisabledAt == 0 {
			return nil
		}
		u.DisabledAt = 0
		if err := tx.saveUser(u); err != nil {
			return err
		}
		return tx.userEvent(t.p, u, forge.EventUserEnabled, forge.WhyRequested, "enabled again")
	})
}

// runsSite says that the user is an operator who is let in.
func (r *userRow) runsSite() bool { return r.Role == forge.RoleOperator && r.DisabledAt == 0 }

// someoneRuns holds, after an operator lost something, that an enabled one is left who can come in, by key or by
// uid: a site that nobody runs can only be repaired with its state directory in hand.
func (t *tx) someoneRuns(op string) error {
	var able int
	err := t.one(`SELECT count(*) FROM users u WHERE u.role = 'operator' AND u.disabled_at = 0
		AND (u.unix_uid IS NOT NULL OR EXISTS (SELECT 1 FROM api_keys k WHERE k.user_id = u.id AND `+validOperatorKey+`))`,
		[]any{int64(stampOf(t.now))}, &able)
	if err != nil || able > 0 {
		return err
	}
	return forge.Errorf(forge.KindPrecondition, op, "nobody would be left to run the site: no other enabled operator has a valid key or a uid").
		WithHint("make another one first: forgectl user create NAME --role operator; forgectl key create NAME")
}

// validOperatorKey is a key k that opens the site to an operator; it takes the time.
const validOperatorKey = `k.role = 'operator' AND k.revoked_at = 0 AND (k.expires_at = 0 OR k.expires_at > ?)`
