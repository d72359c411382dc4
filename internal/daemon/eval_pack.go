package daemon

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"math"
	"slices"

	"github.com/forge-ml/forge-ml/store"
)

type sampleKey struct{ task, filter string }

// sampleLine is what of a sample is kept in columns.
type sampleLine struct {
	Task       string              `json:"task"`
	Filter     string              `json:"filter"`
	DocID      *int64              `json:"doc_id"`
	DocHash    string              `json:"doc_hash"`
	PromptHash string              `json:"prompt_hash"`
	Metrics    map[string]*float64 `json:"metrics"`
	Cluster    string              `json:"cluster"`
}

// asked is equal where two evals asked the same.
func (l sampleLine) asked() (out [16]byte) {
	sum := sha256.Sum256([]byte(l.DocHash + "\n" + l.PromptHash))
	copy(out[:], sum[:])
	return out
}

// packed are the samples of one task under one filter, as they come: their lines, and beside them the columns that comparisons read.
type packed struct {
	n, bytes int64
	buf      bytes.Buffer
	zip      *gzip.Writer
	columns  store.EvalColumns
	lines    store.EvalLines
}

func (to *packed) write(b []byte) {
	if to.n%store.EvalBlock == 0 { // a reader of the whole sees no seam: gzips behind each other are one
		if to.zip == nil {
			to.zip = gzip.NewWriter(&to.buf)
		} else {
			_ = to.zip.Close() // into memory
			to.zip.Reset(&to.buf)
		}
		to.lines.Blocks = append(to.lines.Blocks, int64(to.buf.Len()))
	}
	_, _ = to.zip.Write(b)
	to.n++
	to.bytes += int64(len(b))
}

func (to *packed) keep(l sampleLine) (why string) {
	c := &to.columns
	n := len(c.Doc)
	switch {
	case l.DocID == nil:
		return "has no doc_id"
	case l.DocHash == "" || l.PromptHash == "":
		return "has no doc_hash or no prompt_hash: nobody could say what was asked"
	case n > 0 && (l.Cluster != "") != (c.Cluster != nil):
		return fmt.Sprintf("document %d: some samples have a cluster and some have none", *l.DocID)
	case n >= math.MaxUint32:
		return "is one of too many"
	}
	c.Doc, c.Asked = append(c.Doc, *l.DocID), append(c.Asked, l.asked())
	to.lines.Line = append(to.lines.Line, uint32(n))
	if l.Cluster != "" {
		sum := sha256.Sum256([]byte(l.Cluster))
		c.Cluster = append(c.Cluster, binary.LittleEndian.Uint64(sum[:]))
	}
	for metric := range l.Metrics {
		if _, known := c.Scores[metric]; !known {
			if len(c.Scores) >= maxMetrics {
				return fmt.Sprintf("has more than %d metrics", maxMetrics)
			}
			c.Scores[metric] = slices.Repeat([]float64{math.NaN()}, n)
		}
	}
	for metric, column := range c.Scores {
		v := math.NaN()
		if x := l.Metrics[metric]; x != nil {
			v = *x
		}
		c.Scores[metric] = append(column, v)
	}
	return ""
}

// ordered brings the columns into the order of the documents.
func (to *packed) ordered() (why string) {
	c := &to.columns
	if !slices.IsSorted(c.Doc) {
		by := make([]int, len(c.Doc))
		for i := range by {
			by[i] = i
		}
		slices.SortFunc(by, func(a, b int) int { return int(min(max(c.Doc[a]-c.Doc[b], -1), 1)) })
		c.Doc, c.Asked, c.Cluster, to.lines.Line = permuted(c.Doc, by), permuted(c.Asked, by), permuted(c.Cluster, by), permuted(to.lines.Line, by)
		for metric := range c.Scores {
			c.Scores[metric] = permuted(c.Scores[metric], by)
		}
	}
	for i := 1; i < len(c.Doc); i++ {
		if c.Doc[i] == c.Doc[i-1] {
			return fmt.Sprintf("task %.80s (%.80s): document %d is there twice", c.Task, c.Filter, c.Doc[i])
		}
	}
	return ""
}

func permuted[T any](column []T, by []int) []T {
	if column == nil {
		return nil
	}
	out := make([]T, len(column))
	for i, from := range by {
		out[i] = column[from]
	}
	return out
}

// maxMetrics bounds the columns of one task.
const maxMetrics = 100

// packer takes samples.jsonl in pieces, and keeps it by task and filter, compressed: of 256 MiB only that is in memory.
type packer struct {
	sum   hash.Hash
	rest  []byte
	count int64
	at    map[sampleKey]*packed
	order []sampleKey
}

func newPacker() *packer { return &packer{sum: sha256.New(), at: map[sampleKey]*packed{}} }

func (p *packer) add(b []byte) (why string) {
	_, _ = p.sum.Write(b)
	p.rest = append(p.rest, b...)
	for {
		i := bytes.IndexByte(p.rest, '\n')
		if i < 0 {
			break
		}
		if why := p.line(p.rest[:i+1]); why != "" {
			return why
		}
		p.rest = p.rest[i+1:]
	}
	if len(p.rest) > maxSampleLine {
		return fmt.Sprintf("a line of its samples is longer than %d bytes", maxSampleLine)
	}
	p.rest = bytes.Clone(p.rest)
	return ""
}

func (p *packer) line(b []byte) (why string) {
	var in sampleLine
	if err := json.Unmarshal(b, &in); err != nil {
		return fmt.Sprintf("line %d of its samples does not parse: %v", p.count+1, err)
	}
	key := sampleKey{in.Task, in.Filter}
	to := p.at[key]
	if to == nil {
		if len(p.at) >= maxScoreRows {
			return "its samples are of too many tasks"
		}
		to = &packed{columns: store.EvalColumns{Task: in.Task, Filter: in.Filter, Scores: map[string][]float64{}}}
		p.at[key], p.order = to, append(p.order, key)
	}
	p.count++
	if why := to.keep(in); why != "" {
		return fmt.Sprintf("line %d of its samples %s", p.count, why)
	}
	to.write(b)
	return ""
}

// done holds the samples against the scores: as many as each score is over, and byte for byte the file that the scores vouch for.
func (p *packer) done(found *store.EvalFound) (why string) {
	if len(p.rest) > 0 {
		return "its samples end inside a line"
	}
	if got := hex.EncodeToString(p.sum.Sum(nil)); got != found.Facts.SamplesSHA || p.count != found.Facts.Samples {
		return fmt.Sprintf("its samples are %d with digest %.12s; scores.json says %d with %.12s", p.count, got, found.Facts.Samples, found.Facts.SamplesSHA)
	}
	group := map[string]bool{}
	for _, t := range found.Facts.Tasks {
		group[t.Task] = t.Group
	}
	for _, s := range found.Scores {
		if have := p.at[sampleKey{s.Task, s.Filter}]; !group[s.Task] && (have == nil || have.n != s.N) {
			return fmt.Sprintf("task %.80s: %.80s (%.80s) is over %d samples, and they are not all there", s.Task, s.Metric, s.Filter, s.N)
		}
	}
	for _, key := range p.order {
		one := p.at[key]
		if err := one.zip.Close(); err != nil {
			return err.Error()
		}
		if why := one.ordered(); why != "" {
			return why
		}
		found.Samples = append(found.Samples, store.EvalSamples{Task: key.task, Filter: key.filter, N: one.n, Bytes: one.bytes, Data: one.buf.Bytes()})
		found.Columns, found.Lines = append(found.Columns, one.columns), append(found.Lines, one.lines)
	}
	return ""
}
