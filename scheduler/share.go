package scheduler

import (
	"math"

	forge "github.com/forge-ml/forge-ml"
)

// Tenants. What one may have at most is a bound; what it is guaranteed puts its runs before those of borrowers; what it had lately, over its
// part of the weights, decides the order of the rest, in bands, so that a little more or less changes nothing.

// worstBand is where all end that had far more than their share.
const worstBand = 8

// bandsOf says in which band each tenant is: 0 up to its share, then one more for each doubling.
func bandsOf(tenants []forge.TenantShare, p Policy, present func(forge.TenantID) bool) map[forge.TenantID]int32 {
	out := map[forge.TenantID]int32{}
	if !p.FairShare {
		return out
	}
	for i, over := range forge.Shares(tenants, present) {
		if over > 1 {
			out[tenants[i].Tenant] = int32(min(worstBand, math.Ceil(math.Log2(over)-1e-9)))
		}
	}
	return out
}

// has is what somebody has at once.
type has struct{ gpus, runs, evals int }

func (h *has) add(e *entry, sign int) {
	gpus := e.gpus
	if e.act != nil && e.queued {
		gpus = e.gang.GPUs() // it gets them without being asked again
	}
	if e.eval() {
		h.evals += sign * gpus
		return
	}
	h.runs += sign
	h.gpus += sign * gpus
}

// account is what a tenant, or one of its users, has at once and may have at most. What is active is counted as it comes and goes; what a plan gives is
// counted while the plan is made.
type account struct {
	share    *forge.TenantShare // of a tenant that the site knows
	quota    *forge.Quota       // nil: no bound
	has      has
	runs     int // that are there, waiting or active
	promised *promised
	users    map[string]*account
}

// Accounts are made when the first run of somebody comes, or a bound is set.
func (w *world) account(t forge.TenantID) *account {
	a := w.accounts[t]
	if a == nil {
		a = &account{}
		w.accounts[t] = a
	}
	return a
}

func (a *account) of(user string) *account {
	u := a.users[user]
	if u == nil {
		u = &account{}
		if a.users == nil {
			a.users = map[string]*account{}
		}
		a.users[user] = u
	}
	return u
}

// present says whether any run of a tenant is there.
func (w *world) present(t forge.TenantID) bool { return w.accounts[t] != nil && w.accounts[t].runs > 0 }

// attend counts the runs of an entry's tenant.
func (w *world) attend(e *entry, n int) {
	was := e.account.runs
	e.account.runs += n
	if was == 0 || was+n == 0 {
		w.presence++
	}
	if e.act != nil {
		e.account.has.add(e, n)
		e.user.has.add(e, n)
	}
}

// bound sets what tenants and users may have.
func (w *world) bound(tenants []forge.TenantShare) {
	for _, a := range w.accounts {
		a.share, a.quota = nil, nil
		for _, u := range a.users {
			u.quota = nil
		}
	}
	for i := range tenants {
		t := &tenants[i]
		a := w.account(t.Tenant)
		a.share, a.quota = t, &t.Quota
		for j := range t.Users {
			a.of(t.Users[j].User).quota = &t.Users[j].Quota
		}
	}
}

// count counts a waiting run among those that have something, once: as soon as it is chosen to get it. uncount takes that back.
func (pl *planner) count(e *entry) {
	if !e.counted {
		e.counted = true
		e.account.has.add(e, 1)
		e.user.has.add(e, 1)
		pl.w.undo.counted = append(pl.w.undo.counted, e)
	}
}

func uncount(e *entry) {
	if e.counted {
		e.counted = false
		e.account.has.add(e, -1)
		e.user.has.add(e, -1)
	}
}

// bound is one that a run would break.
type bound struct {
	whose string // "tenant", "user"
	what  string // "GPUs at once", …
	limit int
	has   int
	spent string // instead of these: the tenant's budget is
}

// breaks finds the bound that starting the run would break.
func (e *entry) breaks() (bound, bool) {
	if x, broken := e.account.over(e); broken {
		x.whose = "tenant"
		return x, true
	}
	x, broken := e.user.over(e)
	x.whose = "user"
	return x, broken
}

func (a *account) over(e *entry) (bound, bool) {
	q := a.quota
	switch {
	case q == nil:
	case a.share != nil && a.share.Spent != "":
		return bound{spent: a.share.Spent}, true
	case e.eval() && q.EvalGPUs > 0 && a.has.evals+e.gpus > q.EvalGPUs:
		return bound{what: "GPUs for evals at once", limit: q.EvalGPUs, has: a.has.evals}, true
	case !e.eval() && q.MaxGPUs > 0 && a.has.gpus+e.gpus > q.MaxGPUs:
		return bound{what: "GPUs at once", limit: q.MaxGPUs, has: a.has.gpus}, true
	case !e.eval() && q.MaxRunning > 0 && a.has.runs+1 > q.MaxRunning:
		return bound{what: "runs at once", limit: q.MaxRunning, has: a.has.runs}, true
	}
	return bound{}, false
}
