package daemon

import (
	"context"
	"slices"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
)

// holding is an executor that has two checkpoints held for other runs, and says which it was not asked to keep.
type holding struct {
	*executortest.Fake
	removed []string
}

func (h *holding) PruneHeld(_ context.Context, runDir string, needed []string) (int, error) {
	h.removed = nil
	for _, name := range []string{"0001-checkpoint-5-aa", "0001-checkpoint-9-bb"} {
		if path := runDir + "/held/" + name; !slices.Contains(needed, path) {
			h.removed = append(h.removed, name)
		}
	}
	return len(h.removed), nil
}

func TestWhatARunBeginsFromIsHeldUntilAWeekAfterItsEnd(t *testing.T) {
	x := &holding{}
	r := start(t, 1, func(o *Options) {
		x.Fake = o.Clusters[0].Executor.(*executortest.Fake)
		o.Clusters[0].Executor, o.Clusters[0].Files = x, x
	})
	run := r.submit(t, script(1))
	key := r.launched(t, run.ID, 1)
	r.fake.Start(key)
	r.fake.Save(forge.Checkpoint{Run: run.ID, Attempt: 1, Step: 5, World: 1})
	r.await(t, run.ID, "saved", func(x forge.Run) bool { return x.SavedStep == 5 })
	attempts, err := r.db.AttemptsOf(t.Context(), run.ID)
	if err != nil || len(attempts) != 1 {
		t.Fatalf("%+v, %v", attempts, err)
	}
	branched := r.submit(t, script(1, func(s *forge.RunSpec) {
		s.ResumeFrom = &forge.BranchPoint{Run: run.ID, Number: run.Number, Attempt: 1, Step: 5, Path: attempts[0].RunDir + "/held/0001-checkpoint-5-aa", SHA256: "aa"}
	}))
	removed := func(after time.Duration) []string {
		t.Helper()
		if err := r.pruneHeld(t.Context(), time.Now().Add(after)); err != nil {
			t.Fatal(err)
		}
		return x.removed
	}
	const unneeded, held = "0001-checkpoint-9-bb", "0001-checkpoint-5-aa"
	if got := removed(100 * heldLife); !slices.Equal(got, []string{unneeded}) {
		t.Errorf("while the run waits: %q", got)
	}
	if _, err := (runs{r.Daemon}).CancelRun(t.Context(), r.op, string(branched.ID), forge.CancelNow); err != nil {
		t.Fatal(err)
	}
	r.await(t, branched.ID, "over", func(x forge.Run) bool { return x.State.Terminal() })
	if got := removed(heldLife - time.Hour); !slices.Equal(got, []string{unneeded}) {
		t.Errorf("in the week after its end: %q", got)
	}
	if got := removed(heldLife + time.Hour); !slices.Contains(got, held) {
		t.Errorf("after that week: %q", got)
	}
}
