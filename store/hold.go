package store

import (
	"context"
	"fmt"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// HoldRun puts a waiting run of the tenant on hold. KindNotFound; KindPrecondition when it is on
// hold already, has ended, or has something: what runs is not held but cancelled. (A
// run becomes pending again in the write that ends its attempt, so its state alone says so.) One that
// waits in a cluster's own queue is taken back from there.
func (t *Tenant) HoldRun(ctx context.Context, numberOrID, reason string) (forge.Run, error) {
	return t.change(ctx, "run.hold", numberOrID, func(tx *tx, op string, r *runRow) error {
		switch {
		case r.State.Terminal():
			return forge.Errorf(forge.KindPrecondition, op, "%s is %s already", r.name(), r.State).
				WithHint("forgectl run retry %d submits it again", r.Number)
		case r.HoldBy != "":
			return forge.Errorf(forge.KindPrecondition, op, "%s is on hold already, by %s", r.name(), r.HoldBy).
				WithHint("forgectl run release %d lets it go on", r.Number)
		case r.State != forge.RunPending:
			return forge.Errorf(forge.KindPrecondition, op, "%s is %s; only a run that waits can be put on hold", r.name(), r.State).
				WithHint("forgectl run cancel %d stops it", r.Number)
		}
		if err := tx.withdraw(r); err != nil {
			return err
		}
		return tx.holdRun(r, forge.Hold{By: t.p.Actor(), Reason: reason})
	})
}

// withdraw asks a cluster's own queue for an attempt back. The intent is that of a drain: should it have started
// before the queue heard of it, it saves and goes, and the run goes on from there once it is released.
func (t *tx) withdraw(r *runRow) error {
	a, err := t.liveAttempt(r)
	if err != nil || a == nil || !a.State.Open() || !a.raise(forge.IntentCheckpointDrain) {
		return err
	}
	if err := t.saveAttempt(a); err != nil {
		return err
	}
	return t.outbox(OutboxSignal, r.ID, a.Number, a.Intent)
}

// ReleaseRun lets a held run of the tenant be placed again: see DB.ReleaseRun. KindNotFound;
// KindPrecondition when it is not on hold.
func (t *Tenant) ReleaseRun(ctx context.Context, numberOrID string) (forge.Run, error) {
	return t.change(ctx, "run.release", numberOrID, func(tx *tx, _ string, r *runRow) error { return tx.releaseRun(r, t.p.Actor()) })
}

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
	if err := t.dropClaims(claimsFor, string(r.ID)); err != nil {
		return err
	}
	message := r.name() + " is on hold"
	if r.HoldReason != "" {
		message += ": " + r.HoldReason
	}
	return t.runEvent(r, forge.Event{Actor: h.By, Type: forge.EventRunHeld, Attempt: r.Attempt, Message: message})
}

// ReleaseRun takes the hold off, and with it all that led there: the count of fruitless attempts, the
// back-off and the nodes to avoid. KindPrecondition when the run is not on hold.
func (db *DB) ReleaseRun(ctx context.Context, run forge.RunID, actor string) error {
	return db.write(ctx, "run.release", func(t *tx) error {
		r, err := t.run(run)
		if err != nil {
			return err
		}
		return t.releaseRun(r, actor)
	})
}

func (t *tx) releaseRun(r *runRow, actor string) error {
	const op = "run.release"
	switch {
	case r.State.Terminal():
		return forge.Errorf(forge.KindPrecondition, op, "%s is %s already", r.name(), r.State).
			WithHint("forgectl run retry %d submits it again", r.Number)
	case r.HoldBy == "":
		return forge.Errorf(forge.KindPrecondition, op, "%s is not on hold", r.name()).
			WithHint("forgectl run why %d says what it waits for", r.Number)
	}
	r.HoldBy, r.HoldReason, r.HoldAt = "", "", 0
	r.Fruitless, r.NotBefore, r.Avoid = 0, 0, ""
	if err := t.saveRun(r); err != nil {
		return err
	}
	message := r.name() + " is released"
	if r.Attempt > 0 {
		message += ", to go on " + r.goesOn()
	}
	return t.runEvent(r, forge.Event{Actor: actor, Type: forge.EventRunReleased, Attempt: r.Attempt, Message: message})
}

// goesOn says where the next attempt begins.
func (r *runRow) goesOn() string {
	if r.SavedStep > 0 {
		return fmt.Sprintf("from step %d", r.SavedStep)
	}
	return "from the start"
}

// HeldSince counts the runs that forged itself put on hold since then after an attempt on the
// cluster. It reads the audit trail: a release meanwhile does not make the failure undone. What
// was before the cluster was last resumed is dealt with, or the next hold would pause it again at once. What the cluster's own
// queue refuses is most often what was asked for, and says nothing of the cluster.
func (db *DB) HeldSince(ctx context.Context, cluster forge.ClusterName, since time.Time) (int, error) {
	var n int
	err := db.read.NewRaw(`SELECT count(DISTINCT e.run) FROM events e JOIN attempts a ON a.run = e.run AND a.number = e.attempt
		JOIN clusters c ON c.name = a.cluster
		WHERE e.type = 'run.held' AND e.actor = ? AND e.time >= ? AND e.time > c.resumed_at AND a.cluster = ? AND a.reason <> ?`,
		actorForged, stampOf(since), string(cluster), string(forge.EndRefused)).Scan(ctx, &n)
	return n, classify("run.held", err)
}
