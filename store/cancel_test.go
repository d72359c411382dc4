package store_test

import (
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

func TestRequestCancel(t *testing.T) {
	t.Run("a run that holds nothing is cancelled at once", func(t *testing.T) {
		db := storetest.Open(t)
		acme := storetest.Tenant(t, db, "acme")
		storetest.Submit(t, acme, storetest.Spec())
		run, err := acme.RequestCancel(ctx, "1", forge.CancelTerm)
		must(t, err)
		if run.State != forge.RunCancelled || run.Reason != forge.EndCancelled || run.EndedAt.IsZero() {
			t.Fatalf("got %+v", run)
		}
		_, err = acme.RequestCancel(ctx, "1", forge.CancelNow)
		wantKind(t, err, forge.KindPrecondition)
	})
	t.Run("the intent gets stronger with each mode and never weaker", func(t *testing.T) {
		s := running(t)
		for _, step := range []struct {
			mode   forge.CancelMode
			cancel forge.CancelMode
			intent forge.Intent
		}{
			{forge.CancelSave, forge.CancelSave, forge.IntentCheckpointUser},
			{forge.CancelTerm, forge.CancelTerm, forge.IntentCancel},
			{forge.CancelSave, forge.CancelTerm, forge.IntentCancel},
			{forge.CancelNow, forge.CancelNow, forge.IntentKill},
			{forge.CancelTerm, forge.CancelNow, forge.IntentKill},
		} {
			run, err := s.acme.RequestCancel(ctx, "1", step.mode)
			must(t, err)
			_, a := s.reload(t)
			if run.State != forge.RunRunning || run.Cancel != step.cancel || a.Intent != step.intent {
				t.Fatalf("after %s: run %s, cancel %s, intent %s; want %s, %s", step.mode, run.State, run.Cancel, a.Intent, step.cancel, step.intent)
			}
		}
		if n := eventTypes(t, s)[forge.EventRunCancelAsked]; n != 3 {
			t.Fatalf("got %d events, want one for each request that changed something", n)
		}
	})
	t.Run("whoever reports the weaker signal done does not lose the stronger one", func(t *testing.T) {
		s := running(t)
		_, err := s.acme.RequestCancel(ctx, "1", forge.CancelSave)
		must(t, err)
		weak := storetest.Row(t, s.db, s.a, store.OutboxSignal)
		must(t, s.db.OutboxTried(ctx, weak))
		_, err = s.acme.RequestCancel(ctx, "1", forge.CancelNow)
		must(t, err)
		must(t, s.db.OutboxDone(ctx, weak))
		rows, err := s.db.Outbox(ctx)
		must(t, err)
		if len(rows) != 1 || rows[0].Intent != forge.IntentKill || rows[0].Tries != 0 {
			t.Fatalf("got outbox %+v", rows)
		}
	})
	t.Run("a mode that does not exist is refused by field", func(t *testing.T) {
		s := running(t)
		for _, mode := range []forge.CancelMode{"", "softly"} {
			_, err := s.acme.RequestCancel(ctx, "1", mode)
			wantKind(t, err, forge.KindInvalid)
		}
	})
}
