package sim

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

// stage is a replay whose plans are made by hand: what it tells the planner must be right whatever that decides.
type stage struct {
	*engine
	t *testing.T
}

func prepared(t *testing.T, o Options, jobs ...Job) stage {
	t.Helper()
	e, err := prepare(jobs, o)
	if err != nil {
		t.Fatal(err)
	}
	return stage{e, t}
}

// until lets happen what is due, in seconds of the replay.
func (s stage) until(at int64) {
	s.t.Helper()
	for len(s.agenda) > 0 && s.agenda[0].at <= at*1000 {
		ev := s.agenda.pop()
		s.advance(ev.at)
		s.happens(ev)
		s.settle()
	}
	s.advance(at * 1000)
}

func (s stage) carry(p forge.Plan) {
	s.t.Helper()
	if err := s.carryOut(&p); err != nil {
		s.t.Fatal(err)
	}
}

func place(run forge.RunID, node forge.NodeName, slots ...int) forge.Plan {
	return forge.Plan{Place: []forge.Place{{Run: run, Cluster: simCluster, Shares: []forge.Share{{Node: node, Slots: slots}}}}}
}

func claim(node forge.NodeName, slot int) forge.Claim {
	return forge.Claim{Cluster: simCluster, Node: node, Slot: slot}
}

func (s stage) world() forge.Snapshot { return s.planner.Snapshot(s.time(s.now)) }

func (s stage) pending(run forge.RunID) forge.PendingRun {
	s.t.Helper()
	w := s.world()
	i := slices.IndexFunc(w.Pending, func(r forge.PendingRun) bool { return r.ID == run })
	if i < 0 {
		s.t.Fatalf("run %s does not wait", run)
	}
	return w.Pending[i]
}

func (s stage) active(run forge.RunID) forge.ActiveAttempt {
	s.t.Helper()
	w := s.world()
	i := slices.IndexFunc(w.Active, func(a forge.ActiveAttempt) bool { return a.Run == run })
	if i < 0 {
		s.t.Fatalf("run %s does not run", run)
	}
	return w.Active[i]
}

func (s stage) wantClaims(of ...forge.RunID) {
	s.t.Helper()
	var got []forge.RunID
	for _, c := range s.world().Claims {
		got = append(got, c.For)
	}
	slices.Sort(got)
	if !slices.Equal(got, of) {
		s.t.Errorf("claims are for %v, want %v", got, of)
	}
}

// wantWork compares what the policy is told, in seconds.
func (s stage) wantWork(w forge.Work, ran, left int64, asOf time.Time) {
	s.t.Helper()
	want := forge.Work{Ran: duration(ran * 1000), Left: duration(left * 1000), AsOf: asOf, Known: true, Source: forge.WorkProgress}
	if !w.AsOf.Equal(asOf) {
		s.t.Errorf("as of %s, want %s", w.AsOf, asOf)
	}
	if w.AsOf = asOf; w != want {
		s.t.Errorf("told %+v, want %+v", w, want)
	}
}

func TestThePolicyIsToldOfAPreemptedRunAsItIs(t *testing.T) {
	o := options(t, "fifo", Cluster{2, 4})
	o.RestartCost, o.CheckpointEvery = 30*time.Second, 15*time.Second
	for _, saves := range []bool{true, false} {
		o.GraceOK = map[bool]float64{true: 1}[saves]
		s := prepared(t, o, sec(0, 4, 100), sec(10, 2, 50))
		s.until(0)
		if p := s.pending("1"); p.Attempt != 0 || p.Gang.GPUs() != 4 || !p.SubmittedAt.Equal(s.time(0)) {
			t.Errorf("%+v", p)
		}
		s.carry(place("1", "n1", 0, 1, 2, 3))
		if a := s.active("1"); a.Number != 1 || a.Preempted != 0 || !a.SavedAt.IsZero() || !a.StartedAt.Equal(s.time(0)) {
			t.Errorf("%+v", a)
		}
		s.until(35)
		if a := s.active("1"); !a.SavedAt.Equal(s.time(30_000)) {
			t.Errorf("saved at %s", a.SavedAt)
		}
		s.until(40)
		s.carry(forge.Plan{Preempt: []forge.Preempt{{Run: "1", Attempt: 1, For: "2", Claims: []forge.Claim{claim("n1", 0), claim("n1", 1)}}}})
		left, lost := int64(60), int64(0)
		if !saves {
			left, lost = 70, 10_000
		}
		p := s.pending("1")
		s.wantWork(p.Work, 40, left, time.Time{})
		if p.Attempt != 1 || s.runs[0].lost != lost || s.busy != 0 || s.queued != 2 || s.wanted != 6 {
			t.Errorf("%+v", p)
		}
		s.wantClaims("2", "2")
		s.until(90)
		s.carry(place("1", "n2", 0, 1, 2, 3))
		a := s.active("1")
		s.wantWork(a.Work, 40, left, s.time(120_000))
		if want := map[bool]int64{true: 40_000, false: 30_000}[saves]; !a.SavedAt.Equal(s.time(want)) {
			t.Errorf("saved at %s", a.SavedAt)
		}
		if a.Number != 2 || a.Preempted != 1 || !a.PreemptedAt.Equal(s.time(40_000)) || !a.PlacedAt.Equal(s.time(90_000)) || !a.StartedAt.Equal(s.time(120_000)) || a.Placement[0].Node != "n2" {
			t.Errorf("%+v", a)
		}
		s.until(120 + left - 1)
		s.active("1")
		s.until(120 + left)
		if s.runs[0].phase != over || len(s.world().Active) != 0 || len(s.world().Pending) != 1 {
			t.Error("it is not over")
		}
	}
}

func TestHowMuchIsToldDependsOnTheEstimates(t *testing.T) {
	o := options(t, "default", Cluster{1, 4})
	for _, c := range []struct {
		mode                   Estimates
		waiting, early, probed forge.WorkSource
		events                 int // in the agenda once it runs
	}{{EstimatesOracle, forge.WorkProgress, forge.WorkProgress, forge.WorkProgress, 1}, {EstimatesProgress, forge.WorkProbe, forge.WorkProbe, forge.WorkProgress, 2},
		{EstimatesNone, forge.WorkIndex, forge.WorkIndex, forge.WorkIndex, 1}} {
		o.Estimates = c.mode
		s := prepared(t, o, sec(0, 2, 1000))
		s.until(0)
		if w := s.pending("1").Work; w.Source != c.waiting {
			t.Errorf("%s, while it waits: %+v", c.mode, w)
		}
		s.carry(place("1", "n1", 0, 1))
		if len(s.agenda) != c.events {
			t.Errorf("%s: %d events ahead", c.mode, len(s.agenda))
		}
		s.until(119)
		if w := s.active("1").Work; w.Source != c.early {
			t.Errorf("%s, before it is probed: %+v", c.mode, w)
		}
		s.until(120)
		w := s.active("1").Work
		if w.Source != c.probed {
			t.Errorf("%s, once it was probed: %+v", c.mode, w)
		}
		switch c.mode {
		case EstimatesProgress:
			s.wantWork(w, 0, 880, s.time(120_000))
		case EstimatesOracle:
			s.wantWork(w, 0, 1000, s.time(0))
		}
	}
}

func TestClaimsEndWithTheGangThatTheyAreFor(t *testing.T) {
	s := prepared(t, options(t, "fifo", Cluster{2, 4}), sec(0, 4, 100), sec(0, 4, 100), sec(0, 2, 50), sec(0, 2, 50))
	s.until(0)
	s.carry(place("1", "n1", 0, 1, 2, 3))
	s.carry(place("2", "n2", 0, 1, 2, 3))
	s.carry(forge.Plan{Preempt: []forge.Preempt{{Run: "1", Attempt: 1, For: "3", Claims: []forge.Claim{claim("n1", 0), claim("n1", 1)}}}})
	s.wantClaims("3", "3")
	// Another claim of the same gang is in place of the first ones.
	s.carry(forge.Plan{Preempt: []forge.Preempt{{Run: "2", Attempt: 1, For: "3", Claims: []forge.Claim{claim("n2", 0), claim("n2", 1)}}}})
	s.wantClaims("3", "3")
	if s.world().Claims[0].Node != "n2" {
		t.Errorf("%+v", s.world().Claims)
	}
	// Who loses one loses all.
	s.carry(place("1", "n1", 0, 1, 2, 3))
	s.carry(forge.Plan{Preempt: []forge.Preempt{{Run: "1", Attempt: 2, For: "4", Claims: []forge.Claim{claim("n2", 1), claim("n1", 0)}}}})
	s.wantClaims("4", "4")
	s.carry(place("4", "n2", 0, 1))
	s.wantClaims()
	if len(s.claimed) != 0 {
		t.Errorf("%v", s.claimed)
	}
}

func TestAPlanThatCannotBeIsABug(t *testing.T) {
	s := prepared(t, options(t, "fifo", Cluster{1, 4}), sec(0, 4, 100), sec(50, 1, 1))
	s.until(0)
	s.carry(place("1", "n1", 0, 1, 2, 3))
	for _, p := range []forge.Plan{place("1", "n1", 0), place("2", "n1", 0), place("9", "n1", 0), {Preempt: []forge.Preempt{{Run: "2", For: "1"}}}, {Preempt: []forge.Preempt{{Run: "9", For: "1"}}}} {
		if err := s.carryOut(&p); forge.KindOf(err) != forge.KindInternal {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

func TestANodeThatFailsTakesItsRunsAndClaimsWithItAndComesBack(t *testing.T) {
	o := options(t, "fifo", Cluster{2, 4})
	o.CheckpointEvery, o.NodeMTBF = 15*time.Second, 1000*time.Hour
	s := prepared(t, o, sec(0, 4, 100_000), sec(0, 4, 100), sec(0, 3, 50))
	fails := func() (n int) {
		for _, ev := range s.agenda {
			if ev.kind == nodeFails && ev.what == 0 {
				n++
			}
		}
		return n
	}
	if fails() != 1 {
		t.Fatal("no failure is ahead")
	}
	s.agenda = slices.DeleteFunc(s.agenda, func(ev event) bool { return ev.kind == nodeFails })
	slices.SortFunc(s.agenda, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	s.until(0)
	s.carry(place("1", "n1", 0, 1, 2, 3))
	s.carry(place("2", "n2", 0, 1, 2, 3))
	s.until(40)
	s.carry(forge.Plan{Preempt: []forge.Preempt{{Run: "2", Attempt: 1, For: "3", Claims: []forge.Claim{claim("n1", 3), claim("n2", 0), claim("n2", 1)}}}})
	s.nodeFails(0)
	p := s.pending("1")
	s.wantWork(p.Work, 40, 99_970, time.Time{})
	if !slices.Equal(p.Avoid, []forge.NodeName{"n1"}) || s.stats.preemptions != 1 || s.runs[0].lost != 10_000 || s.runs[1].lost != 0 {
		t.Errorf("%+v", p)
	}
	s.wantClaims()
	if n := s.world().Nodes; n[0].State != forge.NodeDrained || n[0].Failures != 1 || n[0].Version != 1 || n[1].State != forge.NodeReady {
		t.Errorf("%+v", n)
	}
	s.carry(place("1", "n2", 0, 1, 2, 3))
	s.until(40 + 3599)
	if s.world().Nodes[0].State != forge.NodeDrained || fails() != 0 {
		t.Error("it is back too early")
	}
	s.until(40 + 3600)
	if s.world().Nodes[0].State != forge.NodeReady || fails() != 1 {
		t.Error("it is not back, or never fails again")
	}
	s.stop(0)
	if p := s.pending("1"); len(p.Avoid) != 0 {
		t.Errorf("it still avoids %v, which did nothing to its newest attempt", p.Avoid)
	}
}

func TestRunsAreCountedInOrderOfArrival(t *testing.T) {
	s := prepared(t, options(t, "fifo", Cluster{1, 4}), sec(20, 2, 1), sec(10, 1, 1), sec(20, 3, 1))
	s.until(30)
	for id, gpus := range map[forge.RunID]int{"1": 1, "2": 2, "3": 3} {
		if p := s.pending(id); p.Gang.GPUs() != gpus {
			t.Errorf("run %s has %d GPUs, want %d", id, p.Gang.GPUs(), gpus)
		}
	}
}

func TestEventsComeByTimeAndAtOneInstantByKind(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var a agenda
	var want []event
	for range 1000 {
		ev := event{at: rng.Int64N(50), kind: kind(rng.IntN(int(saves) + 1)), what: rng.Int32N(5)}
		a.push(ev)
		want = append(want, ev)
	}
	slices.SortFunc(want, func(a, b event) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.kind, b.kind), cmp.Compare(a.what, b.what))
	})
	for i := range want {
		if got := a.pop(); got != want[i] {
			t.Fatalf("event %d is %+v, want %+v", i, got, want[i])
		}
	}
	if finishes > arrives || nodeBack > arrives {
		t.Error("GPUs must come free before somebody asks for them")
	}
}

func TestNothingHappensBeforeItsTime(t *testing.T) {
	e := newEngine(scheduler.Policy{}, model{}, epoch, 0)
	for d, want := range map[time.Duration]int64{0: 0, 1: 1, time.Millisecond: 1, time.Millisecond + 1: 2} {
		if got := e.ms(e.time(0).Add(d)); got != want {
			t.Errorf("%s is ms %d, want %d", d, got, want)
		}
	}
}

func TestAForecastKnowsThePausedAndWhatIsClaimed(t *testing.T) {
	s := live(1)
	waits(s, "a", 4, left(time.Hour))
	s.Paused = []forge.PausedCluster{{Cluster: simCluster, Reason: "maintenance"}}
	wantNever(t, forecast(t, s, "fair", ForecastOptions{}), "a")
}
