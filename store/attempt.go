package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

type attemptRow struct {
	bun.BaseModel `bun:"table:attempts,alias:a"`

	Run        forge.RunID        `bun:"run,pk"`
	Number     int                `bun:"number,pk"`
	State      forge.AttemptState `bun:"state"`
	Reason     forge.EndReason    `bun:"reason"`
	Detail     string             `bun:"detail"`
	Cluster    forge.ClusterName  `bun:"cluster"`
	Placement  string             `bun:"placement"`
	ExternalID forge.ExternalID   `bun:"external_id"`
	RunDir     string             `bun:"run_dir"`
	Intent     forge.Intent       `bun:"intent"`
	ResumeStep int64              `bun:"resume_step"`
	ResumeFrom string             `bun:"resume_from"`
	LastStep   int64              `bun:"last_step"`
	SavedStep  int64              `bun:"saved_step"`
	SavedAt    stamp              `bun:"saved_at,scanonly"` // of the checkpoint of that step
	Unknown    stamp              `bun:"unknown_since"`
	PlacedAt   stamp              `bun:"placed_at"`
	StartedAt  stamp              `bun:"started_at"`
	ExitedAt   stamp              `bun:"exited_at"`
	EndedAt    stamp              `bun:"ended_at"`
	Exits      string             `bun:"exits"`
	Batch      string             `bun:"batch"`
	BatchID    string             `bun:"batch_id"`
	HandedOver bool               `bun:"handed_over"`
	Rehearsal  bool               `bun:"rehearsal"`
	GPUs       int                `bun:"gpus"`
	Price      *float64           `bun:"price"`
	FirstStep  stamp              `bun:"first_step_at"`
	LastStepAt stamp              `bun:"last_step_at"`
	KeptAt     stamp              `bun:"kept_at"`
	UnheardAt  stamp              `bun:"unheard_at"`
	Version    int64              `bun:"version"`
}

func (a *attemptRow) forge() (forge.Attempt, error) {
	n := forge.Attempt{Run: a.Run, Number: a.Number, State: a.State, Reason: a.Reason, Detail: a.Detail, Cluster: a.Cluster,
		ExternalID: a.ExternalID, RunDir: a.RunDir, Intent: a.Intent, Rehearsal: a.Rehearsal, ResumeStep: a.ResumeStep, ResumeFrom: a.ResumeFrom,
		LastStep: a.LastStep, SavedStep: a.SavedStep, SavedAt: a.SavedAt.time(), Unknown: a.Unknown.time(), PlacedAt: a.PlacedAt.time(),
		StartedAt: a.StartedAt.time(), ExitedAt: a.ExitedAt.time(), EndedAt: a.EndedAt.time(),
		FirstStepAt: a.FirstStep.time(), LastStepAt: a.LastStepAt.time(), KeptAt: a.KeptAt.time(), UnheardAt: a.UnheardAt.time(), Price: a.Price}
	if err := decode(a.Placement, &n.Placement); err != nil {
		return n, err
	}
	if err := decode(a.Batch, &n.Batch); err != nil {
		return n, err
	}
	return n, decode(a.Exits, &n.Exits)
}

func (t *tx) saveAttempt(r *attemptRow) error {
	r.Version++
	if _, err := t.exec(updateAttempt, append(r.mutable(), string(r.Run), r.Number)...); err != nil {
		return err
	}
	return t.emitAttempt(r)
}

// selectAttempts reads attempts with the time of their newest save, which stands with the checkpoint.
func selectAttempts(q *bun.SelectQuery, rows *[]attemptRow) *bun.SelectQuery {
	return q.Model(rows).ColumnExpr("a.*").ColumnExpr(`coalesce((SELECT c.saved_at FROM checkpoints AS c
		WHERE c.run = a.run AND c.step = a.saved_step AND c.attempt = a.number), 0) AS saved_at`)
}

func (t *tx) emitAttempt(r *attemptRow) error {
	if r.SavedStep > 0 {
		err := t.one(`SELECT saved_at FROM checkpoints WHERE run = ? AND step = ? AND attempt = ?`, []any{string(r.Run), r.SavedStep, r.Number}, &r.SavedAt)
		if err != nil && !absent(err) {
			return err
		}
	}
	a, err := r.forge()
	if err != nil {
		return err
	}
	t.emit(forge.Delta{Attempt: &a})
	return nil
}

// newest loads a run and one attempt of it, and refuses any but the newest: a superseded
// attempt may still be alive somewhere and must not change what its successor reads (invariant 2).
func (t *tx) newest(op string, run forge.RunID, n int) (*runRow, *attemptRow, error) {
	r, err := t.run(run)
	if err != nil {
		return nil, nil, err
	}
	if n < r.Attempt && n > 0 {
		return nil, nil, forge.Errorf(forge.KindConflict, op, "attempt %d of %s is superseded by attempt %d", n, r.name(), r.Attempt)
	}
	a, err := t.attempt(r.ID, n)
	if absent(err) {
		return nil, nil, notFound(op, "%s has no attempt %d", r.name(), n)
	}
	return r, a, err
}

// move takes an attempt forward. It answers false when the attempt is there already, so that an
// observation may be told twice, and KindConflict when it has gone past: the observation is stale.
func (a *attemptRow) move(op string, to forge.AttemptState) (bool, error) {
	if a.State == to {
		return false, nil
	}
	if !forge.CanMoveAttempt(a.State, to) {
		return false, forge.Errorf(forge.KindConflict, op, "attempt %d is %s already and cannot go back to %s", a.Number, a.State, to)
	}
	a.State = to
	return true, nil
}

// raise makes the intent at least as strong as want, never weaker.
func (a *attemptRow) raise(want forge.Intent) bool {
	if slices.Index(intents, want) <= slices.Index(intents, a.Intent) {
		return false
	}
	a.Intent = want
	return true
}

// intents in the order of their strength.
var intents = []forge.Intent{forge.IntentNone, forge.IntentCheckpointPreempt, forge.IntentCheckpointDrain,
	forge.IntentCheckpointUser, forge.IntentCancel, forge.IntentKill}

// change runs fn on the newest attempt of a run in one write.
func (db *DB) change(ctx context.Context, op string, run forge.RunID, n int, fn func(*tx, *runRow, *attemptRow) error) error {
	return db.write(ctx, op, func(t *tx) error {
		r, a, err := t.newest(op, run, n)
		if err != nil {
			return err
		}
		return fn(t, r, a)
	})
}

// AttemptLaunching records that the attempt is about to be handed to its executor: from here on it
// may exist there. The errors of this and the following: KindConflict for an attempt that is
// superseded or already further, KindNotFound for one that does not exist. Telling twice is fine.
func (db *DB) AttemptLaunching(ctx context.Context, run forge.RunID, n int) error {
	const op = "attempt.launching"
	return db.change(ctx, op, run, n, func(t *tx, _ *runRow, a *attemptRow) error {
		moved, err := a.move(op, forge.AttemptLaunching)
		if err != nil || !moved {
			return err
		}
		return t.saveAttempt(a)
	})
}

// AttemptSubmitted records what the executor calls the attempt and takes its launch row out of
// the outbox, in one write. An attempt that has moved on meanwhile keeps its state.
func (db *DB) AttemptSubmitted(ctx context.Context, run forge.RunID, n int, id forge.ExternalID, outboxID int64) error {
	const op = "attempt.submitted"
	return db.change(ctx, op, run, n, func(t *tx, _ *runRow, a *attemptRow) error {
		if err := t.outboxDone(outboxID); err != nil {
			return err
		}
		if a.State == forge.AttemptPlaced {
			a.State = forge.AttemptLaunching
		} else if a.ExternalID == id {
			return nil
		}
		a.ExternalID = forge.ExternalID(clean(string(id)))
		return t.saveAttempt(a)
	})
}

// AttemptRunning records that every rank has started, and what the attempt resumed from.
func (db *DB) AttemptRunning(ctx context.Context, run forge.RunID, n int, startedAt time.Time, resume *forge.Resume) error {
	const op = "attempt.running"
	return db.change(ctx, op, run, n, func(t *tx, r *runRow, a *attemptRow) error {
		moved, err := a.move(op, forge.AttemptRunning)
		if err != nil || !moved {
			return err
		}
		if startedAt.IsZero() {
			startedAt = t.now
		}
		a.Unknown = 0
		if err := t.started(r, a, startedAt, resume); err != nil {
			return err
		}
		if err := t.saveAttempt(a); err != nil {
			return err
		}
		if r.State == forge.RunPending || forge.CanMoveRun(r.State, forge.RunRunning) { // pending: handed over, and started before it was seen to be allocated
			r.State = forge.RunRunning
		}
		return t.saveRun(r)
	})
}

// started notes the start of the ranks and the choice of a checkpoint, with their events. It
// changes the rows only; the caller saves them.
func (t *tx) started(r *runRow, a *attemptRow, at time.Time, resume *forge.Resume) error {
	a.StartedAt = stampOf(at)
	if r.StartedAt == 0 {
		r.StartedAt = a.StartedAt
	}
	if err := t.runEvent(r, forge.Event{Type: forge.EventRunRunning, Attempt: a.Number,
		Message: fmt.Sprintf("attempt %d of %s: all ranks have started", a.Number, r.name())}); err != nil {
		return err
	}
	if resume == nil {
		return nil
	}
	for _, s := range resume.Skipped {
		if err := t.runEvent(r, forge.Event{Type: forge.EventCheckpointSkipped, Attempt: a.Number,
			Message: fmt.Sprintf("%s skipped: %s", inRun(a.RunDir, s.Path), s.Why), Data: map[string]any{"path": s.Path, "step": s.Step}}); err != nil {
			return err
		}
	}
	if resume.Room != "" {
		if err := t.runEvent(r, forge.Event{Type: forge.EventRunRoom, Attempt: a.Number,
			Message: fmt.Sprintf("attempt %d of %s: %s", a.Number, r.name(), resume.Room)}); err != nil {
			return err
		}
	}
	a.ResumeStep, a.ResumeFrom = resume.Step, clean(resume.Path)
	if err := t.takeBack(r, a, resume); err != nil {
		return err
	}
	if resume.Path == "" {
		return nil
	}
	if resume.Run != "" {
		return t.runEvent(r, forge.Event{Type: forge.EventRunResumed, Attempt: a.Number,
			Message: fmt.Sprintf("attempt %d of %s began from verified step %d of another run (%s)", a.Number, r.name(), resume.Step, resume.Path),
			Data:    map[string]any{"path": resume.Path, "step": resume.Step, "run": string(resume.Run), "attempt": resume.Attempt, "sha256": resume.SHA256}})
	}
	return t.runEvent(r, forge.Event{Type: forge.EventRunResumed, Attempt: a.Number,
		Message: fmt.Sprintf("attempt %d of %s resumed from verified %s", a.Number, r.name(), inRun(a.RunDir, resume.Path)),
		Data:    map[string]any{"path": resume.Path, "step": resume.Step, "attempt": resume.Attempt, "sha256": resume.SHA256}})
}

// AttemptStopping records that the attempt was asked to stop, or that a rank has ended.
func (db *DB) AttemptStopping(ctx context.Context, run forge.RunID, n int) error {
	const op = "attempt.stopping"
	return db.change(ctx, op, run, n, func(t *tx, _ *runRow, a *attemptRow) error {
		moved, err := a.move(op, forge.AttemptStopping)
		if err != nil || !moved {
			return err
		}
		return t.saveAttempt(a)
	})
}

// AttemptUnknown records since when the executor has not answered about the attempt; zero: it
// answers again. Unknown is a field: it frees nothing and starts nothing.
func (db *DB) AttemptUnknown(ctx context.Context, run forge.RunID, n int, since time.Time) error {
	const op = "attempt.unknown"
	return db.change(ctx, op, run, n, func(t *tx, r *runRow, a *attemptRow) error {
		if !a.State.Open() {
			return forge.Errorf(forge.KindConflict, op, "attempt %d is %s already", n, a.State)
		}
		began := a.Unknown == 0 && !since.IsZero()
		if a.Unknown == stampOf(since) {
			return nil
		}
		a.Unknown = stampOf(since)
		if err := t.saveAttempt(a); err != nil || !began {
			return err
		}
		return t.runEvent(r, forge.Event{Type: forge.EventExecutorUnknown, Attempt: n,
			Message: fmt.Sprintf("cluster %s has not answered about attempt %d of %s; what it holds stays allocated", a.Cluster, n, r.name())})
	})
}

// Attempts lists the attempts of a run, oldest first. KindNotFound when the tenant has no such run.
func (t *Tenant) Attempts(ctx context.Context, run forge.RunID) ([]forge.Attempt, error) {
	if err := t.owned(ctx, run); err != nil {
		return nil, err
	}
	return t.db.AttemptsOf(ctx, run)
}

// AttemptsOf lists the attempts of any tenant's run, for the daemon's loops.
func (db *DB) AttemptsOf(ctx context.Context, run forge.RunID) ([]forge.Attempt, error) {
	var rows []attemptRow
	if err := selectAttempts(db.read.NewSelect(), &rows).Where("a.run = ?", clean(string(run))).Order("a.number").Scan(ctx); err != nil {
		return nil, classify("attempt.list", err)
	}
	attempts, err := nouns(rows, func(r *attemptRow) (forge.Attempt, error) { return r.forge() })
	return attempts, classify("attempt.list", err)
}

// nouns turns rows into what leaves the package.
func nouns[R, N any](rows []R, noun func(*R) (N, error)) ([]N, error) {
	all := make([]N, 0, len(rows))
	for i := range rows {
		n, err := noun(&rows[i])
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

// inRun names a file by its place in the run directory; the whole path is in the event's data, and
// on a terminal it would push out of sight which checkpoint it is.
func inRun(runDir, path string) string {
	if rel, ok := strings.CutPrefix(path, runDir+"/"); ok {
		return rel
	}
	return path
}
