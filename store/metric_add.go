package store

import (
	"context"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// metricsLate is how long after the end of an attempt its metrics are still taken: who gathers them elsewhere has the last of them a little later.
const metricsLate = 15 * time.Minute

// MetricBatch is what somebody says of an attempt through the API.
type MetricBatch struct {
	Attempt    int
	Rows       []forge.MetricRow // in any order; a time that is not set is now
	TotalSteps int64             // 0: not known
}

// MetricsAdded says what was written of a batch.
type MetricsAdded struct {
	Run            forge.RunID
	Number         int64
	Points, Values int
}

// AddMetrics stores a batch for the newest attempt of a run of the tenant. What RecordProgress says of rows holds here, too, and they share them: of two that
// bring the same key of a step the later one stands. The run follows forward only: batches come in any order. KindNotFound for a run or attempt that there is not;
// KindConflict for an attempt that is superseded; KindPrecondition for one that ended more than 15 minutes ago.
func (t *Tenant) AddMetrics(ctx context.Context, run forge.RunID, b MetricBatch) (MetricsAdded, error) {
	const op = "metrics.add"
	var out MetricsAdded
	rows, err := points(op, b.Attempt, b.Rows)
	if err == nil && len(rows) == 0 {
		err = forge.Invalidf("points", "there are none").WithOp(op)
	}
	if err != nil {
		return out, err
	}
	err = t.db.write(ctx, op, func(tx *tx) error {
		r, a, err := tx.newest(op, run, b.Attempt)
		if err != nil {
			return err
		}
		if r.Tenant != t.p.Tenant {
			return noRun(string(run))
		}
		if ended := max(a.ExitedAt, a.EndedAt); !a.State.Open() && tx.now.Sub(ended.time()) > metricsLate {
			return forge.Errorf(forge.KindPrecondition, op, "attempt %d of %s ended at %s; its metrics were taken until %s after that", a.Number, r.name(), ended.time().Format(time.RFC3339), metricsLate)
		}
		out = MetricsAdded{Run: r.ID, Number: r.Number, Points: len(rows)}
		for i := range rows {
			if out.Values += len(rows[i].values); rows[i].time == 0 {
				rows[i].time = stampOf(tx.now)
			}
		}
		if err := tx.putPoints(r.ID, rows); err != nil {
			return err
		}
		return tx.follow(r, a, rows, b.TotalSteps)
	})
	return out, err
}

// follow takes what a batch says into the run and its attempt. Those that have ended stay as they were judged.
func (t *tx) follow(r *runRow, a *attemptRow, rows []point, total int64) error {
	newest := rows[len(rows)-1].step
	known := total <= 0 || total == r.TotalSteps
	if !a.State.Open() || newest < a.LastStep && known {
		return nil
	}
	if !known {
		r.TotalSteps = total
	}
	if newest >= a.LastStep {
		r.Step, a.LastStep = newest, newest
		if loss, ok := lastLoss(rows); ok {
			r.Loss = &loss
		}
	}
	a.stepped(rows, t.now)
	if err := t.saveAttempt(a); err != nil {
		return err
	}
	return t.saveRun(r)
}
