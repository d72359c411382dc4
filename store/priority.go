package store

import (
	"context"
	"fmt"

	forge "github.com/forge-ml/forge-ml"
)

// SetPriority changes the place of a run that waits, of the tenant's. Its spec stays what was asked for at submit; the priority is a column of
// the run. Where a cluster's own queue has the run already, an outbox row has that queue told. KindNotFound; KindPrecondition
// for one that does not wait; KindInvalid for no priority.
func (t *Tenant) SetPriority(ctx context.Context, numberOrID string, priority int) (forge.Run, error) {
	if priority < forge.MinPriority || priority > forge.MaxPriority {
		return forge.Run{}, forge.Invalidf("priority", "%d: want %d to %d, higher first", priority, forge.MinPriority, forge.MaxPriority).WithOp("run.priority")
	}
	return t.change(ctx, "run.priority", numberOrID, func(tx *tx, op string, r *runRow) error {
		switch {
		case r.State.Terminal():
			return forge.Errorf(forge.KindPrecondition, op, "%s is %s already", r.name(), r.State).
				WithHint("forgectl run retry %d submits it again", r.Number)
		case r.State != forge.RunPending:
			return forge.Errorf(forge.KindPrecondition, op, "%s is %s; only the priority of a run that waits changes anything", r.name(), r.State).
				WithHint("forgectl run why %d says where it is", r.Number)
		case r.Priority == priority:
			return nil
		}
		was := r.Priority
		r.Priority = priority
		if err := tx.saveRun(r); err != nil {
			return err
		}
		// What is being freed for it was taken from others by the old priority. Who gets it is decided anew.
		if priority < was {
			if err := tx.dropClaims(claimsFor, string(r.ID)); err != nil {
				return err
			}
		}
		a, err := tx.liveAttempt(r)
		if err != nil {
			return err
		}
		if a != nil && a.State.Open() {
			if err := tx.outbox(OutboxPriority, r.ID, a.Number, forge.IntentNone); err != nil {
				return err
			}
		}
		return tx.runEvent(r, forge.Event{Actor: t.p.Actor(), Type: forge.EventRunPriority, Attempt: r.Attempt, Data: map[string]any{"was": was, "priority": priority},
			Message: fmt.Sprintf("%s has priority %d, was %d", r.name(), priority, was)})
	})
}
