package estimate_test

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler/estimate"
)

var epoch = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func at(s float64) time.Time { return epoch.Add(time.Duration(s * float64(time.Second))) }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func like(gpus int) estimate.Like { return estimate.Like{Tenant: "t", Recipe: "sft", GPUs: gpus} }

func blind() *estimate.Estimator { return estimate.New(estimate.Params{Probe: 2 * time.Minute}) }

// rank in GPU-seconds.
func rank(e *estimate.Estimator, id forge.RunID) float64 { return float64(e.Work(id).Rank) / 1000 }

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 0.0011*max(1, math.Abs(want)/1000) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// lived is a run that came, worked and ended.
func lived(e *estimate.Estimator, id forge.RunID, from, work float64, l estimate.Like) {
	e.Came(id, at(from), l, false)
	e.Started(id, at(from))
	e.Ended(id, at(from+work))
}

func TestWithNoHistoryTheOrderIsThatOfLevelsThatDouble(t *testing.T) {
	e := blind()
	e.Came("a", at(0), like(1), false)
	e.Came("wide", at(0), like(8), false)
	near(t, "a run that came", rank(e, "a"), 900) // three quarters of 600, over one half
	near(t, "a wide one: service counts, not time", rank(e, "wide"), 900)
	e.Started("a", at(0))
	for i, want := range []struct{ at, rank float64 }{{600, 900}, {1200, 1800}, {2400, 3600}, {4800, 7200}, {9600, 14400}} {
		if next := e.Next(); !next.Equal(at(want.at)) {
			t.Fatalf("edge %d: next is %s, want %s", i, next, at(want.at))
		}
		if got := e.Advance(at(want.at - 0.001)); got != nil {
			t.Fatalf("before edge %d %v changed", i, got)
		}
		if got := e.Advance(at(want.at)); !slices.Equal(got, []forge.RunID{"a"}) {
			t.Fatalf("at edge %d changed %v", i, got)
		}
		near(t, fmt.Sprintf("past edge %d", i), rank(e, "a"), want.rank)
	}
	w := e.Work("a")
	if w.Known || w.Source != forge.WorkIndex || !w.AsOf.Equal(at(9600)) || w.Left != seconds(14400) {
		t.Errorf("got %+v", w)
	}
}

func TestTheIndexOfASmallHistoryByHand(t *testing.T) {
	// Two runs of one GPU ended: one after 300 s, in level 0, one after 1000 s, in level 1. Another tenant asks, so that
	// it has no neighbours:
	//	level 0: all (1+2)/(2+4) = 1/2; of the size (1+4/2)/(2+4) = 1/2
	//	level 1: all (1+2)/(1+4) = 3/5; of the size (1+4·3/5)/(1+4) = 0.68
	//	beyond:  1/2
	// horizon 0: 0.75·600 / 0.5 = 900
	// horizon 1: (450 + 0.5·(1-0.34)·600) / (1 - 0.5·0.32) = 648/0.84 = 771.43
	// horizon 2: (648 + 0.16·0.75·1200) / (1 - 0.08) = 792/0.92 = 860.87
	e := blind()
	lived(e, "a", 0, 300, like(1))
	lived(e, "b", 0, 1000, like(1))
	e.Came("c", at(2000), estimate.Like{Tenant: "other", Recipe: "sft", GPUs: 1}, false)
	near(t, "rank", rank(e, "c"), 648/0.84)

	// A run of the same tenant and recipe has b for its nearest neighbour and a for the one before it:
	//	level 0: entries 1 + 0.7, exits 0.7: (0.7 + 0.5)/(1.7 + 1) = 4/9
	//	level 1: entries 1, exits 1: (1 + 0.68)/(1 + 1) = 0.84
	// horizon 1: (600·(1 - 2/9) + 5/9·0.58·600) / (1 - 5/9·0.16) = 660/0.91111 = 724.39
	e.Came("d", at(2000), like(1), false)
	near(t, "rank beside neighbours", rank(e, "d"), 660/(1-5.0/9*0.16))
}

func TestARunThatHasNotEndedCountsForTheLevelsThatItPassed(t *testing.T) {
	e := blind()
	e.Came("a", at(0), like(1), false)
	e.Came("b", at(0), like(1), false)
	e.Started("a", at(0))
	e.Advance(at(1199)) // past 600, not past 1200
	e.Started("b", at(1199))
	// Its neighbour passed level 0: all 2/5 and of the size 4·(2/5)/5 = 0.32 and beside it 0.32/2 = 0.16. No more is known of level 1, where it is.
	// horizons: 600·0.92/0.16 = 3450; (552 + 0.84·0.75·600)/(1-0.42) = 930/0.58 = 1603.4; (930 + 0.42·0.75·1200)/(1-0.21) = 1308/0.79 = 1655.7
	near(t, "rank", rank(e, "b"), 930/0.58)
}

func TestTheNextRunOfASweepIsTakenToEndLikeTheLast(t *testing.T) {
	e := blind()
	for i := range 10 {
		lived(e, forge.RunID(fmt.Sprintf("long%d", i)), float64(i), 40000, estimate.Like{Tenant: "t", Recipe: "dpo", GPUs: 1})
		lived(e, forge.RunID(fmt.Sprintf("short%d", i)), float64(i), 500, like(1))
	}
	e.Came("short", at(50000), like(1), false)
	e.Came("long", at(50000), estimate.Like{Tenant: "t", Recipe: "dpo", GPUs: 1}, false)
	e.Came("new", at(50000), estimate.Like{Tenant: "t", Recipe: "grpo", GPUs: 1}, false)
	short, long, fresh := rank(e, "short"), rank(e, "long"), rank(e, "new")
	if !(short < fresh && fresh < long/2) {
		t.Errorf("short %v, one of an unknown recipe %v, long %v", short, fresh, long)
	}
	if s := e.Work("short").Source; s != forge.WorkHistory {
		t.Errorf("source %q", s)
	}
	if s := e.Work("new").Source; s != forge.WorkIndex {
		t.Errorf("source of an unknown recipe %q", s)
	}
}

func TestAWaitingRunLearnsFromANeighbourThatCameLaterAndEnded(t *testing.T) {
	e := blind()
	e.Came("first", at(0), like(1), false)
	for i := range 20 {
		e.Came(forge.RunID(fmt.Sprintf("r%02d", i)), at(1+float64(i)), like(1), false)
	}
	was := rank(e, "first")
	e.Started("r00", at(200))
	e.Ended("r00", at(300))
	if next := e.Next(); next.IsZero() || next.After(at(300)) {
		t.Errorf("next is %s", next)
	}
	changed := e.Advance(at(300))
	if !slices.Contains(changed, "first") || !slices.Contains(changed, "r08") {
		t.Errorf("changed %v", changed)
	}
	if now := rank(e, "first"); now >= was {
		t.Errorf("rank %v, was %v", now, was)
	}
	if again := e.Advance(at(300)); again != nil {
		t.Errorf("told twice: %v", again)
	}
}

func TestAnEndHasAFewLookedAtAgainAndAllInTurn(t *testing.T) {
	e := blind()
	fresh := map[forge.RunID]bool{}
	for i := range 500 {
		id := forge.RunID(fmt.Sprintf("w%03d", i))
		e.Came(id, at(0), estimate.Like{Tenant: "other", GPUs: 1}, false)
		fresh[id] = true
	}
	e.Came("near", at(0), like(1), false)
	for i := range 16 {
		lived(e, forge.RunID(fmt.Sprintf("x%d", i)), float64(i), 100, like(1))
		changed := e.Advance(at(1000))
		if i == 0 && (len(changed) != 33 || !slices.Contains(changed, "near")) {
			t.Errorf("changed by the first end: %v", changed)
		}
		for _, id := range changed {
			delete(fresh, id)
		}
	}
	if len(fresh) > 0 {
		t.Errorf("%d have learned nothing", len(fresh))
	}
}

func TestARunThatReportsIsProbedFirst(t *testing.T) {
	e := blind()
	e.Came("a", at(0), like(4), true)
	if w := e.Work("a"); w.Known || w.Source != forge.WorkProbe || w.Rank != 480_000 || w.Left != time.Minute || !w.AsOf.IsZero() {
		t.Errorf("at arrival %+v", w)
	}
	e.Started("a", at(10))
	if next := e.Next(); !next.Equal(at(130)) {
		t.Errorf("next is %s", next)
	}
	e.Stopped("a", at(100))
	if w := e.Work("a"); w.Rank != 120_000 || w.Ran != seconds(90) || !w.AsOf.IsZero() {
		t.Errorf("stopped after 90 s %+v", w)
	}
	if next := e.Next(); !next.IsZero() {
		t.Errorf("next of one that waits is %s", next)
	}
	e.Started("a", at(200))
	if next := e.Next(); !next.Equal(at(230)) {
		t.Errorf("next is %s", next)
	}
	if got := e.Advance(at(230)); !slices.Equal(got, []forge.RunID{"a"}) {
		t.Errorf("probe over: %v", got)
	}
	e.Progress("a", at(230), time.Hour)
	if w := e.Work("a"); !w.Known || w.Source != forge.WorkProgress || w.Left != time.Hour || !w.AsOf.Equal(at(230)) {
		t.Errorf("probed %+v", w)
	}
	if got := e.Arrivals(); !slices.Equal(got, []forge.Arrival{{Run: "a", At: at(0), Service: forge.GPUTimeOf(time.Hour+2*time.Minute, 4), GPUs: 4}}) {
		t.Errorf("arrivals %v", got)
	}
	if got := e.Advance(at(700)); got != nil || !e.Next().IsZero() {
		t.Errorf("it is known, and %v changes at %s", got, e.Next())
	}
	e.Stopped("a", at(230+600))
	if w := e.Work("a"); w.Left != 50*time.Minute || w.Ran != seconds(90+630) || !w.AsOf.IsZero() {
		t.Errorf("stopped %+v", w)
	}
	e.Lost("a", 5*time.Minute)
	if w := e.Work("a"); w.Left != 55*time.Minute {
		t.Errorf("work was lost %+v", w)
	}
}

func TestARunThatSaysNothingAfterItsProbeIsRankedByTheIndex(t *testing.T) {
	e := blind()
	e.Came("a", at(0), like(1), true)
	e.Started("a", at(0))
	e.Advance(at(120))
	if w := e.Work("a"); w.Source != forge.WorkIndex || w.Rank != 900_000 {
		t.Errorf("got %+v", w)
	}
}

func TestAnUnprobedRunIsTakenToLastAsLongAsThoseLikeItDid(t *testing.T) {
	e := blind()
	for i := range 3 {
		lived(e, forge.RunID(fmt.Sprintf("a%d", i)), 0, 1000+float64(i), estimate.Like{Tenant: "t", Recipe: "sft", Model: "m", GPUs: 2})
		lived(e, forge.RunID(fmt.Sprintf("b%d", i)), 0, 2002, estimate.Like{Tenant: "u", Recipe: "sft", Model: "m", GPUs: 2})
		lived(e, forge.RunID(fmt.Sprintf("c%d", i)), 0, 3000, estimate.Like{Tenant: "u", Recipe: "sft", Model: "m", GPUs: 1})
	}
	lived(e, "d0", 0, 2500, estimate.Like{Tenant: "v", Recipe: "sft", Model: "m", GPUs: 1})
	lived(e, "d1", 0, 2000, estimate.Like{Tenant: "v", Recipe: "sft", Model: "m", GPUs: 1})
	for _, x := range []struct {
		id   forge.RunID
		like estimate.Like
		left float64
	}{
		{"same", estimate.Like{Tenant: "t", Recipe: "sft", Model: "m", GPUs: 2}, 1001},
		{"same size", estimate.Like{Tenant: "t", Recipe: "sft", Model: "n", GPUs: 2}, 1501.5},
		{"two of a kind are too few", estimate.Like{Tenant: "v", Recipe: "sft", Model: "m", GPUs: 1}, 2700},
		{"neither", estimate.Like{Tenant: "t", Recipe: "sft", Model: "m", GPUs: 16}, 2046.272},
	} {
		e.Came(x.id, at(9000), x.like, true)
		if got := e.Work(x.id).Left; got != seconds(x.left) {
			t.Errorf("%s: left %s, want %vs", x.id, got, x.left)
		}
	}
	e.Started("same", at(9000))
	e.Stopped("same", at(9090))
	if got := e.Work("same").Left; got != seconds(911) {
		t.Errorf("what it has done counts: left %s", got)
	}
	e.Started("same", at(10_000))
	e.Lost("same", time.Hour)
	e.Stopped("same", at(10_119))
	if got := e.Work("same").Left; got != seconds(882) {
		t.Errorf("what is lost does not: left %s", got)
	}
}

func TestTheProbeIsWork(t *testing.T) {
	e := blind()
	if e.Probed("unknown", at(0)) {
		t.Error("an unknown run is probed")
	}
	e.Came("a", at(0), like(1), true)
	e.Came("b", at(0), like(1), true)
	e.Started("a", at(0))
	for _, x := range []struct {
		at     float64
		probed bool
	}{{0, false}, {119, false}, {120, true}} {
		if got := e.Probed("a", at(x.at)); got != x.probed {
			t.Errorf("after %v s: %v", x.at, got)
		}
	}
	e.Stopped("a", at(60))
	if e.Probed("a", at(500)) {
		t.Error("waiting is taken for work")
	}
	e.SetParams(estimate.Params{Probe: time.Minute})
	if !e.Probed("a", at(500)) || e.Probed("b", at(500)) {
		t.Error("a shorter probe is not in force")
	}
	e.Progress("b", at(500), time.Hour) // somebody believes it sooner
	e.Started("b", at(500))
	if !e.Probed("b", at(500)) || !e.Next().IsZero() {
		t.Errorf("one that is known waits for %s", e.Next())
	}
	e.Started("a", at(600)) // probed long ago, and says nothing: its level ends at 1140
	e.Progress("a", at(601), time.Hour)
	if next, got := e.Next(), e.Advance(at(2000)); !next.IsZero() || got != nil {
		t.Errorf("known now, and at %s %v changes", next, got)
	}
}

func TestAnOracleKnowsAtArrival(t *testing.T) {
	e := blind()
	e.Came("a", at(0), like(2), true)
	e.Progress("a", at(0), time.Hour)
	if w := e.Work("a"); !w.Known || w.Left != time.Hour || !w.AsOf.IsZero() {
		t.Errorf("got %+v", w)
	}
	e.Started("a", at(60)) // known at 30: it loads first
	if w := e.Work("a"); w.Left != time.Hour || !w.AsOf.Equal(at(60)) {
		t.Errorf("started %+v", w)
	}
	e.Stopped("a", at(50)) // while it loaded
	if w := e.Work("a"); w.Left != time.Hour || w.Ran != 0 {
		t.Errorf("stopped while it loaded %+v", w)
	}
	if !e.Next().IsZero() {
		t.Error("a known run has a timer")
	}
	e.Started("a", at(100))
	e.Ended("a", at(100+1800)) // it gave up half-way
	got := e.Arrivals()
	if len(got) != 2 || got[0].Service != forge.GPUTimeOf(time.Hour, 2) || got[1].Service != forge.GPUTimeOf(30*time.Minute, 2) {
		t.Errorf("arrivals %v", got)
	}
}

func TestLostWorkStandsBeforeAllHorizons(t *testing.T) {
	e := blind()
	e.Came("a", at(0), like(1), false)
	e.Started("a", at(0))
	e.Advance(at(1300)) // in level 2, 1200 to 2400
	e.Stopped("a", at(1300))
	near(t, "before", rank(e, "a"), 1800)
	e.Lost("a", seconds(700))
	near(t, "after", rank(e, "a"), 3200) // 700/½ more
	e.Started("a", at(1300))
	if next := e.Next(); !next.Equal(at(1300 + 700 + 1100)) {
		t.Errorf("next edge at %s", next)
	}
	e.Stopped("a", at(1400))
	near(t, "when a part of it is done again", rank(e, "a"), 3000)
}

func TestARunThatHasEndedIsNotNamedAnyMore(t *testing.T) {
	e := blind()
	e.Came("a", at(0), like(1), false)
	e.Came("b", at(0), like(1), true)
	e.Progress("b", at(0), time.Hour)
	lived(e, "x", 0, 100, like(1))
	e.Ended("a", at(101))
	e.Ended("b", at(102))
	if got := e.Advance(at(103)); got != nil {
		t.Errorf("changed %v", got)
	}
	if got := e.Arrivals(); len(got) != 3 || got[2].Run != "b" || got[2].Service != 0 {
		t.Errorf("one that was known and never worked: %v", got)
	}
}

func TestARunThatNeverWorkedSaysNothing(t *testing.T) {
	e, other := blind(), blind()
	for i := range 20 {
		e.Came(forge.RunID(fmt.Sprintf("c%d", i)), at(0), like(1), false)
		e.Ended(forge.RunID(fmt.Sprintf("c%d", i)), at(5))
	}
	lived(e, "x", 6, 500, like(1))
	lived(other, "x", 6, 500, like(1))
	e.Came("a", at(7), like(1), false)
	other.Came("a", at(7), like(1), false)
	if e.Work("a") != other.Work("a") {
		t.Errorf("%+v, without those that were cancelled %+v", e.Work("a"), other.Work("a"))
	}
}

func TestCallsThatMakeNoSenseChangeNothing(t *testing.T) {
	e := blind()
	for _, id := range []forge.RunID{"unknown", "over"} {
		if id == "over" {
			lived(e, id, 0, 100, like(1))
			e.Arrivals()
		}
		e.Started(id, at(1))
		e.Stopped(id, at(2))
		e.Progress(id, at(3), time.Hour)
		e.Lost(id, time.Hour)
		e.Ended(id, at(4))
		if w := e.Work(id); w != (forge.Work{}) {
			t.Errorf("%s: %+v", id, w)
		}
	}
	if a := e.Arrivals(); a != nil || e.Advance(at(9)) != nil || !e.Next().IsZero() {
		t.Errorf("arrivals %v, next %s", a, e.Next())
	}
	e.Came("a", at(5), estimate.Like{}, false) // no GPUs: counts as one
	e.Started("a", at(9))
	e.Stopped("a", at(8)) // time runs backwards
	e.Lost("a", -time.Hour)
	if w := e.Work("a"); w.Ran != 0 || w.Rank <= 0 {
		t.Errorf("%+v", w)
	}
}

// life is a drawn story of many runs, as steps in order of time.
type step struct {
	at  time.Time
	run forge.RunID
	do  func(*estimate.Estimator)
}

func drawStory(seed uint64, runs int) []step {
	rng := rand.New(rand.NewPCG(seed*0x9E3779B97F4A7C15, 11))
	var steps []step
	for i := range runs {
		id := forge.RunID(fmt.Sprintf("r%04d", i))
		l := estimate.Like{Tenant: forge.TenantID(fmt.Sprint("t", rng.IntN(2))), Recipe: fmt.Sprint("q", rng.IntN(2)), GPUs: 1 << rng.IntN(4)}
		now := at(rng.Float64() * 10000)
		reports := rng.IntN(4) == 0
		steps = append(steps, step{now, id, func(e *estimate.Estimator) { e.Came(id, now, l, reports) }})
		for n := rng.IntN(4); n >= 0; n-- {
			from := now.Add(seconds(math.Exp(rng.Float64() * 9)))
			to := from.Add(seconds(math.Exp(rng.Float64() * 11)))
			lost := seconds(rng.Float64() * 500)
			steps = append(steps, step{from, id, func(e *estimate.Estimator) { e.Started(id, from) }})
			if reports {
				mid := from.Add(to.Sub(from) / 2)
				left := seconds(math.Exp(rng.Float64() * 11))
				steps = append(steps, step{mid, id, func(e *estimate.Estimator) { e.Progress(id, mid, left) }})
			}
			last := n == 0
			steps = append(steps, step{to, id, func(e *estimate.Estimator) {
				if last {
					e.Ended(id, to)
					return
				}
				e.Stopped(id, to)
				e.Lost(id, lost)
			}})
			now = to
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.run, b.run)) })
	return steps
}

func TestAnyStory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		story := drawStory(rapid.Uint64().Draw(t, "story"), rapid.IntRange(1, 60).Draw(t, "runs"))
		cut := rapid.IntRange(0, len(story)).Draw(t, "cut")
		a, b := blind(), blind()
		told := map[forge.RunID]forge.Work{} // as planning knows it
		var ids []forge.RunID
		for i, s := range story {
			changed := a.Advance(s.at)
			for _, id := range changed {
				told[id] = a.Work(id)
			}
			if !slices.Equal(changed, b.Advance(s.at)) {
				t.Fatal("the same story has other changes")
			}
			if next := a.Next(); !next.IsZero() && !next.After(s.at) {
				t.Fatalf("next %s is not after %s", next, s.at)
			}
			s.do(a)
			told[s.run] = a.Work(s.run)
			if i < cut { // what b is not told yet, a does not know from elsewhere
				s.do(b)
			}
			if !slices.Contains(ids, s.run) {
				ids = append(ids, s.run)
			}
			pending := a.Next()
			for _, id := range ids {
				w := a.Work(id)
				if w.Rank < 0 || w.Left < 0 || w.Ran < 0 || w.Known && w.Rank != 0 {
					t.Fatalf("%s: %+v", id, w)
				}
				if i < cut && w != b.Work(id) {
					t.Fatalf("%s: %+v, in the same story %+v", id, w, b.Work(id))
				}
				if w != told[id] && (pending.IsZero() || pending.After(s.at)) {
					t.Fatalf("%s changed from %+v to %+v and nobody was told", id, told[id], w)
				}
			}
			if i == cut {
				break
			}
		}
		if cut == len(story) && !a.Next().IsZero() && a.Advance(a.Next()) != nil {
			t.Fatal("all ended, and something is still to happen")
		}
	})
}

// TestIndexAgainstItsDefinition holds the index at a level's entry to the sums written out over a history kept as a list.
func TestIndexAgainstItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "story")*0x9E3779B97F4A7C15, 3))
		type past struct {
			like    estimate.Like
			service float64 // GPU-seconds
			ended   bool
		}
		e := blind()
		var all []past
		for i := range rapid.IntRange(0, 40).Draw(t, "runs") {
			p := past{estimate.Like{Tenant: forge.TenantID(fmt.Sprint("t", rng.IntN(2))), GPUs: 1 << rng.IntN(2)}, 1 + math.Floor(math.Exp(rng.Float64()*12)), rng.IntN(3) > 0}
			all = append(all, p)
			id := forge.RunID(fmt.Sprintf("r%03d", i))
			e.Came(id, at(float64(i)), p.like, false)
			e.Started(id, at(100))
			end := at(100 + p.service/float64(p.like.GPUs))
			if p.ended {
				e.Ended(id, end)
			} else {
				e.Stopped(id, end)
			}
		}
		mine := estimate.Like{Tenant: "t0", GPUs: 1}
		came := rapid.IntRange(0, len(all)).Draw(t, "came") // between the others
		e.Came("mine", at(float64(came)-0.5), mine, false)

		edge := func(level int) float64 { return 600 * math.Pow(2, float64(level)) }
		counts := func(level int, ps []past, weight func(int) float64) (entries, exits float64) {
			for i, p := range ps {
				start := 0.0
				if level > 0 {
					start = edge(level - 1)
				}
				switch {
				case p.ended && p.service >= start && p.service < edge(level):
					entries, exits = entries+weight(i), exits+weight(i)
				case p.service >= edge(level):
					entries += weight(i)
				}
			}
			return entries, exits
		}
		one := func(int) float64 { return 1 }
		only := func(keep func(past) bool) []past {
			return slices.DeleteFunc(slices.Clone(all), func(p past) bool { return !keep(p) })
		}
		nearest := func(ps []past) (near []past) {
			for _, p := range ps {
				if p.like == mine && len(near) < 8 {
					near = append(near, p)
				}
			}
			return near
		}
		before := slices.Clone(all[:came])
		slices.Reverse(before)
		before, after := nearest(before), nearest(all[came:])
		want, spent, alive := math.Inf(1), 0.0, 1.0
		for level := range 30 {
			n, x := counts(level, all, one)
			p := (x + 2) / (n + 4)
			n, x = counts(level, only(func(p past) bool { return p.like.GPUs == 1 }), one)
			p = (x + 4*p) / (n + 4)
			fading := func(i int) float64 { return math.Pow(0.7, float64(i)) }
			n, x = counts(level, before, fading)
			n2, x2 := counts(level, after, fading)
			p = (x + x2 + p) / (n + n2 + 1)
			length := edge(level)
			if level > 0 {
				length -= edge(level - 1)
			}
			spent += alive * (1 - p/2) * length
			alive *= 1 - p
			want = min(want, spent/(1-alive))
		}
		if got := rank(e, "mine"); math.Abs(got-want) > 0.001+want*1e-9 {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func TestWhatCanBeNobodysNeighbourIsForgotten(t *testing.T) {
	e := blind()
	for i := range 10_000 {
		lived(e, forge.RunID(fmt.Sprintf("r%06d", i)), float64(i), 1000, like(1))
	}
	e.Arrivals()
	if n := e.Remembered(); n > 100 {
		t.Errorf("%d runs are remembered", n)
	}
}

func BenchmarkStory(b *testing.B) {
	story := drawStory(1, 16_000)
	for b.Loop() {
		e := blind()
		calls := 0
		for _, s := range story {
			calls += len(e.Advance(s.at))
			s.do(e)
		}
		b.ReportMetric(float64(calls), "changes/op")
		b.ReportMetric(float64(len(story)), "steps/op")
	}
}
