package forge_test

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

func exit(rank, code int) forge.RankExit {
	return forge.RankExit{Rank: rank, Node: "n1", Code: code, EndedAt: time.Unix(int64(100+rank), 0)}
}

func killed(rank int, at int64, byShim bool) forge.RankExit {
	return forge.RankExit{Rank: rank, Node: "n1", Code: 137, Signal: int(syscall.SIGKILL), ByShim: byShim, EndedAt: time.Unix(at, 0)}
}

func TestJudge(t *testing.T) {
	exited := func(c forge.StopCause, exits ...forge.RankExit) forge.Evidence {
		return forge.Evidence{State: forge.ObservExited, Cause: c, Exits: exits, Ranks: len(exits), OutputOK: true, ByUID: -1}
	}
	with := func(e forge.Evidence, f func(*forge.Evidence)) forge.Evidence { f(&e); return e }
	intent := func(i forge.Intent) func(*forge.Evidence) { return func(e *forge.Evidence) { e.Intent = i } }
	cause := func(c forge.StopCause) func(*forge.Evidence) { return func(e *forge.Evidence) { e.Cause = c } }
	gone := func(s forge.ObservState, c forge.StopCause) forge.Evidence {
		return forge.Evidence{State: s, Cause: c, Ranks: 2, ByUID: -1}
	}
	both0 := exited(forge.StopRankExit, exit(0, 0), exit(1, 0))
	saved := exited(forge.StopIntent, exit(0, 85), exit(1, 85))
	shot := exited(forge.StopRankExit, killed(1, 50, false), killed(0, 60, true))

	for _, tc := range []struct {
		name string
		e    forge.Evidence
		want forge.EndReason
	}{
		{"every rank exits 0", both0, forge.EndCompleted},
		{"every rank exits 0 and the output is missing", with(both0, func(e *forge.Evidence) { e.OutputOK = false }), forge.EndOutputsInvalid},
		{"a rank left no exit record though none failed", with(both0, func(e *forge.Evidence) { e.Ranks = 3 }), forge.EndExecutorLost},
		{"a run that completed before its cancel arrived has completed", with(both0, intent(forge.IntentCancel)), forge.EndCompleted},
		{"the shim is gone without a record", forge.Evidence{State: forge.ObservLost, Ranks: 2}, forge.EndExecutorLost},
		{"the shim is gone because we killed it", forge.Evidence{State: forge.ObservLost, Ranks: 2, Intent: forge.IntentKill}, forge.EndCancelled},
		{"never started", forge.Evidence{State: forge.ObservAbsent}, forge.EndLaunchFailed},
		{"cancelled before it started", forge.Evidence{State: forge.ObservAbsent, Intent: forge.IntentCancel}, forge.EndCancelled},
		{"preempted before it started", forge.Evidence{State: forge.ObservAbsent, Intent: forge.IntentCheckpointPreempt}, forge.EndCheckpointedPreempt},
		{"one rank shot from outside", shot, forge.EndKilledExternally},
		{"one rank shot after our cancel", with(shot, intent(forge.IntentCancel)), forge.EndCancelled},
		{"out of host memory", exited(forge.StopRankExit, with2(killed(0, 1, false), func(x *forge.RankExit) { x.OOM = true })), forge.EndHostOOM},
		{"the first failure explains the others", exited(forge.StopRankExit, killed(0, 99, true), exit(1, forge.ExitNaN)), forge.EndNaN},
		{"exit 1", exited(forge.StopRankExit, exit(0, 1)), forge.EndUserExit},
		{"segmentation fault", exited(forge.StopRankExit, forge.RankExit{Code: 139, Signal: int(syscall.SIGSEGV)}), forge.EndUserExit},
		{"bad input", exited(forge.StopRankExit, exit(0, 87)), forge.EndBadInput},
		{"environment of the node", exited(forge.StopRankExit, exit(0, 88)), forge.EndNodeEnv},
		{"rendezvous", exited(forge.StopRankExit, exit(0, 89)), forge.EndRendezvous},
		{"GPU memory", exited(forge.StopRankExit, exit(0, 91)), forge.EndCUDAOOM},
		{"fence ahead", exited(forge.StopRankExit, exit(0, 86)), forge.EndSuperseded},
		{"claim revoked", exited(forge.StopRevoked), forge.EndSuperseded},
		{"input changed", exited(forge.StopInputs), forge.EndBadInput},
		{"saved for a preemption", with(saved, intent(forge.IntentCheckpointPreempt)), forge.EndCheckpointedPreempt},
		{"preempted and not saved in the grace", with(shot, intent(forge.IntentCheckpointPreempt)), forge.EndCheckpointedPreempt},
		{"saved for a drain", with(saved, intent(forge.IntentCheckpointDrain)), forge.EndCheckpointedDrain},
		{"cancel --save", with(saved, intent(forge.IntentCheckpointUser)), forge.EndCheckpointedUser},
		{"cancel --save that could not save", with(shot, intent(forge.IntentCheckpointUser)), forge.EndCancelled},
		{"saved at the limit", with(saved, func(e *forge.Evidence) { e.Cause = forge.StopTimeLimit }), forge.EndCheckpointedLimit},
		{"limit without a save", with(shot, func(e *forge.Evidence) { e.Cause = forge.StopTimeLimit }), forge.EndTimeLimit},
		{"no step in time", with(shot, func(e *forge.Evidence) { e.Cause = forge.StopStall }), forge.EndStalled},
		{"no first step in time", with(shot, func(e *forge.Evidence) { e.Cause = forge.StopStartTimeout }), forge.EndStalled},
		{"saved without our intent, by a known uid", with(saved, func(e *forge.Evidence) { e.Cause, e.ByUID = forge.StopSignal, 1000 }), forge.EndCancelledBy},
		{"saved without our intent, by nobody known", with(saved, func(e *forge.Evidence) { e.Cause = forge.StopSignal }), forge.EndKilledExternally},
		{"a rank that was sent TERM, not by us", exited(forge.StopRankExit, forge.RankExit{Code: 143, Signal: int(syscall.SIGTERM)}), forge.EndKilledExternally},
		{"a node lost after every rank had exited 0", with(both0, cause(forge.StopNodeLost)), forge.EndCompleted},
		{"and before the output was hashed", with(both0, func(e *forge.Evidence) { e.Cause, e.OutputOK = forge.StopNodeLost, false }), forge.EndNodeLost},
		{"a node lost while the others fell over it", with(exited(forge.StopRankExit, exit(0, 1)), func(e *forge.Evidence) { e.Cause, e.Ranks = forge.StopNodeLost, 2 }), forge.EndNodeLost},
		{"a node lost while forge preempted", with(shot, func(e *forge.Evidence) { e.Cause, e.Intent = forge.StopNodeLost, forge.IntentCheckpointPreempt }), forge.EndNodeLost},
		{"a node lost after all had saved for forge's preemption", with(saved, func(e *forge.Evidence) { e.Cause, e.Intent = forge.StopNodeLost, forge.IntentCheckpointPreempt }), forge.EndCheckpointedPreempt},
		{"a node lost while forge cancelled", with(shot, func(e *forge.Evidence) { e.Cause, e.Intent = forge.StopNodeLost, forge.IntentCancel }), forge.EndCancelled},
		{"preempted by the cluster's queue after all had saved", with(saved, cause(forge.StopPreempted)), forge.EndCheckpointedPreempt},
		{"preempted by the cluster's queue and not saved", with(shot, cause(forge.StopPreempted)), forge.EndCheckpointedPreempt},
		{"preempted by the cluster's queue after every rank had exited 0", with(both0, cause(forge.StopPreempted)), forge.EndCompleted},
		{"the cluster's limit after all had saved", with(saved, cause(forge.StopTimeLimit)), forge.EndCheckpointedLimit},
		{"the cluster's limit before the output was hashed", with(both0, func(e *forge.Evidence) { e.Cause, e.OutputOK = forge.StopTimeLimit, false }), forge.EndTimeLimit},
		{"the cluster's limit, when not even records were left", gone(forge.ObservLost, forge.StopTimeLimit), forge.EndTimeLimit},
		{"ended for its memory by the batch system", with(shot, cause(forge.StopOOM)), forge.EndHostOOM},
		{"a node lost, and no record of anything", gone(forge.ObservLost, forge.StopNodeLost), forge.EndNodeLost},
		{"lost with records of every rank, all 0", with(both0, func(e *forge.Evidence) { e.State = forge.ObservLost }), forge.EndCompleted},
		{"lost with records of every rank, all saved, for the queue's preemption", with(saved, func(e *forge.Evidence) { e.State, e.Cause = forge.ObservLost, forge.StopPreempted }), forge.EndCheckpointedPreempt},
		{"saved while somebody cancelled it in the queue", with(saved, cause(forge.StopCancelled)), forge.EndCancelledBy},
		{"cancelled while its output was load-tested", with(both0, func(e *forge.Evidence) {
			e.Cause, e.Intent, e.OutputOK = forge.StopUntested, forge.IntentCancel, false
		}), forge.EndCancelled},
		{"preempted while its output was load-tested", with(both0, func(e *forge.Evidence) {
			e.Cause, e.Intent, e.OutputOK = forge.StopUntested, forge.IntentCheckpointPreempt, false
		}), forge.EndCheckpointedPreempt},
		{"drained while its output was load-tested", with(both0, func(e *forge.Evidence) {
			e.Cause, e.Intent, e.OutputOK = forge.StopUntested, forge.IntentCheckpointDrain, false
		}), forge.EndCheckpointedDrain},
		{"stopped by nobody known while its output was load-tested", with(both0, func(e *forge.Evidence) { e.Cause, e.OutputOK = forge.StopUntested, false }), forge.EndKilledExternally},
		{"stopped by somebody while its output was load-tested", with(both0, func(e *forge.Evidence) {
			e.Cause, e.ByUID, e.OutputOK = forge.StopUntested, 1000, false
		}), forge.EndCancelledBy},
		{"cancelled there while its output was hashed", with(both0, func(e *forge.Evidence) { e.Cause, e.OutputOK = forge.StopCancelled, false }), forge.EndCancelledBy},
		{"cancelled there by nobody knows whom", gone(forge.ObservAbsent, forge.StopCancelled), forge.EndCancelledBy},
		{"cancelled there as forged asked", with(saved, func(e *forge.Evidence) { e.Cause, e.Intent = forge.StopCancelled, forge.IntentCancel }), forge.EndCancelled},
		{"cancelled in the queue by another uid", with(gone(forge.ObservAbsent, forge.StopSignal), func(e *forge.Evidence) { e.ByUID = 1000 }), forge.EndCancelledBy},
		{"cancelled in the queue by forge's own uid without forge's intent", gone(forge.ObservAbsent, forge.StopSignal), forge.EndKilledExternally},
		{"stopped there by forge's own uid without forge's intent", gone(forge.ObservLost, forge.StopSignal), forge.EndKilledExternally},
		{"taken back from the queue", gone(forge.ObservAbsent, forge.StopWithdrawn), forge.EndWithdrawn},
		{"taken back because its run was held", with(gone(forge.ObservAbsent, ""), intent(forge.IntentCheckpointDrain)), forge.EndWithdrawn},
		{"held when it had just started, and saved", with(saved, intent(forge.IntentCheckpointDrain)), forge.EndCheckpointedDrain},
		{"cancelled while it was queued", with(gone(forge.ObservAbsent, forge.StopWithdrawn), intent(forge.IntentCancel)), forge.EndCancelled},
		{"refused by the queue", gone(forge.ObservAbsent, forge.StopRefused), forge.EndRefused},
		{"a GPU that failed", with(shot, cause(forge.StopGPUFault)), forge.EndGPUFault},
		{"a GPU that failed while forge cancelled", with(shot, func(e *forge.Evidence) { e.Cause, e.Intent = forge.StopGPUFault, forge.IntentCancel }), forge.EndCancelled},
		{"a GPU that failed while forge preempted", with(shot, func(e *forge.Evidence) { e.Cause, e.Intent = forge.StopGPUFault, forge.IntentCheckpointPreempt }), forge.EndGPUFault},
		{"a GPU that failed after all had saved for forge's preemption", with(saved, func(e *forge.Evidence) { e.Cause, e.Intent = forge.StopGPUFault, forge.IntentCheckpointPreempt }), forge.EndCheckpointedPreempt},
		{"a GPU that failed after all had saved, unasked", with(saved, cause(forge.StopGPUFault)), forge.EndGPUFault},
		{"a GPU that failed after every rank had exited 0", with(both0, cause(forge.StopGPUFault)), forge.EndCompleted},
		{"and before the output was hashed", with(both0, func(e *forge.Evidence) { e.Cause, e.OutputOK = forge.StopGPUFault, false }), forge.EndGPUFault},
		{"a GPU that failed, and the shim with it", gone(forge.ObservLost, forge.StopGPUFault), forge.EndGPUFault},
		{"a fault of its own on a GPU, and the shim is gone", gone(forge.ObservLost, forge.StopGPUError), forge.EndUserExit},
		{"a fault of its own on a GPU", with(shot, cause(forge.StopGPUError)), forge.EndUserExit},
		{"a fault of its own on a GPU, and it ended with 0 when it was asked to", with(both0, func(e *forge.Evidence) { e.Cause, e.OutputOK = forge.StopGPUError, false }), forge.EndUserExit},
		{"a fault of its own on a GPU while forge preempted", with(shot, func(e *forge.Evidence) { e.Cause, e.Intent = forge.StopGPUError, forge.IntentCheckpointPreempt }), forge.EndCheckpointedPreempt},
		{"only one of two ranks saved, without our intent", exited(forge.StopRankExit, exit(0, 85), exit(1, 1)), forge.EndKilledExternally},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, detail := forge.Judge(tc.e)
			if got != tc.want {
				t.Errorf("Judge = %s (%s), want %s", got, detail, tc.want)
			}
		})
	}
}

func with2(x forge.RankExit, f func(*forge.RankExit)) forge.RankExit { f(&x); return x }

func TestEveryEndReasonHasADisposition(t *testing.T) {
	for _, r := range forge.EndReasons {
		if r.Disposition() == "" {
			t.Errorf("%s has none", r)
		}
	}
	if forge.EndUserExit.Infrastructure() || !forge.EndNodeLost.Infrastructure() {
		t.Error("blame is on the wrong side")
	}
}

func TestWhatARankPrintedExplainsOnlyWhatNothingElseDoes(t *testing.T) {
	failed := forge.Evidence{State: forge.ObservExited, Cause: forge.StopRankExit, Exits: []forge.RankExit{exit(0, 1)}, Ranks: 1, OutputOK: true, ByUID: -1}
	hit := func(name string, a forge.PatternAction) *forge.PatternHit {
		return &forge.PatternHit{Name: name, Action: a, Rank: 3, Line: "NCCL said so"}
	}
	with := func(e forge.Evidence, f func(*forge.Evidence)) forge.Evidence {
		e.Exits = slices.Clone(e.Exits)
		f(&e)
		return e
	}
	oom := hit(forge.PatternCUDAOOM, forge.PatternNoRetry)
	for _, tc := range []struct {
		name string
		e    forge.Evidence
		hit  *forge.PatternHit
		want forge.EndReason
		said bool // the words name the line
	}{
		{"a line that speaks against the node", failed, hit("bus_error", forge.PatternExcludeNode), forge.EndNodeEnv, true},
		{"a line of broken memory is no proof against the GPU", failed, hit("ecc_uncorrectable", forge.PatternExcludeNode), forge.EndNodeEnv, true},
		{"a line by which another attempt would fail the same way", failed, hit("illegal_access", forge.PatternNoRetry), forge.EndKnownFailure, true},
		{"out of GPU memory", failed, oom, forge.EndCUDAOOM, true},
		{"out of GPU memory, which the site retries", failed, hit(forge.PatternCUDAOOM, forge.PatternRetry), forge.EndRendezvous, true},
		{"a line by which it goes on at once", failed, hit("nccl_timeout", forge.PatternRetry), forge.EndRendezvous, true},
		{"ended by a signal of its own", with(failed, func(e *forge.Evidence) { e.Exits[0].Code, e.Exits[0].Signal = 134, int(syscall.SIGABRT) }), hit("nccl_timeout", forge.PatternRetry), forge.EndRendezvous, true},
		{"a fault on a GPU, and what the other ranks made of it", with(failed, func(e *forge.Evidence) { e.Cause = forge.StopGPUError }), hit("nccl_timeout", forge.PatternRetry), forge.EndUserExit, true},
		{"a fault on a GPU, and a line against the node", with(failed, func(e *forge.Evidence) { e.Cause = forge.StopGPUError }), hit("x", forge.PatternExcludeNode), forge.EndUserExit, true},
		{"a fault on a GPU, and a line that says the same", with(failed, func(e *forge.Evidence) { e.Cause = forge.StopGPUError }), hit("illegal_access", forge.PatternNoRetry), forge.EndKnownFailure, true},
		{"no step in time", with(failed, func(e *forge.Evidence) { e.Cause = forge.StopStall }), hit("nccl_timeout", forge.PatternRetry), forge.EndStalled, true},
		{"killed by somebody else", with(failed, func(e *forge.Evidence) { e.Exits[0].Code, e.Exits[0].Signal = 137, int(syscall.SIGKILL) }), hit("nccl_peer", forge.PatternRetry), forge.EndKilledExternally, true},
		{"an exit code that says what it was", with(failed, func(e *forge.Evidence) { e.Exits[0].Code = forge.ExitNaN }), hit("bus_error", forge.PatternExcludeNode), forge.EndNaN, false},
		{"a GPU that failed", with(failed, func(e *forge.Evidence) { e.Cause = forge.StopGPUFault }), oom, forge.EndGPUFault, false},
		{"cancelled", with(failed, func(e *forge.Evidence) { e.Intent = forge.IntentCancel }), hit("bus_error", forge.PatternExcludeNode), forge.EndCancelled, false},
		{"a clean end", with(failed, func(e *forge.Evidence) { e.Exits[0].Code = 0 }), oom, forge.EndCompleted, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.e.Pattern = tc.hit
			got, why := forge.Judge(tc.e)
			if got != tc.want {
				t.Errorf("Judge = %s (%s), want %s", got, why, tc.want)
			}
			if said := strings.Contains(why, "rank 3") && strings.Contains(why, tc.hit.Name) && strings.Contains(why, tc.hit.Line); said != tc.said {
				t.Errorf("words: %s", why)
			}
		})
	}
}

func TestAnEndForWhichNoRetryHelpsIsNotRetried(t *testing.T) {
	for _, r := range []forge.EndReason{forge.EndKnownFailure, forge.EndCUDAOOM} {
		if r.Disposition() != forge.DisposeFail || r.Infrastructure() {
			t.Errorf("%s: %s", r, r.Disposition())
		}
	}
}
