package store

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

// HoldRun keeps a run from being placed; what runs goes on. KindPrecondition when the run has ended.
func (db *DB) HoldRun(ctx context.Context, run forge.RunID, h forge.Hold) error {
	const op = "run.hold"
	return db.write(ctx, op, func(t *tx) error {
		r, err := t.run(run)
		if err != nil {
			return err
		}
		if r.State.Terminal() {
			return forge.Errorf(forge.KindPrecondition, op, "%s is %s already", r.name(), r.State)
		}
		return t.holdRun(r, h)
	})
}

// holdRun saves the run with its hold. What was claimed for it is free again: a held run
// would block GPUs that it may not use.
func (t *tx) holdRun(r *runRow, h forge.Hold) error {
	if h.By == "" {
		h.By = actorForged
	}
	if h.At.IsZero() {
		h.At = t.now
	}
	r.hold(h)
	if err := t.saveRun(r); err != nil {
		return err
	}
	if err := t.dropClaims(func(q *bun.SelectQuery) *bun.SelectQuery { return q.Where("c.for_run = ?", r.ID) }); err != nil {
		return err
	}
	return t.runEvent(r, forge.Event{Actor: h.By, Type: forge.EventRunHeld, Attempt: r.Attempt,
		Message: r.name() + " is on hold: " + h.Reason})
}

// ReleaseRun takes the hold off, and with it the count of fruitless attempts and the back-off
// that led there. KindPrecondition when the run is not on hold.
func (db *DB) ReleaseRun(ctx context.Context, run forge.RunID, actor string) error {
	const op = "run.release"
	return db.write(ctx, op, func(t *tx) error {
		r, err := t.run(run)
		if err != nil {
			return err
		}
		if r.HoldBy == "" || r.State.Terminal() {
			return forge.Errorf(forge.KindPrecondition, op, "%s is not on hold", r.name())
		}
		r.HoldBy, r.HoldReason, r.HoldAt = "", "", 0
		r.Fruitless, r.NotBefore = 0, 0
		if err := t.saveRun(r); err != nil {
			return err
		}
		return t.runEvent(r, forge.Event{Actor: actor, Type: forge.EventRunReleased, Attempt: r.Attempt, Message: r.name() + " released"})
	})
}

// HeldSince counts the runs that forged itself put on hold since then after an attempt on the
// cluster. It reads the audit trail: a release meanwhile does not make the failure undone.
func (db *DB) HeldSince(ctx context.Context, cluster forge.ClusterName, since time.Time) (int, error) {
	var n int
	err := db.read.NewRaw(`SELECT count(DISTINCT e.run) FROM events e JOIN attempts a ON a.run = e.run AND a.number = e.attempt
		WHERE e.type = 'run.held' AND e.actor = ? AND e.time >= ? AND a.cluster = ?`, actorForged, stampOf(since), string(cluster)).Scan(ctx, &n)
	return n, classify("run.held", err)
}
