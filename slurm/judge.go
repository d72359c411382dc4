package slurm

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
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
	// clocksDiffer is how far the clocks of nodes and of the controller are apart at most; forgottenAfter how long a job must have
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
	case len(r.Live) == nodes:
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
	explained := s.gone || s.job.phase() == phaseOver && !s.nameless()
	if waited := s.now.Sub(s.endSeen); !explained && waited < explainAtMost && (waited < explainWithin || !s.heard.After(s.endSeen)) {
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

// nameless: somebody cancelled it, and the accounting will say who.
func (s sight) nameless() bool {
	return s.state() == "CANCELLED" && s.job.ByUID < 0 && s.books && !s.asked()
}

// begun says that a shim came to act for the attempt.
func (s sight) begun() bool { return s.records.Claim != nil && !s.records.Claim.Revoked }

// asked says that forged had asked for the end, and not only after it.
func (s sight) asked() bool {
	if s.records.Stop == nil {
		return false
	}
	for _, x := range s.records.Exits {
		if x.EndedAt.Before(s.records.Stop.At) {
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

// slurmsWord is why the attempt ended, as far as Slurm says.
func (s sight) slurmsWord(o *forge.Observation) {
	if s.job == nil {
		if s.gone && o.Detail == "" {
			o.Detail = "Slurm does not know its job any more, and it left no record"
		}
		return
	}
	j := s.job
	if j.phase() != phaseOver {
		return // of a time before the end
	}
	say := func(cause forge.StopCause, format string, args ...any) {
		words := fmt.Sprintf(format, args...)
		if j.Reason != "" {
			words += " (" + j.Reason + ")"
		}
		o.Cause, o.Detail = cause, fmt.Sprintf("job %s: %s", j.ID, words)
	}
	if !j.Preempted.IsZero() && j.State != "NODE_FAIL" {
		say(forge.StopPreempted, "%s, preempted by Slurm", j.State)
		return
	}
	switch j.State {
	case "NODE_FAIL":
		say(forge.StopNodeLost, "NODE_FAIL%s", s.silentNodes(o))
	case "BOOT_FAIL", "LAUNCH_FAILED", "RECONFIG_FAIL":
		say(forge.StopNodeLost, "%s on %s", j.State, cmp.Or(j.Nodes, "its nodes"))
	case "PREEMPTED":
		say(forge.StopPreempted, "PREEMPTED by Slurm")
	case "TIMEOUT":
		say(forge.StopTimeLimit, "TIMEOUT, its time limit in Slurm came")
	case "DEADLINE":
		say(forge.StopTimeLimit, "DEADLINE, it could not end before its deadline")
	case "OUT_OF_MEMORY":
		say(forge.StopOOM, "OUT_OF_MEMORY")
	case "CANCELLED":
		s.cancelled(o, say)
	default:
		s.failed(o, say)
	}
}

// failed: the script ended by itself, which it does when srun does. A node on which no shim came to anything explains why the others
// were stopped.
func (s sight) failed(o *forge.Observation, say func(forge.StopCause, string, ...any)) {
	l := s.records.Launched
	switch {
	case s.complete() || l == nil:
		return
	case len(s.records.Live) < len(l.PerNode) && (o.Cause == "" || o.Cause == forge.StopSignal):
		say(forge.StopLaunch, "%s, exit %s%s", s.job.State, s.job.exitWords(), s.silentNodes(o))
	case o.Cause == "" || o.Cause == forge.StopSignal:
		say(o.Cause, "%s, exit %s%s", s.job.State, s.job.exitWords(), s.silentNodes(o))
	default: // "a rank exited" elsewhere is what the end of a node looks like from the others
		say(forge.StopNodeLost, "%s%s", s.job.State, s.silentNodes(o))
	}
	if s.records.Log != "" {
		o.Detail += ": " + s.records.Log
	}
}

// silentNodes names those whose shim left no last word: the end came from there, if it came from a node.
func (s sight) silentNodes(o *forge.Observation) string {
	if s.records.Launched == nil {
		return ""
	}
	var names []string
	placement := s.placement()
	for node := range s.records.Launched.PerNode {
		if _, ok := s.records.Exits[node]; ok {
			continue
		}
		if node < len(placement) {
			names = append(names, string(placement[node].Node))
			o.Suspects = append(o.Suspects, placement[node].Node)
		} else {
			names = append(names, fmt.Sprintf("node %d", node))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "; no last word from " + strings.Join(names, ", ")
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

// cancelled: by us, by Slurm itself for want of a dependency, or by a person.
func (s sight) cancelled(o *forge.Observation, say func(forge.StopCause, string, ...any)) {
	switch {
	case s.asked():
		say(forge.StopIntent, "CANCELLED as forged asked")
	case len(s.missed()) > 0:
		say(forge.StopNodeLost, "cancelled by forged, since a node gave no sign of life%s", s.silentNodes(o))
	case strings.HasPrefix(s.job.Reason, "Dependency"):
		say(forge.StopRefused, "CANCELLED by Slurm")
	case s.job.Nodes != "" && s.job.ByUID <= 0 && !s.begun():
		// A controller that came back gives such a job its nodes a second time, a node that still has the first start of it refuses, and
		// Slurm cancels what nobody wanted cancelled. A person who meant it cancels the next one, which has begun.
		say(forge.StopWithdrawn, "CANCELLED by Slurm with its nodes given and before anything of it began")
	case s.job.ByUID >= 0:
		say(forge.StopCancelled, "CANCELLED by uid %d, not through forged", s.job.ByUID)
		o.ByUID = s.job.ByUID
	default:
		// Slurm's own daemons carried it out; on whose behalf only the accounting could say. Nobody's uid is made up for it.
		say(forge.StopCancelled, "CANCELLED in Slurm and not through forged; without accounting Slurm does not say by whom")
	}
}

// absent is for attempts whose claim is revoked: they never started and never will.
func (s sight) absent(o *forge.Observation) {
	o.State, o.Released, o.Cause, o.Exits = forge.ObservAbsent, true, "", nil
	o.Detail = "its claim is revoked: it never started"
	b := s.records.Batch
	switch {
	case b != nil && b.Refused != "":
		o.Cause, o.Detail = forge.StopRefused, b.Refused
	case b != nil && b.Withdrawn != "":
		o.Cause, o.Detail = forge.StopWithdrawn, b.Withdrawn
	case s.job.phase() == phaseOver:
		s.slurmsWord(o)
	}
}

// copyRecords takes over what shims and ranks have left.
func (s sight) copyRecords(o *forge.Observation) {
	r := s.records
	var first *rundir.Exit
	for _, node := range slices.Sorted(maps.Keys(r.Exits)) {
		x := r.Exits[node]
		o.Exits = append(o.Exits, x.Ranks...)
		if first == nil || rundir.Tells(x, *first) {
			first = &x
		}
	}
	if first != nil {
		o.Cause, o.Detail, o.ByUID = first.Cause, first.Detail, first.ByUID
	}
	o.Exits = append(o.Exits, r.Ranks...)
	o.Status, o.Resume, o.Output = r.Status, r.Resume, r.Output
	if r.Launched == nil || len(r.Live) < len(r.Launched.PerNode) {
		return // not all ranks have started
	}
	for _, l := range r.Live {
		if l.StartedAt.After(o.StartedAt) {
			o.StartedAt = l.StartedAt
		}
	}
}

// placement is where it really is: the nodes as soon as Slurm has chosen them, their GPUs once the shims have said which.
func (s sight) placement() []forge.Share {
	l := s.records.Launched
	if l == nil {
		return nil
	}
	share := func(node forge.NodeName, slots []int) forge.Share {
		return forge.Share{Node: node, Slots: slots, CPUs: l.Gang.CPUsPerNode(), MemoryMiB: l.Gang.MemoryMiBPerNode()}
	}
	var out []forge.Share
	for node := range l.PerNode {
		live, ok := s.records.Live[node]
		if !ok || live.Node == "" {
			out = nil
			break
		}
		out = append(out, share(live.Node, live.Slots))
	}
	if out != nil {
		return out
	}
	if s.job == nil || s.job.phase() == phaseWaiting {
		return nil
	}
	hosts, err := expandHosts(s.job.Nodes)
	if err != nil || len(hosts) != len(l.PerNode) {
		return nil
	}
	for _, h := range hosts {
		out = append(out, share(forge.NodeName(h), nil))
	}
	return out
}

// batch is what people are shown.
func (s sight) batch() *forge.BatchJob {
	j := s.job
	if j == nil {
		if b := s.records.Batch; b != nil && b.JobID != "" {
			state := "SUBMITTED"
			if s.complete() {
				state = "COMPLETING"
			}
			return &forge.BatchJob{ID: b.JobID, State: state, SubmittedAt: b.At}
		}
		return nil
	}
	b := &forge.BatchJob{ID: j.ID, Name: j.Name, State: j.State, Reason: j.Reason, Partition: j.Partition, SubmittedAt: j.Submitted}
	switch p := j.phase(); {
	case p == phaseOver:
		b.StartedAt, b.EndedAt = j.Started, j.Ended
	case s.complete():
		b.State, b.Reason = "COMPLETING", "" // Slurm's last word is older than the shims'
		if p != phaseWaiting {
			b.StartedAt = j.Started
		}
	case p == phaseWaiting:
		b.EstimatedStart = j.Started.Truncate(time.Minute) // it moves a little with every round of Slurm's planning
	default:
		b.StartedAt = j.Started
	}
	return b
}
