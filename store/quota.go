package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

// SetHalfLife says how fast what tenants used counts less from now on. What has faded already is not made up for.
func (db *DB) SetHalfLife(d time.Duration) { db.halfLife.Store(int64(d)) }

func (r *tenantRow) account() forge.TenantAccount {
	return forge.TenantAccount{Tenant: r.ID, Weight: r.Weight, Used: forge.Usage{MS: r.UsedMS, At: r.UsedAt.time()},
		Quota:  forge.Quota{GPUs: r.GPUs, MaxGPUs: r.MaxGPUs, MaxRunning: r.MaxRunning, MaxQueued: r.MaxQueued, EvalGPUs: r.EvalGPUs},
		Budget: r.budget(), Spent: r.spending()}
}

func (r *userRow) quota() forge.Quota {
	return forge.Quota{MaxGPUs: r.MaxGPUs, MaxRunning: r.MaxRunning, MaxQueued: r.MaxQueued}
}

func (t *tx) emitTenant(r *tenantRow) {
	a := r.account()
	t.emit(forge.Delta{Tenant: &a})
}

// accounts reads what the world knows of tenants and of users that have a quota.
func accounts(ctx context.Context, t bun.Tx, w *World) error {
	var rows []tenantRow
	if err := t.NewSelect().Model(&rows).Order("t.id").Scan(ctx); err != nil {
		return err
	}
	for i := range rows {
		w.Tenants = append(w.Tenants, rows[i].account())
	}
	var users []userRow
	err := t.NewSelect().Model(&users).Where("u.max_gpus > 0 OR u.max_running > 0 OR u.max_queued > 0").Order("u.tenant", "u.name").Scan(ctx)
	for _, u := range users {
		w.Users = append(w.Users, forge.UserAccount{Tenant: u.Tenant, UserQuota: forge.UserQuota{User: u.Name, Quota: u.quota()}})
	}
	return err
}

// charge counts what an attempt had to its tenant, in the write that frees it.
func (t *tx) charge(tenant forge.TenantID, a *attemptRow) error {
	n, err := a.forge()
	if err != nil {
		return err
	}
	use, ok := n.GPUUse()
	if !ok {
		return nil
	}
	row := &tenantRow{}
	if err := t.one(selectAccount, []any{string(tenant)}, row.columns()...); err != nil {
		return err
	}
	used := row.account().Used.Add(use, time.Duration(t.w.db.halfLife.Load()))
	row.UsedMS, row.UsedAt = used.MS, stampOf(used.At)
	row.spend(&n, t.now)
	if _, err := t.exec(`UPDATE tenants SET used_gpu_ms = ?, used_at = ?, spent_since = ?, spent = ?, spent_gpu_ms = ?, spent_unpriced_ms = ? WHERE id = ?`,
		row.UsedMS, int64(row.UsedAt), int64(row.SpentSince), row.Spent, row.SpentGPUMS, row.SpentUnpriced, string(row.ID)); err != nil {
		return err
	}
	t.emitTenant(row)
	return nil
}

// TenantChange is what to change of a tenant; nil leaves a thing as it is. Bounds of 0 are none.
type TenantChange struct {
	Weight     *float64
	GPUs       *int
	MaxGPUs    *int
	MaxRunning *int
	MaxQueued  *int
	EvalGPUs   *int

	LicenseAllow *[]string // of patterns; forge.SiteLicenses alone: the site's list again
	LicenseDeny  *[]string

	Budget         *float64 // in the site's currency; 0: none
	BudgetGPUHours *float64
	BudgetPeriod   *forge.BudgetPeriod
	BudgetWarn     *float64
}

// UpdateTenant changes what a tenant, by id or name, is entitled to. The next plan goes by it; what runs goes on, and what a bound is now
// too narrow for is not stopped. KindNotFound for one that the principal may not know of; KindInvalid for values without a meaning.
func (t *Tenant) UpdateTenant(ctx context.Context, idOrName string, c TenantChange) (forge.Tenant, error) {
	const op = "tenant.update"
	row := &tenantRow{}
	err := t.db.write(ctx, op, func(tx *tx) error {
		*row = tenantRow{}
		err := t.visible(tx.NewSelect().Model(row)).Where("(t.id = ? OR t.name = ?)", clean(idOrName), clean(idOrName)).Scan(tx.ctx)
		if _, err = foundTenant(row, idOrName, err); err != nil {
			return err
		}
		var did []string
		if c.Weight != nil && *c.Weight != row.Weight {
			if !(*c.Weight >= forge.MinWeight && *c.Weight <= forge.MaxWeight) { // a NaN, too
				return forge.Invalidf("weight", "%v: want %v to %d, 1 is usual", *c.Weight, forge.MinWeight, forge.MaxWeight).WithOp(op)
			}
			did = append(did, fmt.Sprintf("weight %v, was %v", *c.Weight, row.Weight))
			row.Weight = *c.Weight
		}
		did = boundTo(did, "gpus", &row.GPUs, c.GPUs)
		did = boundTo(did, "max_gpus", &row.MaxGPUs, c.MaxGPUs)
		did = boundTo(did, "max_running", &row.MaxRunning, c.MaxRunning)
		did = boundTo(did, "max_queued", &row.MaxQueued, c.MaxQueued)
		did = boundTo(did, "eval_gpus", &row.EvalGPUs, c.EvalGPUs)
		did = listTo(did, "license_allow", &row.LicenseAllow, c.LicenseAllow)
		did = listTo(did, "license_deny", &row.LicenseDeny, c.LicenseDeny)
		if err := tx.budgetTo(t.p, op, row, c); err != nil {
			return err
		}
		if len(did) == 0 {
			return nil
		}
		if err := checkQuota(op, row.account().Quota); err != nil {
			return err
		}
		if _, err := tx.NewUpdate().Model(row).Column("weight", "quota_gpus", "max_gpus", "max_running", "max_queued", "eval_gpus", "license_allow", "license_deny").WherePK().Exec(tx.ctx); err != nil {
			return err
		}
		tx.emitTenant(row)
		return tx.tenantEvent(t.p, row, forge.Event{Type: forge.EventTenantChanged, Reason: string(forge.WhyRequested), Message: "tenant " + row.Name + " changed: " + strings.Join(did, "; ")})
	})
	if err != nil {
		return forge.Tenant{}, err
	}
	return row.forge(), nil
}

// boundTo changes one bound, and notes it.
func boundTo(did []string, name string, v *int, to *int) []string {
	if to == nil || *to == *v {
		return did
	}
	*v = *to
	if *to == 0 {
		return append(did, name+" unset")
	}
	return append(did, fmt.Sprintf("%s %d", name, *to))
}

// bound changes the bounds of a user.
func (r *userRow) bound(c UserChange) []string {
	did := boundTo(nil, "max_gpus", &r.MaxGPUs, c.MaxGPUs)
	did = boundTo(did, "max_running", &r.MaxRunning, c.MaxRunning)
	return boundTo(did, "max_queued", &r.MaxQueued, c.MaxQueued)
}

func checkQuota(op string, q forge.Quota) error {
	for _, f := range []struct {
		field string
		v     int
	}{{"gpus", q.GPUs}, {"max_gpus", q.MaxGPUs}, {"max_running", q.MaxRunning}, {"max_queued", q.MaxQueued}, {"eval_gpus", q.EvalGPUs}} {
		if f.v < 0 || f.v > forge.MaxQuota {
			return forge.Invalidf(f.field, "%d: want 0 (none) to %d", f.v, forge.MaxQuota).WithOp(op)
		}
	}
	if q.MaxGPUs > 0 && q.GPUs > q.MaxGPUs {
		return forge.Invalidf("gpus", "%d guaranteed is more than the %d that it may ever have (max_gpus); want at most that", q.GPUs, q.MaxGPUs).WithOp(op)
	}
	return nil
}

// queueLimit is what a submission is held against.
type queueLimit struct {
	tenant   string
	ofTenant int
}

// mayQueue refuses a run when as many wait as its tenant or its user may have waiting. It counts in the transaction of the
// submission: two at once cannot both be the last. What is retried from a hold has been cancelled by now.
func (t *tx) mayQueue(r *runRow, l queueLimit) error {
	var ofUser int
	err := t.one(`SELECT max_queued FROM users WHERE tenant = ? AND name = ?`, []any{string(r.Tenant), r.User}, &ofUser)
	if err != nil && !absent(err) { // absent: forged itself, or an operator from elsewhere
		return err
	}
	if ofUser > 0 {
		n, err := t.waiting(`tenant = ? AND user_name = ?`, ofUser, string(r.Tenant), r.User)
		if err != nil {
			return err
		}
		if n >= ofUser {
			return tooMany(fmt.Sprintf("%d runs of user %s wait, and no more than %d may", n, r.User, ofUser)).
				WithHint("submit again when some have started, or have an admin of the tenant raise it: forgectl user edit %s --max-queued %d", r.User, 2*ofUser)
		}
	}
	if l.ofTenant > 0 {
		n, err := t.waiting(`tenant = ?`, l.ofTenant, string(r.Tenant))
		if err != nil {
			return err
		}
		if n >= l.ofTenant {
			return tooMany(fmt.Sprintf("%d runs of tenant %s wait, and no more than %d may", n, l.tenant, l.ofTenant)).
				WithHint("submit again when some have started, or have an operator of the site raise it: forgectl tenant edit %s --max-queued %d", l.tenant, 2*l.ofTenant)
		}
	}
	return nil
}

func tooMany(text string) *forge.Error {
	return forge.Errorf(forge.KindPrecondition, "run.submit", "%s", text)
}

// waiting counts runs that wait, up to a limit.
func (t *tx) waiting(where string, limit int, args ...any) (n int, err error) {
	err = t.one(`SELECT count(*) FROM (SELECT 1 FROM runs WHERE state = 'pending' AND `+where+` LIMIT ?)`, append(args, limit), &n)
	return n, err
}
