package daemon

import (
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
)

func TestAnInterruptedRunGoesOnByItselfFromWhatItSaved(t *testing.T) {
	for as, want := range map[forge.InterruptAs]struct {
		signal forge.SignalKind
		cause  forge.StopCause // what the shim records then
		reason forge.EndReason
	}{
		forge.InterruptPreempt: {forge.SignalCheckpoint, forge.StopIntent, forge.EndCheckpointedPreempt},
		forge.InterruptTimeout: {forge.SignalLimit, forge.StopTimeLimit, forge.EndCheckpointedLimit},
	} {
		t.Run(string(as), func(t *testing.T) {
			r := start(t, 1)
			run := r.submit(t, script(1))
			key := r.running(t, run)
			if _, err := (runs{r.Daemon}).InterruptRun(t.Context(), r.op, "1", as); err != nil {
				t.Fatal(err)
			}
			r.await(t, run.ID, "asked", func(forge.Run) bool { return slices.Equal(r.fake.Signals(key), []forge.SignalKind{want.signal}) })
			r.fake.Save(forge.Checkpoint{Run: run.ID, Attempt: 1, Step: 7})
			r.fake.Exit(key, executortest.Ending{Cause: want.cause}, forge.ExitCheckpointed)
			got := r.await(t, run.ID, "in its second attempt", func(x forge.Run) bool { return x.Attempt == 2 })
			if got.Reason != want.reason || got.Retries != 0 || got.Fruitless != 0 || got.SavedStep != 7 {
				t.Errorf("%+v; want %s", got, want.reason)
			}
			r.launched(t, run.ID, 2)
			if s := r.world.snapshot(time.Now()); len(s.Active) != 1 || s.Active[0].Preempted != 0 {
				t.Errorf("it counts as one that made room, and would be spared: %+v", s.Active)
			}
			r.sameWorld(t)
		})
	}
}

func TestWhereARankRuns(t *testing.T) {
	placement := []forge.Share{{Node: "a", Slots: []int{0, 1}}, {Node: "b", Slots: []int{4, 5, 6}}}
	for rank, want := range map[int]forge.NodeName{0: "a", 1: "a", 2: "b", 4: "b"} {
		if s, err := shareOfRank(forge.LaunchRank, placement, rank); err != nil || s.Node != want {
			t.Errorf("rank %d: %+v, %v", rank, s, err)
		}
	}
	if s, err := shareOfRank(forge.LaunchNode, placement, 1); err != nil || s.Node != "b" {
		t.Errorf("one rank per node: %+v, %v", s, err)
	}
	if _, err := shareOfRank(forge.LaunchRank, placement, 5); forge.KindOf(err) != forge.KindInvalid || !strings.Contains(err.Error(), "ranks 0 to 4") {
		t.Error(err)
	}
	if got := jobOwner("slurm:ada:/scratch/ada/R#1"); got != "ada" {
		t.Errorf("owner %q", got)
	}
	if got := jobOwner("slurm::/scratch/R#1"); got == "" {
		t.Error("a job of forged's own belongs to nobody")
	}
}

func TestAShellIsRefusedWithASentenceWhereThereIsNone(t *testing.T) {
	r := start(t, 1)
	run := r.submit(t, script(1))
	key := r.launched(t, run.ID, 1)
	_, err := runs{r.Daemon}.RunSeat(t.Context(), r.op, "1", 0)
	if forge.KindOf(err) != forge.KindPrecondition || !strings.Contains(forge.HintOf(err), "forgectl run why 1") {
		t.Errorf("%v (%s)", err, forge.HintOf(err))
	}
	r.fake.Start(key)
	r.await(t, run.ID, "running", inState(forge.RunRunning))
	_, err = runs{r.Daemon}.RunSeat(t.Context(), r.op, "1", 0)
	if forge.KindOf(err) != forge.KindPrecondition || !strings.Contains(err.Error(), "no batch system") || !strings.Contains(forge.HintOf(err), "log in to n1") {
		t.Errorf("%v (%s)", err, forge.HintOf(err))
	}
}
