package daemon

import (
	"fmt"
	"slices"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
	"github.com/forge-ml/forge-ml/store"
)

// told is a world that is told what happens, with a policy that orders by estimates.
type told struct {
	*testing.T
	*world
	began time.Time
}

func estimating(t *testing.T) *told {
	t.Helper()
	p, err := scheduler.Preset("default")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(store.World{}, func(forge.RunID) (forge.Run, bool) { return forge.Run{}, false })
	began := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	w.learn(p, past{}, began)
	return &told{t, w, began}
}

func (w *told) at(s int) time.Time { return w.began.Add(time.Duration(s) * time.Second) }

func (w *told) came(id forge.RunID, at int, change ...func(*forge.RunSpec)) {
	w.apply([]forge.Delta{{Run: &forge.Run{ID: id, State: forge.RunPending, SubmittedAt: w.at(at), Spec: script(4, change...)}}})
}

func (w *told) change(id forge.RunID, change func(*forge.Run)) {
	r, _ := w.run(id)
	change(&r)
	w.apply([]forge.Delta{{Run: &r}})
}

func (w *told) started(id forge.RunID, n, at int) forge.Attempt {
	a := forge.Attempt{Run: id, Number: n, State: forge.AttemptRunning, Cluster: "local", Placement: []forge.Share{{Node: "n1", Slots: []int{0, 1, 2, 3}}}, StartedAt: w.at(at)}
	w.apply([]forge.Delta{{Attempt: &a}})
	w.change(id, func(r *forge.Run) { r.State, r.Attempt = forge.RunRunning, n })
	return a
}

// stopped tells of an end as the tables do: exited, then ended and what becomes of the run in one commit.
func (w *told) stopped(a forge.Attempt, at int, next forge.RunState) {
	a.State, a.ExitedAt = forge.AttemptExited, w.at(at)
	w.apply([]forge.Delta{{Attempt: &a}})
	a.State, a.EndedAt = forge.AttemptEnded, w.at(at+10)
	r, _ := w.run(a.Run)
	if r.State = next; next.Terminal() {
		r.EndedAt = a.EndedAt
	}
	w.apply([]forge.Delta{{Attempt: &a}, {Run: &r}})
}

// stepped is a row every ten seconds, one step in five, up to a time.
func (w *told) stepped(a forge.Attempt, from, to, firstStep int) (step int, news bool) {
	for s := from; s <= to; s += 10 {
		step = firstStep + (s-from)/5
		w.change(a.Run, func(r *forge.Run) { r.Step, r.TotalSteps = int64(step), 1000 })
		news = w.measure(&a, []forge.MetricRow{{Run: a.Run, Attempt: a.Number, Step: int64(step), Time: w.at(s)}}, w.at(s)) || news
	}
	return step, news
}

func (w *told) work(id forge.RunID) forge.Work {
	s := w.snapshot(w.at(0))
	for _, p := range s.Pending {
		if p.ID == id {
			return p.Work
		}
	}
	for _, a := range s.Active {
		if a.Run == id {
			return a.Work
		}
	}
	w.Fatalf("%s neither waits nor runs", id)
	return forge.Work{}
}

func TestARunThatReportsItsStepsIsBelievedOnceItHasWorkedForTheProbe(t *testing.T) {
	w := estimating(t)
	w.came("a", 0)
	if got := w.work("a"); got.Source != forge.WorkIndex || got.Rank != 900_000 {
		t.Errorf("nothing is known: %+v", got)
	}
	a := w.started("a", 1, 100)
	if _, news := w.stepped(a, 120, 200, 1); news || w.work("a").Known {
		t.Error("believed after 100 s of work")
	}
	before := w.world.at()
	step, news := w.stepped(a, 210, 230, 19)
	got := w.work("a")
	if want := time.Duration(1000-step) * 5 * time.Second; !news || !got.Known || got.Left != want || !got.AsOf.Equal(w.at(230)) || got.Source != forge.WorkProgress {
		t.Errorf("news %v, %+v, want %s left", news, got, want)
	}
	if w.world.at() == before {
		t.Error("an older plan is taken to stand")
	}
	if _, news := w.stepped(a, 240, 300, 25); news {
		t.Error("every further step has the queue planned again")
	}
	if s := w.snapshot(w.at(300)); len(s.Arrived) != 1 || s.Arrived[0].Run != "a" || !s.Arrived[0].At.Equal(w.at(0)) {
		t.Errorf("arrived %+v", s.Arrived)
	}
	w.came("b", 300)
	if got := w.work("b"); got.Source != forge.WorkProbe || got.Rank != 480_000 {
		t.Errorf("the next run of a recipe that reports: %+v", got)
	}
	w.apply([]forge.Delta{{Run: &forge.Run{ID: "c", Tenant: "another", State: forge.RunPending, SubmittedAt: w.at(310), Spec: script(4)}}})
	if got := w.work("c"); got.Source != forge.WorkProbe {
		t.Errorf("the first run of a tenant, of a recipe that others' runs of reported: %+v", got)
	}
}

func TestWhatWasDoneSinceTheLastCheckpointIsToBeDoneAgain(t *testing.T) {
	w := estimating(t)
	w.came("steps", 0)
	w.came("silent", 0)
	a, b := w.started("steps", 1, 0), w.started("silent", 1, 0)
	step, _ := w.stepped(a, 0, 500, 1)
	w.change("steps", func(r *forge.Run) { r.SavedStep = 81 })
	b.SavedAt = w.at(400)
	w.stopped(a, 500, forge.RunPending)
	w.stopped(b, 500, forge.RunPending)
	got := w.work("steps")
	if want := (1000 - 81) * 5 * time.Second; step != 101 || !got.Known || got.Left != want || got.Ran != 500*time.Second || !got.AsOf.IsZero() {
		t.Errorf("one that reports, at step %d: %+v, want %s left", step, got, want)
	}
	// 4 GPUs, 500 s: past 1200 GPU-s, so 1800 to expect; 100 s of each GPU are owed, over one half.
	if got := w.work("silent"); got.Rank != 1_800_000+2*400_000 || got.Ran != 500*time.Second {
		t.Errorf("one that says nothing: %+v", got)
	}
	a = w.started("steps", 2, 600)
	if got := w.work("steps"); got.Left != (1000-81)*5*time.Second || !got.AsOf.Equal(w.at(600)) {
		t.Errorf("resumed, and as fast as before: %+v", got)
	}
	w.stopped(a, 700, forge.RunCompleted)
	if s := w.snapshot(w.at(800)); len(s.Arrived) != 1 || s.Arrived[0].Service <= forge.GPUTimeOf(500*time.Second, 4) {
		t.Errorf("its service when it has ended: %+v", s.Arrived)
	}
	if n := len(w.estimates.watched); n != 1 {
		t.Errorf("%d runs are watched", n)
	}
}

func TestTimeAloneHasTheQueuePlannedAgainOnlyWhenAnEstimateChanges(t *testing.T) {
	w := estimating(t)
	w.came("a", 0)
	w.started("a", 1, 0)
	if next := w.estimateAgain(time.Time{}); !next.Equal(w.at(150)) { // 600 GPU-s
		t.Errorf("next at %s", next)
	}
	if next := w.estimateAgain(w.at(20)); !next.Equal(w.at(20)) {
		t.Errorf("the plan's own time comes first, got %s", next)
	}
	before := w.world.at()
	if w.estimate(w.at(149)); w.world.at() != before {
		t.Error("nothing happened")
	}
	if w.estimate(w.at(300)); w.world.at() == before || w.work("a").Rank != 1_800_000 {
		t.Errorf("past 1200 GPU-s: %+v", w.work("a"))
	}
	p, _ := scheduler.Preset("fifo")
	w.follow(p)
	if next := w.estimateAgain(time.Time{}); !next.IsZero() {
		t.Errorf("a policy that does not look at estimates is woken for one at %s", next)
	}
}

func TestAWaitingRunIsEstimatedByThoseThatEnded(t *testing.T) {
	w := estimating(t)
	w.came("waits", 1)
	was := w.work("waits")
	for i := range 3 {
		id := forge.RunID(fmt.Sprintf("short%d", i))
		w.came(id, 2+i)
		w.stopped(w.started(id, 1, 100), 120, forge.RunCompleted)
	}
	w.estimate(w.at(200))
	if now := w.work("waits"); now.Rank >= was.Rank {
		t.Errorf("%+v, and it was %+v", now, was)
	}
	w.came("next", 210)
	if now := w.work("next"); now.Source != forge.WorkHistory {
		t.Errorf("three like it ended: %+v", now)
	}
}

func TestAPlanKeepsTheArrivalsThatItWasGiven(t *testing.T) {
	w := estimating(t)
	for i := range 5 {
		id := forge.RunID(fmt.Sprint("r", i))
		w.came(id, 10-i)
		w.stopped(w.started(id, 1, 100), 120, forge.RunCompleted)
		s := w.snapshot(w.at(200))
		kept := slices.Clone(s.Arrived)
		if len(kept) != i+1 || !slices.IsSortedFunc(kept, func(a, b forge.Arrival) int { return a.At.Compare(b.At) }) {
			t.Fatalf("arrived %+v", kept)
		}
		t.Cleanup(func() {
			if !slices.Equal(kept, s.Arrived) {
				t.Error("a snapshot changed after it was taken")
			}
		})
	}
}

func TestEstimatesAfterARestartAreThoseOfBefore(t *testing.T) {
	r := start(t, 4)
	for range 4 {
		run := r.submit(t, script(1))
		key := r.launched(t, run.ID, 1)
		r.fake.Start(key)
		r.await(t, run.ID, "running", inState(forge.RunRunning))
		r.fake.Finish(key, 0)
		r.await(t, run.ID, "completed", inState(forge.RunCompleted))
	}
	going := r.submit(t, script(4))
	key := r.launched(t, going.ID, 1)
	r.fake.Start(key)
	r.await(t, going.ID, "running", inState(forge.RunRunning))
	var waits []forge.RunID
	for range 3 {
		waits = append(waits, r.submit(t, script(1)).ID)
	}
	before := r.world.snapshot(time.Now())
	dir := r.live().cfg.StateDir
	r.stop()

	again := serveOn(t, dir, r.fake)
	after := again.world.snapshot(time.Now())
	if len(after.Pending) != len(waits) || len(after.Active) != 1 || len(after.Arrived) != 4 {
		t.Fatalf("%d wait, %d run, %d arrived", len(after.Pending), len(after.Active), len(after.Arrived))
	}
	for i, p := range after.Pending {
		if p.Work != before.Pending[i].Work || p.Work.Source != forge.WorkHistory {
			t.Errorf("waiting: %+v, before the restart %+v", p.Work, before.Pending[i].Work)
		}
	}
	if got, want := after.Active[0].Work, before.Active[0].Work; got != want {
		t.Errorf("running: %+v, before the restart %+v", got, want)
	}
	if !slices.Equal(after.Arrived, before.Arrived) {
		t.Errorf("arrived %+v, before the restart %+v", after.Arrived, before.Arrived)
	}
}

func TestAPaceIsTheMedianOfIntervals(t *testing.T) {
	at := time.Unix(1000, 0)
	var p pace
	p.of(1)
	for step := range int64(100) {
		at = at.Add(2 * time.Second)
		if step == 50 {
			at = at.Add(time.Hour) // a stall
		}
		p.step(step, at)
	}
	if p.typical() != 2*time.Second || p.times(10) != 20*time.Second || p.times(-1) != 0 || p.times(1<<62) <= 0 {
		t.Errorf("%s a step", p.typical())
	}
	p.of(2)
	if p.typical() != 2*time.Second {
		t.Error("the next attempt begins as fast as the last")
	}
	p.step(40, at)
	p.step(41, at.Add(-time.Hour)) // a clock that was set back
	p.step(42, at.Add(-time.Hour+6*time.Second))
	if p.typical() != 6*time.Second {
		t.Errorf("%s a step of the next attempt", p.typical())
	}
}

func TestAStartRecallsWhatRunsThatHaveNotEndedHadTold(t *testing.T) {
	w := estimating(t)
	ended := forge.Attempt{Run: "waits", Number: 1, State: forge.AttemptEnded, Reason: forge.EndCheckpointedPreempt, StartedAt: w.at(0), ExitedAt: w.at(400), EndedAt: w.at(410), SavedAt: w.at(400)}
	open := forge.Attempt{Run: "runs", Number: 2, State: forge.AttemptRunning, Cluster: "local", StartedAt: w.at(500), Placement: []forge.Share{{Node: "n1", Slots: []int{0}}}}
	before := ended
	before.Run, before.SavedAt = "runs", time.Time{}
	w.world = newWorld(store.World{
		Runs: []forge.Run{
			{ID: "runs", State: forge.RunRunning, Attempt: 2, Step: 40, TotalSteps: 100, SubmittedAt: w.at(0), Spec: script(1)},
			{ID: "waits", State: forge.RunPending, Attempt: 1, Step: 81, SavedStep: 80, TotalSteps: 100, SubmittedAt: w.at(0), Spec: script(1)},
		},
		Attempts: []forge.Attempt{open},
	}, nil)
	var steps []forge.MetricRow
	for s := range 10 {
		steps = append(steps, forge.MetricRow{Attempt: 1, Step: int64(s), Time: w.at(s * 6)})
	}
	p, _ := scheduler.Preset("default")
	w.learn(p, past{attempts: []forge.Attempt{before, ended}, steps: map[forge.RunID][]forge.MetricRow{"waits": steps, "runs": steps}}, w.at(700))
	if got := w.work("waits"); !got.Known || got.Left != 20*6*time.Second || got.Ran != 400*time.Second || !got.AsOf.IsZero() {
		t.Errorf("waiting: %+v", got)
	}
	if got := w.work("runs"); !got.Known || got.Left != 60*6*time.Second || got.Ran != 400*time.Second || !got.AsOf.Equal(w.at(700)) {
		t.Errorf("running: %+v", got)
	}
}

// BenchmarkEnd is what the end of one of a few runs costs while 100,000 wait: those that came beside it are looked at again.
func BenchmarkEnd(b *testing.B) {
	p, _ := scheduler.Preset("default")
	w := newWorld(store.World{}, nil)
	at := time.Unix(1_000_000, 0)
	w.learn(p, past{}, at)
	for i := range 100_000 {
		r := forge.Run{ID: forge.RunID(fmt.Sprintf("w%06d", i)), Tenant: forge.TenantID(fmt.Sprint(i % 1000)), State: forge.RunPending, SubmittedAt: at, Spec: script(1 + i%8)}
		w.apply([]forge.Delta{{Run: &r}})
	}
	b.ResetTimer()
	var worst time.Duration
	for i := 0; b.Loop(); i++ {
		r := forge.Run{ID: forge.RunID(fmt.Sprintf("x%06d", i)), Tenant: "7", State: forge.RunPending, SubmittedAt: at, Spec: script(1 + i%8)}
		w.apply([]forge.Delta{{Run: &r}})
		a := forge.Attempt{Run: r.ID, Number: 1, State: forge.AttemptRunning, StartedAt: at, Placement: []forge.Share{{Node: "n1", Slots: []int{0}}}}
		w.apply([]forge.Delta{{Attempt: &a}})
		r.State, r.EndedAt = forge.RunCompleted, at.Add(time.Hour)
		began := time.Now()
		w.apply([]forge.Delta{{Run: &r}})
		w.estimate(r.EndedAt)
		worst = max(worst, time.Since(began))
	}
	b.ReportMetric(float64(worst.Milliseconds()), "worst-ms")
}
