package sim

import (
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
	"github.com/forge-ml/forge-ml/scheduler/estimate"
)

// Estimates is what the policy is told of the work that is left.
type Estimates string

// The ways to know.
const (
	EstimatesOracle   Estimates = "oracle"   // all of it, from the start
	EstimatesProgress Estimates = "progress" // what forged knows: nothing until a run has worked for Policy.Probe, then all
	EstimatesNone     Estimates = "none"     // only what it had so far, and how others ended
)

// guesser says what the policy is told of the work that runs have left.
type guesser interface {
	came(i int32)
	started(i int32)
	reports(i int32)
	stopped(i int32, done int64) // before the run changes; all else comes after
	ended(i int32)
	next() time.Time // when an estimate changes by itself; zero: none does
	// settle brings the estimates to now, once all that happened was told, and names the runs whose work is another.
	settle() []forge.RunID
	work(i int32) forge.Work
}

// estimator is the one of the daemon, told as much as the mode of the replay allows. A run's need is read here and nowhere
// else on the way to a plan.
type estimator struct {
	e    *engine
	est  *estimate.Estimator
	mode Estimates
}

func newEstimator(e *engine, mode Estimates) *estimator {
	return &estimator{e: e, est: estimate.New(estimate.Params{Probe: e.policy.Probe}), mode: mode}
}

func (g *estimator) came(i int32) {
	r := &g.e.runs[i]
	like := estimate.Like{Tenant: r.Tenant, Model: g.e.models[i], GPUType: gpuType, GPUs: int(r.gpus)}
	g.est.Came(r.ID, g.e.time(g.e.now), like, g.mode != EstimatesNone)
	if g.mode == EstimatesOracle {
		g.report(r)
	}
}

func (g *estimator) started(i int32) {
	r := &g.e.runs[i]
	g.est.Started(r.ID, g.e.time(r.begins))
	if probe := g.e.policy.Probe.Milliseconds(); g.mode == EstimatesProgress && !g.est.Work(r.ID).Known {
		g.e.agenda.push(event{at: r.begins + max(0, probe-r.done), kind: reports, what: i, gen: r.gen})
	}
}

func (g *estimator) reports(i int32) { g.report(&g.e.runs[i]) }

func (g *estimator) report(r *run) {
	g.est.Progress(r.ID, g.e.time(g.e.now), duration(r.need-r.worked(g.e.now)))
}

func (g *estimator) stopped(i int32, done int64) {
	r := &g.e.runs[i]
	g.est.Stopped(r.ID, g.e.time(g.e.now))
	if lost := r.worked(g.e.now) - done; lost > 0 {
		g.est.Lost(r.ID, duration(lost))
	}
}

func (g *estimator) ended(i int32) { g.est.Ended(g.e.runs[i].ID, g.e.time(g.e.now)) }

func (g *estimator) next() time.Time { return g.est.Next() }

func (g *estimator) settle() []forge.RunID {
	changed := g.est.Advance(g.e.time(g.e.now))
	for _, a := range g.est.Arrivals() {
		g.e.planner.Change(scheduler.Change{Arrived: &a})
	}
	return changed
}

func (g *estimator) work(i int32) forge.Work { return g.est.Work(g.e.runs[i].ID) }

func duration(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }
