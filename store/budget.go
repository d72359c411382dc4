package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

func (r *tenantRow) budget() forge.Budget {
	return forge.Budget{Money: r.Budget, GPUHours: r.BudgetGPUHours, Period: r.BudgetPeriod, Warn: r.BudgetWarn}
}

func (r *tenantRow) spending() forge.Spending {
	return forge.Spending{Since: r.SpentSince.time(), Money: r.Spent, GPUTime: time.Duration(r.SpentGPUMS) * time.Millisecond, Unpriced: time.Duration(r.SpentUnpriced) * time.Millisecond}
}

func (r *tenantRow) setSpending(s forge.Spending) {
	r.SpentSince, r.Spent, r.SpentGPUMS, r.SpentUnpriced = stampOf(s.Since), s.Money, s.GPUTime.Milliseconds(), s.Unpriced.Milliseconds()
}

// spend counts what an attempt had in the period of now. Without a budget nothing is counted: one that is set later counts anew.
func (r *tenantRow) spend(a *forge.Attempt, now time.Time) {
	if b := r.budget(); !b.None() {
		r.setSpending(r.spending().At(b.Period, now).Add(a, a.GPUs(), now))
	}
}

// budgetTo changes a tenant's budget, and counts anew what was spent of it: the period may be another one.
func (t *tx) budgetTo(p forge.Principal, op string, row *tenantRow, c TenantChange) error {
	b := row.budget()
	var did []string
	for _, x := range []struct {
		name     string
		v, to    *float64
		min, max float64
	}{{"budget", &b.Money, c.Budget, 0, forge.MaxBudget}, {"budget_gpu_hours", &b.GPUHours, c.BudgetGPUHours, 0, forge.MaxBudget}, {"budget_warn", &b.Warn, c.BudgetWarn, 0.01, 1}} {
		switch {
		case x.to == nil || *x.to == *x.v:
			continue
		case !(*x.to >= x.min && *x.to <= x.max): // a NaN, too
			return forge.Invalidf(x.name, "%v: want %v to %v", *x.to, x.min, x.max).WithOp(op)
		}
		if *x.v = *x.to; *x.to == 0 {
			did = append(did, x.name+" unset")
		} else {
			did = append(did, fmt.Sprintf("%s %v", x.name, *x.to))
		}
	}
	if c.BudgetPeriod != nil && *c.BudgetPeriod != b.Period {
		if !slices.Contains(forge.BudgetPeriods, *c.BudgetPeriod) {
			return forge.Invalidf("budget_period", "%q: want one of %v", string(*c.BudgetPeriod), forge.BudgetPeriods).WithOp(op)
		}
		b.Period = *c.BudgetPeriod
		did = append(did, "budget_period "+string(b.Period))
	}
	if len(did) == 0 {
		return nil
	}
	row.Budget, row.BudgetGPUHours, row.BudgetPeriod, row.BudgetWarn = b.Money, b.GPUHours, b.Period, b.Warn
	row.BudgetWarnedAt, row.BudgetSpentAt = 0, 0
	spent := forge.Spending{Since: b.Period.Start(t.now)}
	if !b.None() {
		ended, err := t.endedSince(row.ID, spent.Since)
		if err != nil {
			return err
		}
		for i := range ended {
			spent = spent.Add(&ended[i], ended[i].GPUs(), t.now)
		}
	}
	row.setSpending(spent)
	if _, err := t.NewUpdate().Model(row).Column("budget", "budget_gpu_hours", "budget_period", "budget_warn", "spent_since", "spent", "spent_gpu_ms", "spent_unpriced_ms",
		"budget_warned_at", "budget_spent_at").WherePK().Exec(t.ctx); err != nil {
		return err
	}
	t.emitTenant(row)
	return t.tenantEvent(p, row, forge.Event{Type: forge.EventBudgetChanged, Reason: string(forge.WhyRequested), Message: "budget of tenant " + row.Name + " changed: " + strings.Join(did, "; ")})
}

// endedSince lists a tenant's attempts that let go of their GPUs since a time.
func (t *tx) endedSince(tenant forge.TenantID, since time.Time) ([]forge.Attempt, error) {
	var rows []attemptRow
	q := selectAttempts(t.NewSelect(), &rows).Where("a.exited_at > 0").Where("a.exited_at >= ?", stampOf(since)).Where("a.run IN (SELECT r.id FROM runs AS r WHERE r.tenant = ?)", tenant)
	if err := q.Order("a.run", "a.number").Scan(t.ctx); err != nil {
		return nil, err
	}
	return nouns(rows, func(r *attemptRow) (forge.Attempt, error) { return r.forge() })
}

// SayBudget writes, once in each period of a tenant's budget and once after each change of it, that so much of it is spent: EventBudgetWarned or EventBudgetSpent. It
// answers whether it was written now.
func (db *DB) SayBudget(ctx context.Context, tenant forge.TenantID, what forge.EventType, message string) (said bool, err error) {
	const op = "budget.say"
	err = db.write(ctx, op, func(t *tx) error {
		said = false
		row := &tenantRow{}
		if err := t.NewSelect().Model(row).Where("t.id = ?", tenant).Scan(t.ctx); err != nil {
			return err
		}
		at, column := &row.BudgetWarnedAt, "budget_warned_at"
		if what == forge.EventBudgetSpent {
			at, column = &row.BudgetSpentAt, "budget_spent_at"
		}
		if *at > 0 && !at.time().Before(row.BudgetPeriod.Start(t.now)) {
			return nil
		}
		*at, said = stampOf(t.now), true
		if _, err := t.NewUpdate().Model(row).Column(column).WherePK().Exec(t.ctx); err != nil {
			return err
		}
		return t.tenantEvent(forge.Principal{User: actorForged, Tenant: tenant}, row, forge.Event{Type: what, Message: "tenant " + row.Name + ": " + message})
	})
	return said, err
}
