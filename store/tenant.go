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

	Weight     float64 `bun:"weight"`
	GPUs       int     `bun:"quota_gpus"`
	MaxGPUs    int     `bun:"max_gpus"`
	MaxRunning int     `bun:"max_running"`
	MaxQueued  int     `bun:"max_queued"`
	EvalGPUs   int     `bun:"eval_gpus"`
	UsedMS     float64 `bun:"used_gpu_ms"`
	UsedAt     stamp   `bun:"used_at"`

	LicenseAllow string `bun:"license_allow"`
	LicenseDeny  string `bun:"license_deny"`

	Budget         float64            `bun:"budget"`
	BudgetGPUHours float64            `bun:"budget_gpu_hours"`
	BudgetPeriod   forge.BudgetPeriod `bun:"budget_period"`
	BudgetWarn     float64            `bun:"budget_warn"`
	SpentSince     stamp              `bun:"spent_since"`
	Spent          float64            `bun:"spent"`
	SpentGPUMS     int64              `bun:"spent_gpu_ms"`
	SpentUnpriced  int64              `bun:"spent_unpriced_ms"`
	BudgetWarnedAt stamp              `bun:"budget_warned_at"`
	BudgetSpentAt  stamp              `bun:"budget_spent_at"`
}

func (r *tenantRow) forge() forge.Tenant {
	a := r.account()
	var budget *forge.Budget
	if !a.Budget.None() {
		budget = &a.Budget
	}
	return forge.Tenant{Budget: budget, ID: r.ID, Name: r.Name, CreatedAt: r.CreatedAt.time(), Weight: a.Weight, Quota: a.Quota,
		LicenseAllow: listOf(r.LicenseAllow), LicenseDeny: listOf(r.LicenseDeny)}
}

func (r *tenantRow) place(order string) []any {
	if order == "name" {
		return []any{r.Name}
	}
	return []any{r.CreatedAt, r.ID}
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

// CreateTenant makes a tenant, for bootstrap: no request asked for it. See Tenant.CreateTenant.
func (db *DB) CreateTenant(ctx context.Context, name string) (forge.Tenant, error) {
	return db.For(forge.Principal{User: actorForged}).createTenant(ctx, name, forge.WhyBootstrap)
}

// CreateTenant makes a tenant without users. The site's trail and its own both begin with it.
// KindConflict when the name is taken, KindInvalid when it is no name.
func (t *Tenant) CreateTenant(ctx context.Context, name string) (forge.Tenant, error) {
	return t.createTenant(ctx, name, forge.WhyRequested)
}

func (t *Tenant) createTenant(ctx context.Context, name string, why forge.Why) (forge.Tenant, error) {
	const op = "tenant.create"
	if err := forge.CheckName(name); err != nil {
		return forge.Tenant{}, forge.Invalidf("name", "%w", err).WithOp(op)
	}
	var row *tenantRow
	err := t.db.write(ctx, op, func(tx *tx) error {
		return tx.once(t.p, func() (string, error) {
			var err error
			if row, err = tx.createTenant(t.p, name, why); err != nil {
				return "", err
			}
			return string(row.ID), nil
		}, func(ref string) error {
			row = &tenantRow{}
			return tx.NewSelect().Model(row).Where("t.id = ?", ref).Scan(tx.ctx)
		})
	})
	if err != nil {
		return forge.Tenant{}, err
	}
	return row.forge(), nil
}

func (t *tx) createTenant(p forge.Principal, name string, why forge.Why) (*tenantRow, error) {
	row := &tenantRow{ID: forge.TenantID(t.id()), Name: name, CreatedAt: stampOf(t.now), Weight: 1, BudgetPeriod: forge.BudgetMonth, BudgetWarn: forge.DefaultBudgetWarn}
	if _, err := t.NewInsert().Model(row).Exec(t.ctx); err != nil {
		if violates(err) {
			err = forge.Errorf(forge.KindConflict, "tenant.create", "tenant %q exists already", name)
		}
		return nil, err
	}
	t.emitTenant(row)
	return row, t.tenantEvent(p, row, forge.Event{Type: forge.EventTenantCreated, Reason: string(why), Message: "tenant " + name + " made"})
}

// tenantEvent is a line in the site's trail and one in the tenant's own.
func (t *tx) tenantEvent(p forge.Principal, row *tenantRow, e forge.Event) error {
	e.Actor, e.Data = p.User, map[string]any{"tenant": string(row.ID), "name": row.Name}
	if err := t.event(e); err != nil {
		return err
	}
	p.Tenant = row.ID // there an operator from elsewhere is named as one
	e.Tenant, e.Actor = row.ID, p.Actor()
	return t.event(e)
}

// visible narrows a query to tenants that the principal may know of: all to operators, to everyone else its own.
func (t *Tenant) visible(q *bun.SelectQuery) *bun.SelectQuery {
	if t.p.Role == forge.RoleOperator {
		return q
	}
	return q.Where("t.id = ?", t.p.Tenant)
}

// Tenants lists the tenants that the principal may know of, and says where the next page begins.
func (t *Tenant) Tenants(ctx context.Context, l Listing) ([]forge.Tenant, string, error) {
	const op = "tenant.list"
	var rows []tenantRow
	q := startsWith(t.visible(t.db.read.NewSelect().Model(&rows)), "t.name", l.Name)
	next, err := pageOf(ctx, t, op, l, namedOrders("t"), q, &rows)
	if err != nil {
		return nil, "", err
	}
	all := make([]forge.Tenant, len(rows))
	for i := range rows {
		all[i] = rows[i].forge()
	}
	return all, next, nil
}

// Tenant finds a tenant by id or name. KindNotFound when there is none that the principal may know of.
func (t *Tenant) Tenant(ctx context.Context, idOrName string) (forge.Tenant, error) {
	var row tenantRow
	err := t.visible(t.db.read.NewSelect().Model(&row)).Where("(t.id = ? OR t.name = ?)", clean(idOrName), clean(idOrName)).Scan(ctx)
	return foundTenant(&row, idOrName, err)
}

// TenantByName finds any tenant, for bootstrap. KindNotFound when there is none.
func (db *DB) TenantByName(ctx context.Context, name string) (forge.Tenant, error) {
	var row tenantRow
	err := db.read.NewSelect().Model(&row).Where("t.name = ?", clean(name)).Scan(ctx)
	return foundTenant(&row, name, err)
}

func foundTenant(row *tenantRow, name string, err error) (forge.Tenant, error) {
	const op = "tenant.show"
	if absent(err) {
		return forge.Tenant{}, notFound(op, "there is no tenant %q", name).WithHint("forgectl tenant list")
	}
	if err != nil {
		return forge.Tenant{}, classify(op, err)
	}
	return row.forge(), nil
}

func (t *tx) id() string { return t.w.ids.next(t.now) }
