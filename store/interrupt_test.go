package store_test

import (
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

func TestInterrupt(t *testing.T) {
	for as, want := range map[forge.InterruptAs]struct{ signal, recorded forge.Intent }{
		forge.InterruptPreempt: {forge.IntentCheckpointPreempt, forge.IntentCheckpointPreempt},
		forge.InterruptTimeout: {forge.IntentCheckpointLimit, forge.IntentNone}, // the shim records the limit
	} {
		t.Run("a running run is asked to save as by "+string(as)+", and nothing is claimed", func(t *testing.T) {
			s := running(t)
			_, err := s.acme.InterruptRun(ctx, "1", as)
			must(t, err)
			rows, err := s.db.Outbox(ctx)
			must(t, err)
			if len(rows) != 1 || rows[0].Kind != store.OutboxSignal || rows[0].Intent != want.signal {
				t.Errorf("outbox %+v, want a signal with %s", rows, want.signal)
			}
			as, err := s.db.AttemptsOf(ctx, s.run.ID)
			must(t, err)
			if as[0].Intent != want.recorded {
				t.Errorf("the attempt has intent %q, want %q", as[0].Intent, want.recorded)
			}
			wantInt(t, s.db, `SELECT count(*) FROM claims`, 0)
			wantInt(t, s.db, `SELECT count(*) FROM events WHERE type = 'run.interrupt_asked' AND attempt = 1`, 1)
		})
	}
	t.Run("a rehearsed preemption is called one, and spares the run from none", func(t *testing.T) {
		s := running(t)
		_, err := s.acme.InterruptRun(ctx, "1", forge.InterruptPreempt)
		must(t, err)
		storetest.Finish(t, s.db, s.a, forge.EndCheckpointedPreempt, forge.RunPending)
		wantInt(t, s.db, `SELECT count(*) FROM events WHERE type = 'run.preempted' AND message LIKE 'run 1 was preempted as a rehearsal, which was asked for; %'`, 1)
		if _, a := s.reload(t); !a.Rehearsal {
			t.Errorf("%+v", a)
		}
		w, err := s.db.World(ctx)
		must(t, err)
		if len(w.Preempted) != 0 {
			t.Errorf("it counts as one that made room: %+v", w.Preempted)
		}
	})
	t.Run("what does not run, or is asked to end already, is not interrupted", func(t *testing.T) {
		db := storetest.Open(t)
		acme := db.For(storetest.Principal(t, db, "acme"))
		storetest.Submit(t, acme, storetest.Spec())
		_, err := acme.InterruptRun(ctx, "1", forge.InterruptPreempt)
		refusedHold(t, err, "forgectl run why 1")

		s := running(t)
		_, err = s.acme.RequestCancel(ctx, "1", forge.CancelTerm)
		must(t, err)
		for _, as := range forge.InterruptKinds {
			_, err = s.acme.InterruptRun(ctx, "1", as)
			wantKind(t, err, forge.KindPrecondition)
			if !strings.Contains(err.Error(), "asked to end already (cancel)") {
				t.Error(err)
			}
		}
		rows, err := s.db.Outbox(ctx)
		must(t, err)
		if len(rows) != 1 || rows[0].Intent != forge.IntentCancel {
			t.Errorf("the cancel is gone from the outbox: %+v", rows)
		}
	})
	t.Run("a cancel afterwards is stronger", func(t *testing.T) {
		s := running(t)
		_, err := s.acme.InterruptRun(ctx, "1", forge.InterruptTimeout)
		must(t, err)
		_, err = s.acme.RequestCancel(ctx, "1", forge.CancelTerm)
		must(t, err)
		rows, err := s.db.Outbox(ctx)
		must(t, err)
		if len(rows) != 1 || rows[0].Intent != forge.IntentCancel {
			t.Errorf("outbox %+v", rows)
		}
	})
	t.Run("an interruption that does not exist is refused", func(t *testing.T) {
		_, err := running(t).acme.InterruptRun(ctx, "1", "meteor")
		wantKind(t, err, forge.KindInvalid)
	})
}
