package forge

import (
	"fmt"
	"slices"
	"syscall"
)

// EndReason says why an attempt ended. It is computed by Judge alone.
type EndReason string

// The closed set of end reasons.
const (
	EndCompleted           EndReason = "completed"
	EndCheckpointedPreempt EndReason = "checkpointed_preempt"
	EndCheckpointedLimit   EndReason = "checkpointed_limit"
	EndCheckpointedDrain   EndReason = "checkpointed_drain"
	EndCheckpointedUser    EndReason = "checkpointed_user"
	EndCancelled           EndReason = "cancelled"
	EndCancelledBy         EndReason = "cancelled_by" // by another uid, not through forged
	EndUserExit            EndReason = "user_exit"
	EndKnownFailure        EndReason = "known_failure" // like user_exit, and a line of its output says that another attempt would fail the same way
	EndNaN                 EndReason = "nan"
	EndCUDAOOM             EndReason = "cuda_oom"
	EndHostOOM             EndReason = "host_oom"
	EndBadInput            EndReason = "bad_input"
	EndTimeLimit           EndReason = "time_limit" // the limit came and no checkpoint was saved in the grace
	EndStalled             EndReason = "stalled"
	EndRendezvous          EndReason = "rendezvous"
	EndLaunchFailed        EndReason = "launch_failed"
	EndNodeEnv             EndReason = "node_env" // the node's Python, packages or paths do not do
	EndNodeLost            EndReason = "node_lost"
	EndGPUFault            EndReason = "gpu_fault"
	EndKilledExternally    EndReason = "killed_externally"
	EndExecutorLost        EndReason = "executor_lost" // the shim died and left no exit record
	EndOutputsInvalid      EndReason = "outputs_invalid"
	EndSuperseded          EndReason = "superseded"
	EndWithdrawn           EndReason = "withdrawn" // taken back from the cluster's own queue before it started
	EndRefused             EndReason = "refused"   // the cluster's own queue will never start it as it is
)

// EndReasons lists the whole set.
var EndReasons = []EndReason{
	EndCompleted, EndCheckpointedPreempt, EndCheckpointedLimit, EndCheckpointedDrain, EndCheckpointedUser,
	EndCancelled, EndCancelledBy, EndUserExit, EndKnownFailure, EndNaN, EndCUDAOOM, EndHostOOM, EndBadInput, EndTimeLimit, EndStalled,
	EndRendezvous, EndLaunchFailed, EndNodeEnv, EndNodeLost, EndGPUFault, EndKilledExternally, EndExecutorLost,
	EndOutputsInvalid, EndSuperseded, EndWithdrawn, EndRefused,
}

// Disposition is what an end reason means for the run.
type Disposition string

// The dispositions.
const (
	DisposeComplete  Disposition = "complete"   // the run is completed
	DisposeCancel    Disposition = "cancel"     // the run is cancelled
	DisposeFail      Disposition = "fail"       // the run has failed; a retry would fail the same way
	DisposeUserRetry Disposition = "user_retry" // retried up to max_retries, then failed
	DisposeRequeue   Disposition = "requeue"    // goes on later; nobody's fault
	DisposeRetryNow  Disposition = "retry_now"  // goes on at once; infrastructure, node not blamed
	DisposeElsewhere Disposition = "elsewhere"  // goes on after a back-off, on other nodes if there are any
	DisposeHold      Disposition = "hold"       // a person has to look: the run is held with the reason
)

var dispositions = map[EndReason]Disposition{
	EndCompleted:           DisposeComplete,
	EndCheckpointedPreempt: DisposeRequeue,
	EndCheckpointedLimit:   DisposeRequeue, // failed by the daemon when total_time is used up
	EndCheckpointedDrain:   DisposeRequeue,
	EndCheckpointedUser:    DisposeCancel, // cancel --save
	EndCancelled:           DisposeCancel,
	EndCancelledBy:         DisposeCancel,
	EndUserExit:            DisposeUserRetry,
	EndKnownFailure:        DisposeFail,
	EndNaN:                 DisposeUserRetry,
	EndCUDAOOM:             DisposeFail, // the same steps need the same memory
	EndHostOOM:             DisposeUserRetry,
	EndBadInput:            DisposeFail,
	EndTimeLimit:           DisposeRequeue, // likewise
	EndStalled:             DisposeElsewhere,
	EndRendezvous:          DisposeRetryNow,
	EndLaunchFailed:        DisposeElsewhere,
	EndNodeEnv:             DisposeElsewhere,
	EndNodeLost:            DisposeElsewhere,
	EndGPUFault:            DisposeElsewhere,
	EndKilledExternally:    DisposeElsewhere,
	EndExecutorLost:        DisposeElsewhere,
	EndOutputsInvalid:      DisposeUserRetry,
	EndSuperseded:          DisposeElsewhere,
	EndWithdrawn:           DisposeRequeue,
	EndRefused:             DisposeHold,
}

// Disposition says what this end means for the run.
func (r EndReason) Disposition() Disposition { return dispositions[r] }

// Infrastructure says that the failure is the site's, not the user's.
func (r EndReason) Infrastructure() bool {
	d := r.Disposition()
	return d == DisposeElsewhere || d == DisposeRetryNow
}

// Exit codes of the rank contract (docs/run-contract.md).
const (
	ExitCheckpointed = 85 // saved at a step boundary on request
	ExitSuperseded   = 86 // a newer attempt holds the fence
	ExitBadInput     = 87 // dataset, base model or parameters do not do; never retried
	ExitNodeEnv      = 88 // Python packages missing or out of the supported range on this node
	ExitRendezvous   = 89 // the ranks could not find each other
	ExitNaN          = 90 // the loss is not a number
	ExitCUDAOOM      = 91 // out of GPU memory
)

// StopCause is why a shim ended its gang.
type StopCause string

// The causes, as shims record them.
const (
	StopRankExit     StopCause = "rank_exit"     // ranks ended by themselves; one bad exit ends the gang
	StopIntent       StopCause = "intent"        // forged asked for it
	StopSignal       StopCause = "signal"        // the shim was sent TERM by somebody else
	StopTimeLimit    StopCause = "time_limit"    // the attempt's limit
	StopStartTimeout StopCause = "start_timeout" // no first step in time
	StopStall        StopCause = "stall_timeout" // no step in time
	StopRevoked      StopCause = "revoked"       // the claim was taken from it before it started
	StopSuperseded   StopCause = "superseded"    // the fence is ahead of it
	StopInputs       StopCause = "inputs"        // an input changed since registration, or is gone
	StopNodeEnv      StopCause = "node_env"      // the entry could not be started here
	StopLaunch       StopCause = "launch"        // anything else before the first rank ran
	StopGPUFault     StopCause = "gpu_fault"     // a GPU of the node cannot be trusted with the run any longer
	StopGPUError     StopCause = "gpu_error"     // a fault of the program's own on a GPU, after which it did not end by itself
	StopUntested     StopCause = "untested"      // asked to stop while the output was load-tested, after all ranks had ended well

	// What only a batch system says, in the place of a shim's word or over it.
	StopNodeLost  StopCause = "node_lost" // a node of the gang is gone
	StopPreempted StopCause = "preempted" // its own preemption
	StopCancelled StopCause = "cancelled" // somebody cancelled it there; who, is not always said
	StopOOM       StopCause = "oom"       // ended for its use of memory
	StopWithdrawn StopCause = "withdrawn" // taken back before it started
	StopRefused   StopCause = "refused"   // will never start as it is
)

// StatusFile is what rank 0 left in status.json: its own word on how it ended.
type StatusFile struct {
	Attempt int               `json:"attempt"`
	Outcome string            `json:"outcome"` // completed | checkpointed | failed | superseded
	Reason  string            `json:"reason,omitempty"`
	Step    int64             `json:"step"`
	Total   int64             `json:"total_steps,omitempty"`
	Message string            `json:"message,omitempty"`
	Code    map[string]string `json:"code,omitempty"` // versions and digest of the code that ran
}

// Evidence is all that Judge looks at.
type Evidence struct {
	Intent   Intent      // what forged had asked, recorded before it signalled
	State    ObservState // exited, lost or absent
	Cause    StopCause   // the shim's record
	Detail   string      // the shim's words
	Exits    []RankExit  // of every rank, as far as recorded
	Ranks    int         // how many there should be
	Status   *StatusFile // rank 0's own word, nil when it left none
	OutputOK bool        // outputs present and hashed, or none required
	ByUID    int         // uid that sent TERM from outside, -1 when unknown
	Pattern  *PatternHit // the line of a failed rank's output that explains the failure; nil: none does
}

// Judge names the end reason of an attempt and says in a sentence what it rests on. The order
// of the rules is their meaning: a recorded fact about the whole attempt outranks the exit
// of one rank, and our own intent outranks a kill that followed from it. What a rank has printed comes last: a program can print
// anything, so it explains only what nothing else explains.
func Judge(e Evidence) (EndReason, string) {
	reason, why := judge(e)
	if e.Pattern == nil {
		return reason, why
	}
	switch {
	case reason == EndUserExit:
		reason = judgeOutput(*e.Pattern, e.Cause)
	case reason != EndStalled && reason != EndKilledExternally:
		return reason, why
	}
	return reason, fmt.Sprintf("%s; rank %d printed, by which %s is known: %s", why, e.Pattern.Rank, e.Pattern.Name, e.Pattern.Line)
}

// judgeOutput is what a line makes of a failure that else is the program's own. A line that speaks against a node is no proof against a GPU:
// whoever else is placed there goes by what the driver says.
func judgeOutput(p PatternHit, c StopCause) EndReason {
	switch {
	case p.Action == PatternNoRetry && p.Name == PatternCUDAOOM:
		return EndCUDAOOM
	case p.Action == PatternNoRetry:
		return EndKnownFailure
	case c == StopGPUError: // the driver has named the rank that was at fault, and other ranks print what followed
		return EndUserExit
	case p.Action == PatternExcludeNode:
		return EndNodeEnv
	case p.Action == PatternRetry:
		return EndRendezvous
	}
	return EndUserExit
}

func judge(e Evidence) (EndReason, string) {
	if e.State == ObservLost || e.State == ObservAbsent {
		return judgeGone(e)
	}
	switch e.Cause {
	case StopRevoked, StopSuperseded:
		return EndSuperseded, orElse(e.Detail, "a newer attempt holds the fence")
	case StopInputs:
		return EndBadInput, e.Detail
	case StopNodeEnv:
		return EndNodeEnv, e.Detail
	case StopLaunch:
		return EndLaunchFailed, e.Detail
	}
	first, any := firstFailure(e.Exits)
	allZero := !any && len(e.Exits) == e.Ranks
	switch {
	case allZero && e.OutputOK:
		return EndCompleted, "all ranks exited 0"
	case allZero && e.Cause == StopUntested:
		return judgeUntested(e)
	case allZero && !e.cutShort(): // else nobody had the time to hash the output
		return EndOutputsInvalid, orElse(e.Detail, "all ranks exited 0 and the output is missing or unreadable")
	}
	saved := savedAll(e.Exits, e.Ranks)
	switch {
	case e.Intent == IntentKill, e.Intent == IntentCancel:
		return EndCancelled, "cancelled on request"
	case e.Intent == IntentCheckpointUser && saved:
		return EndCheckpointedUser, "saved on request"
	case e.Intent == IntentCheckpointUser:
		return EndCancelled, "cancelled on request; no checkpoint was saved within the grace"
	case e.Cause == StopNodeLost && !saved: // it did not follow from what forged asked, and speaks against the node
		return EndNodeLost, orElse(e.Detail, "a node of the gang is gone")
	case e.Cause == StopGPUFault && !saved: // likewise
		return EndGPUFault, orElse(e.Detail, gpuFailed)
	case e.Intent == IntentCheckpointPreempt:
		return EndCheckpointedPreempt, savedOrNot(saved, "preempted")
	case e.Intent == IntentCheckpointDrain:
		return EndCheckpointedDrain, savedOrNot(saved, "drained")
	case e.Cause == StopNodeLost:
		return EndNodeLost, orElse(e.Detail, "a node of the gang is gone")
	case e.Cause == StopGPUFault:
		return EndGPUFault, orElse(e.Detail, gpuFailed)
	case e.Cause == StopGPUError:
		return EndUserExit, orElse(e.Detail, "a fault of its own on a GPU, after which it did not end by itself")
	case e.Cause == StopPreempted:
		return EndCheckpointedPreempt, savedOrNot(saved, "preempted by the cluster's own queue")
	case e.Cause == StopOOM:
		return EndHostOOM, orElse(e.Detail, "ended for its use of memory")
	case e.Cause == StopTimeLimit && saved:
		return EndCheckpointedLimit, "saved at the time limit"
	case e.Cause == StopTimeLimit:
		return EndTimeLimit, "the time limit came and no checkpoint was saved within the grace"
	case e.Cause == StopStartTimeout, e.Cause == StopStall:
		return EndStalled, orElse(e.Detail, "no step in time")
	case e.Cause == StopCancelled:
		return EndCancelledBy, orElse(e.Detail, "cancelled in the cluster's own queue, not through forged")
	case e.Cause == StopSignal, saved:
		if e.ByUID >= 0 {
			return EndCancelledBy, orElse(e.Detail, fmt.Sprintf("stopped by uid %d, not through forged", e.ByUID))
		}
		return EndKilledExternally, "stopped by a signal that forged did not send"
	}
	if !any {
		return EndExecutorLost, fmt.Sprintf("%d of %d ranks left an exit record", len(e.Exits), e.Ranks)
	}
	return judgeRank(first, e.Status)
}

const gpuFailed = "a GPU of the node cannot be trusted with it any longer"

// judgeUntested is for attempts whose ranks had all ended well and whose output was still being load-tested when they were to stop. What
// they made is in their last checkpoint; the attempt that goes on from there makes the output again and has it tested.
func judgeUntested(e Evidence) (EndReason, string) {
	const then = " while its output was load-tested, which is done again"
	switch e.Intent {
	case IntentKill, IntentCancel, IntentCheckpointUser:
		return EndCancelled, "cancelled on request while its output was load-tested"
	case IntentCheckpointPreempt:
		return EndCheckpointedPreempt, "preempted" + then
	case IntentCheckpointDrain:
		return EndCheckpointedDrain, "drained" + then
	}
	if e.ByUID >= 0 {
		return EndCancelledBy, fmt.Sprintf("stopped by uid %d, not through forged, while its output was load-tested", e.ByUID)
	}
	return EndKilledExternally, "stopped by a signal that forged did not send" + then
}

// cutShort says that something ended the attempt as a whole, whatever its ranks had come to.
func (e Evidence) cutShort() bool {
	return slices.Contains([]StopCause{StopNodeLost, StopPreempted, StopCancelled, StopOOM, StopTimeLimit, StopGPUFault, StopGPUError}, e.Cause)
}

// judgeGone is for attempts whose exit records are missing or not whole: what ranks did leave counts, then what we had asked for
// explains it, then what a batch system says, or nothing does.
func judgeGone(e Evidence) (EndReason, string) {
	_, failed := firstFailure(e.Exits)
	saved := savedAll(e.Exits, e.Ranks)
	if !failed && e.Ranks > 0 && len(e.Exits) == e.Ranks && e.OutputOK {
		return EndCompleted, "all ranks exited 0"
	}
	switch {
	case e.Intent == IntentKill, e.Intent == IntentCancel, e.Intent == IntentCheckpointUser:
		return EndCancelled, "cancelled on request"
	case e.Intent == IntentCheckpointDrain && e.State == ObservAbsent:
		return EndWithdrawn, "taken back before it started"
	case e.Cause == StopNodeLost && !saved:
		return EndNodeLost, orElse(e.Detail, "a node of the gang is gone")
	case e.Cause == StopGPUFault && !saved:
		return EndGPUFault, orElse(e.Detail, gpuFailed)
	case e.Intent == IntentCheckpointPreempt:
		return EndCheckpointedPreempt, savedOrNot(saved, "preempted")
	case e.Intent == IntentCheckpointDrain:
		return EndCheckpointedDrain, savedOrNot(saved, "drained")
	}
	switch e.Cause {
	case StopNodeLost:
		return EndNodeLost, orElse(e.Detail, "a node of the gang is gone")
	case StopGPUFault:
		return EndGPUFault, orElse(e.Detail, gpuFailed)
	case StopGPUError:
		return EndUserExit, orElse(e.Detail, "a fault of its own on a GPU")
	case StopPreempted:
		return EndCheckpointedPreempt, savedOrNot(saved, "preempted by the cluster's own queue")
	case StopOOM:
		return EndHostOOM, orElse(e.Detail, "ended for its use of memory")
	case StopTimeLimit:
		if saved {
			return EndCheckpointedLimit, "saved at the time limit"
		}
		return EndTimeLimit, orElse(e.Detail, "the time limit came")
	case StopWithdrawn:
		return EndWithdrawn, orElse(e.Detail, "taken back before it started")
	case StopRefused:
		return EndRefused, orElse(e.Detail, "the cluster's own queue refuses it")
	case StopCancelled:
		return EndCancelledBy, orElse(e.Detail, "cancelled in the cluster's own queue, not through forged")
	case StopSignal:
		if e.ByUID >= 0 {
			return EndCancelledBy, orElse(e.Detail, fmt.Sprintf("stopped by uid %d, not through forged", e.ByUID))
		}
		return EndKilledExternally, orElse(e.Detail, "stopped, which forged had not asked for")
	}
	if e.State == ObservLost {
		return EndExecutorLost, orElse(e.Detail, "the shim is gone and left no exit record")
	}
	return EndLaunchFailed, orElse(e.Detail, "the executor never started it")
}

// askingSignals ask a process to end.
var askingSignals = []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}

func judgeRank(x RankExit, st *StatusFile) (EndReason, string) {
	where := fmt.Sprintf("rank %d on %s", x.Rank, x.Node)
	said := ""
	if st != nil && st.Message != "" {
		said = ": " + st.Message
	}
	switch {
	case x.OOM:
		return EndHostOOM, where + " was ended by the kernel's out-of-memory killer"
	case x.Signal == int(syscall.SIGKILL):
		return EndKilledExternally, where + " was killed with SIGKILL, not by forged and without an out-of-memory record"
	case slices.Contains(askingSignals, syscall.Signal(x.Signal)):
		// Programs do not send these to themselves: somebody stopped the rank, and not through us.
		return EndKilledExternally, fmt.Sprintf("%s ended by signal %d (%s), which forged did not send", where, x.Signal, syscall.Signal(x.Signal))
	case x.Code == ExitCheckpointed:
		return EndKilledExternally, where + " saved and stopped, which forged had not asked for"
	case x.Signal != 0:
		return EndUserExit, fmt.Sprintf("%s ended by signal %d (%s)%s", where, x.Signal, syscall.Signal(x.Signal), said)
	}
	byCode := map[int]EndReason{
		ExitSuperseded: EndSuperseded, ExitBadInput: EndBadInput, ExitNodeEnv: EndNodeEnv,
		ExitRendezvous: EndRendezvous, ExitNaN: EndNaN, ExitCUDAOOM: EndCUDAOOM,
	}
	if r, ok := byCode[x.Code]; ok {
		return r, fmt.Sprintf("%s exited %d (%s)%s", where, x.Code, r, said)
	}
	return EndUserExit, fmt.Sprintf("%s exited %d%s", where, x.Code, said)
}

// firstFailure is the failure that came first in time and was not the shim's own doing:
// the others followed from it. Kills by the shim count only when there is nothing else.
func firstFailure(exits []RankExit) (RankExit, bool) {
	var best RankExit
	found := false
	for _, x := range exits {
		if x.Code == 0 && x.Signal == 0 || x.ByShim {
			continue
		}
		if !found || x.EndedAt.Before(best.EndedAt) || x.EndedAt.Equal(best.EndedAt) && x.Rank < best.Rank {
			best, found = x, true
		}
	}
	if found {
		return best, true
	}
	for _, x := range exits {
		if x.Code != 0 || x.Signal != 0 {
			return x, true
		}
	}
	return RankExit{}, false
}

func savedAll(exits []RankExit, ranks int) bool {
	if len(exits) < ranks || ranks == 0 {
		return false
	}
	for _, x := range exits {
		if x.Code != ExitCheckpointed {
			return false
		}
	}
	return true
}

func savedOrNot(saved bool, what string) string {
	if saved {
		return what + " after saving"
	}
	return what + "; no checkpoint was saved within the grace, work since the last one is lost"
}

func orElse(s, fallback string) string {
	if s != "" {
		return s
	}
	return fallback
}
