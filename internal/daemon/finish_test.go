package daemon

import (
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
)

func TestAnAttemptThatNeverStartsIsNotCreditedWithTheCheckpointsOfThoseBeforeIt(t *testing.T) {
	r := start(t, 1)
	run := r.submit(t, script(1))
	key := r.launched(t, run.ID, 1)
	r.fake.Start(key)
	r.fake.Save(forge.Checkpoint{Run: run.ID, Attempt: 1, Step: 40})
	r.await(t, run.ID, "saved", func(x forge.Run) bool { return x.SavedStep == 40 })
	r.fake.Lose(key)
	for n := 2; n <= 1+DefaultFruitlessLimit; n++ {
		r.fake.Lose(r.launched(t, run.ID, n))
	}
	got := r.await(t, run.ID, "held, or tried once more", func(x forge.Run) bool { return x.Hold != nil || x.Attempt > 1+DefaultFruitlessLimit })
	if got.Hold == nil || got.Fruitless != DefaultFruitlessLimit {
		t.Errorf("after attempt %d it counts %d fruitless ones, hold %v", got.Attempt, got.Fruitless, got.Hold)
	}
}

func TestAnEndOnRequestWithoutACheckpointDoesNotClaimToHaveSaved(t *testing.T) {
	r := start(t, 1)
	run := r.submit(t, script(1))
	key := r.launched(t, run.ID, 1)
	r.fake.Start(key)
	r.await(t, run.ID, "running", inState(forge.RunRunning))
	if _, err := r.db.For(r.op).RequestCancel(t.Context(), string(run.ID), forge.CancelSave); err != nil {
		t.Fatal(err)
	}
	r.fake.Exit(key, executortest.Ending{Cause: forge.StopIntent}, forge.ExitCheckpointed)
	r.await(t, run.ID, "cancelled", inState(forge.RunCancelled))
	as, err := r.db.AttemptsOf(t.Context(), run.ID)
	if err != nil || len(as) != 1 || !strings.Contains(as[0].Detail, "no checkpoint of this attempt verifies") {
		t.Errorf("%+v, %v", as, err)
	}
}
