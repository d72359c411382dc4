package slurm

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// sight is all that judging an attempt may know.
type sight struct {
	id      forge.ExternalID
	now     time.Time
	records Records
	blind   string    // why the records could not be read just now
	job     *entry    // Slurm's last word about the job that counts
	jobAt   time.Time // when it was asked
	heard   time.Time // when the last question was put that Slurm answered
	gone    bool      // Slurm says itself that there is no such job
	silent  string    // why Slurm has not been heard for too long
	endSeen time.Time // since when one side says that it is over, and the other does not explain it
	books   bool      // there is accounting, which says who cancelled a job, a second or two later
}

// need is what has to happen before more can be said.
type need int

const (
	needNothing need = iota
	needRevoke       // it never started: absence has to be made
	needSlurm        // Slurm is to be asked now, instead of at its turn
	needCancel       // a job is there that must not go on
)

const (
	// explainWithin is how long an end that came from outside waits for Slurm to say why; explainAtMost while Slurm does not
	// answer at all: a preemption that is taken for a cancellation would end the run.
	explainWithin = 15 * time.Second
	explainAtMost = 10 * time.Minute
	// settleWithin is how long a job that is over waits for records that a network filesystem has not shown so far.
	settleWithin = 5 * time.Second
	// clocksDiffer is how far the clocks of nodes, of the controller and of forged are apart at most; forgottenAfter how long a job must have
	// waited for Slurm since it began, before that is believed and the job is ended.
	clocksDiffer   = 3 * time.Second
	forgottenAfter = 2 * time.Minute
)

// judge merges what Slurm says with what the shims have left. It is a function of values.
//
// Shims know best how their ranks ended, and Slurm knows best what was done to the job. Neither's silence proves anything.
func judge(s sight) (forge.Observation, need) {
	o := forge.Observation{ID: s.id, AsOf: s.now.UTC(), State: forge.ObservUnknown, ByUID: -1, Batch: s.batch(), Placement: s.placement()}
	r := s.records
	s.copyRecords(&o)
	claimed := s.begun()
	over := s.gone || s.job.phase() == phaseOver
	switch {
	case r.Claim != nil && r.Claim.Revoked:
		s.absent(&o)
		if p := s.job.phase(); p == phaseWaiting || p == phaseActive {
			return o, needCancel
		}
		return o, needNothing
	case s.complete():
		return s.exited(o)
	case r.Missing && over:
		o.State, o.Released, o.Detail = forge.ObservLost, true, "its run directory is gone, and its job is over"
		return o, needNothing
	case r.Missing:
		o.Detail = "its run directory is gone"
		return o, needNothing
	case s.requeued():
		if s.job.phase() == phaseEnding {
			o.State = forge.ObservStopping
			return o, needNothing
		}
		o.State, o.Released = forge.ObservExited, true
		return o, s.endRequeued(&o)
	case s.blind != "" && s.job.phase() == phaseWaiting && s.silent == "" && !claimed:
		o.State = forge.ObservQueued
		return o, needNothing
	case s.blind != "":
		o.Detail = s.blind
		return o, needNothing
	case over && claimed:
		return s.ended(o)
	case over && s.nameless() && s.now.Sub(s.endSeen) < settleWithin:
		o.State = forge.ObservQueued
		return o, needSlurm
	case over: // no shim has begun, and none is to begin behind our back
		s.slurmsWord(&o)
		return o, needRevoke
	case s.silent != "":
		o.Detail = s.silent
		return o, needNothing
	}
	return s.underway(o, claimed)
}

// underway is for attempts that are not over.
func (s sight) underway(o forge.Observation, claimed bool) (forge.Observation, need) {
	r := s.records
	nodes := 0
	if r.Launched != nil {
		nodes = len(r.Launched.PerNode)
	}
	switch p := s.job.phase(); {
	case !claimed && p == phaseWaiting:
		o.State = forge.ObservQueued
	case !claimed && (p == phaseActive || p == phaseEnding):
		o.State = forge.ObservStarting
	case !claimed && r.Batch != nil && r.Batch.JobID != "" && s.job == nil:
		o.State = forge.ObservQueued // handed over, and Slurm has not been asked since
	case !claimed:
		o.Detail = "Slurm has not said anything of it so far"
	case len(r.Exits) > 0 || r.Stop != nil || p == phaseEnding:
		o.State = forge.ObservStopping
	case nodes > 0 && len(r.Live) == nodes:
		o.State = forge.ObservRunning
	default:
		o.State = forge.ObservStarting
	}
	return o, needNothing
}

// complete: every shim has said its last word, after which nothing of it runs.
func (s sight) complete() bool {
	return s.records.Launched != nil && len(s.records.Launched.PerNode) > 0 && len(s.records.Exits) == len(s.records.Launched.PerNode)
}

// requeued: Slurm has started the job anew under the same id, or is about to. The attempt starts once.
func (s sight) requeued() bool {
	c := s.records.Claim
	if c == nil || s.job == nil || c.Revoked {
		return false
	}
	id, restarts := parseHolder(c.Holder)
	return id == s.job.ID && (s.job.Restarts > restarts || s.forgotten(c.At))
}

// forgotten: a controller that died before it had saved that it started the job takes it for one that waits. It ends on the nodes what
// it does not know of, and starts it anew under the same id and count; a node that still has it then cancels it, which nobody asked for.
// Only times tell, of clocks that may differ: what may be alive is not ended for a few seconds of them.
func (s sight) forgotten(began time.Time) bool {
	switch s.job.phase() {
	case phaseWaiting:
		return s.jobAt.Sub(began) > forgottenAfter || s.complete() && s.jobAt.After(s.endSeen)
	case phaseOver:
		named := !s.nameless() || s.now.Sub(s.endSeen) >= settleWithin
		return s.job.State == "CANCELLED" && s.job.ByUID <= 0 && named && s.job.Started.Sub(began) > clocksDiffer
	}
	return false
}

// endRequeued: whoever put the job back into the queue meant it to go on, which it does in a job of its own.
func (s sight) endRequeued(o *forge.Observation) need {
	words := "was requeued in Slurm"
	if _, restarts := parseHolder(s.records.Claim.Holder); s.job.Restarts <= restarts {
		words = "was started anew by Slurm, whose controller had not saved that it ran"
	}
	o.Cause, o.Detail = forge.StopPreempted, fmt.Sprintf("job %s %s: its first start has ended", s.job.ID, words)
	if p := s.job.phase(); p == phaseWaiting || p == phaseActive {
		return needCancel
	}
	return needNothing
}

// exited is for attempts all of whose shims have said how it ended. What came from outside is Slurm's to explain.
func (s sight) exited(o forge.Observation) (forge.Observation, need) {
	o.State, o.Released = forge.ObservExited, true
	if !s.fromOutside(o) {
		return o, needNothing
	}
	if s.requeued() {
		return o, s.endRequeued(&o)
	}
	explained := s.gone || s.job.phase() == phaseOver && !s.nameless() || s.preempted()
	says := s.heard.After(s.endSeen) && s.job.phase() != phaseEnding // while epilogs run Slurm keeps the reason to itself
	if waited := s.now.Sub(s.endSeen); !explained && waited < explainAtMost && (waited < explainWithin || !says) {
		o.State, o.Released = forge.ObservStopping, false
		return o, needSlurm
	}
	s.slurmsWord(&o)
	return o, needNothing
}

// ended is for jobs that are over while not every shim has said its last word.
func (s sight) ended(o forge.Observation) (forge.Observation, need) {
	if state := s.state(); state != "NODE_FAIL" && state != "BOOT_FAIL" && s.now.Sub(s.endSeen) < settleWithin {
		o.State = forge.ObservStopping
		return o, needNothing
	}
	o.State, o.Released = forge.ObservExited, true
	if len(o.Exits) == 0 {
		o.State = forge.ObservLost
	}
	if o.Cause == "" || o.Cause == forge.StopRankExit || s.fromOutside(o) {
		s.slurmsWord(&o)
	}
	return o, needNothing
}

// preempted: Slurm says so before the job has ended, and as of 23.02 by its state as well.
func (s sight) preempted() bool {
	p := s.job.phase()
	return (p == phaseOver || p == phaseEnding) && !s.job.Preempted.IsZero() && s.job.State != "NODE_FAIL"
}

// nameless: somebody cancelled it, and the accounting will say who.
func (s sight) nameless() bool {
	return s.state() == "CANCELLED" && s.job.ByUID < 0 && s.books && !s.asked()
}

// begun says that a shim came to act for the attempt.
func (s sight) begun() bool { return s.records.Claim != nil && !s.records.Claim.Revoked }

// asked says that forged had asked for the end, and not only after it, as far as the clocks of nodes can tell.
func (s sight) asked() bool {
	if s.records.Stop == nil {
		return false
	}
	for _, x := range s.records.Exits {
		if x.EndedAt.Add(clocksDiffer).Before(s.records.Stop.At) {
			return false
		}
	}
	return true
}

func (s sight) state() string {
	if s.job == nil {
		return ""
	}
	return s.job.State
}

// fromOutside says that the ranks or the shims were stopped by something that is neither forged nor themselves.
func (s sight) fromOutside(o forge.Observation) bool {
	if s.asked() {
		return false
	}
	switch o.Cause {
	case forge.StopSignal:
		return true
	case forge.StopRankExit, "":
	default:
		return false
	}
	for _, x := range o.Exits {
		asked := slices.Contains([]syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}, syscall.Signal(x.Signal))
		if !x.ByShim && !x.OOM && (asked || x.Code == forge.ExitCheckpointed) {
			return true
		}
	}
	return false
}

// missed are nodes that another one waited for in vain, and that have left no last word since.
func (s sight) missed() (out []int) {
	for _, x := range s.records.Exits {
		for _, n := range x.Gone {
			if _, ok := s.records.Exits[n]; !ok {
				out = append(out, n)
			}
		}
	}
	return out
}
