package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// TermsOf says where a waiting run stands in the order of this snapshot, and by which values; false for one that does not wait.
func TermsOf(s forge.Snapshot, p Policy, run forge.RunID) (forge.Terms, bool) {
	return NewView(s, p).Terms(run)
}

// Terms reads the turn that the planner gave the run: what is said is what it was ordered by.
func (v *View) Terms(run forge.RunID) (forge.Terms, bool) {
	pl := &v.pl.last
	e := pl.w.entries[run]
	if e == nil || e.pend == nil {
		return forge.Terms{}, false
	}
	t := forge.Terms{Position: v.Position(run), Waiting: len(pl.w.waiting), Tier: forge.TierBorrows, Class: int(e.turn.class), Lane: pl.laneOf(v.at(run)), Rank: gpuHours(forge.GPUTime(e.turn.rank)),
		Left: forge.Duration(e.left(pl.now)), Source: e.work().Source, Waited: forge.Duration(max(0, pl.now.Sub(e.submitted())-e.ran(pl.now)).Truncate(time.Second)), Reserved: v.reserved[run]}
	if e.turn.tier == 0 {
		t.Tier = forge.TierGuaranteed
	}
	if pl.p.Order == OrderAttained {
		t.Rank = gpuHours(forge.GPUTimeOf(e.ran(pl.now), e.gpus))
	}
	t.Band = int(pl.bands[e.tenant()])
	if own := e.account.share; own != nil {
		t.UsedGPUH = gpuHours(own.Used)
	}
	if pl.p.FairShare {
		for i, over := range forge.Shares(v.Snapshot.Tenants, pl.w.present) {
			if v.Snapshot.Tenants[i].Tenant == e.tenant() {
				t.Share = over
			}
		}
	}
	t.Filters = pl.filters(e)
	t.Holders = pl.holders(e)
	return t, true
}

func gpuHours(t forge.GPUTime) float64 { return float64(t) / float64(time.Hour/time.Millisecond) }

// obstacle is what keeps a run from a node; a node whose GPUs are of several types has the least of theirs.
type obstacle int

const (
	takesIt obstacle = iota
	tooFewFree
	shortNow // of CPUs or memory
	failedThere
	wellTooFew
	drained
	notReadyNow
	pausedNow
	tooSmall
	otherwiseNarrowed
	wrongType
	otherCluster
)

var obstacles = map[obstacle]string{
	takesIt: "could take a part of it now", tooFewFree: "too few GPUs free", shortNow: "too few CPUs or too little memory free", failedThere: "avoided after a failure there", wellTooFew: "too few GPUs are well",
	drained: "drained", notReadyNow: "not ready", pausedNow: "the cluster is paused", tooSmall: "too small", otherwiseNarrowed: "left out by the run's labels, memory or exclusions", wrongType: "GPUs of another type",
	otherCluster: "in another cluster",
}

// filters counts the nodes by what keeps the run from them, by the sets of its shape.
func (pl *planner) filters(e *entry) []forge.Filter {
	sh := pl.shapeOf(e)
	least, free := map[*node]obstacle{}, map[*node]int{}
	for _, p := range pl.w.pools {
		in := bins{sh.asked(p), p.holding(sh.need, true), p.holding(sh.need, p.cluster.queue != nil), sh.welcome(p)}
		for _, b := range p.bins {
			o := pl.obstacle(e, sh, p, b, in)
			if had, seen := least[b.node]; !seen || o < had {
				least[b.node] = o
			}
			if b.node.ready() {
				free[b.node] += b.avail
			}
		}
	}
	by := map[obstacle]*forge.Filter{}
	for n, o := range least {
		if by[o] == nil {
			by[o] = &forge.Filter{Why: obstacles[o]}
		}
		by[o].Nodes++
		by[o].Free += free[n]
	}
	out := []forge.Filter{}
	for o := takesIt; o <= otherCluster; o++ {
		if by[o] != nil {
			out = append(out, *by[o])
		}
	}
	return out
}

// bins are the bins of a pool that a shape's wishes leave, that could ever hold its part, that could with what is well, and that it may use.
type bins struct{ asked, large, well, welcome set }

func (pl *planner) obstacle(e *entry, sh *shape, p *pool, b *bin, in bins) obstacle {
	switch {
	case sh.key.cluster != "" && p.cluster.name != sh.key.cluster, sh.key.batch && !p.cluster.batch:
		return otherCluster
	case !sh.likes(p):
		return wrongType
	case !in.asked.has(b.at):
		return otherwiseNarrowed
	case !in.large.has(b.at):
		return tooSmall
	case p.cluster.paused:
		return pausedNow
	case b.node.State == forge.NodeDrained:
		return drained
	case !b.node.takes():
		return notReadyNow
	case !in.well.has(b.at):
		return wellTooFew
	case !in.welcome.has(b.at):
		return failedThere
	}
	switch has := pl.w.freeNow(e.pend, b); {
	case has.slots < sh.need.slots:
		return tooFewFree
	case !has.meets(sh.need):
		return shortNow
	}
	return takesIt
}

// holders sums up who has GPUs on the nodes that the run could use.
func (pl *planner) holders(e *entry) forge.Holders {
	sh := pl.shapeOf(e)
	could := map[nodeKey]bool{}
	for i, p := range sh.pools {
		for at := range sh.eligible[i].in(sh.eligible[i]) {
			could[nodeKey{p.cluster.name, p.bins[at].node.Name}] = true
		}
	}
	var h forge.Holders
	for _, x := range pl.w.running {
		gpus := 0
		for _, share := range x.act.Placement {
			if could[nodeKey{x.act.Cluster, share.Node}] {
				gpus += len(share.Slots)
			}
		}
		if gpus == 0 {
			continue
		}
		if x.tenant() == e.tenant() {
			h.Own++
			h.OwnGPUs += gpus
		} else {
			h.Others++
			h.OthersGPUs += gpus
		}
		end := x.act.EndsBy
		if left := x.left(pl.now); left > 0 && (end.IsZero() || pl.now.Add(left).Before(end)) {
			end = pl.now.Add(left)
		}
		if !end.IsZero() && (h.FirstEnd.IsZero() || end.Before(h.FirstEnd)) {
			h.FirstEnd = end
		}
	}
	return h
}

// Way is a change of a run that lets it start at once, or sooner.
type Way struct {
	Change string
	Run    forge.PendingRun // as it would be
}

// Sooner tries what would let a waiting run start now, each by a plan of its own in which nothing else is different: a smaller gang, a time
// limit that ends before a reservation, GPUs of another type, a higher class of at most top, no bound on its tenant.
func Sooner(s forge.Snapshot, p Policy, run forge.RunID, top int) []Way {
	i := slices.IndexFunc(s.Pending, func(r forge.PendingRun) bool { return r.ID == run })
	if i < 0 {
		return nil
	}
	r := s.Pending[i]
	starts := func(change forge.PendingRun, with func(*forge.Snapshot)) bool {
		x := s
		x.Pending = slices.Clone(s.Pending)
		x.Pending[i] = change
		if with != nil {
			with(&x)
		}
		pl := NewPlanner(p)
		pl.Load(x)
		return slices.ContainsFunc(pl.Decide(s.Now).Place, func(at forge.Place) bool { return at.Run == run })
	}
	var out []Way
	try := func(text string, with func(*forge.Snapshot), change func(*forge.PendingRun)) bool {
		c := r
		change(&c)
		if !starts(c, with) {
			return false
		}
		out = append(out, Way{text, c})
		return true
	}
	for _, g := range smaller(r.Gang) {
		if try("a smaller gang: "+needText(g, forge.GPUDevice, false)+" would start now", nil, func(c *forge.PendingRun) { c.Gang = g }) {
			break
		}
	}
	for _, limit := range []time.Duration{8 * time.Hour, time.Hour, 10 * time.Minute} {
		if (r.TimeLimit == 0 || limit < r.TimeLimit) && try(fmt.Sprintf("a time limit of %s would let it start now, before what is kept for others", forge.Duration(limit)), nil, func(c *forge.PendingRun) { c.TimeLimit = limit }) {
			break
		}
	}
	if r.Where != nil && len(r.Where.GPUTypes) > 0 {
		w := *r.Where
		w.GPUTypes = nil
		try("GPUs of another type are free: without the type it would start now", nil, func(c *forge.PendingRun) { c.Where = &w })
	}
	for _, class := range []int{r.Priority + 10, r.Priority + 20, top} {
		if class > r.Priority && class <= top && try(fmt.Sprintf("priority %d would let it start now, or have others stopped for it", class), nil, func(c *forge.PendingRun) { c.Priority = class }) {
			break
		}
	}
	if broke := func(t forge.TenantShare) bool { return t.Tenant == r.Tenant && t.Spent != "" }; slices.ContainsFunc(s.Tenants, broke) {
		try("its tenant's budget is spent; with a larger one it would start now", func(x *forge.Snapshot) {
			x.Tenants = slices.Clone(x.Tenants)
			x.Tenants[slices.IndexFunc(x.Tenants, broke)].Spent = ""
		}, func(*forge.PendingRun) {})
	}
	try("its tenant or user has as much as it may have at once; with a larger quota it would start now", func(x *forge.Snapshot) {
		x.Tenants = slices.Clone(x.Tenants)
		for k := range x.Tenants {
			if t := &x.Tenants[k]; t.Tenant == r.Tenant {
				t.Quota.MaxGPUs, t.Quota.MaxRunning, t.Quota.EvalGPUs, t.Users = 0, 0, 0, nil
			}
		}
	}, func(*forge.PendingRun) {})
	return out
}

// smaller lists gangs of the same kind with fewer GPUs, largest first: fewer nodes, or fewer GPUs on each.
func smaller(g forge.Gang) []forge.Gang {
	var out []forge.Gang
	for n := g.Nodes / 2; n >= 1; n /= 2 {
		c := g
		c.Nodes = n
		out = append(out, c)
	}
	for n := g.GPUsPerNode / 2; n >= 1; n /= 2 {
		c := g
		c.GPUsPerNode = n
		out = append(out, c)
	}
	slices.SortStableFunc(out, func(a, b forge.Gang) int { return cmp.Compare(b.GPUs(), a.GPUs()) })
	return out
}
