package sim

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

// Options say how a trace is replayed.
type Options struct {
	Cluster         Cluster
	Policy          scheduler.Policy
	Estimates       Estimates
	RestartCost     time.Duration // of every start but the first, on all GPUs
	CheckpointEvery time.Duration // 0: only at stops
	GraceOK         float64       // part of the saves at stops that succeed
	Seed            uint64
	NodeMTBF        time.Duration // mean time of a node between failures; 0: none fails

	Progress func(done, total int) // called now and then
	// Watch sees every WatchEvery-th plan, and the world that it was made for.
	Watch      func(forge.Snapshot, forge.Plan)
	WatchEvery int
	ended      func(job int, at int64) // by place in the order of arrival
}

// Result is what came of a replay.
type Result struct {
	Figures
	Series *Series
}

// Policy is the preset of that name.
func Policy(name string) (scheduler.Policy, error) { return scheduler.Preset(name) }

// Policies lists the presets.
func Policies() []string { return scheduler.Presets() }

const (
	nodeAway = time.Hour
	epoch    = 946684800000 // 2000-01-01: a trace begins then
	maxCost  = 365 * 24 * time.Hour
)

// Validate refuses values without a meaning.
func (o Options) Validate() error {
	if err := o.Policy.Validate(); err != nil {
		return err
	}
	if err := o.Cluster.validate(); err != nil {
		return err
	}
	for _, d := range []struct {
		name string
		v    time.Duration
	}{{"restart-cost", o.RestartCost}, {"checkpoint-every", o.CheckpointEvery}} {
		if d.v < 0 || d.v > maxCost {
			return forge.Invalidf(d.name, "%s is out of range; want 0s to %s", d.v, maxCost)
		}
	}
	if o.CheckpointEvery > 0 && o.CheckpointEvery < time.Second {
		return forge.Invalidf("checkpoint-every", "%s is out of range; want 0s (only at stops), or 1s and more", o.CheckpointEvery)
	}
	if !(o.GraceOK >= 0 && o.GraceOK <= 1) {
		return forge.Invalidf("grace-ok", "%v is out of range; want 0 (no save at a stop succeeds) to 1 (all do)", o.GraceOK)
	}
	if o.NodeMTBF < 0 || o.NodeMTBF > 0 && o.NodeMTBF < time.Hour {
		return forge.Invalidf("node-mtbf", "%s is out of range; want 0s (none fails), or 1h and more", o.NodeMTBF)
	}
	switch o.Estimates {
	case EstimatesOracle, EstimatesProgress, EstimatesNone:
		return nil
	}
	return forge.Invalidf("estimates", "%q is no way to know; want oracle, progress or none", o.Estimates)
}

// Replay plays a trace to its end.
func Replay(ctx context.Context, jobs []Job, o Options) (*Result, error) {
	began := time.Now()
	e, err := prepare(jobs, o)
	if err != nil {
		return nil, err
	}
	if err := e.loop(ctx); err != nil {
		return nil, err
	}
	res := &Result{Figures: e.figures(), Series: e.series}
	res.Wall = time.Since(began).Seconds()
	return res, nil
}

// prepare makes the engine that plays a trace.
func prepare(jobs []Job, o Options) (*engine, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	e := newEngine(o.Policy, model{restart: o.RestartCost.Milliseconds(), every: o.CheckpointEvery.Milliseconds(), graceOK: o.GraceOK, seed: o.Seed,
		mtbf: float64(o.NodeMTBF.Milliseconds()), away: nodeAway.Milliseconds()}, epoch, len(jobs))
	e.ended = o.ended
	e.standing, e.watch, e.watchEvery = o.Progress, o.Watch, max(1, o.WatchEvery)
	e.addNodes(o.Cluster.make())
	e.series = newSeries(o.Cluster.Total())
	jobs = slices.Clone(jobs)
	slices.SortStableFunc(jobs, func(a, b Job) int { return cmp.Compare(a.Submit, b.Submit) })
	width := len(fmt.Sprint(len(jobs)))
	for k := range jobs {
		j := &jobs[k]
		gang, ok := o.Cluster.gang(j.GPUs)
		if !ok {
			return nil, forge.Invalidf(where(j.Line, colGPUs), "job %s asks for %d GPUs, and %s has %d; want a larger --cluster, or a trace without it",
				quote(j.ID), j.GPUs, o.Cluster, o.Cluster.Total())
		}
		i := e.addRun(run{PendingRun: forge.PendingRun{ID: forge.RunID(fmt.Sprintf("%0*d", width, k+1)), Tenant: "trace", Number: int64(k + 1),
			SubmittedAt: e.time(j.Submit), Gang: gang, Priority: j.Priority}, submit: j.Submit, need: j.Duration})
		e.models[i] = j.Model
		e.agenda.push(event{at: j.Submit, kind: arrives, what: i})
	}
	e.guess = newEstimator(e, o.Estimates)
	return e, nil
}

func newEngine(p scheduler.Policy, m model, base int64, runs int) *engine {
	return &engine{model: m, policy: p, planner: scheduler.NewPlanner(p), base: base, runs: make([]run, 0, runs), models: make([]string, runs), byID: make(map[forge.RunID]int32, runs),
		claims: map[forge.RunID][]forge.Claim{}, claimed: map[slotKey]forge.RunID{}, wake: never}
}

func (e *engine) addNodes(nodes []node) {
	e.nodes = nodes
	for i := range nodes {
		e.tellNode(int32(i))
		e.nextFailure(int32(i), 0)
	}
}

func (e *engine) addRun(r run) int32 {
	r.gpus = int64(r.Gang.GPUs())
	r.first, r.savedAt = -1, -1
	i := int32(len(e.runs))
	e.runs = append(e.runs, r)
	e.byID[r.ID] = i
	e.left++
	return i
}
