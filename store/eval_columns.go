package store

import (
	"context"
	"encoding/binary"
	"math"
	"sort"

	forge "github.com/forge-ml/forge-ml"
)

// EvalColumns are the scores of one task under one filter, a column each; all columns have one length, and documents ascend.
type EvalColumns struct {
	Task    string
	Filter  string
	Doc     []int64
	Asked   [][16]byte           // equal where the same was asked
	Cluster []uint64             // nil: samples stand for themselves
	Scores  map[string][]float64 // by metric; NaN: the harness gave no number
}

// EvalLines says where the samples of a document stand in the packed lines: so that of 100,000 only those are unpacked that are shown.
type EvalLines struct {
	Line   []uint32 // of each document, in the order of EvalColumns.Doc
	Blocks []int64  // where each EvalBlock lines begin in EvalSamples.Data, a gzip of their own
}

// EvalBlock is how many lines are packed together.
const EvalBlock = 256

func (t *tx) addColumns(eval string, c EvalColumns, at EvalLines) error {
	docs, asked := make([]byte, 0, 8*len(c.Doc)), make([]byte, 0, 16*len(c.Asked))
	for _, d := range c.Doc {
		docs = binary.LittleEndian.AppendUint64(docs, uint64(d))
	}
	for i := range c.Asked {
		asked = append(asked, c.Asked[i][:]...)
	}
	var clusters any
	if c.Cluster != nil {
		b := make([]byte, 0, 8*len(c.Cluster))
		for _, g := range c.Cluster {
			b = binary.LittleEndian.AppendUint64(b, g)
		}
		clusters = b
	}
	var lines, blocks []byte
	for _, l := range at.Line {
		lines = binary.LittleEndian.AppendUint32(lines, l)
	}
	for _, b := range at.Blocks {
		blocks = binary.LittleEndian.AppendUint64(blocks, uint64(b))
	}
	if _, err := t.exec(`INSERT INTO eval_columns (eval, task, filter, n, docs, asked, clusters, lines, blocks) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		eval, clean(c.Task), clean(c.Filter), len(c.Doc), docs, asked, clusters, lines, blocks); err != nil {
		return err
	}
	for metric, values := range c.Scores {
		b := make([]byte, 0, 8*len(values))
		for _, v := range values {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		}
		if _, err := t.exec(`INSERT INTO eval_column_scores (eval, task, filter, metric, scores) VALUES (?, ?, ?, ?, ?)`, eval, clean(c.Task), clean(c.Filter), clean(metric), b); err != nil {
			return err
		}
	}
	return nil
}

// EvalColumns reads what a comparison needs of an eval's samples. None: it is of before there were columns, or has only groups.
func (t *Tenant) EvalColumns(ctx context.Context, e forge.Eval) ([]EvalColumns, error) {
	const op = "eval.columns"
	rows, err := t.db.sqlRead.QueryContext(ctx, `SELECT c.task, c.filter, c.docs, c.asked, c.clusters, s.metric, s.scores FROM eval_results AS e
		JOIN eval_columns AS c ON c.eval = e.id LEFT JOIN eval_column_scores AS s ON s.eval = c.eval AND s.task = c.task AND s.filter = c.filter
		WHERE e.id = ? AND e.tenant = ? ORDER BY c.task, c.filter, s.metric`, e.ID, string(t.p.Tenant))
	if err != nil {
		return nil, classify(op, err)
	}
	defer rows.Close()
	var out []EvalColumns
	for rows.Next() {
		var task, filter string
		var docs, asked, clusters, scores []byte
		var metric *string
		if err := rows.Scan(&task, &filter, &docs, &asked, &clusters, &metric, &scores); err != nil {
			return nil, classify(op, err)
		}
		if n := len(out); n == 0 || out[n-1].Task != task || out[n-1].Filter != filter {
			out = append(out, unpackColumns(task, filter, docs, asked, clusters))
		}
		c := &out[len(out)-1]
		if metric == nil {
			continue
		}
		if len(scores) != 8*len(c.Doc) {
			return nil, forge.Errorf(forge.KindInternal, op, "eval %s: %s of task %s has %d bytes for %d samples", e.Name, *metric, task, len(scores), len(c.Doc))
		}
		values := make([]float64, len(c.Doc))
		for i := range values {
			values[i] = math.Float64frombits(binary.LittleEndian.Uint64(scores[8*i:]))
		}
		c.Scores[*metric] = values
	}
	return out, classify(op, rows.Err())
}

// unpackColumns unpacks what the table's own constraints keep at equal lengths.
func unpackColumns(task, filter string, docs, asked, clusters []byte) EvalColumns {
	n := len(docs) / 8
	c := EvalColumns{Task: task, Filter: filter, Doc: make([]int64, n), Asked: make([][16]byte, n), Scores: map[string][]float64{}}
	for i := range n {
		c.Doc[i] = int64(binary.LittleEndian.Uint64(docs[8*i:]))
		copy(c.Asked[i][:], asked[16*i:])
	}
	if clusters != nil {
		c.Cluster = make([]uint64, n)
		for i := range n {
			c.Cluster[i] = binary.LittleEndian.Uint64(clusters[8*i:])
		}
	}
	return c
}

// EvalBlocks reads the packed lines that some documents stand in, a gzip each, in no order and without others than their neighbours. None:
// the eval is of before there were columns.
func (t *Tenant) EvalBlocks(ctx context.Context, e forge.Eval, task, filter string, docs []int64) ([][]byte, error) {
	const op = "eval.blocks"
	var have, lines, blocks []byte
	var size int64
	err := t.db.sqlRead.QueryRowContext(ctx, `SELECT c.docs, c.lines, c.blocks, length(s.data) FROM eval_results AS e
		JOIN eval_columns AS c ON c.eval = e.id JOIN eval_samples AS s ON s.eval = c.eval AND s.task = c.task AND s.filter = c.filter
		WHERE e.id = ? AND e.tenant = ? AND c.task = ? AND c.filter = ?`, e.ID, string(t.p.Tenant), clean(task), clean(filter)).Scan(&have, &lines, &blocks, &size)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, classify(op, err)
	}
	offset := func(block int) int64 {
		if 8*block >= len(blocks) {
			return size
		}
		return int64(binary.LittleEndian.Uint64(blocks[8*block:]))
	}
	seen := map[int]bool{}
	var out [][]byte
	for _, d := range docs {
		i := sort.Search(len(have)/8, func(i int) bool { return int64(binary.LittleEndian.Uint64(have[8*i:])) >= d })
		if 8*i >= len(have) || int64(binary.LittleEndian.Uint64(have[8*i:])) != d {
			continue
		}
		block := int(binary.LittleEndian.Uint32(lines[4*i:])) / EvalBlock
		if seen[block] {
			continue
		}
		seen[block] = true
		from, to := offset(block), offset(block+1)
		var data []byte
		if err := t.db.sqlRead.QueryRowContext(ctx, `SELECT substr(data, ?, ?) FROM eval_samples WHERE eval = ? AND task = ? AND filter = ?`,
			from+1, to-from, e.ID, clean(task), clean(filter)).Scan(&data); err != nil {
			return nil, classify(op, err)
		}
		out = append(out, data)
	}
	return out, nil
}
