package store

import (
	"context"
	"fmt"

	forge "github.com/forge-ml/forge-ml"
)

// interruptIntents is what an interruption asks of the attempt.
var interruptIntents = map[forge.InterruptAs]forge.Intent{
	forge.InterruptPreempt: forge.IntentCheckpointPreempt, forge.InterruptTimeout: forge.IntentCheckpointLimit,
}

// InterruptRun asks the attempt of a running run to save and end as if it were preempted or its time were over. Nothing is
// claimed, so that the run goes on by itself. KindNotFound; KindInvalid for an interruption that does not exist;
// KindPrecondition when the run does not run, or is on its way out already.
func (t *Tenant) InterruptRun(ctx context.Context, numberOrID string, as forge.InterruptAs) (forge.Run, error) {
	const op = "run.interrupt"
	if interruptIntents[as] == forge.IntentNone {
		return forge.Run{}, forge.Invalidf("as", "%q: want one of %v", as, forge.InterruptKinds).WithOp(op)
	}
	return t.change(ctx, op, numberOrID, func(tx *tx, op string, r *runRow) error {
		return tx.interrupt(op, r, as, t.p.Actor())
	})
}

func (t *tx) interrupt(op string, r *runRow, as forge.InterruptAs, user string) error {
	if r.State != forge.RunRunning {
		return forge.Errorf(forge.KindPrecondition, op, "%s is %s; only a run that runs can be interrupted", r.name(), r.State).
			WithHint("forgectl run why %d says where it is", r.Number)
	}
	a, err := t.liveAttempt(r)
	switch {
	case err != nil:
		return err
	case a == nil || !a.State.Open() || a.State == forge.AttemptStopping:
		return forge.Errorf(forge.KindPrecondition, op, "attempt %d of %s is ending already", r.Attempt, r.name())
	case a.Intent != forge.IntentNone:
		return forge.Errorf(forge.KindPrecondition, op, "attempt %d of %s is asked to end already (%s)", r.Attempt, r.name(), a.Intent)
	}
	intent := interruptIntents[as]
	if as == forge.InterruptPreempt { // the limit is the shim's own to record
		a.raise(intent)
		a.Rehearsal = true // it spares the run from no preemption: who asks for it often would never have to make room
		if err := t.saveAttempt(a); err != nil {
			return err
		}
	}
	if err := t.outbox(OutboxSignal, r.ID, a.Number, intent); err != nil {
		return err
	}
	return t.runEvent(r, forge.Event{Actor: user, Type: forge.EventRunInterruptAsked, Attempt: a.Number, Reason: string(as),
		Message: fmt.Sprintf("%s is asked to save as by a %s; it goes on by itself", r.name(), as)})
}
