package daemon

import (
	"context"
	"maps"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// budgetsEvery is how often budgets are looked at for what the clock alone changes: what runs costs more, and periods end. What attempts that end
// cost is known at once.
const budgetsEvery = 30 * time.Second

// setCurrency puts the word for what budgets are in in force.
func (d *world) setCurrency(word string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ents.currency != word {
		d.ents.currency = word
		d.ents.changed++
		d.moved++
	}
}

// spendings is what each tenant that has a budget has spent in its period, what runs included. The caller holds mu.
func (d *world) spendings(now time.Time) map[forge.TenantID]forge.Spending {
	var out map[forge.TenantID]forge.Spending
	for id, a := range d.ents.tenants {
		if !a.Budget.None() {
			if out == nil {
				out = map[forge.TenantID]forge.Spending{}
			}
			out[id] = a.Spent.At(a.Budget.Period, now)
		}
	}
	if out == nil {
		return nil
	}
	for _, run := range slices.Sorted(maps.Keys(d.attempts)) { // in one order: equal worlds are equal bytes
		a := d.attempts[run]
		tenant := d.runs[run].Tenant
		if s, has := out[tenant]; has && a.State.Open() && !a.Queued() {
			out[tenant] = s.Add(&a, a.GPUs(), now)
		}
	}
	return out
}

// moneyBudgets is how many tenants have a budget in money.
func (d *world) moneyBudgets() (n int) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, t := range d.ents.tenants {
		if t.Budget.Money > 0 {
			n++
		}
	}
	return n
}

// budgetState is a budget and how much of it is spent.
type budgetState struct {
	tenant forge.TenantID
	budget forge.Budget
	spent  forge.Spending
}

// budgets lists those that there are, by tenant, and says whether others than before are spent: then plans come out differently.
func (d *world) budgets(now time.Time) (all []budgetState, turned bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	broke := map[forge.TenantID]bool{}
	spent := d.spendings(now)
	for _, id := range slices.Sorted(maps.Keys(spent)) {
		b := d.ents.tenants[id].Budget
		all = append(all, budgetState{id, b, spent[id]})
		if b.Share(spent[id]) >= 1 {
			broke[id] = true
		}
	}
	if turned = !maps.Equal(broke, d.ents.broke); turned {
		d.ents.broke = broke
		d.ents.changed++
		d.moved++
	}
	return all, turned
}

// budgetsLoop says what has become of budgets, and has the queue planned again when one is spent or renewed.
func (d *Daemon) budgetsLoop(ctx context.Context) {
	said := map[saidKey]bool{}
	tick := time.NewTicker(budgetsEvery)
	defer tick.Stop()
	for {
		d.lookAtBudgets(ctx, time.Now(), said)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// saidKey is what need not be said again: the table knows it, and asking it each time would be a write.
type saidKey struct {
	tenant forge.TenantID
	budget forge.Budget
	since  time.Time
	what   forge.EventType
}

func (d *Daemon) lookAtBudgets(ctx context.Context, now time.Time, said map[saidKey]bool) {
	all, turned := d.world.budgets(now)
	if turned {
		kick(d.kickPlan)
	}
	for _, b := range all {
		share := b.budget.Share(b.spent)
		for what, from := range map[forge.EventType]float64{forge.EventBudgetWarned: b.budget.Warn, forge.EventBudgetSpent: 1} {
			key := saidKey{b.tenant, b.budget, b.spent.Since, what}
			if share < from || said[key] || what == forge.EventBudgetWarned && share >= 1 {
				continue
			}
			text := b.budget.Text(b.spent, now, d.prices.Load().Currency)
			if what == forge.EventBudgetSpent {
				text = b.budget.SpentText(b.spent, now, d.prices.Load().Currency) + "; nothing new of it is placed, and what runs goes on"
			}
			if _, err := d.db.SayBudget(ctx, b.tenant, what, text); err != nil {
				if ctx.Err() == nil {
					d.log.Warn().Err(err).Msg("what became of a budget is not recorded")
				}
				continue
			}
			if len(said) >= mostSaid {
				clear(said)
			}
			said[key] = true
		}
	}
}

// mostSaid bounds what is remembered; the table keeps the rest from being said twice.
const mostSaid = 10_000

// budgetNotes warns who submits that what is submitted waits for the budget.
func (d *Daemon) budgetNotes(tenant forge.TenantID) []string {
	d.world.mu.RLock()
	defer d.world.mu.RUnlock()
	for _, s := range d.world.shares(time.Now()) {
		if s.Tenant == tenant && s.Spent != "" {
			return []string{"it waits: " + s.Spent}
		}
	}
	return nil
}
