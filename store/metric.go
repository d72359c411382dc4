package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"math"
	"slices"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

const (
	defaultPoints = 500
	maxPoints     = 10_000
)

// MetricsView is what plots and summaries need of a run's metrics.
type MetricsView struct {
	Keys   []string                        // every key that the run reported, sorted
	Curves map[string][]forge.MetricBucket // of the keys asked for
	Last   map[string]float64              // newest value by key
}

// Metrics reads curves of a run between two steps (to 0: the end), at most points buckets a key
// (0: 500): the rows themselves while they fit, else the finest roll-up that does. No keys: all.
// What it reads grows with the points that are asked for, and not with the steps of the run, but for one bucket in 4,096 steps.
// KindNotFound when the tenant has no such run.
func (t *Tenant) Metrics(ctx context.Context, run forge.RunID, keys []string, from, to int64, points int) (MetricsView, error) {
	view := MetricsView{Keys: []string{}, Curves: map[string][]forge.MetricBucket{}, Last: map[string]float64{}}
	if err := t.owned(ctx, run); err != nil {
		return view, err
	}
	if to <= 0 {
		to = math.MaxInt64
	}
	if points <= 0 {
		points = defaultPoints
	}
	q := curve{ctx: ctx, run: clean(string(run)), from: max(from, 0), to: to, points: min(points, maxPoints)}
	err := t.db.snapshot(ctx, "metrics.read", func(tx bun.Tx) error {
		q.tx = tx
		if err := q.newest(&view); err != nil {
			return err
		}
		for _, key := range keys {
			view.Curves[clean(key)] = []forge.MetricBucket{}
		}
		if len(keys) == 0 {
			for _, key := range view.Keys {
				view.Curves[key] = []forge.MetricBucket{}
			}
		}
		return q.read(view.Curves)
	})
	return view, err
}

// curve is one question for curves.
type curve struct {
	ctx      context.Context
	tx       bun.Tx
	run      string
	from, to int64
	points   int
}

// each runs a query and hands its rows over one by one.
func (q *curve) each(row func(*sql.Rows) error, query string, args ...any) error {
	rows, err := q.tx.Tx.QueryContext(q.ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// newest reads the keys and their last values. With max() as its one aggregate SQLite takes the other columns from the row that has the maximum.
func (q *curve) newest(view *MetricsView) error {
	return q.each(func(rows *sql.Rows) error {
		var key string
		var step int64
		var last float64
		err := rows.Scan(&key, &step, &last)
		view.Keys = append(view.Keys, key)
		view.Last[key] = last
		return err
	}, `SELECT key, max(step), last FROM metric_rollups WHERE run = ? AND span = ? GROUP BY key ORDER BY key`, q.run, spans[len(spans)-1])
}

// read fills the curves of the keys that there are. Whether the rows fit is asked of their steps alone: the values of a row may be many times what is wanted of it.
func (q *curve) read(into map[string][]forge.MetricBucket) error {
	var n int
	err := q.tx.Tx.QueryRowContext(q.ctx, `SELECT count(*) FROM (SELECT 1 FROM run_metrics WHERE run = ? AND step BETWEEN ? AND ? LIMIT ?)`,
		q.run, q.from, q.to, q.points+1).Scan(&n)
	switch {
	case err != nil:
		return err
	case n <= q.points:
		return q.raw(into)
	}
	if err := q.coarsest(into); err != nil {
		return err
	}
	for key, curve := range into {
		if into[key], err = q.refined(key, curve); err != nil {
			return err
		}
	}
	return nil
}

func (q *curve) raw(into map[string][]forge.MetricBucket) error {
	return q.each(func(rows *sql.Rows) error {
		var step int64
		var text sql.RawBytes
		if err := rows.Scan(&step, &text); err != nil || len(text) == 0 {
			return err
		}
		var values map[string]float64
		if err := json.Unmarshal(text, &values); err != nil {
			return err
		}
		for key, v := range values {
			if curve, wanted := into[key]; wanted {
				into[key] = append(curve, forge.MetricBucket{Step: step, Span: 1, Min: v, Max: v, Last: v})
			}
		}
		return nil
	}, `SELECT step, "values" FROM run_metrics WHERE run = ? AND step BETWEEN ? AND ? ORDER BY step`, q.run, q.from, q.to)
}

// coarsest reads the last level, of all keys in one pass: they lie beside each other.
func (q *curve) coarsest(into map[string][]forge.MetricBucket) error {
	span := spans[len(spans)-1]
	return q.each(func(rows *sql.Rows) error {
		var key sql.RawBytes
		b := forge.MetricBucket{Span: span}
		if err := rows.Scan(&key, &b.Step, &b.Min, &b.Max, &b.Last); err != nil {
			return err
		}
		if curve, wanted := into[string(key)]; wanted {
			into[string(key)] = append(curve, b)
		}
		return nil
	}, `SELECT key, step, min, max, last FROM metric_rollups WHERE run = ? AND span = ? AND step > ? AND step <= ? ORDER BY step`, q.run, span, q.from-span, q.to)
}

// refined goes to finer levels while they fit. The buckets of a finer one are looked up below those that are known: a key that is rare among many others must
// not cost a walk over all of theirs. Past the coarsest it joins neighbours.
func (q *curve) refined(key string, curve []forge.MetricBucket) ([]forge.MetricBucket, error) {
	if len(curve) > q.points {
		return thin(curve, q.points), nil
	}
	for i := len(spans) - 2; i >= 0 && len(curve) > 0; i-- {
		finer, err := q.below(key, spans[i], curve)
		if err != nil {
			return nil, err
		}
		if len(finer) > q.points {
			break
		}
		curve = finer
	}
	return curve, nil
}

// below reads at most one bucket more than points.
func (q *curve) below(key string, span int64, above []forge.MetricBucket) ([]forge.MetricBucket, error) {
	starts := make([]int64, len(above))
	for i, b := range above {
		starts[i] = b.Step
	}
	list, err := json.Marshal(starts)
	if err != nil {
		return nil, err
	}
	curve := make([]forge.MetricBucket, 0, min(len(above)*fanOut, q.points+1))
	err = q.each(func(rows *sql.Rows) error {
		b := forge.MetricBucket{Span: span}
		err := rows.Scan(&b.Step, &b.Min, &b.Max, &b.Last)
		curve = append(curve, b)
		return err
	}, `SELECT u.step, u.min, u.max, u.last FROM json_each(?1) AS a
		CROSS JOIN (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15)) AS n
		CROSS JOIN metric_rollups AS u ON u.run = ?2 AND u.span = ?3 AND u.step = a.value + n.column1 * ?3 AND u.key = ?4
		WHERE u.step > ?5 AND u.step <= ?6 LIMIT ?7`, string(list), q.run, span, key, q.from-span, q.to, q.points+1)
	slices.SortFunc(curve, func(a, b forge.MetricBucket) int { return cmp.Compare(a.Step, b.Step) })
	return curve, err
}

// thin joins neighbouring buckets until at most points are left.
func thin(rows []forge.MetricBucket, points int) []forge.MetricBucket {
	per := max(1, (len(rows)+points-1)/points)
	buckets := make([]forge.MetricBucket, 0, points)
	for chunk := range slices.Chunk(rows, per) {
		b := chunk[0]
		for _, r := range chunk {
			b.Min, b.Max, b.Last = min(b.Min, r.Min), max(b.Max, r.Max), r.Last
			b.Span = r.Step + r.Span - b.Step
		}
		buckets = append(buckets, b)
	}
	return buckets
}
