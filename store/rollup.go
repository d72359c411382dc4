package store

import (
	"database/sql"
	"maps"
	"slices"

	forge "github.com/forge-ml/forge-ml"
)

// spans are the widths of the roll-ups, each 16 of the one before; the first is 16 steps.
var spans = []int64{16, 256, 4096}

const fanOut = 16

// rollUp makes every bucket that one of the steps falls into anew, level by level. Recomputing (16
// rows or buckets at most) instead of merging keeps minimum and maximum right when a resumed
// attempt writes steps again.
func (t *tx) rollUp(run forge.RunID, steps []int64) error {
	for _, span := range spans {
		starts := map[int64]bool{}
		for _, s := range steps {
			starts[s-s%span] = true
		}
		steps = slices.Sorted(maps.Keys(starts))
		for _, start := range steps {
			if err := t.rollUpBucket(run, span, start); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *tx) rollUpBucket(run forge.RunID, span, start int64) error {
	below, err := t.below(run, span, start)
	if err != nil {
		return err
	}
	all := map[string]forge.MetricBucket{}
	for _, p := range below {
		all[p.key] = merge(all, p)
	}
	if _, err := t.exec(`DELETE FROM metric_rollups WHERE run = ? AND span = ? AND step = ?`, string(run), span, start); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		b := all[key]
		if _, err := t.exec(`INSERT INTO metric_rollups (run, span, step, key, min, max, last) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			string(run), span, start, key, b.Min, b.Max, b.Last); err != nil {
			return err
		}
	}
	return nil
}

// part is one key of one row or smaller bucket, in the order of steps.
type part struct {
	key            string
	min, max, last float64
}

func merge(all map[string]forge.MetricBucket, p part) forge.MetricBucket {
	b, ok := all[p.key]
	if !ok {
		return forge.MetricBucket{Min: p.min, Max: p.max, Last: p.last}
	}
	return forge.MetricBucket{Min: min(b.Min, p.min), Max: max(b.Max, p.max), Last: p.last}
}

// below reads what a bucket is made of: rows for the smallest, buckets of the level below for others.
func (t *tx) below(run forge.RunID, span, start int64) ([]part, error) {
	if span == spans[0] {
		return collect(t, `SELECT "values" FROM run_metrics WHERE run = ? AND step >= ? AND step < ? ORDER BY step`,
			[]any{string(run), start, start + span}, func(rows *sql.Rows, into []part) ([]part, error) {
				var text string
				if err := rows.Scan(&text); err != nil {
					return nil, err
				}
				var values map[string]float64
				err := decode(text, &values)
				for k, v := range values {
					into = append(into, part{k, v, v, v})
				}
				return into, err
			})
	}
	return collect(t, `SELECT key, min, max, last FROM metric_rollups WHERE run = ? AND span = ? AND step >= ? AND step < ? ORDER BY step`,
		[]any{string(run), span / fanOut, start, start + span}, func(rows *sql.Rows, into []part) ([]part, error) {
			var p part
			err := rows.Scan(&p.key, &p.min, &p.max, &p.last)
			return append(into, p), err
		})
}

// collect runs a bound query and gathers what scan makes of its rows.
func collect[T any](t *tx, query string, args []any, scan func(*sql.Rows, []T) ([]T, error)) ([]T, error) {
	rows, err := t.Conn.Conn.QueryContext(t.ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		if all, err = scan(rows, all); err != nil {
			return nil, err
		}
	}
	return all, rows.Err()
}
