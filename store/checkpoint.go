package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

type checkpointRow struct {
	bun.BaseModel `bun:"table:checkpoints,alias:c"`

	Run      forge.RunID     `bun:"run,pk"`
	Attempt  int             `bun:"attempt,pk"`
	Step     int64           `bun:"step,pk"`
	Path     string          `bun:"path"`
	World    int             `bun:"world"`
	AnyWorld bool            `bun:"any_world"`
	Bytes    int64           `bun:"bytes"`
	SHA256   string          `bun:"sha256"`
	Verdict  forge.Verdict   `bun:"verdict"`
	Why      string          `bun:"why"`
	SavedAt  stamp           `bun:"saved_at"`
	TookMS   int64           `bun:"took_ms"`
	SignalMS int64           `bun:"signal_ms"`
	Loss     sql.NullFloat64 `bun:"loss"`
	Verified stamp           `bun:"verified_at"`
	Removed  stamp           `bun:"removed_at"`
}

func (r *checkpointRow) forge() (forge.Checkpoint, error) {
	var loss *float64
	if r.Loss.Valid {
		loss = &r.Loss.Float64
	}
	return forge.Checkpoint{Loss: loss, Run: r.Run, Attempt: r.Attempt, Step: r.Step, Path: r.Path, World: r.World, AnyWorld: r.AnyWorld, Bytes: r.Bytes, SHA256: r.SHA256,
		Verdict: r.Verdict, Why: r.Why, SavedAt: r.SavedAt.time(), Took: duration(r.TookMS), Signal: duration(r.SignalMS), Verified: r.Verified.time(), Removed: r.Removed.time()}, nil
}

func duration(ms int64) forge.Duration { return forge.Duration(time.Duration(ms) * time.Millisecond) }

// checkpoints stores what was seen of a run's checkpoints and brings saved_step of the run and of
// the given attempt up to date. It changes these two rows only; the caller saves them. A torn or foreign one does not count as
// saved. A look without hashing never takes back that the same bytes were once verified.
func (t *tx) checkpoints(r *runRow, a *attemptRow, seen []forge.Checkpoint) error {
	if len(seen) == 0 {
		return nil
	}
	for _, c := range seen {
		if c.Attempt == 0 {
			c.Attempt = a.Number
		}
		if c.Attempt < 1 || c.Attempt > r.Attempt {
			continue // a directory that no attempt of ours made must not keep the run from ending
		}
		fresh, err := t.checkpoint(r, c)
		if err != nil {
			return err
		}
		if !fresh || !c.Usable() {
			continue
		}
		if err := t.runEvent(r, forge.Event{Type: forge.EventRunCheckpoint, Attempt: c.Attempt,
			Message: fmt.Sprintf("%s saved %s", r.name(), inRun(a.RunDir, c.Path)), Data: map[string]any{"path": c.Path, "step": c.Step}}); err != nil {
			return err
		}
	}
	return t.one(`SELECT coalesce(max(step), 0), coalesce(max(step) FILTER (WHERE attempt = ?), 0), coalesce(max(saved_at) FILTER (WHERE attempt = ?), 0) FROM checkpoints
		WHERE run = ? AND verdict NOT IN ('torn', 'foreign')`, []any{a.Number, a.Number, string(r.ID)}, &r.SavedStep, &a.SavedStep, (*int64)(&a.KeptAt))
}

// checkpoint stores one and says whether it was new.
func (t *tx) checkpoint(r *runRow, c forge.Checkpoint) (bool, error) {
	row := checkpointRow{Run: r.ID, Attempt: c.Attempt, Step: c.Step, Path: clean(c.Path), World: c.World, AnyWorld: c.AnyWorld, Bytes: c.Bytes, SHA256: c.SHA256,
		Verdict: c.Verdict, Why: clean(c.Why), SavedAt: stampOf(c.SavedAt), TookMS: c.Took.D().Milliseconds(), SignalMS: c.Signal.D().Milliseconds(), Verified: stampOf(c.Verified), Removed: stampOf(c.Removed)}
	if c.Loss != nil {
		row.Loss = sql.NullFloat64{Float64: *c.Loss, Valid: true}
	}
	if row.Verdict == "" {
		row.Verdict = forge.VerdictWritten
	}
	var old checkpointRow
	err := t.NewSelect().Model(&old).Where("c.run = ?", row.Run).Where("c.attempt = ?", row.Attempt).Where("c.step = ?", row.Step).Scan(t.ctx)
	switch {
	case absent(err):
		_, err := t.NewInsert().Model(&row).Exec(t.ctx)
		return true, err
	case err != nil:
		return false, err
	case row.Verdict == forge.VerdictWritten && old.Verdict != forge.VerdictWritten && old.SHA256 == row.SHA256:
		if old.Removed == row.Removed {
			return false, nil
		}
		removed := row.Removed
		row = old
		row.Removed = removed
	case row == old:
		return false, nil
	}
	_, err = t.NewUpdate().Model(&row).WherePK().Exec(t.ctx)
	return false, err
}

// goneSaves notes which of a run's checkpoints are not among all that lie there: its ranks keep the newest ones and remove the others. What
// is seen again is there again.
func (t *tx) goneSaves(r *runRow, all []forge.Checkpoint) error {
	var rows []checkpointRow
	if err := t.NewSelect().Model(&rows).Where("c.run = ?", r.ID).Where("c.removed_at = 0").Scan(t.ctx); err != nil {
		return err
	}
	there := make(map[string]bool, len(all))
	for _, c := range all {
		there[clean(c.Path)] = true
	}
	for _, row := range rows {
		if there[row.Path] {
			continue
		}
		if _, err := t.exec(`UPDATE checkpoints SET removed_at = ? WHERE run = ? AND step = ? AND attempt = ?`,
			int64(stampOf(t.now)), string(row.Run), row.Step, row.Attempt); err != nil {
			return err
		}
	}
	return nil
}

// Checkpoints lists a run's checkpoints, highest step first, at equal steps the newest attempt first: the order
// in which resume tries them. KindNotFound when the tenant has no such run.
func (t *Tenant) Checkpoints(ctx context.Context, run forge.RunID) ([]forge.Checkpoint, error) {
	if err := t.owned(ctx, run); err != nil {
		return nil, err
	}
	return t.db.CheckpointsOf(ctx, run)
}

// CheckpointsOf lists the checkpoints of any tenant's run, for the daemon's loops.
func (db *DB) CheckpointsOf(ctx context.Context, run forge.RunID) ([]forge.Checkpoint, error) {
	var rows []checkpointRow
	if err := db.read.NewSelect().Model(&rows).Where("c.run = ?", clean(string(run))).Order("c.step DESC", "c.attempt DESC").Scan(ctx); err != nil {
		return nil, classify("checkpoint.list", err)
	}
	return nouns(rows, func(r *checkpointRow) (forge.Checkpoint, error) { return r.forge() })
}
