package store

import (
	"context"
	"time"

	"github.com/oklog/ulid/v2"

	forge "github.com/forge-ml/forge-ml"
)

// Lived is a run that has ended, as far as others are judged by it.
type Lived struct {
	Run         forge.RunID
	Tenant      forge.TenantID
	Recipe      string
	Base        string // NAME@VERSION of the base model, "" where there is none
	GPUs        int
	TotalSteps  int64 // 0: it never said
	SubmittedAt time.Time
	EndedAt     time.Time
	Worked      time.Duration // over its attempts, from when all ranks had started to their exit
}

// Ids grow with the time of their making, so that the newest runs are found without an index of their own.
const livedQuery = `SELECT id, tenant, recipe, base, nodes * gpus_per_node, total_steps, submitted_at, ended_at,
		coalesce((SELECT sum(max(0, exited_at - started_at)) FROM attempts AS a WHERE a.run = runs.id AND a.started_at > 0 AND a.exited_at > 0), 0)
	FROM runs WHERE id >= ? AND state IN ('completed', 'failed', 'cancelled') ORDER BY id DESC LIMIT ?`

// RunsLived lists the newest runs that have ended and were submitted since a time, newest first, at most so many.
func (db *DB) RunsLived(ctx context.Context, since time.Time, limit int) ([]Lived, error) {
	const op = "runs.lived"
	rows, err := db.read.QueryContext(ctx, livedQuery, firstID(since), limit)
	if err != nil {
		return nil, classify(op, err)
	}
	defer func() { _ = rows.Close() }()
	var out []Lived
	for rows.Next() {
		var l Lived
		var submitted, ended, worked stamp
		if err := rows.Scan((*string)(&l.Run), (*string)(&l.Tenant), &l.Recipe, &l.Base, &l.GPUs, &l.TotalSteps, (*int64)(&submitted), (*int64)(&ended), (*int64)(&worked)); err != nil {
			return nil, classify(op, err)
		}
		l.SubmittedAt, l.EndedAt, l.Worked = submitted.time(), ended.time(), time.Duration(worked)
		out = append(out, l)
	}
	return out, classify(op, rows.Err())
}

// firstID is not above any id that was made at that time or later.
func firstID(at time.Time) string {
	var id ulid.ULID
	if at.After(time.Unix(0, 0)) {
		_ = id.SetTime(ulid.Timestamp(at)) // no time of ours is too large
	}
	return id.String()
}

// pastQuery has the index of live runs lead, as everywhere at a start.
const pastQuery = `(SELECT id FROM runs WHERE ` + live + ` AND attempt > 0) AS r CROSS JOIN attempts AS a ON a.run = r.id`

// PastAttempts lists the ended attempts of runs that have not, by run and number.
func (db *DB) PastAttempts(ctx context.Context) ([]forge.Attempt, error) {
	var rows []attemptRow
	err := db.read.NewRaw(`SELECT a.*, coalesce((SELECT c.saved_at FROM checkpoints AS c WHERE c.run = a.run AND c.step = a.saved_step AND c.attempt = a.number), 0) AS saved_at
		FROM `+pastQuery+` WHERE a.state = 'ended' ORDER BY a.run, a.number`).Scan(ctx, &rows)
	if err != nil {
		return nil, classify("attempts.past", err)
	}
	past, err := nouns(rows, func(r *attemptRow) (forge.Attempt, error) { return r.forge() })
	return past, classify("attempts.past", err)
}

// LastSteps lists the newest steps of a run's newest attempt that wrote any, ascending: their numbers and times alone.
func (db *DB) LastSteps(ctx context.Context, run forge.RunID, limit int) ([]forge.MetricRow, error) {
	const op = "steps.last"
	rows, err := db.read.QueryContext(ctx, `SELECT step, attempt, time FROM (SELECT step, attempt, time FROM run_metrics WHERE run = ? ORDER BY step DESC LIMIT ?) ORDER BY step`, clean(string(run)), limit)
	if err != nil {
		return nil, classify(op, err)
	}
	defer func() { _ = rows.Close() }()
	var out []forge.MetricRow
	for rows.Next() {
		m := forge.MetricRow{Run: run}
		var at stamp
		if err := rows.Scan(&m.Step, &m.Attempt, (*int64)(&at)); err != nil {
			return nil, classify(op, err)
		}
		m.Time = at.time()
		out = append(out, m)
	}
	return out, classify(op, rows.Err())
}
