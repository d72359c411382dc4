package scheduler

import (
	"cmp"
	"math"
	"slices"

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
	if e.act != nil && e.act.Queued() {
		gpus = e.gang.GPUs() // it gets them without being asked again
	}
	if e.eval() {
		h.evals += sign * gpus
		return
	}
	h.runs += sign
	h.gpus += sign * gpus
}

// bounds are what tenants and users may have at most and what they have, what this plan gives them included.
type bounds struct {
	tenants map[forge.TenantID]*forge.TenantShare
	users   map[owner]forge.Quota
	has     map[forge.TenantID]*has
	userHas map[owner]*has
}

func newBounds(tenants []forge.TenantShare) *bounds {
	b := &bounds{tenants: map[forge.TenantID]*forge.TenantShare{}, users: map[owner]forge.Quota{}}
	for i := range tenants {
		t := &tenants[i]
		b.tenants[t.Tenant] = t
		for _, u := range t.Users {
			b.users[owner{t.Tenant, u.User}] = u.Quota
		}
	}
	return b
}

// count starts a plan with what is active.
func (b *bounds) count(running []*entry) {
	b.has, b.userHas = map[forge.TenantID]*has{}, map[owner]*has{}
	if len(b.tenants) == 0 {
		return
	}
	for _, e := range running {
		b.add(e, 1)
	}
}

// count counts a run among those that have something, once: as soon as it is chosen to get it. uncount takes that back.
func (pl *planner) count(e *entry) {
	if !e.counted {
		e.counted = true
		pl.bounds.add(e, 1)
	}
}

func (pl *planner) uncount(e *entry) {
	if e.counted {
		e.counted = false
		pl.bounds.add(e, -1)
	}
}

func (b *bounds) add(e *entry, sign int) {
	if len(b.tenants) == 0 {
		return
	}
	t, o := e.tenant(), owner{e.tenant(), e.user()}
	if b.has[t] == nil {
		b.has[t] = &has{}
	}
	b.has[t].add(e, sign)
	if _, bounded := b.users[o]; bounded {
		if b.userHas[o] == nil {
			b.userHas[o] = &has{}
		}
		b.userHas[o].add(e, sign)
	}
}

// bound is one that a run would break.
type bound struct {
	whose string // "tenant", "user"
	what  string // "GPUs at once", …
	limit int
	has   int
}

// breaks finds the bound that starting the run would break.
func (b *bounds) breaks(e *entry) (bound, bool) {
	t := b.tenants[e.tenant()]
	if t == nil {
		return bound{}, false
	}
	over := func(whose string, q forge.Quota, h *has) (bound, bool) {
		if h == nil {
			h = &has{}
		}
		switch {
		case e.eval() && q.EvalGPUs > 0 && h.evals+e.gpus > q.EvalGPUs:
			return bound{whose, "GPUs for evals at once", q.EvalGPUs, h.evals}, true
		case !e.eval() && q.MaxGPUs > 0 && h.gpus+e.gpus > q.MaxGPUs:
			return bound{whose, "GPUs at once", q.MaxGPUs, h.gpus}, true
		case !e.eval() && q.MaxRunning > 0 && h.runs+1 > q.MaxRunning:
			return bound{whose, "runs at once", q.MaxRunning, h.runs}, true
		}
		return bound{}, false
	}
	if x, broken := over("tenant", t.Quota, b.has[e.tenant()]); broken {
		return x, true
	}
	o := owner{e.tenant(), e.user()}
	if q, bounded := b.users[o]; bounded {
		return over("user", q, b.userHas[o])
	}
	return bound{}, false
}

// entitle puts the runs of tenants with a guaranteed quota into the first tier, as many as it holds: of higher classes first, of one class
// those that run first, so that what is entitled changes seldom. Who could not start whatever is free takes nobody's part.
func (pl *planner) entitle() {
	var by map[forge.TenantID][]*entry
	collect := func(list []*entry) {
		for _, e := range list {
			if t := pl.bounds.tenants[e.tenant()]; t != nil && t.Quota.GPUs > 0 && !e.eval() && e.idle.code == "" {
				if by == nil {
					by = map[forge.TenantID][]*entry{}
				}
				by[e.tenant()] = append(by[e.tenant()], e)
			}
		}
	}
	if !pl.bounds.guaranteed() {
		return
	}
	collect(pl.w.running)
	collect(pl.w.waiting)
	for t, list := range by {
		slices.SortFunc(list, func(a, b *entry) int {
			runs := func(e *entry) int {
				if e.act != nil {
					return 0
				}
				return 1
			}
			return cmp.Or(cmp.Compare(b.turn.class, a.turn.class), cmp.Compare(runs(a), runs(b)), compareEntries(a, b))
		})
		left := pl.bounds.tenants[t].Quota.GPUs
		for _, e := range list {
			if e.gpus <= left {
				left -= e.gpus
				e.turn.tier = 0
			}
		}
	}
}

func (b *bounds) guaranteed() bool {
	for _, t := range b.tenants {
		if t.Quota.GPUs > 0 {
			return true
		}
	}
	return false
}
