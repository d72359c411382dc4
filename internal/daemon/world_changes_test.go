package daemon

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
	"github.com/forge-ml/forge-ml/store"
)

// TestThePlannerThatIsToldOfChangesKnowsTheWorld: after any work on a world the planner that was told of it has the snapshot that the world has, byte for byte,
// and decides what a plan of that snapshot decides.
func TestThePlannerThatIsToldOfChangesKnowsTheWorld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSiteAtWork(rapid.Uint64().Draw(t, "seed"))
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			for range 1 + s.rng.IntN(3) {
				s.step()
			}
			s.world.estimate(s.now) // as the plan loop does first
			s.world.tell(s.planner, s.now)
			wantKnown(t, s.planner, s.world, s.policy, s.now)
			if t.Failed() {
				t.Fatalf("after %v", s.did)
			}
		}
	})
}

func TestWhatIsOtherwiseIsNamedOnce(t *testing.T) {
	s := newSiteAtWork(1)
	for range 20 {
		s.submit()
	}
	s.world.tell(s.planner, s.now)
	id := s.waiting()
	for range 5 {
		s.run(id, func(r *forge.Run) { r.Version++ })
	}
	if n := len(s.world.changes.runs); n != 1 {
		t.Errorf("%d runs are otherwise", n)
	}
	t.Run("and what only moves with the time each time", func(t *testing.T) {
		s.tasks(id, forge.RunPending, func(r *forge.Run) { r.Spec.TimeLimit = forge.Duration(time.Hour) })
		s.place(id)
		for range 2 {
			s.now = s.now.Add(time.Minute)
			s.world.tell(s.planner, s.now)
			wantKnown(t, s.planner, s.world, s.policy, s.now)
		}
		s.begin(id)
		s.world.tell(s.planner, s.now)
		if n := len(s.world.changes.runs); n != 0 {
			t.Errorf("%d runs are told again though they have started", n)
		}
	})
	t.Run("until it is so much that all is told", func(t *testing.T) {
		s.world.changes.runs = map[forge.RunID]bool{}
		for i := range mostChanges {
			s.world.changes.runs[forge.RunID(fmt.Sprint(i))] = true
		}
		s.submit()
		if s.world.changes.to != nil {
			t.Errorf("%d changes are kept", len(s.world.changes.runs))
		}
		s.world.tell(s.planner, s.now)
		wantKnown(t, s.planner, s.world, s.policy, s.now)
	})
	t.Run("and when old arrivals are forgotten, which a planner cannot be told of", func(t *testing.T) {
		for i := range mostArrived + mostArrived/10 {
			s.world.estimates.arrived = append(s.world.estimates.arrived, forge.Arrival{Run: forge.RunID(fmt.Sprint("old", i)), At: time.Unix(int64(i), 0)})
		}
		s.world.changes.everything()
		s.world.tell(s.planner, s.now)
		for range 30 {
			s.step()
			s.world.estimate(s.now)
			s.world.tell(s.planner, s.now)
			wantKnown(t, s.planner, s.world, s.policy, s.now)
		}
		if n := len(s.world.estimates.arrived); n > mostArrived+100 {
			t.Errorf("%d are kept", n)
		}
	})
}

// wantKnown compares what a planner knows and decides with what a plan from nothing would.
func wantKnown(t interface {
	Helper()
	Errorf(string, ...any)
}, pl *scheduler.Planner, w *world, p scheduler.Policy, now time.Time) {
	t.Helper()
	got, want := pl.Snapshot(now), w.snapshot(now)
	same(t, "pending", got.Pending, want.Pending)
	same(t, "active", got.Active, want.Active)
	same(t, "nodes", got.Nodes, want.Nodes)
	same(t, "claims", got.Claims, want.Claims)
	same(t, "paused", got.Paused, want.Paused)
	same(t, "queues", got.Queues, want.Queues)
	same(t, "tenants", got.Tenants, want.Tenants)
	same(t, "arrived", got.Arrived, want.Arrived)
	a, b := pl.Plan(now), scheduler.Plan(want, p)
	a.Revision, b.Revision = 0, 0
	if !reflect.DeepEqual(a, b) {
		t.Errorf("it decides %+v\nand a plan from nothing %+v", a, b)
	}
}

func same[E any](t interface {
	Helper()
	Errorf(string, ...any)
}, what string, got, want []E) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("%s: it does not know of %+v", what, want[i])
		case i >= len(want):
			t.Errorf("%s: it knows of %+v", what, got[i])
		case !reflect.DeepEqual(got[i], want[i]):
			t.Errorf("%s: it knows\n%+v\nand there is\n%+v", what, got[i], want[i])
		}
	}
}

// siteAtWork does random work on a world, as deltas of commits have it.
type siteAtWork struct {
	*world
	planner *scheduler.Planner
	policy  scheduler.Policy
	rng     *rand.Rand
	now     time.Time
	n       int
	ids     []forge.RunID // of all that were ever submitted
	specs   map[forge.RunID]forge.RunSpec
	did     []string
}

func newSiteAtWork(seed uint64) *siteAtWork {
	s := &siteAtWork{rng: rand.New(rand.NewPCG(seed*0x9E3779B97F4A7C15, 5)), now: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC), specs: map[forge.RunID]forge.RunSpec{}}
	s.policy, _ = scheduler.Preset([]string{"default", "default", "fair"}[s.rng.IntN(3)])
	tables := map[forge.RunID]forge.Run{"told": {ID: "told", Number: 7, State: forge.RunCompleted}}
	s.world = newWorld(store.World{Tenants: []forge.TenantAccount{{Tenant: "t0", Weight: 1}, {Tenant: "t1", Weight: 2, Quota: forge.Quota{GPUs: 3, MaxGPUs: 8}}}},
		func(id forge.RunID) (forge.Run, bool) { r, ok := tables[id]; return r, ok })
	for i := range 3 {
		s.node(i)
	}
	s.world.learn(s.policy, past{}, s.now)
	s.planner = scheduler.NewPlanner(s.policy)
	return s
}

// step is one of the things that happen, or nothing where it cannot.
func (s *siteAtWork) step() {
	s.now = s.now.Add(time.Duration(s.rng.IntN(40)) * time.Second)
	one := func(list []forge.RunID) forge.RunID { return list[s.rng.IntN(len(list))] }
	waiting, active := s.some(func(id forge.RunID) bool { _, ok := s.waits(id); return ok }), s.some(func(id forge.RunID) bool { _, ok := s.attempts[id]; return ok })
	k := s.rng.IntN(24)
	s.did = append(s.did, fmt.Sprint(k))
	switch {
	case k < 5:
		s.submit()
	case k < 8 && len(waiting) > 0:
		s.place(one(waiting))
	case k == 8 && len(waiting) > 0:
		s.run(one(waiting), func(r *forge.Run) {
			switch r.Version++; s.rng.IntN(5) {
			case 0:
				r.Hold = &forge.Hold{By: "ada"}
			case 1:
				r.Hold = nil
			case 2:
				r.Spec.Priority = 40 + s.rng.IntN(30)
			case 3:
				r.NotBefore = s.now.Add(time.Minute)
			case 4:
				r.Avoid = []forge.NodeName{"n1"}
			}
		})
	case k == 9 && len(waiting) > 0:
		s.run(one(waiting), func(r *forge.Run) { r.State, r.EndedAt = forge.RunCancelled, s.now })
	case k < 12 && len(active) > 0:
		s.begin(one(active))
	case k == 12 && len(active) > 0:
		id := one(active)
		s.attempt(id, func(a *forge.Attempt) { a.SavedAt = s.now })
		s.run(id, func(r *forge.Run) { r.SavedStep = r.Step })
	case k == 13 && len(active) > 0:
		s.attempt(one(active), func(a *forge.Attempt) { a.Intent, a.State = forge.IntentCheckpointPreempt, forge.AttemptStopping })
	case k < 16 && len(active) > 0:
		s.end(one(active))
	case k == 16 && len(active) > 0:
		id := one(active)
		s.run(id, func(r *forge.Run) { r.Step, r.TotalSteps = r.Step+10, 1000 })
		s.world.tell(s.planner, s.now) // between the commit and what is read of it a plan may be made
		a, r := s.attempts[id], s.runs[id]
		s.world.measure(&a, []forge.MetricRow{{Run: id, Attempt: a.Number, Step: r.Step - 1, Time: s.now.Add(-5 * time.Second)}, {Run: id, Attempt: a.Number, Step: r.Step, Time: s.now}}, s.now)
	case k == 17:
		s.node(s.rng.IntN(5))
	case k == 18 && len(waiting) > 0:
		c := forge.Claim{Cluster: "local", Node: "n1", Slot: s.rng.IntN(4), For: one(waiting)}
		for old := range s.claims {
			if old.Node == c.Node && old.Slot == c.Slot {
				s.apply([]forge.Delta{{Claim: &forge.ClaimChange{Claim: old, Gone: true}}})
			}
		}
		s.apply([]forge.Delta{{Claim: &forge.ClaimChange{Claim: c}}})
	case k == 19 && len(s.claims) > 0:
		for c := range s.claims {
			s.apply([]forge.Delta{{Claim: &forge.ClaimChange{Claim: c, Gone: true}}})
			break
		}
	case k == 20:
		s.apply([]forge.Delta{{Paused: &forge.PausedChange{PausedCluster: forge.PausedCluster{Cluster: "local", Reason: "tests"}, Gone: s.rng.IntN(2) == 0}}})
	case k == 21:
		s.apply([]forge.Delta{{Tenant: &forge.TenantAccount{Tenant: forge.TenantID(fmt.Sprint("t", s.rng.IntN(3))), Weight: float64(1 + s.rng.IntN(3)), Used: forge.Usage{MS: 1e7, At: s.now},
			Budget: forge.Budget{GPUHours: float64(s.rng.IntN(3)), Period: forge.BudgetWeek, Warn: 0.8}, Spent: forge.Spending{Since: forge.BudgetWeek.Start(s.now), GPUTime: time.Duration(s.rng.IntN(3)) * time.Hour}}},
			{User: &forge.UserAccount{Tenant: "t0", UserQuota: forge.UserQuota{User: "ada", Quota: forge.Quota{MaxRunning: s.rng.IntN(3)}}}}})
	case k == 22:
		s.now = s.now.Add(time.Duration(s.rng.IntN(20)) * time.Minute)
	case k == 23:
		switch s.rng.IntN(4) {
		case 0:
			s.world.setQueues([]forge.ClusterQueue{{Cluster: "hpc", Binding: forge.BindEager, MaxPending: 1}})
		case 1:
			s.world.setQueues(nil)
		case 2:
			s.world.setHalfLife(time.Duration(1+s.rng.IntN(48)) * time.Hour)
		case 3:
			s.policy.Probe = time.Duration(s.rng.IntN(3)) * time.Minute
			s.planner = scheduler.NewPlanner(s.policy)
			s.world.follow(s.policy)
		}
	}
}

func (s *siteAtWork) some(ok func(forge.RunID) bool) (out []forge.RunID) {
	for _, id := range s.ids {
		if ok(id) {
			out = append(out, id)
		}
	}
	return out
}

func (s *siteAtWork) waiting() forge.RunID { return s.pending[s.rng.IntN(len(s.pending))].ID }

func (s *siteAtWork) submit() {
	s.n++
	r := forge.Run{ID: forge.RunID(fmt.Sprintf("r%03d", s.n)), Number: int64(s.n), Version: 1, Tenant: forge.TenantID(fmt.Sprint("t", s.rng.IntN(3))), User: "ada", State: forge.RunPending, SubmittedAt: s.now,
		Spec: script(1+s.rng.IntN(3), priority(40+10*s.rng.IntN(3)))}
	if s.rng.IntN(2) == 0 {
		r.Spec.TimeLimit, r.Spec.Grace = forge.Duration(time.Duration(1+s.rng.IntN(120))*time.Minute), forge.Duration(time.Minute)
	}
	switch s.rng.IntN(8) {
	case 0:
		r.Spec.Gang.Nodes = 2
	case 1:
		r.Spec.Where = &forge.Constraints{Exclude: []forge.NodeName{"n0"}}
	case 2:
		r.Spec.Pinned = true
	}
	for s.rng.IntN(3) == 0 {
		before := slices.Concat([]forge.RunID{"told", "never was", forge.RunID(fmt.Sprintf("r%03d", s.n+1))}, s.ids)
		r.Spec.After = append(r.Spec.After, before[s.rng.IntN(len(before))])
	}
	s.ids, s.specs[r.ID] = append(s.ids, r.ID), r.Spec
	s.apply([]forge.Delta{{Run: &r}})
}

// run changes a run, whose spec the tables have whole.
func (s *siteAtWork) run(id forge.RunID, change func(*forge.Run)) {
	s.tasks(id, s.runs[id].State, change)
}

func (s *siteAtWork) tasks(id forge.RunID, state forge.RunState, change func(*forge.Run)) {
	r := s.runs[id]
	priority := r.Spec.Priority
	r.Spec, r.State = s.specs[id], state
	r.Spec.Priority = priority
	change(&r)
	s.specs[id] = r.Spec
	s.apply([]forge.Delta{{Run: &r}})
}

func (s *siteAtWork) attempt(id forge.RunID, change func(*forge.Attempt)) {
	a := s.attempts[id]
	change(&a)
	s.apply([]forge.Delta{{Attempt: &a}})
}

// place gives a run slots that nobody has, or hands it over.
func (s *siteAtWork) place(id forge.RunID) {
	r := s.runs[id]
	a := forge.Attempt{Run: id, Number: r.Attempt + 1, State: forge.AttemptPlaced, Cluster: "hpc"}
	for k := range s.nodes {
		var free []int
		for i := range 4 {
			if !slices.ContainsFunc(s.open(), func(o forge.Attempt) bool {
				return slices.ContainsFunc(o.Placement, func(sh forge.Share) bool { return sh.Node == k.node && slices.Contains(sh.Slots, i) })
			}) {
				free = append(free, i)
			}
		}
		if n := r.Spec.Gang.GPUsPerNode; len(free) >= n && s.rng.IntN(4) > 0 {
			a.Cluster, a.PlacedAt = "local", s.now
			a.Placement = []forge.Share{{Node: k.node, Slots: free[:n], CPUs: 1, MemoryMiB: 1}}
			break
		}
	}
	r.Spec, r.Attempt, r.Version = s.specs[id], a.Number, r.Version+1
	if !a.Queued() {
		r.State = forge.RunProvisioning
	}
	s.apply([]forge.Delta{{Attempt: &a}, {Run: &r}})
}

func (s *siteAtWork) begin(id forge.RunID) {
	if a := s.attempts[id]; !a.StartedAt.IsZero() || a.Queued() || !a.State.Open() {
		return
	}
	s.attempt(id, func(a *forge.Attempt) { a.State, a.StartedAt = forge.AttemptRunning, s.now })
	s.run(id, func(r *forge.Run) { r.State = forge.RunRunning })
}

// end has an attempt exit, and then end with its run or without.
func (s *siteAtWork) end(id forge.RunID) {
	a := s.attempts[id]
	if a.State.Open() {
		s.attempt(id, func(a *forge.Attempt) { a.State, a.ExitedAt = forge.AttemptExited, s.now })
		return
	}
	a.State, a.EndedAt, a.Reason = forge.AttemptEnded, s.now, forge.EndCheckpointedPreempt
	r := s.runs[id]
	r.Spec = s.specs[id]
	switch s.rng.IntN(3) {
	case 0:
		r.State = forge.RunPending
	case 1:
		r.State, r.EndedAt = forge.RunCompleted, s.now
	case 2:
		r.State, r.EndedAt = forge.RunFailed, s.now
	}
	s.apply([]forge.Delta{{Attempt: &a}, {Run: &r}})
}

// node is there, in whatever state.
func (s *siteAtWork) node(i int) {
	n := fakeNode(4)
	n.Name, n.Version = forge.NodeName(fmt.Sprint("n", i)), int64(s.rng.IntN(100))
	switch s.rng.IntN(6) {
	case 0:
		n.State = forge.NodeDrained
	case 1:
		n.GPUs[2].Sick = "Xid 79"
	case 2:
		n.Suspect, n.Failures = "2 different runs failed there within a day", 2
	}
	s.apply([]forge.Delta{{Node: &n}})
}
