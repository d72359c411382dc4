package forge_test

import (
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
