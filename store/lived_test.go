package store_test

import (
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

func TestWhatOthersAreJudgedByIsReadBack(t *testing.T) {
	db := storetest.Open(t)
	acme := storetest.Tenant(t, db, "acme")
	storetest.Nodes(t, db, storetest.Node("n1", 8))
	began := time.Now()
	spec := storetest.Spec(storetest.Gang(1, 2), func(s *forge.RunSpec) { s.Base = &forge.InputRef{Name: "tiny@1", ID: "01B", SHA256: "bb", Path: "/b"} })

	twice := storetest.Submit(t, acme, spec)
	for _, next := range []forge.RunState{forge.RunPending, forge.RunCompleted} {
		a := storetest.Place(t, db, twice, "n1", 0, 1)
		storetest.Running(t, db, a)
		if next == forge.RunPending {
			must(t, db.RecordProgress(ctx, store.Progress{Run: a.Run, Attempt: a.Number, Stream: forge.StreamMetrics, Next: 9, TotalSteps: 50, At: began, Rows: []forge.MetricRow{
				{Step: 1, Time: began}, {Step: 2, Time: began.Add(time.Second)}, {Step: 3, Time: began.Add(2 * time.Second)}}}))
			storetest.Finish(t, db, a, forge.EndCheckpointedPreempt, next)
			past, err := db.PastAttempts(ctx)
			must(t, err)
			if len(past) != 1 || past[0].Run != twice.ID || past[0].Number != 1 || past[0].ExitedAt.IsZero() {
				t.Errorf("past attempts %+v", past)
			}
			continue
		}
		storetest.Finish(t, db, a, forge.EndCompleted, next)
	}
	never := storetest.Submit(t, acme, spec)
	_, err := acme.RequestCancel(ctx, string(never.ID), forge.CancelNow)
	must(t, err)
	storetest.Submit(t, acme, spec) // it waits

	lived, err := db.RunsLived(ctx, began.Add(-time.Hour), 10)
	must(t, err)
	if len(lived) != 2 || lived[0].Run != never.ID || lived[1].Run != twice.ID {
		t.Fatalf("lived %+v", lived)
	}
	if l := lived[0]; l.Worked != 0 || l.EndedAt.IsZero() {
		t.Errorf("one that never ran: %+v", l)
	}
	attempts, err := db.AttemptsOf(ctx, twice.ID)
	must(t, err)
	var worked time.Duration
	for _, a := range attempts {
		worked += a.ExitedAt.Sub(a.StartedAt)
	}
	if l := lived[1]; l.Worked != worked || worked <= 0 || l.Tenant != twice.Tenant || l.Recipe != spec.Recipe || l.Base != "tiny@1" || l.GPUs != 2 || l.TotalSteps != 50 || !l.SubmittedAt.Equal(twice.SubmittedAt) {
		t.Errorf("one that ran twice, %s in all: %+v", worked, l)
	}
	if some, err := db.RunsLived(ctx, began.Add(-time.Hour), 1); err != nil || len(some) != 1 || some[0].Run != never.ID {
		t.Errorf("the newest alone: %+v, %v", some, err)
	}
	if none, err := db.RunsLived(ctx, time.Now().Add(time.Hour), 10); err != nil || len(none) != 0 {
		t.Errorf("since a time to come: %+v, %v", none, err)
	}
	if past, err := db.PastAttempts(ctx); err != nil || len(past) != 0 {
		t.Errorf("past attempts of runs that have ended: %+v, %v", past, err)
	}
	steps, err := db.LastSteps(ctx, twice.ID, 2)
	must(t, err)
	if len(steps) != 2 || steps[0].Step != 2 || steps[1].Step != 3 || steps[1].Attempt != 1 || !steps[1].Time.Equal(began.Add(2*time.Second)) {
		t.Errorf("steps %+v", steps)
	}
}
