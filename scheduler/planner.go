package scheduler

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Planner is Plan kept warm: it is told what changed instead of being given the whole world again. What it decides is what Plan
// decides for its Snapshot, byte for byte; a property test holds the two together.
type Planner struct {
	policy   Policy
	revision int64
	w        *world
	nodes    map[nodeKey]forge.Node
	paused   map[forge.ClusterName]string
	queues   []forge.ClusterQueue
	tenants  []forge.TenantShare
	bands    map[forge.TenantID]int32 // by those that were present when presence was seen
	seen     int
	stale    bool    // the nodes changed: the world is made anew before the next plan
	renewed  []*node // they are the same ones, these are in another state: where shapes could run that they count for is found anew before the next plan
	last     planner // its buffers serve the next plan
	sorted   []forge.Node
}

// Change is one thing that is different. Exactly one field is set.
type Change struct {
	Pending *forge.PendingRun    // waits now, or waits otherwise than before
	Active  *forge.ActiveAttempt // holds GPUs now, or otherwise than before
	Gone    forge.RunID          // neither waits nor is active any more
	Node    *forge.Node
	Claim   *forge.ClaimChange
	Paused  *forge.PausedChange
	Queues  []forge.ClusterQueue // all of them
	Tenants []forge.TenantShare  // all of them
	Arrived *forge.Arrival       // its service became known, or is another
}

// NewPlanner plans for an empty world.
func NewPlanner(p Policy) *Planner {
	pl := &Planner{policy: p}
	pl.Load(forge.Snapshot{})
	return pl
}

// Load forgets everything and takes the world of a snapshot. The snapshot must not be changed while the planner uses it.
func (pl *Planner) Load(s forge.Snapshot) {
	*pl = Planner{policy: pl.policy, revision: s.Revision, w: newWorld(len(s.Pending) + len(s.Active)), nodes: make(map[nodeKey]forge.Node, len(s.Nodes)), paused: map[forge.ClusterName]string{},
		queues: s.Queues, last: pl.last}
	pl.setTenants(s.Tenants)
	pl.sorted = slices.Clone(s.Nodes)
	slices.SortFunc(pl.sorted, compareNodes)
	for _, n := range pl.sorted {
		pl.nodes[nodeKey{n.Cluster, n.Name}] = n
	}
	for _, p := range s.Paused {
		pl.paused[p.Cluster] = p.Reason
	}
	var arrivals sync.WaitGroup
	arrivals.Go(func() { pl.w.arrivals.load(s.Arrived) })
	defer arrivals.Wait()
	pl.w.build(pl.sorted, s.Paused, s.Queues)
	for i := range s.Active {
		pl.w.putRunning(&s.Active[i])
	}
	for i := range s.Pending {
		pl.w.putWaiting(&s.Pending[i])
	}
	for _, c := range s.Claims {
		pl.w.claim(c)
	}
}

func compareNodes(a, b forge.Node) int {
	return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Name, b.Name))
}

func (pl *Planner) setTenants(t []forge.TenantShare) {
	pl.tenants, pl.seen = t, -1
	pl.w.bound(t)
	pl.w.guarantee()
}

// Change tells of one change; the order of several matters as it did in the world.
func (pl *Planner) Change(c Change) {
	switch {
	case c.Pending != nil:
		pl.w.putWaiting(c.Pending)
	case c.Active != nil:
		pl.w.putRunning(c.Active)
	case c.Gone != "":
		pl.w.drop(c.Gone)
	case c.Node != nil:
		pl.nodes[nodeKey{c.Node.Cluster, c.Node.Name}] = *c.Node
		if key := (nodeKey{c.Node.Cluster, c.Node.Name}); pl.w.renew(c.Node) {
			pl.renewed = append(pl.renewed, pl.w.nodes[key])
		} else {
			pl.stale = true
		}
	case c.Claim != nil && c.Claim.Gone:
		pl.w.unclaim(c.Claim.Claim)
	case c.Claim != nil:
		pl.w.claim(c.Claim.Claim)
	case c.Paused != nil && c.Paused.Gone:
		delete(pl.paused, c.Paused.Cluster)
		pl.stale = true
	case c.Paused != nil:
		pl.paused[c.Paused.Cluster] = c.Paused.Reason
		pl.stale = true
	case c.Arrived != nil:
		pl.w.arrivals.put(*c.Arrived)
	case c.Queues != nil:
		pl.queues, pl.stale = c.Queues, true
	case c.Tenants != nil:
		pl.setTenants(c.Tenants)
	}
	pl.revision++
}

// Plan decides for now. Its Hold has the reasons of all that wait, in words.
func (pl *Planner) Plan(now time.Time) forge.Plan { return pl.decide(now, false) }

// Decide is Plan without the reasons: what to do and when to look again.
func (pl *Planner) Decide(now time.Time) forge.Plan { return pl.decide(now, true) }

func (pl *Planner) decide(now time.Time, quiet bool) forge.Plan {
	p := pl.make(now)
	p.quiet = quiet
	p.run()
	return p.plan
}

// make readies a plan.
func (pl *Planner) make(now time.Time) *planner {
	if pl.stale {
		pl.Load(pl.Snapshot(now))
	}
	if len(pl.renewed) > 0 {
		for _, sh := range pl.w.numbered {
			if slices.ContainsFunc(pl.renewed, sh.counts) {
				pl.w.reshape(sh, pl.sorted)
			}
		}
		pl.renewed = nil
	}
	if pl.seen != pl.w.presence {
		bands := bandsOf(pl.tenants, pl.policy, pl.w.present)
		pl.w.lineStale = pl.w.lineStale || !maps.Equal(bands, pl.bands)
		pl.bands, pl.seen = bands, pl.w.presence
	}
	old := &pl.last
	p := planner{p: pl.policy, now: now, w: pl.w, nodes: pl.sorted, bands: pl.bands, plan: forge.Plan{Revision: pl.revision},
		candidates: old.candidates[:0], fates: old.fates[:0], stretches: old.stretches[:0], claimers: old.claimers[:0], critical: old.critical[:0], others: old.others[:0],
		chosen: old.chosen[:0], sorted: old.sorted[:0], left: old.left[:0], sites: old.sites[:0], shut: old.shut[:0], offers: old.offers[:0], counts: old.counts[:0], spread: labels(pl.policy.Spread),
		reasons: map[holdKey]*forge.Held{}, saving: map[forge.RunID]*forge.Held{}, overruled: map[forge.RunID]bool{}}
	pl.last = p
	pl.last.ready()
	return &pl.last
}

// Snapshot is the world as the planner knows it.
func (pl *Planner) Snapshot(now time.Time) forge.Snapshot {
	s := forge.Snapshot{Revision: pl.revision, Now: now, Queues: pl.queues, Tenants: pl.tenants, Arrived: slices.Clone(pl.w.arrivals.list)}
	byID := func(a, b *entry) int { return strings.Compare(string(a.id), string(b.id)) } // entries: runs are much to move
	s.Pending = make([]forge.PendingRun, 0, len(pl.w.waiting))
	for _, e := range slices.SortedFunc(slices.Values(pl.w.waiting), byID) {
		s.Pending = append(s.Pending, *e.pend)
	}
	for _, e := range slices.SortedFunc(slices.Values(pl.w.running), byID) {
		s.Active = append(s.Active, *e.act)
	}
	s.Nodes = slices.SortedFunc(maps.Values(pl.nodes), compareNodes)
	for run, list := range pl.w.claims {
		for _, k := range list {
			s.Claims = append(s.Claims, forge.Claim{Cluster: k.at.cluster, Node: k.at.node, Slot: k.slot, For: run, From: k.from})
		}
	}
	slices.SortFunc(s.Claims, func(a, b forge.Claim) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.For, b.For))
	})
	for c, why := range pl.paused {
		s.Paused = append(s.Paused, forge.PausedCluster{Cluster: c, Reason: why})
	}
	slices.SortFunc(s.Paused, func(a, b forge.PausedCluster) int { return cmp.Compare(a.Cluster, b.Cluster) })
	return s
}
