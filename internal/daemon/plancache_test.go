package daemon

import (
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

// fullOf is a daemon whose one slot is taken, with so many runs behind.
func fullOf(t *testing.T, n int) (*rig, []forge.Run) {
	t.Helper()
	r := start(t, 1)
	first := r.submit(t, script(1, func(s *forge.RunSpec) { s.Priority = forge.MaxPriority }))
	r.fake.Start(r.launched(t, first.ID, 1))
	r.await(t, first.ID, "running", inState(forge.RunRunning)) // and nothing moves any more
	waiting := make([]forge.Run, n)
	errs := make(chan error, n)
	for i := range n {
		go func() {
			var err error
			waiting[i], err = r.db.For(r.op).SubmitRun(t.Context(), store.NewRun{Spec: script(1)})
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	return r, waiting
}

func TestWhatIsAskedTwiceIsPlannedOnce(t *testing.T) {
	r, waiting := fullOf(t, 3)
	now := time.Now()
	o := r.outlooks.of(r.world, r.policy(), now)
	if r.outlooks.of(r.world, r.policy(), now) != o || r.outlooks.about(waiting[0], r.world, r.policy(), now) != o {
		t.Error("a plan was made again though nothing happened")
	}
	if r.outlooks.of(r.world, r.policy(), now.Add(outlookAge)) == o {
		t.Error("a plan answers for ever; the times in it move")
	}
	t.Run("a short queue is planned anew after each change", func(t *testing.T) {
		o := r.outlooks.of(r.world, r.policy(), now)
		r.submit(t, script(1))
		if r.outlooks.about(waiting[0], r.world, r.policy(), now) == o {
			t.Error("the reason is of before the change")
		}
	})
}

func TestInALongQueueAReasonMayBeAnInstantOldUnlessTheRunHasChanged(t *testing.T) {
	r, waiting := fullOf(t, longQueue)
	now := time.Now()
	o := r.outlooks.of(r.world, r.policy(), now)
	fresh := r.submit(t, script(1))
	if r.outlooks.about(waiting[0], r.world, r.policy(), now) != o {
		t.Error("each question makes a plan while runs are submitted")
	}
	if got := r.outlooks.about(fresh, r.world, r.policy(), now); got == o || !got.knows(fresh) {
		t.Error("a run that was just submitted is not known")
	}
	o = r.outlooks.of(r.world, r.policy(), now)
	if _, err := (holds{r.Daemon}).HoldRun(t.Context(), r.op, string(waiting[0].ID), "the data is late"); err != nil {
		t.Fatal(err)
	}
	if w, err := (rundata{r.Daemon}).Why(t.Context(), r.op, string(waiting[0].ID)); err != nil || w.Code != forge.HoldUser {
		t.Errorf("a run that was just held waits: %+v, %v", w, err)
	}
	if r.outlooks.about(waiting[1], r.world, r.policy(), o.snap.Now.Add(planMaxGap)) == o {
		t.Error("the reason is older than a plan ever is")
	}
}

func TestTheHeadOfTheQueueIsItsBeginning(t *testing.T) {
	r, _ := fullOf(t, 9)
	all, err := rundata{r.Daemon}.Queue(t.Context(), r.op, 1000)
	if err != nil || len(all.Entries) != 10 || all.More != 0 {
		t.Fatalf("%+v, %v", all, err)
	}
	for i, e := range all.Entries {
		if e.Position != i || (e.Why == "") != (i == 0) {
			t.Errorf("entry %d is %+v", i, e)
		}
	}
	head, err := rundata{r.Daemon}.Queue(t.Context(), r.op, 4)
	if err != nil || len(head.Entries) != 4 || head.More != 6 {
		t.Fatalf("%+v, %v", head, err)
	}
	for i, e := range head.Entries {
		if e.Start, all.Entries[i].Start = nil, nil; e != all.Entries[i] { // expected starts may have moved by then
			t.Errorf("entry %d is %+v, in the whole %+v", i, e, all.Entries[i])
		}
	}
	if none, err := (rundata{r.Daemon}).Queue(t.Context(), forge.Principal{Tenant: "another"}, 4); err != nil || len(none.Entries) != 0 || none.More != 0 ||
		none.Others != (api.OthersLoad{Waiting: 9, Running: 1, GPUs: 1}) {
		t.Errorf("another tenant sees %+v, %v", none, err)
	}
}
