package daemon

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

// measures implements api.Measures.
type measures struct{ d *Daemon }

func (s measures) AddMetrics(ctx context.Context, p forge.Principal, run string, q api.AddMetricsRequest) (api.MetricsAdded, error) {
	const op = "metrics.add"
	r, err := s.d.ownRun(ctx, p, op, run)
	if err != nil {
		return api.MetricsAdded{}, err
	}
	rows, dropped, err := metricRows(q, time.Now())
	if err != nil {
		return api.MetricsAdded{}, err
	}
	out := api.MetricsAdded{Run: r.Number, Attempt: q.Attempt, Dropped: dropped}
	if len(rows) == 0 { // nothing but nulls
		return out, nil
	}
	added, err := s.d.db.For(p).AddMetrics(ctx, r.ID, store.MetricBatch{Attempt: q.Attempt, Rows: rows, TotalSteps: q.TotalSteps})
	if err != nil {
		return api.MetricsAdded{}, err
	}
	if a, ok := s.d.world.attempt(r.ID); ok && a.Number == q.Attempt && s.d.world.measure(&a, rows, time.Now()) {
		kick(s.d.kickPlan)
	}
	out.Points, out.Values = added.Points, added.Values
	return out, nil
}

// metricRows holds a batch against its bounds. Points of which nothing is left are left out.
func metricRows(q api.AddMetricsRequest, now time.Time) (rows []forge.MetricRow, dropped int, err error) {
	if q.Attempt < 1 {
		return nil, 0, forge.Invalidf("attempt", "%d: the first attempt is 1; the program of a run finds its own in FORGE_ATTEMPT", q.Attempt)
	}
	if n := len(q.Points); n == 0 || n > api.MaxMetricPoints {
		return nil, 0, forge.Invalidf("points", "%d points; want 1 to %d", n, api.MaxMetricPoints)
	}
	rows = make([]forge.MetricRow, 0, len(q.Points))
	values := 0
	for i, point := range q.Points {
		field := func(rest string) string { return fmt.Sprintf("points[%d].%s", i, rest) }
		if point.Step < 0 {
			return nil, 0, forge.Invalidf(field("step"), "%d is negative; steps start at 0", point.Step)
		}
		if n := len(point.Values); n > api.MaxMetricKeys {
			return nil, 0, forge.Invalidf(field("values"), "%d keys; want at most %d", n, api.MaxMetricKeys)
		}
		if values += len(point.Values); values > api.MaxMetricValues {
			return nil, 0, forge.Invalidf("points", "more than %d values; send them as several batches", api.MaxMetricValues)
		}
		row := forge.MetricRow{Step: point.Step, Time: point.Time, Values: make(map[string]float64, len(point.Values))}
		if row.Time.IsZero() || row.Time.Before(time.Unix(0, 0)) || row.Time.After(now.Add(24*time.Hour)) {
			row.Time = now // a clock that is wrong by that much says nothing
		}
		for k, v := range point.Values {
			if k == "" || len(k) > forge.MaxNameLength {
				return nil, 0, forge.Invalidf(field("values"), "the key %.80q has %d bytes; want 1 to %d", k, len(k), forge.MaxNameLength)
			}
			if v == nil || math.IsNaN(*v) || math.IsInf(*v, 0) {
				dropped++
				continue
			}
			row.Values[k] = *v
		}
		if len(row.Values) > 0 {
			rows = append(rows, row)
		}
	}
	slices.SortStableFunc(rows, func(a, b forge.MetricRow) int { return cmp.Compare(a.Step, b.Step) })
	return rows, dropped, nil
}
