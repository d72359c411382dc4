package store

import (
	"context"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Progress is a piece of an attempt's metrics stream, and what was saved meanwhile.
type Progress struct {
	Run        forge.RunID
	Attempt    int
	Stream     string // name of the stream that From and Next are bytes of; empty: only Saves and TotalSteps
	From, Next int64
	Rows       []forge.MetricRow
	TotalSteps int64 // 0: not known
	Saves      []forge.Checkpoint
	At         time.Time
}

// RecordProgress stores lines of a stream and moves the stream's cursor in the same write: after a crash reading
// goes on exactly where storing stopped. KindConflict, and nothing stored, when the cursor is not at
// From (somebody stored these bytes already) or the attempt is superseded. One row per
// (run, step): the newest attempt wins, of one attempt keys are joined, and the roll-ups follow.
func (db *DB) RecordProgress(ctx context.Context, p Progress) error {
	const op = "progress.record"
	rows, err := points(op, p.Attempt, p.Rows)
	if err != nil {
		return err
	}
	return db.change(ctx, op, p.Run, p.Attempt, func(t *tx, r *runRow, a *attemptRow) error {
		if err := t.advance(op, p); err != nil {
			return err
		}
		if err := t.putPoints(r.ID, rows); err != nil {
			return err
		}
		runSaved, attemptSaved := r.SavedStep, a.SavedStep
		if err := t.checkpoints(r, a, p.Saves); err != nil {
			return err
		}
		known := p.TotalSteps <= 0 || p.TotalSteps == r.TotalSteps
		a.stepped(rows, t.now)
		if len(rows) == 0 && known && r.SavedStep == runSaved && a.SavedStep == attemptSaved {
			return nil
		}
		if !known {
			r.TotalSteps = p.TotalSteps
		}
		if len(rows) > 0 {
			// The newest attempt's step, also when it is lower: after a resume steps are done again.
			r.Step, a.LastStep = rows[len(rows)-1].step, rows[len(rows)-1].step
			if loss, ok := lastLoss(rows); ok {
				r.Loss = &loss
			}
		}
		if err := t.saveAttempt(a); err != nil {
			return err
		}
		return t.saveRun(r)
	})
}

// RecordEarlier stores lines of an attempt that is past. One on a node that was lost may have gone on for a while after it was given up, and
// its successor resumes from what it saved then: the steps up to there are its own. Nothing else of run or attempts changes; a step
// that a newer attempt wrote stays. KindConflict as in RecordProgress.
func (db *DB) RecordEarlier(ctx context.Context, p Progress) error {
	const op = "progress.earlier"
	rows, err := points(op, p.Attempt, p.Rows)
	if err != nil {
		return err
	}
	return db.write(ctx, op, func(t *tx) error {
		if err := t.advance(op, p); err != nil {
			return err
		}
		return t.putPoints(p.Run, rows)
	})
}

// lastLoss is that of the highest step that has one.
func lastLoss(rows []point) (loss float64, found bool) {
	for i := len(rows) - 1; i >= 0 && !found; i-- {
		loss, found = rows[i].values["loss"]
	}
	return loss, found
}

// advance moves the cursor from From to Next, or refuses.
func (t *tx) advance(op string, p Progress) error {
	if p.Stream == "" {
		return nil
	}
	var cursor int64
	err := t.one(`SELECT cursor FROM streams WHERE run = ? AND attempt = ? AND stream = ?`, []any{string(p.Run), p.Attempt, p.Stream}, &cursor)
	if err != nil && !absent(err) {
		return err
	}
	if cursor != p.From || p.Next < p.From {
		return forge.Errorf(forge.KindConflict, op, "stream %s of attempt %d stands at byte %d; the piece is %d to %d", p.Stream, p.Attempt, cursor, p.From, p.Next)
	}
	if p.Next == p.From {
		return nil
	}
	at := p.At
	if at.IsZero() {
		at = t.now
	}
	_, err = t.exec(`INSERT INTO streams (run, attempt, stream, cursor, updated_at) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (run, attempt, stream) DO UPDATE SET cursor = excluded.cursor, updated_at = excluded.updated_at`,
		string(p.Run), p.Attempt, p.Stream, p.Next, int64(stampOf(at)))
	return err
}

// StreamCursor answers how many bytes of a stream are stored; 0 before the first.
func (db *DB) StreamCursor(ctx context.Context, run forge.RunID, attempt int, stream string) (int64, error) {
	var cursor int64
	err := db.read.NewRaw(`SELECT coalesce(max(cursor), 0) FROM streams WHERE run = ? AND attempt = ? AND stream = ?`, clean(string(run)), attempt, clean(stream)).Scan(ctx, &cursor)
	return cursor, classify("stream.cursor", err)
}
