package store

import (
	"context"
	"fmt"

	forge "github.com/forge-ml/forge-ml"
)

// LostAttempt is one that the run directory knows and a restored database does not.
type LostAttempt struct {
	Run        forge.RunID
	Number     int
	Cluster    forge.ClusterName
	RunDir     string
	ExternalID forge.ExternalID
}

// AddLostAttempt gives a run the attempt that comes after its newest, as one that has exited and holds nothing. The caller
// knows that no process of it lives. Its number is taken from here on: a run that counted it anew would take the
// records and claims of the old one for its own. KindConflict when the number is not the next, KindPrecondition
// when an attempt is still to be ended or the run has ended.
func (db *DB) AddLostAttempt(ctx context.Context, l LostAttempt) error {
	const op = "attempt.lost"
	return db.write(ctx, op, func(t *tx) error {
		r, err := t.run(l.Run)
		if err != nil {
			return err
		}
		if l.Number != r.Attempt+1 {
			return forge.Errorf(forge.KindConflict, op, "attempt %d does not come after attempt %d of %s", l.Number, r.Attempt, r.name())
		}
		if r.State != forge.RunPending {
			return forge.Errorf(forge.KindPrecondition, op, "%s is %s", r.name(), r.State)
		}
		if err := t.ensureCluster(l.Cluster); err != nil {
			return err
		}
		a := &attemptRow{Run: r.ID, Number: l.Number, State: forge.AttemptExited, Cluster: l.Cluster, RunDir: clean(l.RunDir),
			ExternalID: l.ExternalID, PlacedAt: stampOf(t.now), ExitedAt: stampOf(t.now), Version: 1}
		if _, err := t.NewInsert().Model(a).Exec(t.ctx); err != nil {
			return err
		}
		if err := t.emitAttempt(a); err != nil {
			return err
		}
		r.State, r.Attempt = forge.RunProvisioning, l.Number
		if err := t.saveRun(r); err != nil {
			return err
		}
		return t.runEvent(r, forge.Event{Type: forge.EventRunAdopted, Attempt: l.Number, Reason: string(forge.EndSuperseded),
			Message: fmt.Sprintf("attempt %d of %s is newer than the restored database; its number and what it saved are kept", l.Number, r.name())})
	})
}
