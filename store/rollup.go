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

var putBuckets = multiRow(`INSERT OR REPLACE INTO metric_rollups (run, span, step, key, min, max, last) VALUES `, 3, 4, "")

// rollUp makes every bucket above the points anew, level by level: all holds every row of each bucket of the first level that it holds one of, ascending. Recomputing
// (16 rows or buckets at most) instead of merging keeps minimum and maximum right when a resumed attempt writes steps again. Gone says that
// keys may have left a bucket.
func (t *tx) rollUp(run forge.RunID, all []point, gone bool) error {
	var starts []int64
	for len(all) > 0 {
		start, n := all[0].step/spans[0]*spans[0], 1
		for n < len(all) && all[n].step < start+spans[0] {
			n++
		}
		if err := t.putBucket(run, start, all[:n], gone); err != nil {
			return err
		}
		starts, all = append(starts, start), all[n:]
	}
	for _, span := range spans[1:] {
		above := starts[:0]
		for _, s := range starts {
			if start := s / span * span; len(above) == 0 || above[len(above)-1] != start {
				if err := t.joinBuckets(run, span, start, gone); err != nil {
					return err
				}
				above = append(above, start)
			}
		}
		starts = above
	}
	return nil
}

// putBucket writes one of the first level from its rows.
func (t *tx) putBucket(run forge.RunID, start int64, rows []point, gone bool) error {
	if gone {
		if err := t.dropBucket(run, spans[0], start); err != nil {
			return err
		}
	}
	all := make(map[string]forge.MetricBucket, len(rows[0].values))
	for _, p := range rows {
		for key, v := range p.values {
			b, ok := all[key]
			if !ok {
				b = forge.MetricBucket{Min: v, Max: v}
			}
			all[key] = forge.MetricBucket{Min: min(b.Min, v), Max: max(b.Max, v), Last: v}
		}
	}
	out := t.rows(putBuckets, string(run), spans[0], start)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		b := all[key]
		if err := out.add(key, b.Min, b.Max, b.Last); err != nil {
			return err
		}
	}
	return out.flush()
}

// joinBuckets writes one of a higher level from those below it. SQLite does it by itself: 16 buckets of 20 keys would be 320 rows to carry out and in again.
func (t *tx) joinBuckets(run forge.RunID, span, start int64, gone bool) error {
	if gone {
		if err := t.dropBucket(run, span, start); err != nil {
			return err
		}
	}
	_, err := t.exec(`INSERT OR REPLACE INTO metric_rollups (run, span, step, key, min, max, last)
		SELECT ?1, ?2, ?3, g.key, g.low, g.high, l.last FROM (
			SELECT key, min("min") AS low, max("max") AS high, max(step) AS newest FROM metric_rollups
			WHERE run = ?1 AND span = ?4 AND step >= ?3 AND step < ?5 GROUP BY key) AS g
		CROSS JOIN metric_rollups AS l ON l.run = ?1 AND l.span = ?4 AND l.step = g.newest AND l.key = g.key`,
		string(run), span, start, span/fanOut, start+span)
	return err
}

func (t *tx) dropBucket(run forge.RunID, span, start int64) error {
	_, err := t.exec(`DELETE FROM metric_rollups WHERE run = ? AND span = ? AND step = ?`, string(run), span, start)
	return err
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
