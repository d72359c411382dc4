package slurm

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

func claimOf(holder string) *rundir.Claim {
	return &rundir.Claim{By: "shim", Holder: holder, At: noon.Add(-time.Minute)}
}

// world is a gang on two nodes with one rank each, at a moment.
type world struct {
	sight
}

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func aGang() *world {
	return &world{sight{id: "slurm::/r/R#1", now: noon, jobAt: noon.Add(-time.Second), heard: noon.Add(-time.Second), records: Records{
		Launched: &Launched{PerNode: []int{1, 1}, Gang: forge.Gang{Nodes: 2, GPUsPerNode: 1, CPUsPerGPU: 2}, At: noon.Add(-time.Hour)},
		Live:     map[int]rundir.Live{}, Exits: map[int]rundir.Exit{},
	}}}
}

func (w *world) job(state, reason string) *world {
	w.sight.job = &entry{ID: "7", Name: "forge-hpc-R.1", State: state, Reason: reason, Nodes: "n[3-4]", Submitted: noon.Add(-time.Hour), ByUID: -1}
	if w.sight.job.phase() == phaseWaiting {
		w.sight.job.Nodes = ""
	}
	if w.sight.job.phase() == phaseOver {
		w.endSeen = noon.Add(-time.Second)
	}
	return w
}

func (w *world) claimed() *world {
	w.records.Claim = claimOf("7.0")
	return w
}

func (w *world) live() *world {
	for i := range 2 {
		w.records.Live[i] = rundir.Live{StartedAt: noon.Add(-time.Minute), Node: forge.NodeName([]string{"n3", "n4"}[i]), Slots: []int{i}}
	}
	return w
}

// exit is the last word of a node's shim.
func (w *world) exit(node int, cause forge.StopCause, x forge.RankExit) *world {
	x.Rank, x.EndedAt = node, noon.Add(-10*time.Second)
	w.records.Exits[node] = rundir.Exit{Cause: cause, ByUID: -1, Ranks: []forge.RankExit{x}, EndedAt: x.EndedAt}
	w.endSeen = noon.Add(-5 * time.Second)
	return w
}

func (w *world) after(d time.Duration) *world {
	w.now = w.now.Add(d)
	return w
}

func TestEveryStateOfSlurmIsKnown(t *testing.T) {
	for state, want := range map[string]struct {
		waiting forge.ObservState // before any shim has claimed
		claimed forge.ObservState // after, all ranks being live
		cause   forge.StopCause
		reason  forge.EndReason
	}{
		"PENDING":       {forge.ObservQueued, forge.ObservRunning, "", ""},
		"REQUEUED":      {forge.ObservQueued, forge.ObservRunning, "", ""},
		"REQUEUE_HOLD":  {forge.ObservQueued, forge.ObservRunning, "", ""},
		"REQUEUE_FED":   {forge.ObservQueued, forge.ObservRunning, "", ""},
		"SPECIAL_EXIT":  {forge.ObservQueued, forge.ObservRunning, "", ""},
		"RESV_DEL_HOLD": {forge.ObservQueued, forge.ObservRunning, "", ""},
		"CONFIGURING":   {forge.ObservStarting, forge.ObservRunning, "", ""},
		"RUNNING":       {forge.ObservStarting, forge.ObservRunning, "", ""},
		"SUSPENDED":     {forge.ObservStarting, forge.ObservRunning, "", ""},
		"RESIZING":      {forge.ObservStarting, forge.ObservRunning, "", ""},
		"SIGNALING":     {forge.ObservStarting, forge.ObservRunning, "", ""},
		"STOPPED":       {forge.ObservStarting, forge.ObservRunning, "", ""},
		"STAGE_OUT":     {forge.ObservStarting, forge.ObservRunning, "", ""},
		"POWER_UP_NODE": {forge.ObservStarting, forge.ObservRunning, "", ""},
		"UPDATE_DB":     {forge.ObservStarting, forge.ObservRunning, "", ""},
		"COMPLETING":    {forge.ObservStarting, forge.ObservStopping, "", ""},

		"COMPLETED":     {forge.ObservAbsent, forge.ObservLost, "", forge.EndExecutorLost},
		"FAILED":        {forge.ObservAbsent, forge.ObservLost, "", forge.EndExecutorLost},
		"REVOKED":       {forge.ObservAbsent, forge.ObservLost, "", forge.EndExecutorLost},
		"EXPIRED":       {forge.ObservAbsent, forge.ObservLost, "", forge.EndExecutorLost},
		"NODE_FAIL":     {forge.ObservAbsent, forge.ObservLost, forge.StopNodeLost, forge.EndNodeLost},
		"BOOT_FAIL":     {forge.ObservAbsent, forge.ObservLost, forge.StopNodeLost, forge.EndNodeLost},
		"LAUNCH_FAILED": {forge.ObservAbsent, forge.ObservLost, forge.StopNodeLost, forge.EndNodeLost},
		"RECONFIG_FAIL": {forge.ObservAbsent, forge.ObservLost, forge.StopNodeLost, forge.EndNodeLost},
		"PREEMPTED":     {forge.ObservAbsent, forge.ObservLost, forge.StopPreempted, forge.EndCheckpointedPreempt},
		"TIMEOUT":       {forge.ObservAbsent, forge.ObservLost, forge.StopTimeLimit, forge.EndTimeLimit},
		"DEADLINE":      {forge.ObservAbsent, forge.ObservLost, forge.StopTimeLimit, forge.EndTimeLimit},
		"OUT_OF_MEMORY": {forge.ObservAbsent, forge.ObservLost, forge.StopOOM, forge.EndHostOOM},
		"CANCELLED":     {forge.ObservAbsent, forge.ObservLost, forge.StopCancelled, forge.EndCancelledBy},
	} {
		t.Run(state, func(t *testing.T) {
			w := aGang().job(state, "")
			o, n := judge(w.sight)
			if want.waiting == forge.ObservAbsent { // absence is made, and then it is absent for the same reason
				if n != needRevoke || o.Released {
					t.Fatalf("before a claim: %+v, need %d; want absence to be made first", o, n)
				}
				w.records.Claim = &rundir.Claim{By: "forged", Revoked: true}
				o, n = judge(w.sight)
				if state == "CANCELLED" { // with its nodes given
					want.cause = forge.StopWithdrawn
				}
				if want.cause != "" && o.Cause != want.cause {
					t.Errorf("absent for %q, want %q", o.Cause, want.cause)
				}
			}
			if o.State != want.waiting || n != needNothing {
				t.Errorf("before a claim: %s, need %d; want %s", o.State, n, want.waiting)
			}
			if state == "CANCELLED" {
				want.cause = forge.StopCancelled
			}
			o, _ = judge(aGang().job(state, "").claimed().live().after(settleWithin).sight)
			if o.State != want.claimed || o.Released != (want.claimed == forge.ObservLost) {
				t.Errorf("after a claim: %s, released %v; want %s", o.State, o.Released, want.claimed)
			}
			if want.reason == "" {
				return
			}
			if o.Cause != want.cause && want.cause != "" {
				t.Errorf("cause %q, want %q", o.Cause, want.cause)
			}
			if reason, why := forge.Judge(forge.Evidence{State: o.State, Cause: o.Cause, Detail: o.Detail, Exits: o.Exits, Ranks: 2, ByUID: o.ByUID}); reason != want.reason && state != "COMPLETED" && state != "FAILED" {
				t.Errorf("judged %s (%s), want %s", reason, why, want.reason)
			}
		})
	}
	t.Run("a word that is not known changes nothing", func(t *testing.T) {
		if o, n := judge(aGang().job("MELTING", "").claimed().live().sight); o.State != forge.ObservRunning || n != needNothing {
			t.Errorf("%+v, need %d", o, n)
		}
		if o, n := judge(aGang().job("MELTING", "").sight); o.State != forge.ObservUnknown || o.Released || n != needNothing {
			t.Errorf("%+v, need %d", o, n)
		}
	})
}

func TestWhatEndedIt(t *testing.T) {
	ok := forge.RankExit{Node: "n3"}
	failed := forge.RankExit{Node: "n3", Code: 3}
	saved := forge.RankExit{Node: "n3", Code: forge.ExitCheckpointed}
	killed := forge.RankExit{Node: "n3", Code: 137, Signal: 9}
	ended := forge.RankExit{Node: "n3", Code: 143, Signal: 15, ByShim: true}
	for _, c := range []struct {
		name   string
		w      *world
		state  forge.ObservState
		reason forge.EndReason
		detail string
		ask    bool // not yet: Slurm is asked first
	}{
		{"good ends need no word from Slurm", aGang().job("RUNNING", "").claimed().live().exit(0, forge.StopRankExit, ok).exit(1, forge.StopRankExit, ok),
			forge.ObservExited, forge.EndCompleted, "", false},
		{"a rank's failure is its own", aGang().job("RUNNING", "").claimed().live().exit(0, forge.StopRankExit, failed).exit(1, forge.StopRankExit, ended),
			forge.ObservExited, forge.EndUserExit, "", false},
		{"a TERM from outside waits for Slurm to explain it", aGang().job("RUNNING", "").claimed().live().exit(0, forge.StopSignal, saved).exit(1, forge.StopSignal, saved),
			forge.ObservStopping, "", "", true},
		{"preempted after saving", aGang().job("PREEMPTED", "").claimed().live().exit(0, forge.StopSignal, saved).exit(1, forge.StopSignal, saved),
			forge.ObservExited, forge.EndCheckpointedPreempt, "PREEMPTED", false},
		{"a TERM that the ranks got before their shim did", aGang().job("PREEMPTED", "").claimed().live().exit(0, forge.StopRankExit, saved).exit(1, forge.StopRankExit, saved),
			forge.ObservExited, forge.EndCheckpointedPreempt, "PREEMPTED", false},
		{"saved at the limit", aGang().job("TIMEOUT", "TimeLimit").claimed().live().exit(0, forge.StopTimeLimit, saved).exit(1, forge.StopTimeLimit, saved),
			forge.ObservExited, forge.EndCheckpointedLimit, "", false},
		{"killed at the limit", aGang().job("TIMEOUT", "TimeLimit").claimed().live().after(time.Minute), forge.ObservLost, forge.EndTimeLimit, "TimeLimit", false},
		{"a node that fails takes the others with it", aGang().job("NODE_FAIL", "NodeDown").claimed().live().exit(0, forge.StopSignal, ended),
			forge.ObservExited, forge.EndNodeLost, "no last word from n4", false},
		{"a rank that noticed that its peer was gone", aGang().job("NODE_FAIL", "NodeDown").claimed().live().exit(0, forge.StopRankExit, failed),
			forge.ObservExited, forge.EndNodeLost, "n4", false},
		{"killed for its memory", aGang().job("OUT_OF_MEMORY", "OutOfMemory").claimed().live().exit(0, forge.StopRankExit, killed).exit(1, forge.StopRankExit, ended),
			forge.ObservExited, forge.EndHostOOM, "OUT_OF_MEMORY", false},
		{"a shim that could not start on one node", aGang().job("FAILED", "NonZeroExitCode").claimed().exit(0, forge.StopSignal, ended).after(settleWithin),
			forge.ObservExited, forge.EndLaunchFailed, "no last word from n4", false},
		{"records may come late over a network filesystem", aGang().job("FAILED", "").claimed().live(), forge.ObservStopping, "", "", false},
		{"an answer of before the end explains nothing", func() *world {
			w := aGang().job("RUNNING", "").claimed().live().exit(0, forge.StopSignal, ended).exit(1, forge.StopSignal, ended).after(2 * explainWithin)
			w.heard = w.endSeen.Add(-time.Second)
			return w
		}(), forge.ObservStopping, "", "", true},
		{"while epilogs run Slurm does not say why", func() *world {
			w := aGang().job("COMPLETING", "").claimed().live().exit(0, forge.StopSignal, saved).exit(1, forge.StopSignal, saved).after(4 * explainWithin)
			w.heard = w.now.Add(-time.Second)
			return w
		}(), forge.ObservStopping, "", "", true},
		{"but that it preempted a job it says at once", func() *world {
			w := aGang().job("COMPLETING", "").claimed().live().exit(0, forge.StopSignal, saved).exit(1, forge.StopSignal, saved)
			w.sight.job.Preempted = noon.Add(-20 * time.Second)
			return w
		}(), forge.ObservExited, forge.EndCheckpointedPreempt, "preempted by Slurm", false},
		{"a stop that forged asked for, on a node whose clock is behind", func() *world {
			w := aGang().job("RUNNING", "").claimed().live().exit(0, forge.StopRankExit, saved).exit(1, forge.StopRankExit, saved)
			w.records.Stop = &rundir.Stop{Signal: forge.SignalCheckpoint, At: noon.Add(-8 * time.Second)}
			return w
		}(), forge.ObservExited, "", "", false},
		{"in the end it is judged by what there is", aGang().job("RUNNING", "").claimed().live().exit(0, forge.StopSignal, ended).exit(1, forge.StopSignal, ended).after(explainAtMost),
			forge.ObservExited, forge.EndKilledExternally, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, n := judge(c.w.sight)
			if o.State != c.state || (n == needSlurm) != c.ask {
				t.Fatalf("%s (%s, %q), need %d; want %s", o.State, o.Cause, o.Detail, n, c.state)
			}
			if !strings.Contains(o.Detail, c.detail) {
				t.Errorf("detail %q, want %q in it", o.Detail, c.detail)
			}
			if named := strings.Contains(o.Detail, "no last word from n4"); named != slices.Equal(o.Suspects, []forge.NodeName{"n4"}) {
				t.Errorf("suspects %v beside %q", o.Suspects, o.Detail)
			}
			if c.reason == "" {
				return
			}
			if reason, why := forge.Judge(forge.Evidence{State: o.State, Cause: o.Cause, Detail: o.Detail, Exits: o.Exits, Ranks: 2, ByUID: o.ByUID, OutputOK: true}); reason != c.reason {
				t.Errorf("judged %s (%s), want %s", reason, why, c.reason)
			}
		})
	}
}

func TestWhoCancelledIt(t *testing.T) {
	t.Run("the accounting says it a little later, which is waited for", func(t *testing.T) {
		w := aGang().job("CANCELLED", "")
		w.books = true
		if o, n := judge(w.sight); o.State != forge.ObservQueued || n != needSlurm {
			t.Errorf("%+v, need %d", o, n)
		}
		w.sight.job.ByUID = 1000
		if _, n := judge(w.sight); n != needRevoke {
			t.Errorf("need %d", n)
		}
		w.claimed().live().after(settleWithin)
		if o, _ := judge(w.sight); o.Cause != forge.StopCancelled || o.ByUID != 1000 || !strings.Contains(o.Detail, "uid 1000") {
			t.Errorf("%+v", o)
		}
	})
	t.Run("where nobody can say who did, nobody is named", func(t *testing.T) {
		waited := aGang().job("CANCELLED", "")
		waited.sight.job.Nodes = ""
		for _, w := range []*world{waited, aGang().job("CANCELLED", "").claimed().live().after(settleWithin)} {
			o, _ := judge(w.sight)
			reason, why := forge.Judge(forge.Evidence{State: forge.ObservLost, Cause: o.Cause, Detail: o.Detail, Ranks: 2, ByUID: o.ByUID})
			if o.ByUID != -1 || reason != forge.EndCancelledBy || strings.Contains(why, "uid") {
				t.Errorf("by %d: %s (%s)", o.ByUID, reason, why)
			}
		}
	})
	t.Run("Slurm did, of a job that had its nodes and had not begun: the run goes on in another", func(t *testing.T) {
		w := aGang().job("CANCELLED", "")
		w.records.Claim = &rundir.Claim{Revoked: true}
		for _, by := range []int{-1, 0} {
			w.sight.job.ByUID = by
			o, _ := judge(w.sight)
			if reason, why := forge.Judge(forge.Evidence{State: o.State, Cause: o.Cause, Detail: o.Detail, Ranks: 2, ByUID: o.ByUID}); reason != forge.EndWithdrawn || !strings.Contains(why, "job 7") {
				t.Errorf("by %d: %s (%s)", by, reason, why)
			}
		}
		w.sight.job.ByUID = 1000
		if o, _ := judge(w.sight); o.Cause != forge.StopCancelled {
			t.Errorf("a person's cancel is not believed: %+v", o)
		}
	})
	t.Run("we did, since a node of it was gone and Slurm had not noticed: the run goes on elsewhere", func(t *testing.T) {
		w := aGang().job("CANCELLED", "").claimed().live().exit(0, forge.StopRankExit, forge.RankExit{}).after(settleWithin)
		x := w.records.Exits[0]
		x.Gone = []int{1}
		w.records.Exits[0] = x
		o, _ := judge(w.sight)
		if reason, why := forge.Judge(forge.Evidence{State: o.State, Cause: o.Cause, Detail: o.Detail, Exits: o.Exits, Ranks: 2, ByUID: o.ByUID}); reason != forge.EndNodeLost || len(o.Suspects) != 1 || o.Suspects[0] != "n4" {
			t.Errorf("%s (%s), suspects %v", reason, why, o.Suspects)
		}
	})
	t.Run("we did, and then it is no stranger", func(t *testing.T) {
		w := aGang().job("CANCELLED", "").claimed().live().after(settleWithin)
		w.books, w.records.Stop = true, &rundir.Stop{Signal: forge.SignalKill, At: noon.Add(-time.Minute)}
		if o, _ := judge(w.sight); o.Cause != forge.StopIntent {
			t.Errorf("%+v", o)
		}
	})
	t.Run("Slurm did, for want of what it depends on", func(t *testing.T) {
		w := aGang().job("CANCELLED", "DependencyNeverSatisfied")
		w.records.Claim = &rundir.Claim{Revoked: true}
		if o, _ := judge(w.sight); o.Cause != forge.StopRefused {
			t.Errorf("%+v", o)
		}
	})
}

func TestSilenceProvesNothing(t *testing.T) {
	silent := func(w *world) *world {
		w.silent = "Slurm has not answered since noon"
		return w
	}
	t.Run("a running attempt is unknown, and holds what it has", func(t *testing.T) {
		if o, _ := judge(silent(aGang().job("RUNNING", "").claimed().live()).sight); o.State != forge.ObservUnknown || o.Released || o.Detail == "" {
			t.Errorf("%+v", o)
		}
	})
	t.Run("the shims' own last words are enough", func(t *testing.T) {
		w := silent(aGang().job("RUNNING", "").claimed().live().exit(0, forge.StopRankExit, forge.RankExit{}).exit(1, forge.StopRankExit, forge.RankExit{}))
		if o, _ := judge(w.sight); o.State != forge.ObservExited || !o.Released {
			t.Errorf("%+v", o)
		}
	})
	t.Run("records that cannot be read are not absent", func(t *testing.T) {
		w := aGang().job("FAILED", "").claimed()
		w.blind = "permission denied"
		if o, n := judge(w.sight); o.State != forge.ObservUnknown || o.Released || n != needNothing {
			t.Errorf("%+v, need %d", o, n)
		}
	})
	t.Run("a job that nobody has seen is unknown", func(t *testing.T) {
		w := aGang()
		if o, n := judge(w.sight); o.State != forge.ObservUnknown || o.Released || n == needRevoke {
			t.Errorf("%+v, need %d", o, n)
		}
		w.records.Batch = &rundir.BatchRecord{JobID: "7"}
		if o, _ := judge(w.sight); o.State != forge.ObservQueued || o.Batch.ID != "7" {
			t.Errorf("handed over: %+v", o)
		}
	})
	t.Run("Slurm's word that there is no such job is proof", func(t *testing.T) {
		w := aGang().claimed().live()
		w.gone, w.endSeen = true, noon
		if o, _ := judge(w.sight); o.State != forge.ObservStopping || o.Released {
			t.Errorf("records may still come: %+v", o)
		}
		if o, _ := judge(w.after(settleWithin).sight); o.State != forge.ObservLost || !o.Released {
			t.Errorf("%+v", o)
		}
	})
}

func TestRequeuedJobIsAnotherStart(t *testing.T) {
	w := aGang().job("PENDING", "BeginTime").claimed().live()
	w.sight.job.Restarts = 1
	o, n := judge(w.sight)
	if o.State != forge.ObservExited || !o.Released || o.Cause != forge.StopPreempted || n != needCancel {
		t.Errorf("%+v, need %d", o, n)
	}
	t.Run("but its first start has to end first", func(t *testing.T) {
		w.sight.job.State = "COMPLETING"
		if o, _ := judge(w.sight); o.Released {
			t.Errorf("%+v", o)
		}
	})
}

// A controller that was killed before it had saved that it started the job.
func TestAJobWhoseStartWasForgottenIsAnotherStart(t *testing.T) {
	forgotten := func(state string, started time.Duration) *world {
		w := aGang().job(state, "").claimed().live()
		w.sight.job.Started = w.records.Claim.At.Add(started)
		return w
	}
	ended := forge.RankExit{Code: forge.ExitCheckpointed}
	for _, c := range []struct {
		name  string
		w     *world
		goes  bool // the attempt is over, and the run goes on
		needs need
	}{
		{"it began anew, and a node cancelled it", forgotten("CANCELLED", 20*time.Second), true, needNothing},
		{"the shims had a last word", forgotten("CANCELLED", 20*time.Second).exit(0, forge.StopSignal, ended).exit(1, forge.StopSignal, ended), true, needNothing},
		{"somebody cancelled what had begun once", forgotten("CANCELLED", -time.Second).after(settleWithin), false, needNothing},
		{"the clocks are a little apart", forgotten("CANCELLED", time.Second).after(settleWithin), false, needNothing},
		{"a person is named for it", func() *world {
			w := forgotten("CANCELLED", 20*time.Second).after(settleWithin)
			w.sight.job.ByUID = 1000
			return w
		}(), false, needNothing},
		{"a daemon of Slurm is", func() *world {
			w := forgotten("CANCELLED", 20*time.Second)
			w.sight.job.ByUID = 0
			return w
		}(), true, needNothing},
		{"it waits for so long after it began that no clock explains it", func() *world {
			w := forgotten("PENDING", time.Hour)
			w.jobAt = w.records.Claim.At.Add(forgottenAfter + time.Second)
			return w
		}(), true, needCancel},
		{"it waits, and its shims are gone", func() *world {
			w := forgotten("PENDING", time.Hour).exit(0, forge.StopSignal, ended).exit(1, forge.StopSignal, ended)
			w.jobAt = w.endSeen.Add(time.Second)
			return w
		}(), true, needCancel},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, n := judge(c.w.sight)
			reason, why := forge.Judge(forge.Evidence{State: o.State, Cause: o.Cause, Detail: o.Detail, Exits: o.Exits, Ranks: 2, ByUID: o.ByUID})
			if !o.Released || n != c.needs || (reason.Disposition() == forge.DisposeRequeue) != c.goes || (reason == forge.EndCancelledBy) == c.goes {
				t.Errorf("%+v, need %d, judged %s (%s)", o, n, reason, why)
			}
			if c.goes != strings.Contains(o.Detail, "had not saved that it ran") {
				t.Errorf("detail %q", o.Detail)
			}
		})
	}
	t.Run("what may be an old answer about a job that has just begun ends nothing", func(t *testing.T) {
		if o, n := judge(forgotten("PENDING", time.Hour).sight); o.State != forge.ObservRunning || n != needNothing {
			t.Errorf("%+v, need %d", o, n)
		}
	})
	t.Run("the accounting is asked first", func(t *testing.T) {
		w := forgotten("CANCELLED", 20*time.Second)
		w.books = true
		if o, _ := judge(w.sight); o.Released {
			t.Errorf("%+v", o)
		}
	})
}

func TestPlacementIsWhereItReallyIs(t *testing.T) {
	if o, _ := judge(aGang().job("PENDING", "").sight); o.Placement != nil {
		t.Errorf("waiting: %+v", o.Placement)
	}
	o, _ := judge(aGang().job("RUNNING", "").sight)
	if len(o.Placement) != 2 || o.Placement[1].Node != "n4" || o.Placement[1].Slots != nil || o.Placement[0].CPUs != 2 {
		t.Errorf("allocated: %+v", o.Placement)
	}
	o, _ = judge(aGang().job("RUNNING", "").claimed().live().sight)
	if len(o.Placement) != 2 || !slices.Equal(o.Placement[1].Slots, []int{1}) {
		t.Errorf("running: %+v", o.Placement)
	}
}

func TestWhatShimsSawOfGPUsComesWithAnObservation(t *testing.T) {
	fault := forge.Finding{Rule: "xid_79", XID: 79, Run: forge.RunElsewhere, Words: "XID 79 on GPU 1"}
	hit := forge.PatternHit{Name: "bus_error", Action: forge.PatternExcludeNode, Rank: 1}
	s := sight{records: Records{Launched: &Launched{PerNode: []int{1, 1}}, Exits: map[int]rundir.Exit{
		0: {Cause: forge.StopRankExit, Detail: "node 1 ended", Ranks: []forge.RankExit{{Node: "n1", Code: 137, ByShim: true}}},
		1: {Cause: forge.StopGPUFault, Detail: fault.Words, GPUFault: &fault, Pattern: &hit, GPUEvents: []forge.GPUEvent{{XID: 79}}, Ranks: []forge.RankExit{{Rank: 1, Node: "n2", Code: 1}}},
	}}}
	sent, err := json.Marshal(s.records) // as the helper of identity as_user does
	if err != nil {
		t.Fatal(err)
	}
	s.records = Records{}
	if err := json.Unmarshal(sent, &s.records); err != nil {
		t.Fatal(err)
	}
	o, _ := judge(s)
	if o.Cause != forge.StopGPUFault || o.GPUFault == nil || o.GPUFault.Node != "n2" || o.GPUFault.XID != 79 || len(o.GPUEvents) != 1 || o.Pattern == nil || o.Pattern.Name != "bus_error" {
		t.Errorf("%+v, %+v", o, o.GPUFault)
	}
	if !o.Released || len(o.Suspects) != 1 || o.Suspects[0] != "n2" {
		t.Errorf("released %v, suspects %v", o.Released, o.Suspects)
	}
}
