package store

import (
	"cmp"
	"database/sql"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// point is one step on its way to its row.
type point struct {
	step    int64
	attempt int
	time    stamp
	values  map[string]float64
	written bool // it is in the table as it is
}

// points makes rows of what came: ascending, one a step, finite values only. What comes twice is joined key by key, and of a key what came last stands.
func points(op string, attempt int, rows []forge.MetricRow) ([]point, error) {
	all := make([]point, 0, len(rows))
	sorted := true
	for i := range rows {
		m := &rows[i]
		if m.Step < 0 {
			return nil, forge.Invalidf("step", "%d is negative; steps start at 0", m.Step).WithOp(op)
		}
		sorted = sorted && (i == 0 || rows[i-1].Step < m.Step)
		all = append(all, point{step: m.Step, attempt: attempt, time: stampOf(m.Time), values: finite(m.Values)})
	}
	if sorted {
		return all, nil
	}
	slices.SortStableFunc(all, func(a, b point) int { return cmp.Compare(a.step, b.step) })
	joined := all[:0]
	for _, p := range all {
		if n := len(joined); n > 0 && joined[n-1].step == p.step {
			joined[n-1].join(p)
			continue
		}
		joined = append(joined, p)
	}
	return joined, nil
}

// join takes the keys of a later one in.
func (p *point) join(later point) {
	values := make(map[string]float64, len(p.values)+len(later.values))
	maps.Copy(values, p.values)
	maps.Copy(values, later.values)
	p.values, p.time, p.written = values, later.time, false
}

// finite is the same map where there is nothing to leave out.
func finite(values map[string]float64) map[string]float64 {
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			kept := maps.Clone(values)
			maps.DeleteFunc(kept, func(_ string, v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
			return kept
		}
	}
	return values
}

// text is the column: JSON with its keys sorted.
func (p *point) text() string {
	keys := make([]string, 0, len(p.values))
	for k := range p.values {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b := append(make([]byte, 0, 2+32*len(keys)), '{')
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendKey(b, k), ':')
		b = strconv.AppendFloat(b, p.values[k], 'g', -1, 64)
	}
	return string(append(b, '}'))
}

func appendKey(b []byte, key string) []byte {
	plain := func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }
	if strings.IndexFunc(key, plain) < 0 {
		return append(append(append(b, '"'), key...), '"')
	}
	quoted, _ := json.Marshal(key) // a string can always be
	return append(b, quoted...)
}

// putPoints stores ascending points of one attempt and makes the roll-ups above them anew. One row per (run, step): keys of the same attempt
// are joined, the row of an older one is replaced, that of a newer one stays. A batch is read, merged and written as one: what is there is
// asked for once for each piece of neighbouring buckets, and rows are written many to a statement.
func (t *tx) putPoints(run forge.RunID, fresh []point) error {
	for len(fresh) > 0 {
		n := 1
		for n < len(fresh) && fresh[n].step/spans[0] <= fresh[n-1].step/spans[0]+1 {
			n++
		}
		if err := t.putPiece(run, fresh[:n]); err != nil {
			return err
		}
		fresh = fresh[n:]
	}
	return nil
}

// putPiece stores points that fall into buckets of the first level without one between them that gets none.
func (t *tx) putPiece(run forge.RunID, fresh []point) error {
	from, to := fresh[0].step/spans[0]*spans[0], fresh[len(fresh)-1].step/spans[0]*spans[0]+spans[0]
	there, err := t.pointsBetween(run, from, to)
	if err != nil {
		return err
	}
	all, gone := merged(there, fresh)
	if err := t.writePoints(run, all); err != nil {
		return err
	}
	return t.rollUp(run, all, gone)
}

func (t *tx) pointsBetween(run forge.RunID, from, to int64) ([]point, error) {
	return collect(t, `SELECT step, attempt, time, "values" FROM run_metrics WHERE run = ? AND step >= ? AND step < ? ORDER BY step`,
		[]any{string(run), from, to}, func(rows *sql.Rows, into []point) ([]point, error) {
			p := point{written: true}
			var text sql.RawBytes
			if err := rows.Scan(&p.step, &p.attempt, (*int64)(&p.time), &text); err != nil {
				return nil, err
			}
			if len(text) > 0 {
				if err := json.Unmarshal(text, &p.values); err != nil {
					return nil, err
				}
			}
			return append(into, p), nil
		})
}

// merged brings fresh points among those that are there, both ascending. Gone says that a row was replaced: a key that stood in it may stand in none now.
func merged(there, fresh []point) (all []point, gone bool) {
	if len(there) == 0 {
		return fresh, false
	}
	all = make([]point, 0, len(there)+len(fresh))
	for _, p := range fresh {
		for len(there) > 0 && there[0].step < p.step {
			all, there = append(all, there[0]), there[1:]
		}
		if len(there) == 0 || there[0].step > p.step {
			all = append(all, p)
			continue
		}
		old := there[0]
		there = there[1:]
		switch {
		case old.attempt < p.attempt:
			all, gone = append(all, p), true
		case old.attempt > p.attempt:
			all = append(all, old)
		default:
			old.join(p)
			all = append(all, old)
		}
	}
	return append(all, there...), gone
}

// The table guards once more what the code before has seen to: an older attempt never writes over a newer one (invariant 2).
var putRows = multiRow(`INSERT INTO run_metrics (run, step, attempt, time, "values") VALUES `, 1, 4, ` ON CONFLICT (run, step)
	DO UPDATE SET attempt = excluded.attempt, time = excluded.time, "values" = excluded."values" WHERE excluded.attempt >= run_metrics.attempt`)

func (t *tx) writePoints(run forge.RunID, all []point) error {
	rows := t.rows(putRows, string(run))
	for i := range all {
		if p := &all[i]; !p.written {
			if err := rows.add(p.step, p.attempt, int64(p.time), p.text()); err != nil {
				return err
			}
		}
	}
	return rows.flush()
}

// rowsAtOnce are how many rows one statement writes: texts that never change, which the connection keeps prepared.
var rowsAtOnce = []int{64, 16, 4, 1}

// multi is an insert of many rows whose first columns are the same.
type multi struct {
	texts         []string // by rowsAtOnce
	shared, width int
}

// multiRow numbers the parameters, so that what rows share is bound once.
func multiRow(head string, shared, width int, tail string) multi {
	m := multi{shared: shared, width: width}
	for _, n := range rowsAtOnce {
		var b strings.Builder
		b.WriteString(head)
		for row := range n {
			if row > 0 {
				b.WriteByte(',')
			}
			b.WriteByte('(')
			for i := range shared + width {
				if i > 0 {
					b.WriteByte(',')
				}
				at := 1 + i
				if i >= shared {
					at += row * width
				}
				b.WriteString("?" + strconv.Itoa(at))
			}
			b.WriteByte(')')
		}
		b.WriteString(tail)
		m.texts = append(m.texts, b.String())
	}
	return m
}

// rowWriter gathers rows for a multi.
type rowWriter struct {
	t    *tx
	m    multi
	args []any
}

func (t *tx) rows(m multi, shared ...any) *rowWriter {
	return &rowWriter{t: t, m: m, args: append(make([]any, 0, m.shared+rowsAtOnce[0]*m.width), shared...)}
}

func (w *rowWriter) add(values ...any) error {
	w.args = append(w.args, values...)
	if len(w.args) < w.m.shared+rowsAtOnce[0]*w.m.width {
		return nil
	}
	return w.write(0)
}

// flush writes what is left, in as few statements as there are texts for.
func (w *rowWriter) flush() error {
	for i, n := range rowsAtOnce {
		for len(w.args) >= w.m.shared+n*w.m.width {
			if err := w.write(i); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *rowWriter) write(batch int) error {
	end := w.m.shared + rowsAtOnce[batch]*w.m.width
	if _, err := w.t.exec(w.m.texts[batch], w.args[:end]...); err != nil {
		return err
	}
	w.args = append(w.args[:w.m.shared], w.args[end:]...)
	return nil
}
