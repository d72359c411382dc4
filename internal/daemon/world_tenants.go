package daemon

import (
	"cmp"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// usedEvery is how long what tenants used is believed: it moves slowly, and adding it up before each plan of a busy site would
// cost more than it changes.
const usedEvery = time.Minute

// entitlements is what tenants and users are entitled to and had.
type entitlements struct {
	tenants  map[forge.TenantID]forge.TenantAccount
	users    map[waiter]forge.Quota
	changed  int64 // grows when a weight or a quota changes
	halfLife time.Duration
	currency string                  // of budgets
	broke    map[forge.TenantID]bool // tenants whose budgets were spent when somebody last looked
	last     atomic.Pointer[sharesAt]
}

// sharesAt is what plans get, made once for a while.
type sharesAt struct {
	at      time.Time
	changed int64
	shares  []forge.TenantShare
}

// putTenant keeps the account of a tenant and says whether plans go by another entitlement from now on.
func (d *world) putTenant(a forge.TenantAccount) bool {
	was, known := d.ents.tenants[a.Tenant]
	d.ents.tenants[a.Tenant] = a
	if known && was.Weight == a.Weight && was.Quota == a.Quota && was.Budget == a.Budget && (a.Budget.None() || was.Spent == a.Spent) {
		return false // it used something
	}
	d.ents.changed++
	return true
}

func (d *world) putUser(u forge.UserAccount) {
	d.ents.changed++
	if u.Quota == (forge.Quota{}) {
		delete(d.ents.users, waiter{u.Tenant, u.User})
		return
	}
	d.ents.users[waiter{u.Tenant, u.User}] = u.Quota
}

// setHalfLife puts another half-life in force.
func (d *world) setHalfLife(h time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ents.halfLife = h
	d.ents.changed++
	d.moved++
}

// shares lists the tenants, by id, with what they used up to now or a little before. The caller holds mu.
func (d *world) shares(now time.Time) []forge.TenantShare {
	if l := d.ents.last.Load(); l != nil && l.changed == d.ents.changed && !now.Before(l.at) && now.Sub(l.at) < usedEvery {
		return l.shares
	}
	fresh := d.addUp(now)
	d.ents.last.Store(&sharesAt{now, d.ents.changed, fresh})
	return fresh
}

// addUp is shares, up to now.
func (d *world) addUp(now time.Time) []forge.TenantShare {
	used := map[forge.TenantID]float64{}
	for id, a := range d.ents.tenants {
		used[id] = a.Used.AsOf(now, d.ents.halfLife)
	}
	spent := d.spendings(now)
	// In one order: sums of floating-point numbers depend on theirs, and equal worlds are equal bytes.
	for _, run := range slices.Sorted(maps.Keys(d.attempts)) {
		a := d.attempts[run]
		if !a.State.Open() {
			continue // it is in the account
		}
		a.ExitedAt = now
		if use, ok := a.GPUUse(); ok {
			used[d.runs[run].Tenant] += use.Faded(now, d.ents.halfLife)
		}
	}
	out := make([]forge.TenantShare, 0, len(d.ents.tenants))
	for _, id := range slices.Sorted(maps.Keys(d.ents.tenants)) {
		a := d.ents.tenants[id]
		out = append(out, forge.TenantShare{Tenant: id, Weight: a.Weight, Used: forge.GPUTime(used[id]), Quota: a.Quota, Spent: a.Budget.SpentText(spent[id], now, d.ents.currency)})
	}
	for w, q := range d.ents.users {
		if i, ok := slices.BinarySearchFunc(out, w.tenant, func(s forge.TenantShare, id forge.TenantID) int { return cmp.Compare(s.Tenant, id) }); ok {
			out[i].Users = append(out[i].Users, forge.UserQuota{User: w.user, Quota: q})
		}
	}
	for i := range out {
		slices.SortFunc(out[i].Users, func(a, b forge.UserQuota) int { return cmp.Compare(a.User, b.User) })
	}
	return out
}

// uses says what each tenant has now and had lately.
func (d *world) uses(now time.Time) map[forge.TenantID]*forge.TenantUse {
	d.mu.RLock()
	defer d.mu.RUnlock()
	all := d.addUp(now)
	out := make(map[forge.TenantID]*forge.TenantUse, len(all))
	present := map[forge.TenantID]bool{}
	for _, r := range d.runs {
		present[r.Tenant] = true
	}
	for i, share := range forge.Shares(all, func(t forge.TenantID) bool { return present[t] }) {
		out[all[i].Tenant] = &forge.TenantUse{Share: share, GPUHours: float64(all[i].Used) / float64(forge.GPUTimeOf(time.Hour, 1))}
	}
	for id, s := range d.spendings(now) {
		out[id].Budget = d.ents.tenants[id].Budget.Use(s, now, d.ents.currency)
	}
	for run, a := range d.attempts {
		u := out[d.runs[run].Tenant]
		if u == nil || !a.State.Open() || a.Queued() {
			continue
		}
		u.Running++
		for _, s := range a.Placement {
			u.GPUs += len(s.Slots)
		}
	}
	for _, r := range d.runs {
		if u := out[r.Tenant]; u != nil && r.State == forge.RunPending {
			u.Queued++
		}
	}
	return out
}
