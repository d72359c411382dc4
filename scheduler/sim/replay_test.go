package sim

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

// sec makes a job of seconds.
func sec(submit, gpus, length int64) Job {
	return Job{Submit: submit * 1000, GPUs: int(gpus), Duration: length * 1000}
}

func preset(t testing.TB, name string) scheduler.Policy {
	t.Helper()
	p, err := Policy(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func options(t testing.TB, policy string, c Cluster) Options {
	return Options{Cluster: c, Policy: preset(t, policy), Estimates: EstimatesOracle, GraceOK: 1, Seed: 1}
}

func replay(t testing.TB, o Options, jobs ...Job) *Result {
	t.Helper()
	r, err := Replay(t.Context(), jobs, o)
	if err != nil {
		t.Fatal(err)
	}
	r.Wall = 0
	return r
}

func TestFirstComeFirstServedByHand(t *testing.T) {
	r := replay(t, options(t, "fifo", Cluster{2, 4}),
		sec(0, 4, 100),  // 0 to 100 on one node
		sec(10, 8, 50),  // both nodes: 100 to 150
		sec(20, 1, 10),  // waits behind the gang though it would fit: 150 to 160
		sec(155, 3, 45), // 155 to 200
	)
	want := Figures{Policy: "fifo", Jobs: 4, AvgJCT: (100 + 140 + 140 + 45) / 4., P99JCT: 140, Makespan: 200, AvgQueue: (0 + 90 + 130 + 0) / 4., P95Queue: 130, MaxQueue: 130,
		Utilization: (400 + 400 + 10 + 135) / (8 * 200.), Events: 8}
	if r.Figures != want {
		t.Errorf("got  %+v\nwant %+v", r.Figures, want)
	}
}

func TestTimeCountsFromTheFirstSubmit(t *testing.T) {
	r := replay(t, options(t, "fifo", Cluster{1, 1}), sec(1000, 1, 10), sec(1000, 1, 10))
	if r.Makespan != 20 || r.AvgJCT != 15 || r.Utilization != 1 {
		t.Errorf("%+v", r.Figures)
	}
}

// class has a job of a higher class stop one of a lower under preset fair.
func class(j Job, priority int) Job {
	j.Priority = priority
	return j
}

func TestARestartCostsAndAPreemptedRunGoesOnWhereItWas(t *testing.T) {
	o := options(t, "fair", Cluster{1, 4})
	o.RestartCost = 30 * time.Second
	r := replay(t, o, sec(0, 4, 100), class(sec(40, 2, 50), 50))
	// The first works 40 s, is away from 40 to 90, loads until 120 and ends at 180.
	if r.Makespan != 180 || r.Preemptions != 1 || r.MaxPreempted != 1 || r.AvgJCT != (180+50)/2. || r.LostGPU != 0 {
		t.Errorf("%+v", r.Figures)
	}
	if want := (4*40 + 2*50 + 4*90) / (4 * 180.); math.Abs(r.Utilization-want) > 1e-9 {
		t.Errorf("utilisation %v, want %v: GPUs that load count as used", r.Utilization, want)
	}
}

func TestASaveThatFailsLosesTheWorkSinceTheLastCheckpoint(t *testing.T) {
	o := options(t, "fair", Cluster{1, 4})
	o.CheckpointEvery, o.GraceOK = 15*time.Second, 0
	r := replay(t, o, sec(0, 4, 100), class(sec(40, 2, 50), 50))
	// Of 40 s of work 30 are saved: 10 s on 4 GPUs are done again.
	if r.LostGPU != 40 || r.Makespan != 160 {
		t.Errorf("%+v", r.Figures)
	}
	o.CheckpointEvery = 0
	if r := replay(t, o, sec(0, 4, 100), class(sec(40, 2, 50), 50)); r.LostGPU != 160 || r.Makespan != 190 {
		t.Errorf("without checkpoints all of it is lost: %+v", r.Figures)
	}
}

func TestSavesSucceedAsOftenAsIsSaid(t *testing.T) {
	n, ok := 20_000, 0
	for i := range n {
		if chance(7, uint64(i), 1) < 0.95 {
			ok++
		}
	}
	if part := float64(ok) / float64(n); math.Abs(part-0.95) > 0.005 {
		t.Errorf("%v of the saves succeed, want 0.95", part)
	}
}

func TestAFailedNodeComesBackAndItsRunsGoOn(t *testing.T) {
	o := options(t, "fifo", Cluster{2, 4})
	o.NodeMTBF, o.CheckpointEvery = 24*time.Hour, 10*time.Minute
	var jobs []Job
	for range 8 {
		jobs = append(jobs, sec(0, 4, 20*3600))
	}
	whole := replay(t, o, jobs...)
	if whole.LostGPU == 0 || whole.LostGPU > 8*20*4*600 || whole.Makespan <= 80*3600 || whole.Preemptions != 0 {
		t.Errorf("%+v", whole.Figures)
	}
	if again := replay(t, o, jobs...); again.Figures != whole.Figures {
		t.Errorf("the same seed gives other failures: %+v", again.Figures)
	}
	o.Seed = 2
	if other := replay(t, o, jobs...); other.Figures == whole.Figures {
		t.Error("another seed gives the same failures")
	}
}

// drawn makes a trace with gangs, classes and ties.
func drawn(seed uint64, n int, c Cluster) []Job {
	rng := rand.New(rand.NewPCG(seed, 1))
	jobs := make([]Job, n)
	for i := range jobs {
		jobs[i] = class(sec(rng.Int64N(40)*50, 1+rng.Int64N(int64(c.Total())), 1+int64(200*rng.ExpFloat64())), rng.IntN(3)*40)
		jobs[i].Model = []string{"a", "b"}[rng.IntN(2)]
	}
	return jobs
}

func policies() []string { return []string{"fifo", "fair", "default", "srsf", "las"} }

// watched replays a drawn trace under every policy and knowledge, with all that may go wrong, and looks at every third plan.
func watched(t *testing.T, look func(*testing.T, scheduler.Policy, forge.Snapshot, forge.Plan)) {
	c := Cluster{3, 4}
	for _, policy := range policies() {
		for _, est := range []Estimates{EstimatesOracle, EstimatesProgress, EstimatesNone} {
			t.Run(policy+" "+string(est), func(t *testing.T) {
				o := options(t, policy, c)
				o.Estimates, o.RestartCost, o.CheckpointEvery, o.GraceOK, o.NodeMTBF, o.WatchEvery = est, 30*time.Second, time.Minute, 0.8, 24*time.Hour, 3
				seen := 0
				o.Watch = func(s forge.Snapshot, p forge.Plan) {
					seen++
					look(t, o.Policy, s, p)
				}
				replay(t, o, drawn(11, 120, c)...)
				if seen < 30 {
					t.Fatalf("only %d plans were looked at", seen)
				}
			})
		}
	}
}

func TestDecisionsAreThoseOfPlanOnTheSnapshot(t *testing.T) {
	watched(t, func(t *testing.T, p scheduler.Policy, s forge.Snapshot, got forge.Plan) {
		want := scheduler.Plan(s, p)
		want.Hold = nil
		if a, b := text(t, got), text(t, want); a != b {
			t.Fatalf("at %s it decides\n%s\nand Plan says\n%s", s.Now, a, b)
		}
	})
}

func TestNoPlanOfAReplayBreaksAProperty(t *testing.T) {
	watched(t, func(t *testing.T, p scheduler.Policy, s forge.Snapshot, _ forge.Plan) {
		if bad := scheduler.CheckPlan(s, p, scheduler.Plan(s, p)); bad != nil {
			t.Fatalf("at %s: %v", s.Now, bad)
		}
	})
}

func text(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// story is all that the policy was told and decided up to a time.
func story(t testing.TB, o Options, until int64, jobs []Job) (all []string) {
	t.Helper()
	end := time.UnixMilli(epoch + until)
	o.WatchEvery = 1
	o.Watch = func(s forge.Snapshot, p forge.Plan) {
		if s.Now.Before(end) {
			all = append(all, text(t, s)+text(t, p))
		}
	}
	replay(t, o, jobs...)
	return all
}

// ends lists when each job ends.
func ends(t testing.TB, o Options, jobs []Job) []int64 {
	t.Helper()
	out := make([]int64, len(jobs))
	o.WatchEvery = 1
	o.ended = func(k int, at int64) { out[k] = at }
	replay(t, o, jobs...)
	return out
}

func TestWithoutEstimatesNoDurationReachesThePolicyBeforeItsRunEnds(t *testing.T) {
	c := Cluster{2, 4}
	for _, policy := range policies() {
		o := options(t, policy, c)
		o.Estimates, o.RestartCost, o.CheckpointEvery, o.GraceOK = EstimatesNone, 30*time.Second, 2*time.Minute, 0.5
		jobs := drawn(5, 80, c)
		slices.SortStableFunc(jobs, func(a, b Job) int { return int(a.Submit - b.Submit) })
		when := ends(t, o, jobs)
		for _, part := range []int{1, 20, 50} {
			until := slices.Sorted(slices.Values(when))[part-1]
			poisoned := slices.Clone(jobs)
			for k := range poisoned {
				if when[k] >= until {
					poisoned[k].Duration += 1000 + int64(k%7)*1_000_000 // later, and in another order
				}
			}
			a, b := story(t, o, until, jobs), story(t, o, until, poisoned)
			if len(a) == 0 {
				t.Fatal("nothing was decided before the first end")
			}
			if !slices.Equal(a, b) {
				t.Fatalf("%s: durations of runs that had not ended changed what the policy saw or did before %d ms", policy, until)
			}
			o := o
			o.Estimates = EstimatesOracle
			if policy == "fair" && part == 1 && slices.Equal(story(t, o, until, jobs), story(t, o, until, poisoned)) {
				t.Fatal("this test would see no leak: an oracle tells them, and nothing changed")
			}
		}
	}
}

func TestTheOrderOfTheFileDoesNotMatterBetweenDifferentTimes(t *testing.T) {
	c := Cluster{2, 4}
	jobs := drawn(9, 60, c)
	for i := range jobs {
		jobs[i].Submit = int64(i) * 1700 // no ties: those go by the order of the file
	}
	o := options(t, "fair", c)
	want := replay(t, o, jobs...).Figures
	rand.New(rand.NewPCG(3, 3)).Shuffle(len(jobs), func(i, k int) { jobs[i], jobs[k] = jobs[k], jobs[i] })
	if got := replay(t, o, jobs...).Figures; got != want {
		t.Errorf("shuffled %+v\nsorted %+v", got, want)
	}
}

func TestGPUTimeIsConserved(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := Cluster{rapid.IntRange(1, 4).Draw(rt, "nodes"), rapid.IntRange(1, 8).Draw(rt, "gpus")}
		o := options(t, rapid.SampledFrom(policies()).Draw(rt, "policy"), c)
		o.Estimates = rapid.SampledFrom([]Estimates{EstimatesOracle, EstimatesProgress, EstimatesNone}).Draw(rt, "estimates")
		o.GraceOK = rapid.Float64Range(0, 1).Draw(rt, "grace")
		o.CheckpointEvery = time.Duration(rapid.IntRange(0, 100).Draw(rt, "every")) * time.Second
		o.Seed = rapid.Uint64().Draw(rt, "seed")
		if rapid.Bool().Draw(rt, "failures") {
			o.NodeMTBF = time.Hour
			o.CheckpointEvery = max(o.CheckpointEvery, time.Second)
		}
		jobs := drawn(rapid.Uint64().Draw(rt, "trace"), rapid.IntRange(1, 40).Draw(rt, "jobs"), c)
		var work, first float64
		first = math.Inf(1)
		for _, j := range jobs {
			g, _ := c.gang(j.GPUs)
			if g.GPUs() < j.GPUs || g.GPUsPerNode > c.GPUs || g.Nodes > c.Nodes {
				rt.Fatalf("%d GPUs become %+v on %s", j.GPUs, g, c)
			}
			work += seconds(j.Duration) * float64(g.GPUs())
			first = min(first, seconds(j.Submit))
		}
		r, err := Replay(t.Context(), jobs, o)
		if err != nil {
			rt.Fatal(err)
		}
		used := r.Utilization * float64(c.Total()) * r.Makespan
		if want := work + r.LostGPU; math.Abs(used-want) > 1e-6*want+1e-3 {
			rt.Fatalf("GPUs were held for %v s, and worked for %v", used, want)
		}
		drawnUse := 0.0
		for i, p := range r.Series.Points {
			drawnUse += p.Busy * seconds(min(r.Series.length, int64(i+1)*r.Series.Step)-int64(i)*r.Series.Step)
		}
		if math.Abs(drawnUse-used) > 1e-6*used+1e-3 {
			rt.Fatalf("the drawing has %v GPU seconds of %v", drawnUse, used)
		}
		if r.Makespan*float64(c.Total()) < used-1e-3 || r.AvgQueue > r.AvgJCT || r.MaxQueue < r.P95Queue {
			rt.Fatalf("%+v", r.Figures)
		}
	})
}

func TestARunOfYearsIsNoStandstill(t *testing.T) {
	const years = 5 * 365 * 86400
	if r := replay(t, options(t, "default", Cluster{1, 1}), sec(0, 1, years), sec(3*years, 1, 1)); r.Makespan != 3*years+1 {
		t.Errorf("%+v", r.Figures)
	}
}

func TestAReplayCanBeBrokenOff(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	o := options(t, "fifo", Cluster{1, 4})
	o.Progress = func(done, total int) { cancel() }
	if _, err := Replay(ctx, drawn(1, 2000, o.Cluster), o); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestOptionsWithoutAMeaningAreRefused(t *testing.T) {
	for field, change := range map[string]func(*Options){
		"restart-cost":     func(o *Options) { o.RestartCost = -time.Second },
		"checkpoint-every": func(o *Options) { o.CheckpointEvery = time.Millisecond },
		"grace-ok":         func(o *Options) { o.GraceOK = math.NaN() },
		"node-mtbf":        func(o *Options) { o.NodeMTBF = time.Second },
		"estimates":        func(o *Options) { o.Estimates = "some" },
		"cluster":          func(o *Options) { o.Cluster = Cluster{} },
	} {
		o := options(t, "fifo", Cluster{1, 1})
		change(&o)
		_, err := Replay(t.Context(), []Job{sec(0, 1, 1)}, o)
		wantField(t, err, field)
	}
}

func wantField(t testing.TB, err error, field string) {
	t.Helper()
	e, ok := err.(*forge.Error)
	if !ok || e.Kind != forge.KindInvalid || e.Field != field {
		t.Errorf("%v (%T); want one about %s", err, err, field)
	}
}
