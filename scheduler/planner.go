package scheduler

import (
	"cmp"
	"maps"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Planner is Plan kept warm: it is told what changed instead of being given the whole world again. What it decides is what Plan
// decides for its Snapshot, byte for byte; a property test holds the two together.
type Planner struct {
	policy   Policy
	revision int64
	pending  map[forge.RunID]forge.PendingRun
	active   map[forge.RunID]forge.ActiveAttempt
	nodes    map[nodeKey]forge.Node
	claims   map[forge.Claim]bool
	paused   map[forge.ClusterName]string
	queues   []forge.ClusterQueue
	tenants  []forge.TenantShare
	arrived  map[forge.RunID]forge.Arrival
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

// Load forgets everything and takes the world of a snapshot.
func (pl *Planner) Load(s forge.Snapshot) {
	*pl = Planner{policy: pl.policy, revision: s.Revision, pending: map[forge.RunID]forge.PendingRun{}, active: map[forge.RunID]forge.ActiveAttempt{},
		nodes: map[nodeKey]forge.Node{}, claims: map[forge.Claim]bool{}, paused: map[forge.ClusterName]string{}, queues: s.Queues, tenants: s.Tenants,
		arrived: map[forge.RunID]forge.Arrival{}}
	for _, r := range s.Pending {
		pl.pending[r.ID] = r
	}
	for _, a := range s.Active {
		pl.active[a.Run] = a
	}
	for _, n := range s.Nodes {
		pl.nodes[nodeKey{n.Cluster, n.Name}] = n
	}
	for _, c := range s.Claims {
		pl.claims[c] = true
	}
	for _, p := range s.Paused {
		pl.paused[p.Cluster] = p.Reason
	}
	for _, a := range s.Arrived {
		pl.arrived[a.Run] = a
	}
}

// Change tells of one change; the order of several matters as it did in the world.
func (pl *Planner) Change(c Change) {
	switch {
	case c.Pending != nil:
		delete(pl.active, c.Pending.ID)
		pl.pending[c.Pending.ID] = *c.Pending
	case c.Active != nil:
		delete(pl.pending, c.Active.Run)
		pl.active[c.Active.Run] = *c.Active
	case c.Gone != "":
		delete(pl.pending, c.Gone)
		delete(pl.active, c.Gone)
	case c.Node != nil:
		pl.nodes[nodeKey{c.Node.Cluster, c.Node.Name}] = *c.Node
	case c.Claim != nil && c.Claim.Gone:
		delete(pl.claims, c.Claim.Claim)
	case c.Claim != nil:
		pl.claims[c.Claim.Claim] = true
	case c.Paused != nil && c.Paused.Gone:
		delete(pl.paused, c.Paused.Cluster)
	case c.Paused != nil:
		pl.paused[c.Paused.Cluster] = c.Paused.Reason
	case c.Arrived != nil:
		pl.arrived[c.Arrived.Run] = *c.Arrived
	case c.Queues != nil:
		pl.queues = c.Queues
	case c.Tenants != nil:
		pl.tenants = c.Tenants
	}
	pl.revision++
}

// Plan decides for now. Its Hold has the reasons of all that wait, in words.
func (pl *Planner) Plan(now time.Time) forge.Plan { return Plan(pl.Snapshot(now), pl.policy) }

// Decide is Plan without the reasons: what to do and when to look again.
func (pl *Planner) Decide(now time.Time) forge.Plan {
	p := pl.Plan(now)
	p.Hold = nil
	return p
}

// Snapshot is the world as the planner knows it.
func (pl *Planner) Snapshot(now time.Time) forge.Snapshot {
	s := forge.Snapshot{Revision: pl.revision, Now: now, Queues: pl.queues, Tenants: pl.tenants}
	s.Pending = slices.SortedFunc(maps.Values(pl.pending), func(a, b forge.PendingRun) int { return cmp.Compare(a.ID, b.ID) })
	s.Active = slices.SortedFunc(maps.Values(pl.active), func(a, b forge.ActiveAttempt) int { return cmp.Compare(a.Run, b.Run) })
	s.Nodes = slices.SortedFunc(maps.Values(pl.nodes), func(a, b forge.Node) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Name, b.Name))
	})
	s.Claims = slices.SortedFunc(maps.Keys(pl.claims), func(a, b forge.Claim) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.For, b.For))
	})
	for c, why := range pl.paused {
		s.Paused = append(s.Paused, forge.PausedCluster{Cluster: c, Reason: why})
	}
	slices.SortFunc(s.Paused, func(a, b forge.PausedCluster) int { return cmp.Compare(a.Cluster, b.Cluster) })
	s.Arrived = slices.SortedFunc(maps.Values(pl.arrived), func(a, b forge.Arrival) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Run, b.Run)) })
	return s
}
