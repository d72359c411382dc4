package store

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
)

// CreateKey makes a key for bootstrap: forged init, and forged key for a lost one. The user is made where there is none;
// one of a lower role, or disabled, is raised to what the key needs to work. KindNotFound for the tenant.
func (db *DB) CreateKey(ctx context.Context, tenant forge.TenantID, user string, role forge.Role, actor string) (forge.Key, string, error) {
	return db.bootstrapKey(ctx, actor, func(*tx) (forge.TenantID, error) { return tenant, nil }, forge.User{Name: user, Role: role})
}

// Bootstrap makes a site's first tenant, its first operator and that one's key, all or nothing.
func (db *DB) Bootstrap(ctx context.Context, tenant string, operator forge.User) (forge.Key, string, error) {
	if err := forge.CheckName(tenant); err != nil {
		return forge.Key{}, "", forge.Invalidf("name", "%w", err).WithOp("init")
	}
	return db.bootstrapKey(ctx, actorForged, func(t *tx) (forge.TenantID, error) {
		row, err := t.createTenant(forge.Principal{User: actorForged}, tenant, forge.WhyBootstrap)
		if err != nil {
			return "", err
		}
		return row.ID, nil
	}, operator)
}

func (db *DB) bootstrapKey(ctx context.Context, actor string, in func(*tx) (forge.TenantID, error), want forge.User) (forge.Key, string, error) {
	const op = "key.create"
	secret, err := newSecret()
	if err != nil {
		return forge.Key{}, "", classify(op, err)
	}
	if err := forge.CheckName(want.Name); err != nil {
		return forge.Key{}, "", forge.Invalidf("user", "%w", err).WithOp(op)
	}
	var row *keyRow
	err = db.write(ctx, op, func(t *tx) error {
		tenant, err := in(t)
		if err != nil {
			return err
		}
		p := forge.Principal{Tenant: tenant, User: actor}
		u, err := t.user(tenant, want.Name)
		if forge.KindOf(err) == forge.KindNotFound {
			u, err = t.createUser(p, want, forge.WhyBootstrap)
		}
		if err != nil {
			return err
		}
		if !want.Role.Includes(forge.RoleViewer) {
			return forge.Invalidf("role", "role %q does not exist; want one of %v", want.Role, forge.Roles)
		}
		if !u.Role.Includes(want.Role) || u.DisabledAt != 0 {
			u.Role, u.DisabledAt = want.Role, 0
			if err := t.saveUser(u); err != nil {
				return err
			}
			if err := t.userEvent(p, u, forge.EventUserChanged, forge.WhyBootstrap, "let in as "+string(u.Role)); err != nil {
				return err
			}
		}
		row = &keyRow{Tenant: tenant, UserID: u.ID, Role: want.Role, User: u.Name, UserRole: u.Role}
		return t.insertKey(p, row, secret, forge.WhyBootstrap)
	})
	if err != nil {
		return forge.Key{}, "", err
	}
	db.keys.forget()
	return row.forge(&db.usage), secret, nil
}
