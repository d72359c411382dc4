package store

import (
	"context"
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

type rollupRow struct {
	bun.BaseModel `bun:"table:metric_rollups,alias:u"`

	Key  string  `bun:"key"`
	Step int64   `bun:"step"`
	Min  float64 `bun:"min"`
	Max  float64 `bun:"max"`
	Last float64 `bun:"last"`
}

// Metrics reads curves of a run between two steps (to 0: the end), at most points buckets a key
// (0: 500): the rows themselves while they fit, else the finest roll-up that does. No keys: all.
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
	q := curve{ctx: ctx, run: run, from: max(from, 0), to: to, points: min(points, maxPoints)}
	err := t.db.snapshot(ctx, "metrics.read", func(tx bun.Tx) error {
		q.tx = tx
		var newest []rollupRow
		if err := tx.NewSelect().Model(&newest).Where("u.run = ?", run).Where("u.span = ?", spans[len(spans)-1]).Order("u.step").Scan(ctx); err != nil {
			return err
		}
		for _, r := range newest {
			view.Last[r.Key] = r.Last
			if !slices.Contains(view.Keys, r.Key) {
				view.Keys = append(view.Keys, r.Key)
			}
		}
		slices.Sort(view.Keys)
		wanted := view.Keys
		if len(keys) > 0 {
			wanted = keys
		}
		return q.read(wanted, view.Curves)
	})
	return view, err
}

// curve is one question for curves.
type curve struct {
	ctx      context.Context
	tx       bun.Tx
	run      forge.RunID
	from, to int64
	points   int
}

func (q *curve) read(keys []string, into map[string][]forge.MetricBucket) error {
	rows := []metricRow{}
	err := q.tx.NewSelect().Model(&rows).Column("step", "values").Where("x.run = ?", q.run).Where("x.step BETWEEN ? AND ?", q.from, q.to).
		Order("x.step").Limit(int64(q.points + 1)).Scan(q.ctx)
	if err != nil {
		return err
	}
	for _, key := range keys {
		into[key] = []forge.MetricBucket{}
	}
	if len(rows) <= q.points {
		return raw(rows, into)
	}
	for _, key := range keys {
		if into[key], err = q.rolled(key); err != nil {
			return err
		}
	}
	return nil
}

func raw(rows []metricRow, into map[string][]forge.MetricBucket) error {
	for i := range rows {
		var values map[string]float64
		if err := decode(rows[i].Values, &values); err != nil {
			return err
		}
		for key, v := range values {
			if _, wanted := into[key]; wanted {
				into[key] = append(into[key], forge.MetricBucket{Step: rows[i].Step, Span: 1, Min: v, Max: v, Last: v})
			}
		}
	}
	return nil
}

// rolled reads one key from the finest level that fits; past the coarsest it joins neighbours.
func (q *curve) rolled(key string) ([]forge.MetricBucket, error) {
	for i, span := range spans {
		var rows []rollupRow
		sel := q.tx.NewSelect().Model(&rows).Column("step", "min", "max", "last").Where("u.run = ?", q.run).Where("u.span = ?", span).
			Where("u.step > ?", q.from-span).Where("u.step <= ?", q.to).Where("u.key = ?", clean(key)).Order("u.step")
		coarsest := i == len(spans)-1
		if !coarsest {
			sel = sel.Limit(int64(q.points + 1))
		}
		if err := sel.Scan(q.ctx); err != nil {
			return nil, err
		}
		if len(rows) <= q.points || coarsest {
			return thin(rows, span, q.points), nil
		}
	}
	return nil, nil
}

// thin joins neighbouring buckets until at most points are left.
func thin(rows []rollupRow, span int64, points int) []forge.MetricBucket {
	per := max(1, (len(rows)+points-1)/points)
	buckets := make([]forge.MetricBucket, 0, points)
	for chunk := range slices.Chunk(rows, per) {
		b := forge.MetricBucket{Step: chunk[0].Step, Min: chunk[0].Min, Max: chunk[0].Max}
		for _, r := range chunk {
			b.Min, b.Max, b.Last = min(b.Min, r.Min), max(b.Max, r.Max), r.Last
			b.Span = r.Step + span - b.Step
		}
		buckets = append(buckets, b)
	}
	return buckets
}
