package daemon

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/recipes"
	"github.com/forge-ml/forge-ml/store"
)

const (
	maxImportFiles = 2000
	meanTolerance  = 1e-9 // relative, above 1
)

// ImportEval takes over an eval that was made elsewhere. What forgectl has read is not believed: everything is held against each other again.
func (s evals) ImportEval(ctx context.Context, p forge.Principal, digest string, body io.Reader) (api.EvalDetail, error) {
	none := api.EvalDetail{}
	sum := sha256.New()
	in := &arriving{from: body}
	raw := io.TeeReader(in, sum)
	head, samples, err := readImport(raw)
	if err == nil {
		_, err = io.Copy(io.Discard, raw) // what may stand behind the gzip belongs to the digest
	}
	var big *http.MaxBytesError
	switch {
	case errors.As(in.err, &big):
		return none, forge.Invalidf("", "the eval is larger than the %d bytes that are taken", big.Limit)
	case in.err != nil:
		return none, forge.Invalidf("", "the eval did not arrive whole and in time")
	case err != nil:
		return none, err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != digest {
		return none, forge.Invalidf("sha256", "what arrived has the digest %s", got)
	}
	t := s.d.db.For(p)
	suite, err := s.d.live().suites.Get(head.Suite)
	if err != nil {
		return none, asField(err, "suite")
	}
	ref, err := forge.ParseRef(head.Model)
	if err != nil {
		return none, forge.Invalidf("model", "%v", err)
	}
	v, err := t.ModelVersion(ctx, ref)
	if err != nil {
		return none, asField(err, "model")
	}
	if err := checkImport(head, suite); err != nil {
		return none, err
	}
	found := &store.EvalFound{Eval: forge.Eval{Model: forge.Ref{Name: v.Name, Number: v.Number}.String(), ModelID: v.ID, Suite: suite.Name, SuiteSHA256: suite.SHA256, Limited: head.Facts.Limit > 0,
		Facts: head.Facts, Scores: head.Scores, Imported: &forge.EvalImport{Called: head.Called, MadeAt: head.MadeAt, Files: head.Files, Lacks: head.Lacks}}}
	found.Facts.SuiteVersion, found.Facts.ModelSHA256, found.Facts.Leak = suite.Version, v.SHA256, nil
	if why := samples.done(found); why != "" {
		return none, forge.Invalidf("samples", "%s", why)
	}
	if err := checkSamples(found, suite); err != nil {
		return none, err
	}
	e, err := t.ImportEval(ctx, found)
	if err != nil {
		return none, err
	}
	return api.EvalDetail{Eval: e, Benchmarks: suite.Benchmarks}, nil
}

func readImport(body io.Reader) (head api.EvalHead, p *packer, err error) {
	zip, err := gzip.NewReader(body)
	if err != nil {
		return head, nil, forge.Invalidf("", "the body is no gzip: %v", err).WithHint("forgectl eval import DIR makes it")
	}
	lines := bufio.NewReaderSize(zip, 64<<10)
	first, err := firstLine(lines)
	if err != nil {
		return head, nil, forge.Invalidf("", "the first line cannot be read: %v", err)
	}
	if err := json.Unmarshal(first, &head); err != nil {
		return head, nil, forge.Invalidf("", "the first line is not the head of an eval: %v", err)
	}
	p = newPacker()
	buf := make([]byte, 256<<10)
	for total := int64(0); ; {
		n, err := lines.Read(buf)
		if total += int64(n); total > maxEvalSamples {
			return head, nil, forge.Invalidf("samples", "are more than the %d bytes that are kept", maxEvalSamples)
		}
		if why := p.add(buf[:n]); why != "" {
			return head, nil, forge.Invalidf("samples", "%s", why)
		}
		switch {
		case errors.Is(err, io.EOF):
			return head, p, nil
		case err != nil:
			return head, nil, forge.Invalidf("samples", "cannot be unpacked: %v", err)
		}
	}
}

// firstLine reads up to a line's end, and refuses one that does not end in time.
func firstLine(from *bufio.Reader) ([]byte, error) {
	var out []byte
	for {
		part, err := from.ReadSlice('\n')
		if out = append(out, part...); len(out) > api.MaxEvalHead {
			return nil, fmt.Errorf("it is longer than %d bytes", api.MaxEvalHead)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		return out, err
	}
}

// checkImport holds the head against the suite as it is now.
func checkImport(h api.EvalHead, suite recipes.Suite) error {
	if len(h.Files) == 0 || len(h.Files) > maxImportFiles {
		return forge.Invalidf("files", "are %d; want those that it was read from, at most %d", len(h.Files), maxImportFiles)
	}
	if len(h.Scores) > maxScoreRows || len(h.Facts.Tasks) > maxScoreRows {
		return forge.Invalidf("scores", "are more than %d", maxScoreRows)
	}
	if h.Facts.Limit < 0 {
		return forge.Invalidf("facts.limit", "%d: want 0 (all) or more", h.Facts.Limit)
	}
	tasks := map[string]forge.EvalTask{}
	for _, t := range h.Facts.Tasks {
		at := "facts.tasks." + t.Task
		if _, twice := tasks[t.Task]; twice {
			return forge.Invalidf(at, "is there twice")
		}
		if t.Effective < 1 || t.Effective > t.Original || h.Facts.Limit == 0 && t.Effective != t.Original {
			return forge.Invalidf(at, "has seen %d of %d samples; want all of them, or the limit that was set", t.Effective, t.Original)
		}
		tasks[t.Task] = t
	}
	seen := map[[3]string]bool{}
	for _, s := range h.Scores {
		at := fmt.Sprintf("scores.%s.%s,%s", s.Task, s.Metric, s.Filter)
		t, known := tasks[s.Task]
		switch key := [3]string{s.Task, s.Filter, s.Metric}; {
		case !known:
			return forge.Invalidf(at, "is of a task that facts.tasks does not have")
		case math.IsNaN(s.Value) || math.IsInf(s.Value, 0):
			return forge.Invalidf(at, "is %v, which is no number", s.Value)
		case s.N != t.Effective:
			return forge.Invalidf(at, "is over %d samples, and the task has seen %d", s.N, t.Effective)
		case seen[key]:
			return forge.Invalidf(at, "is there twice")
		default:
			seen[key] = true
		}
	}
	for _, b := range suite.Benchmarks {
		t := tasks[b.Task]
		version := suite.TaskVersions[b.Task]
		switch {
		case !seen[[3]string{b.Task, b.Filter, b.Metric}]:
			return forge.Invalidf("scores", "have no %s %s (%s), which suite %s asks for", b.Task, b.Metric, b.Filter, suite.Name)
		case b.NumFewshot != nil && t.NShot != *b.NumFewshot:
			return forge.Invalidf("facts.tasks."+b.Task, "had %d examples before each question, and suite %s asks for %d", t.NShot, suite.Name, *b.NumFewshot)
		case version != "" && t.Version != version:
			return forge.Invalidf("facts.tasks."+b.Task, "is version %.20q of the task, and suite %s has version %s", t.Version, suite.Name, version)
		}
	}
	return nil
}

// checkSamples holds scores against the samples that they are of.
func checkSamples(found *store.EvalFound, suite recipes.Suite) error {
	has := func(c store.EvalColumns) bool {
		return slices.ContainsFunc(found.Scores, func(s forge.EvalScore) bool { return s.Task == c.Task && s.Filter == c.Filter })
	}
	for _, c := range found.Columns {
		if !has(c) {
			return forge.Invalidf("samples", "task %.80s (%.80s) has %d of them and no score", c.Task, c.Filter, len(c.Doc))
		}
		for _, b := range suite.Benchmarks {
			if b.Task == c.Task && b.Cluster != "" && c.Cluster == nil {
				return forge.Invalidf("samples", "those of task %.80s have no cluster, and suite %s groups them by %s", c.Task, suite.Name, b.Cluster)
			}
		}
		for _, s := range found.Scores {
			if s.Task != c.Task || s.Filter != c.Filter || s.Aggregation != "mean" {
				continue
			}
			mean := 0.0
			for _, v := range c.Scores[s.Metric] {
				mean += v / float64(len(c.Doc))
			}
			if c.Scores[s.Metric] == nil || math.IsNaN(mean) {
				continue // what is no number in the samples no mean can be taken of: perplexities and the like
			}
			if math.Abs(mean-s.Value) > meanTolerance*max(1, math.Abs(mean)) {
				return forge.Invalidf(fmt.Sprintf("scores.%s.%s,%s", s.Task, s.Metric, s.Filter), "is %v, and the mean of its samples %v", s.Value, mean)
			}
		}
	}
	return nil
}
