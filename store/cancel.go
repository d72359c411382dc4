package store

import (
	"context"
	"fmt"
	"slices"

	forge "github.com/forge-ml/forge-ml"
)

// cancelModes in the order of their strength.
var cancelModes = []forge.CancelMode{forge.CancelNone, forge.CancelSave, forge.CancelTerm, forge.CancelNow}

// cancelIntents is what a mode asks of an open attempt.
var cancelIntents = map[forge.CancelMode]forge.Intent{
	forge.CancelSave: forge.IntentCheckpointUser, forge.CancelTerm: forge.IntentCancel, forge.CancelNow: forge.IntentKill,
}

// RequestCancel asks a run to stop. One that holds nothing is cancelled at once; one with an open attempt
// gets the intent recorded and a signal put into the outbox, in the same write. A request that is
// not stronger than the last changes nothing. KindNotFound; KindPrecondition when the run has
// ended; KindInvalid for a mode that does not exist.
func (t *Tenant) RequestCancel(ctx context.Context, numberOrID string, mode forge.CancelMode) (forge.Run, error) {
	const op = "run.cancel"
	if cancelIntents[mode] == forge.IntentNone {
		return forge.Run{}, forge.Invalidf("mode", "cancel mode %q does not exist; want one of %v", mode, cancelModes[1:]).WithOp(op)
	}
	return t.change(ctx, op, numberOrID, func(tx *tx, op string, r *runRow) error {
		if r.State.Terminal() {
			return forge.Errorf(forge.KindPrecondition, op, "%s is %s already", r.name(), r.State)
		}
		return tx.cancel(r, mode, t.p.Actor())
	})
}

func (t *tx) cancel(r *runRow, mode forge.CancelMode, user string) error {
	if slices.Index(cancelModes, mode) <= slices.Index(cancelModes, r.Cancel) {
		return nil
	}
	r.Cancel = mode
	if err := t.runEvent(r, forge.Event{Actor: user, Type: forge.EventRunCancelAsked, Attempt: r.Attempt, Reason: string(mode),
		Message: fmt.Sprintf("%s asked to stop (%s)", r.name(), mode)}); err != nil {
		return err
	}
	a, err := t.liveAttempt(r)
	if err != nil {
		return err
	}
	if a == nil {
		return t.end(r, forge.RunCancelled, forge.EndCancelled, user, "cancelled before it held anything")
	}
	// An attempt that has exited and is being finished is past signals; AttemptEnded reads run.Cancel.
	if a.State.Open() && a.raise(cancelIntents[mode]) {
		if err := t.saveAttempt(a); err != nil {
			return err
		}
		if err := t.outbox(OutboxSignal, r.ID, a.Number, a.Intent); err != nil {
			return err
		}
	}
	return t.saveRun(r)
}

// liveAttempt is the newest attempt unless it has ended; nil then, and before the first.
func (t *tx) liveAttempt(r *runRow) (*attemptRow, error) {
	a := &attemptRow{}
	err := t.NewSelect().Model(a).Where("a.run = ?", r.ID).Where("a.number = ?", r.Attempt).Where("a.state <> ?", forge.AttemptEnded).Scan(t.ctx)
	if absent(err) {
		return nil, nil
	}
	return a, err
}

// end makes a run terminal: nothing is claimed for it any more, and the world hears why.
func (t *tx) end(r *runRow, state forge.RunState, reason forge.EndReason, actor, why string) error {
	r.State, r.Reason, r.EndedAt = state, reason, stampOf(t.now)
	if err := t.saveRun(r); err != nil {
		return err
	}
	if err := t.dropClaims(claimsFor, string(r.ID)); err != nil {
		return err
	}
	message := r.name() + " " + string(state)
	if why != "" {
		message += ": " + why
	}
	return t.runEvent(r, forge.Event{Actor: actor, Type: forge.EventRunEnded, Attempt: r.Attempt, Reason: string(reason), Message: message})
}
