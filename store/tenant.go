package store

import (
	"context"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

type tenantRow struct {
	bun.BaseModel `bun:"table:tenants,alias:t"`

	ID        forge.TenantID `bun:"id,pk"`
	Name      string         `bun:"name"`
	LastRun   int64          `bun:"last_run"`
	CreatedAt stamp          `bun:"created_at"`
}

func (r tenantRow) forge() forge.Tenant {
	return forge.Tenant{ID: r.ID, Name: r.Name, CreatedAt: r.CreatedAt.time()}
}

// Tenant is what one principal may reach: every statement of its methods is bound to the
// principal's tenant, so that no handler can forget it. Another tenant's ids, names and
// numbers answer exactly as absent ones (invariant 8).
type Tenant struct {
	db *DB
	p  forge.Principal
}

// For returns the principal's view of the store.
func (db *DB) For(p forge.Principal) *Tenant { return &Tenant{db: db, p: p} }

// CreateTenant makes a tenant. KindConflict when the name is taken, KindInvalid when it is no name.
func (db *DB) CreateTenant(ctx context.Context, name string) (forge.Tenant, error) {
	const op = "tenant.create"
	if err := forge.CheckName(name); err != nil {
		return forge.Tenant{}, forge.Invalidf("name", "%w", err).WithOp(op)
	}
	var row tenantRow
	err := db.write(ctx, op, func(t *tx) error {
		row = tenantRow{ID: forge.TenantID(t.id()), Name: name, CreatedAt: stampOf(t.now)}
		_, err := t.NewInsert().Model(&row).Exec(t.ctx)
		if violates(err) {
			return forge.Errorf(forge.KindConflict, op, "tenant %q exists already", name)
		}
		return err
	})
	if err != nil {
		return forge.Tenant{}, err
	}
	return row.forge(), nil
}

// TenantByName finds a tenant. KindNotFound when there is none.
func (db *DB) TenantByName(ctx context.Context, name string) (forge.Tenant, error) {
	const op = "tenant.show"
	var row tenantRow
	err := db.read.NewSelect().Model(&row).Where("t.name = ?", clean(name)).Scan(ctx)
	if absent(err) {
		return forge.Tenant{}, notFound(op, "there is no tenant %q", name)
	}
	return row.forge(), classify(op, err)
}

func (t *tx) id() string { return t.w.ids.next(t.now) }
