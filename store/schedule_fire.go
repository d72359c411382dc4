package store

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

// Fire decides a due time: what becomes of it, and with it the runs that it submits.
type Fire struct {
	Schedule forge.ScheduleID
	Firing   forge.Firing    // Due, State, Words, Missed, and of a fired one Model, ModelID, Baseline, BaselineEval
	Run      *NewRun         // of a fired one
	Baseline *NewRun         // an eval of the baseline to be submitted before it, where it has none
	By       forge.Principal // who asked for it now; zero: its time has come
}

// Fire writes a due time down once, with its runs, in one transaction: a crash leaves both or none, and a second try finds the first. Whether
// the run before goes on is looked at here, too. The runs are the principal's. Errors of a submission are those of SubmitRun, and leave nothing.
// KindPrecondition for a schedule that is paused, gone, or still at it when somebody asked; KindNotFound.
func (t *Tenant) Fire(ctx context.Context, f Fire) (forge.Firing, error) {
	const op = "schedule.fire"
	base := make([]*runRow, 0, 2)
	for _, n := range []*NewRun{f.Baseline, f.Run} {
		if n == nil {
			continue
		}
		row, err := newRunRow(n.Spec)
		if err != nil {
			return forge.Firing{}, classify(op, err)
		}
		base = append(base, row)
	}
	var seq int64
	err := t.db.write(ctx, op, func(tx *tx) error {
		return tx.once(f.By, func() (string, error) {
			s, err := tx.scheduleByID(t.p.Tenant, string(f.Schedule))
			if err != nil {
				return "", err
			}
			if s.RemovedAt != 0 || s.PausedAt != 0 && f.By.UserID == "" {
				return "", forge.Errorf(forge.KindPrecondition, op, "schedule %s is paused or gone", s.Name)
			}
			err = tx.one(`SELECT seq FROM schedule_firings WHERE schedule = ? AND due = ?`, []any{string(s.ID), int64(stampOf(f.Firing.Due))}, &seq)
			if absent(err) {
				fresh := make([]*runRow, len(base))
				for i := range base {
					row := *base[i]
					fresh[i] = &row
				}
				seq, err = tx.fire(t.p, s, f, fresh)
			}
			if err == nil && f.By.UserID == "" {
				_, err = tx.exec(`UPDATE schedules SET decided = max(decided, ?) WHERE id = ?`, int64(stampOf(f.Firing.Due)), string(s.ID))
			}
			return string(s.ID), err
		}, func(id string) error {
			return tx.one(`SELECT seq FROM schedule_firings WHERE schedule = ? AND by_user <> '' ORDER BY seq DESC LIMIT 1`, []any{id}, &seq)
		})
	})
	if err != nil {
		return forge.Firing{}, err
	}
	all, err := firings(ctx, t.db, selectFirings+` WHERE f.seq = ?`, seq)
	if err != nil || len(all) == 0 {
		return forge.Firing{}, classify(op, err)
	}
	return all[0].Firing, nil
}

// fire writes a due time that is not written down yet. rows are the baseline's eval, if one is to be made, and the run.
func (t *tx) fire(p forge.Principal, s *scheduleRow, f Fire, rows []*runRow) (seq int64, err error) {
	x := f.Firing
	if x.State == forge.FiringFired {
		if err := t.overlap(p, s, f, &x); err != nil {
			return 0, err
		}
	}
	var run, baseline *runRow
	if x.State == forge.FiringFired {
		for i, n := range []*NewRun{f.Baseline, f.Run} {
			if n == nil {
				continue
			}
			row := rows[0]
			rows = rows[1:]
			row.Tenant, row.User, row.SubmittedAt = p.Tenant, clean(p.Actor()), stampOf(t.now)
			if err := t.submit(row, *n); err != nil {
				return 0, err
			}
			if i == 0 {
				baseline, x.BaselineEval = row, fmt.Sprint(row.Number)
			} else {
				run = row
			}
		}
	}
	id := func(r *runRow) any {
		if r == nil {
			return nil
		}
		return string(r.ID)
	}
	if err := t.one(`INSERT INTO schedule_firings (schedule, due, decided_at, state, words, missed, by_user, run, model, model_id, baseline, baseline_eval, baseline_run)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING seq`, []any{string(s.ID), int64(stampOf(x.Due)), int64(stampOf(t.now)), string(x.State), clean(x.Words), x.Missed,
		clean(f.By.Actor()), id(run), clean(x.Model), string(x.ModelID), clean(x.Baseline), clean(x.BaselineEval), id(baseline)}, &seq); err != nil {
		return 0, err
	}
	e := forge.Event{Tenant: s.Tenant, Actor: f.By.Actor(), Type: forge.EventScheduleSkipped, Reason: string(x.State), Message: fmt.Sprintf("schedule %s %s", s.Name, x.State),
		Data: map[string]any{"schedule": s.Name, "due": x.Due.UTC().Format(time.RFC3339)}}
	if run != nil {
		e.Type, e.Run, e.Number = forge.EventScheduleFired, run.ID, run.Number
		e.Message += ": " + run.name()
	}
	if x.Words != "" {
		e.Message += ": " + x.Words
	}
	return seq, t.event(e)
}

// overlap looks at what earlier firings submitted and has not ended.
func (t *tx) overlap(p forge.Principal, s *scheduleRow, f Fire, x *forge.Firing) error {
	var open []runRow
	err := selectRuns(t.NewSelect(), &open).Where("r.id IN (SELECT run FROM schedule_firings WHERE schedule = ?)", s.ID).
		Where("r.state IN (?)", bun.List([]forge.RunState{forge.RunPending, forge.RunProvisioning, forge.RunRunning})).Order("r.number").Scan(t.ctx)
	if err != nil || len(open) == 0 {
		return err
	}
	newest := &open[len(open)-1]
	switch s.Overlap {
	case forge.OverlapSkip:
		words := fmt.Sprintf("%s of the firing before is %s", newest.name(), newest.State)
		if f.By.UserID != "" {
			return forge.Errorf(forge.KindPrecondition, "schedule.fire", "%s", words).WithHint("forgectl run cancel %d, or wait for its end; --overlap queue would not", newest.Number)
		}
		*x = forge.Firing{Due: x.Due, State: forge.FiringSkipped, Words: words, Missed: x.Missed}
	case forge.OverlapCancel:
		for i := range open {
			if err := t.cancel(&open[i], forge.CancelTerm, p.Actor()); err != nil {
				return err
			}
		}
	}
	return nil
}

// OpenFiring is a firing whose runs have ended, and which nobody has judged yet.
type OpenFiring struct {
	forge.Firing
	Seq      int64
	Schedule forge.Schedule
	Reason   forge.EndReason // of the run
	IsEval   bool
}

const selectFirings = `SELECT f.seq, f.due, f.decided_at, f.state, f.words, f.missed, f.by_user, coalesce(f.run, ''), coalesce(r.number, 0), coalesce(r.state, ''), coalesce(r.reason, ''), coalesce(r.eval, 0),
	f.model, f.model_id, f.baseline, f.baseline_eval, f.verdict, f.verdict_words, f.judged_at, f.cleared, f.schedule
	FROM schedule_firings AS f JOIN schedules AS s ON s.id = f.schedule LEFT JOIN runs AS r ON r.id = f.run`

func firings(ctx context.Context, db *DB, query string, args ...any) ([]OpenFiring, error) {
	rows, err := db.sqlRead.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []OpenFiring
	for rows.Next() {
		var f OpenFiring
		var due, decided, judged stamp
		if err := rows.Scan(&f.Seq, &due, &decided, &f.State, &f.Words, &f.Missed, &f.By, &f.RunID, &f.Run, &f.RunState, &f.Reason, &f.IsEval,
			&f.Model, &f.ModelID, &f.Baseline, &f.BaselineEval, &f.Verdict, &f.VerdictWords, &judged, &f.Cleared, &f.Schedule.ID); err != nil {
			return nil, err
		}
		f.Due, f.DecidedAt, f.JudgedAt = due.time(), decided.time(), judged.time()
		out = append(out, f)
	}
	return out, rows.Err()
}

// judgeAtOnce bounds how many firings one look finds.
const judgeAtOnce = 100

// OpenFirings are the firings of every tenant that are to be judged now, oldest first, and how many wait for their runs.
func (db *DB) OpenFirings(ctx context.Context) (ended []OpenFiring, waiting int, err error) {
	const op = "schedule.open"
	const still = ` WHERE f.state = 'fired' AND f.judged_at = 0`
	const over = ` AND r.state IN ('completed', 'failed', 'cancelled') AND (f.baseline_run IS NULL OR f.baseline_run IN (SELECT id FROM runs WHERE state IN ('completed', 'failed', 'cancelled')))`
	if err := db.sqlRead.QueryRowContext(ctx, `SELECT count(*) FROM schedule_firings AS f JOIN runs AS r ON r.id = f.run`+still).Scan(&waiting); err != nil || waiting == 0 {
		return nil, 0, classify(op, err)
	}
	ended, err = firings(ctx, db, selectFirings+still+over+` ORDER BY f.seq LIMIT ?`, judgeAtOnce)
	if err != nil {
		return nil, 0, classify(op, err)
	}
	for i := range ended {
		row := scheduleRow{}
		if err := db.read.NewSelect().Model(&row).Where("s.id = ?", ended[i].Schedule.ID).Scan(ctx); err != nil {
			return nil, 0, classify(op, err)
		}
		ended[i].Schedule = row.forge()
	}
	return ended, waiting - len(ended), nil
}

// JudgeFiring writes down what an eval came to, once; false where it was judged already. A regression is told in the same transaction.
func (db *DB) JudgeFiring(ctx context.Context, f OpenFiring, v forge.FiringVerdict, words string) (first bool, err error) {
	err = db.write(ctx, "schedule.judge", func(t *tx) error {
		n, err := t.exec(`UPDATE schedule_firings SET verdict = ?, verdict_words = ?, judged_at = ? WHERE seq = ? AND judged_at = 0`, string(v), clean(words), int64(stampOf(t.now)), f.Seq)
		if first = err == nil && n > 0; !first || v != forge.FiringVerdict(forge.CompareRegressed) {
			return err
		}
		return t.event(forge.Event{Tenant: f.Schedule.Tenant, Type: forge.EventEvalRegressed, Run: f.RunID, Number: f.Run, Reason: string(f.Schedule.OnRegression),
			Message: fmt.Sprintf("%s is worse than %s, says schedule %s: %s", f.Model, f.Baseline, f.Schedule.Name, words),
			Data:    map[string]any{"schedule": f.Schedule.Name, "model": f.Model, "baseline": f.Baseline, "eval": fmt.Sprint(f.Run), "baseline_eval": f.BaselineEval}})
	})
	return first, err
}

// Block is a regression that keeps a version from being promoted.
type Block struct {
	Schedule string
	Model    string // NAME@VERSION
	Words    string
	Due      time.Time
}

const blocking = ` FROM schedule_firings AS f JOIN schedules AS s ON s.id = f.schedule
	WHERE s.on_regression = 'block' AND f.verdict = 'regressed' AND f.cleared = '' AND NOT EXISTS (SELECT 1 FROM schedule_firings AS g
		WHERE g.schedule = f.schedule AND g.model_id = f.model_id AND g.seq > f.seq AND g.verdict IN ('regressed', 'non_inferior'))`

// Blocks are the regressions that hold a version back, or, where none is named, all of a schedule. What a schedule found that was taken away
// since is no block: whoever may take one away that blocks has cleared it first.
func (t *Tenant) Blocks(ctx context.Context, v forge.ModelVersionID, of forge.ScheduleID) ([]Block, error) {
	rows, err := t.db.sqlRead.QueryContext(ctx, `SELECT s.name, f.model, f.verdict_words, f.due`+blocking+` AND s.removed_at = 0 AND s.tenant = ? AND (f.model_id = ? OR ? = '') AND (f.schedule = ? OR ? = '') ORDER BY f.seq`,
		string(t.p.Tenant), clean(string(v)), string(v), clean(string(of)), string(of))
	if err != nil {
		return nil, classify("schedule.blocks", err)
	}
	defer rows.Close()
	var out []Block
	for rows.Next() {
		var b Block
		var due stamp
		if err := rows.Scan(&b.Schedule, &b.Model, &b.Words, &due); err != nil {
			return nil, classify("schedule.blocks", err)
		}
		b.Due = due.time()
		out = append(out, b)
	}
	return out, classify("schedule.blocks", rows.Err())
}

// blockedBy names the versions that a schedule holds back.
func (t *tx) blockedBy(id forge.ScheduleID) (out []string, err error) {
	rows, err := t.Conn.Conn.QueryContext(t.ctx, `SELECT f.model`+blocking+` AND f.schedule = ? ORDER BY f.seq`, string(id))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var model string
		if err := rows.Scan(&model); err != nil {
			return nil, err
		}
		out = append(out, model)
	}
	return out, rows.Err()
}
