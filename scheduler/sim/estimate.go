package sim

import (
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

// Estimates is what the policy is told of the work that is left.
type Estimates string

// The ways to know.
const (
	EstimatesOracle   Estimates = "oracle"   // all of it, from the start
	EstimatesProgress Estimates = "progress" // what forged knows: nothing until a run has worked for Policy.Probe, then all
	EstimatesNone     Estimates = "none"     // only what it had so far, and how others ended
)

// guesser tells the policy of the work that runs have left. It is told what happens after the run itself has changed,
// but for stopped, which comes before.
type guesser interface {
	came(i int32)
	started(i int32)
	reports(i int32)
	stopped(i int32, done int64)
	waits(i int32)
	ended(i int32)
	// next is when an estimate changes by itself; never: it does not.
	next() int64
	// advance brings the estimates to now and tells the planner of those that changed; it says whether any did.
	advance(now int64) bool
	work(i int32) forge.Work
}

// oracle knows.
type oracle struct{ e *engine }

func (o oracle) came(i int32) {
	r := &o.e.runs[i]
	o.e.planner.Change(scheduler.Change{Arrived: &forge.Arrival{Run: r.ID, At: r.SubmittedAt, Service: forge.GPUTime(r.need * r.gpus)}})
}
func (o oracle) started(int32)        {}
func (o oracle) reports(int32)        {}
func (o oracle) stopped(int32, int64) {}
func (o oracle) waits(int32)          {}
func (o oracle) ended(int32)          {}
func (o oracle) next() int64          { return never }
func (o oracle) advance(int64) bool   { return false }

func (o oracle) work(i int32) forge.Work {
	r := &o.e.runs[i]
	w := forge.Work{Ran: time.Duration(r.done+r.lost) * time.Millisecond, Left: time.Duration(r.need-r.done) * time.Millisecond, Known: true, Source: forge.WorkProgress}
	if r.phase == running {
		w.AsOf = o.e.time(r.begins)
	}
	return w
}
