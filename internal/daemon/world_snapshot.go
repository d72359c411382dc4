package daemon

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
)

// snapshot is an immutable view, sorted so that equal worlds are equal bytes.
func (d *world) snapshot(now time.Time) forge.Snapshot {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.take(now)
}

// take is snapshot for whoever holds mu.
func (d *world) take(now time.Time) forge.Snapshot {
	s := forge.Snapshot{Revision: d.revision, Now: now, Queues: d.demand.queues, Tenants: d.shares(now), Pending: make([]forge.PendingRun, 0, len(d.pending))}
	for i := range d.pending {
		s.Pending = append(s.Pending, d.asPending(i))
	}
	for _, a := range d.attempts {
		if a.State.Open() {
			s.Active = append(s.Active, d.asActive(&a, now))
		}
	}
	s.Arrived = d.estimates.lend()
	slices.SortFunc(s.Active, func(a, b forge.ActiveAttempt) int { return cmp.Compare(a.Run, b.Run) })
	s.Nodes = d.nodesLocked()
	s.Claims = slices.SortedFunc(maps.Keys(d.claims), func(a, b forge.Claim) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.For, b.For))
	})
	for c, why := range d.paused {
		s.Paused = append(s.Paused, forge.PausedCluster{Cluster: c, Reason: why})
	}
	slices.SortFunc(s.Paused, func(a, b forge.PausedCluster) int { return strings.Compare(string(a.Cluster), string(b.Cluster)) })
	return s
}

// asPending is an entry of the list as planning sees it.
func (d *world) asPending(i int) forge.PendingRun {
	p := d.pending[i].PendingRun
	p.After = d.dependencies(d.pending[i].after)
	return p
}

// asActive is an open attempt as planning sees it.
func (d *world) asActive(a *forge.Attempt, now time.Time) forge.ActiveAttempt {
	r := d.runs[a.Run]
	x := forge.ActiveAttempt{Run: a.Run, Number: a.Number, Tenant: r.Tenant, User: r.User, Priority: r.Spec.Priority, State: a.State,
		Cluster: a.Cluster, Placement: a.Placement, PlacedAt: a.PlacedAt, StartedAt: a.StartedAt, SavedAt: a.SavedAt, Intent: a.Intent,
		Eval: r.Spec.Eval, Preempted: d.stopped[a.Run].times, PreemptedAt: d.stopped[a.Run].last, SubmittedAt: r.SubmittedAt, Gang: r.Spec.Gang, Where: r.Spec.Where, Pinned: r.Spec.Pinned}
	x.Work = d.estimates.work(a.Run)
	if limited(a, &r) {
		from := a.StartedAt
		if from.IsZero() {
			from = now
		}
		x.EndsBy = from.Add(r.Spec.TimeLimit.D() + r.Spec.Grace.D())
	}
	return x
}

// limited says that an attempt ends by a time limit of forge's own, wherever it runs.
func limited(a *forge.Attempt, r *forge.Run) bool { return r.Spec.TimeLimit > 0 && !a.Queued() }

// drifts says that when an attempt ends by moves with the time: until all ranks have started the clock has not, and the limit counts from then.
func (d *world) drifts(id forge.RunID) bool {
	a, ok := d.attempts[id]
	r := d.runs[id]
	return ok && a.State.Open() && a.StartedAt.IsZero() && limited(&a, &r)
}

func pendingRun(r forge.Run) forge.PendingRun {
	return forge.PendingRun{ID: r.ID, Tenant: r.Tenant, User: r.User, Batch: !r.Spec.Batch.Empty(), Number: r.Number, Version: r.Version, Attempt: r.Attempt,
		Priority: r.Spec.Priority, SubmittedAt: r.SubmittedAt, NotBefore: r.NotBefore, Gang: r.Spec.Gang,
		TimeLimit: r.Spec.TimeLimit.D(), Cluster: r.Spec.Cluster, Avoid: r.Avoid, Hold: r.Hold, Cancel: r.Cancel, Eval: r.Spec.Eval, Where: r.Spec.Where, Pinned: r.Spec.Pinned}
}

func (d *world) dependencies(after []forge.RunID) []forge.Dependency {
	var out []forge.Dependency
	for _, id := range after {
		dep := forge.Dependency{Run: id}
		if x, ok := d.runs[id]; ok {
			dep.Number, dep.State = x.Number, x.State
		} else if x, ok := d.settled[id]; ok {
			dep.Number, dep.State = x.number, x.state
		} else if x, ok := d.lookup(id); ok {
			dep.Number, dep.State = x.Number, x.State
		} else {
			dep.State = forge.RunFailed // gone from the tables: it will never complete
		}
		out = append(out, dep)
	}
	return out
}

// nodeList is shared by all who ask until a node changes: nobody writes to it. Every submission asks, of sites with thousands of nodes.
func (d *world) nodeList() []forge.Node {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.nodesLocked()
}

func (d *world) nodesLocked() []forge.Node {
	if l := d.listed.Load(); l != nil {
		return *l
	}
	l := slices.SortedFunc(maps.Values(d.nodes), func(a, b forge.Node) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Name, b.Name))
	})
	d.listed.Store(&l)
	return l
}

// nodesOf lists the nodes of one cluster, by name.
func (d *world) nodesOf(c forge.ClusterName) []forge.Node { return listOf(d.nodeList(), c) }

// listOf is the part of a list by cluster and name that is of one cluster.
func listOf(l []forge.Node, c forge.ClusterName) []forge.Node {
	from, _ := slices.BinarySearchFunc(l, c, func(n forge.Node, c forge.ClusterName) int { return cmp.Compare(n.Cluster, c) })
	to := from
	for to < len(l) && l[to].Cluster == c {
		to++
	}
	return l[from:to:to]
}

// SnapshotOf is the snapshot that a fresh read of the tables gives, with the batch systems that a configuration would name.
func SnapshotOf(w store.World, now time.Time, queues ...forge.ClusterQueue) forge.Snapshot {
	d := newWorld(w, func(forge.RunID) (forge.Run, bool) { return forge.Run{}, false })
	d.setQueues(queues)
	return d.snapshot(now)
}
