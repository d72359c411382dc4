package daemon

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
)

// world is the one in-memory view of the tables: rebuilt at start by a fresh read, then kept
// by the deltas of each commit, in commit order. The tables stay the only durable truth; a
// test compares the two after random work.
type world struct {
	mu        sync.RWMutex
	revision  int64
	runs      map[forge.RunID]forge.Run // not terminal
	settled   map[forge.RunID]dependency
	waiters   map[forge.RunID]map[forge.RunID]bool // the runs that name it in After and have not ended
	pending   []*waiting                           // sorted by id; runs in state pending without an open attempt
	queued    [forge.MaxPriority + 1]int           // how many of pending have each priority
	attempts  map[forge.RunID]forge.Attempt
	stopped   map[forge.RunID]preempted    // runs that were preempted
	moved     int64                        // grows when what runs, nodes, claims or pauses change
	touched   [forge.MaxPriority + 1]int64 // grows when a pending run of that priority comes or changes
	nodes     map[nodeKey]forge.Node
	listed    atomic.Pointer[[]forge.Node] // nodes by cluster and name, for readers; nil since one changed
	claims    map[forge.Claim]bool
	paused    map[forge.ClusterName]string
	ents      entitlements
	estimates *estimates                          // how much work runs have left
	demand    demand                              // who waits for a place in a cluster's own queue
	lookup    func(forge.RunID) (forge.Run, bool) // a read of the tables, for a dependency that settled before we looked
	changes   changes                             // that the planner was not told of yet
	onEnd     func(*forge.Attempt)                // told once of each attempt that ends; nil: nobody is
}

// waiting is one entry of the sorted list that planning looks at, ready for a snapshot but for the
// states of what it waits for: a snapshot of 100,000 runs must not look each one up. The list has pointers, since each start takes one out
// of its front, and all behind move up.
type waiting struct {
	forge.PendingRun
	after []forge.RunID
}

type nodeKey struct {
	cluster forge.ClusterName
	node    forge.NodeName
}

// preempted counts the attempts of a run that made room for another.
type preempted struct {
	attempt int // the last of them, so that one is not counted twice
	times   int
	last    time.Time
}

type dependency struct {
	number int64
	state  forge.RunState
}

func newWorld(w store.World, lookup func(forge.RunID) (forge.Run, bool)) *world {
	d := &world{
		revision: w.Revision, lookup: lookup,
		runs: make(map[forge.RunID]forge.Run, len(w.Runs)), pending: make([]*waiting, 0, len(w.Runs)), settled: map[forge.RunID]dependency{}, waiters: map[forge.RunID]map[forge.RunID]bool{},
		attempts: map[forge.RunID]forge.Attempt{}, stopped: map[forge.RunID]preempted{}, nodes: map[nodeKey]forge.Node{},
		claims: map[forge.Claim]bool{}, paused: map[forge.ClusterName]string{},
		ents: entitlements{tenants: map[forge.TenantID]forge.TenantAccount{}, users: map[waiter]forge.Quota{}, halfLife: forge.DefaultHalfLife},
	}
	for _, t := range w.Tenants {
		d.putTenant(t)
	}
	for _, u := range w.Users {
		d.putUser(u)
	}
	for _, p := range w.Preempted {
		d.stopped[p.Run] = preempted{times: p.Times, last: p.Last}
	}
	for _, a := range w.Attempts {
		d.putAttempt(a)
	}
	for _, r := range w.Runs {
		if r.State.Terminal() {
			d.settled[r.ID] = dependency{r.Number, r.State}
		}
	}
	for _, r := range w.Runs {
		if !r.State.Terminal() {
			d.putRun(r)
		}
	}
	for _, n := range w.Nodes {
		d.nodes[nodeKey{n.Cluster, n.Name}] = n
		d.listed.Store(nil)
	}
	for _, c := range w.Claims {
		d.claims[c] = true
	}
	for _, p := range w.Paused {
		d.paused[p.Cluster] = p.Reason
	}
	return d
}

// apply folds the deltas of one commit and says whether planning could come out differently.
func (d *world) apply(deltas []forge.Delta) (replan bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, x := range deltas {
		switch {
		case x.Run != nil:
			before, known := d.runs[x.Run.ID]
			d.putRun(*x.Run)
			replan = replan || !known || plannable(before) != plannable(*x.Run) || x.Run.State == forge.RunPending
			if x.Run.State.Terminal() && len(d.waiters[x.Run.ID]) > 0 { // its GPUs were free before it was judged: nothing else says that they may start
				replan = true
				d.moved++
			}
		case x.Attempt != nil:
			was, known := d.attempts[x.Attempt.Run]
			if d.onEnd != nil && known && was.Number == x.Attempt.Number && x.Attempt.State == forge.AttemptEnded { // what is written of it later ends it no second time
				d.onEnd(x.Attempt)
			}
			d.putAttempt(*x.Attempt)
			replan = replan || known && (was.State.Open() && !x.Attempt.State.Open() || was.Queued() && !x.Attempt.Queued())
			d.moved++
		case x.Node != nil:
			d.moved++
			k := nodeKey{x.Node.Cluster, x.Node.Name}
			d.nodes[k] = *x.Node
			d.listed.Store(nil)
			d.changes.node(k)
			replan = true
		case x.Claim != nil:
			d.moved++
			if x.Claim.Gone {
				delete(d.claims, x.Claim.Claim)
			} else {
				d.claims[x.Claim.Claim] = true
			}
			d.changes.claim(x.Claim.Claim)
			replan = true
		case x.Paused != nil:
			d.moved++
			if x.Paused.Gone {
				delete(d.paused, x.Paused.Cluster)
			} else {
				d.paused[x.Paused.Cluster] = x.Paused.Reason
			}
			d.changes.cluster(x.Paused.Cluster)
			replan = true
		case x.Tenant != nil:
			if d.putTenant(*x.Tenant) {
				d.moved++
				replan = true
			}
		case x.User != nil:
			d.putUser(*x.User)
			d.moved++
			replan = true
		}
	}
	if replan {
		d.revision++
	}
	return replan
}

func plannable(r forge.Run) bool {
	return r.State == forge.RunPending && r.Hold == nil && r.Cancel == ""
}

func (d *world) putRun(r forge.Run) {
	before, known := d.runs[r.ID]
	if !known && !r.State.Terminal() {
		for _, a := range r.Spec.After {
			if d.waiters[a] == nil {
				d.waiters[a] = map[forge.RunID]bool{}
			}
			d.waiters[a][r.ID] = true
		}
	}
	if !known || before.State != r.State {
		for id := range d.waiters[r.ID] {
			d.changes.run(id)
		}
	}
	if r.State.Terminal() {
		delete(d.runs, r.ID)
		delete(d.stopped, r.ID)
		if known {
			for _, a := range before.Spec.After {
				if delete(d.waiters[a], r.ID); len(d.waiters[a]) == 0 {
					delete(d.waiters, a)
					delete(d.settled, a)
				}
			}
		}
		if len(d.waiters[r.ID]) > 0 {
			d.settled[r.ID] = dependency{r.Number, r.State}
		}
		d.estimates.run(&r)
	} else {
		d.estimates.run(&r) // before its spec is cut down
		if _, busy := d.attempts[r.ID]; r.State == forge.RunPending && !busy {
			r.Spec = waitingSpec(r.Spec)
		}
		d.runs[r.ID] = r
	}
	d.index(r.ID)
}

// waitingSpec is what the world keeps of the spec of a run that only waits: no more than a restart
// would read of it. The parameters of a queue of 100,000 would fill hundreds of megabytes.
func waitingSpec(s forge.RunSpec) forge.RunSpec {
	return forge.RunSpec{Name: s.Name, Recipe: s.Recipe, Gang: s.Gang, Cluster: s.Cluster, Priority: s.Priority, TimeLimit: s.TimeLimit,
		Register: s.Register, After: s.After, Batch: s.Batch, Eval: s.Eval, Where: s.Where, Pinned: s.Pinned}
}

func (d *world) putAttempt(a forge.Attempt) {
	if a.State == forge.AttemptEnded {
		if p := d.stopped[a.Run]; a.Reason == forge.EndCheckpointedPreempt && !a.Rehearsal && a.Number > p.attempt {
			d.stopped[a.Run] = preempted{a.Number, p.times + 1, a.EndedAt}
		}
		if cur, ok := d.attempts[a.Run]; ok && cur.Number <= a.Number {
			delete(d.attempts, a.Run)
		}
	} else if cur, ok := d.attempts[a.Run]; !ok || cur.Number <= a.Number {
		d.attempts[a.Run] = a
	}
	r := d.runs[a.Run]
	d.estimates.attempt(&a, &r)
	d.index(a.Run)
}

// index keeps the sorted list of runs that planning looks at. ULIDs grow, so that a new run
// is nearly always appended.
func (d *world) index(id forge.RunID) {
	d.changes.run(id)
	r, ok := d.runs[id]
	_, busy := d.attempts[id] // also one that exited and is not yet ended: the next attempt waits for its verdict
	want := ok && r.State == forge.RunPending && !busy
	i, have := d.waits(id)
	switch {
	case want && !have:
		d.pending = slices.Insert(d.pending, i, &waiting{pendingRun(r), r.Spec.After})
		d.pending[i].Work = d.estimates.work(id)
		d.demand.add(&d.pending[i].PendingRun, 1)
		d.queued[r.Spec.Priority]++
		d.touched[r.Spec.Priority]++
	case want && have: // its hold, its back-off or a request to cancel may have changed
		d.demand.add(&d.pending[i].PendingRun, -1)
		d.queued[d.pending[i].Priority]--
		d.pending[i].PendingRun = pendingRun(r)
		d.queued[r.Spec.Priority]++
		d.pending[i].Work = d.estimates.work(id)
		d.demand.add(&d.pending[i].PendingRun, 1)
		d.touched[r.Spec.Priority]++
	case !want && have:
		d.queued[d.pending[i].Priority]--
		d.demand.add(&d.pending[i].PendingRun, -1)
		d.pending = slices.Delete(d.pending, i, i+1)
	}
}

// waits finds a run in the list, or where it would stand.
func (d *world) waits(id forge.RunID) (int, bool) {
	return slices.BinarySearchFunc(d.pending, id, func(w *waiting, id forge.RunID) int { return cmp.Compare(w.ID, id) })
}

// open lists the attempts that are not ended, by run.
func (d *world) open() []forge.Attempt {
	d.mu.RLock()
	defer d.mu.RUnlock()
	out := make([]forge.Attempt, 0, len(d.attempts))
	for _, run := range slices.Sorted(maps.Keys(d.attempts)) { // not the attempts: of thousands, every second, they are much to move
		out = append(out, d.attempts[run])
	}
	return out
}

func (d *world) run(id forge.RunID) (forge.Run, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	r, ok := d.runs[id]
	return r, ok
}

func (d *world) attempt(id forge.RunID) (forge.Attempt, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	a, ok := d.attempts[id]
	return a, ok
}
