package daemon

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/gate"
	"github.com/forge-ml/forge-ml/recipes"
	"github.com/forge-ml/forge-ml/store"
)

// evalSide reads an eval as comparisons need it, with the benchmarks of its suite. An eval is named by the number or id of its run, or iN.
// KindPrecondition where the site has the suite no more as it was.
func (d *Daemon) evalSide(ctx context.Context, p forge.Principal, eval string) (gate.EvalEvidence, error) {
	t := d.db.For(p)
	e, err := t.Eval(ctx, eval)
	if err != nil {
		return gate.EvalEvidence{}, err
	}
	return d.sideOf(ctx, t, e)
}

func (d *Daemon) sideOf(ctx context.Context, t *store.Tenant, e forge.Eval) (gate.EvalEvidence, error) {
	benchmarks, err := d.benchmarksOf(e.Suite, e.SuiteSHA256)
	if err != nil {
		return gate.EvalEvidence{}, err
	}
	columns, err := d.columnsOf(ctx, t, e)
	return gate.EvalEvidence{Side: sideFrom(e, columns), Benchmarks: benchmarks}, err
}

func sideFrom(e forge.Eval, columns []store.EvalColumns) gate.Side {
	s := gate.Side{EvalBrief: e.Brief(), Suite: e.Suite, SuiteSHA256: e.SuiteSHA256, Limited: e.Limited, Facts: e.Facts, Scores: e.Scores}
	for _, c := range columns {
		s.Samples = append(s.Samples, gate.Samples(c))
	}
	return s
}

// benchmarksOf are a suite's, where the site has it as it was.
func (d *Daemon) benchmarksOf(suite, sha256 string) ([]gate.Benchmark, error) {
	s, err := d.live().suites.Get(suite)
	if err != nil || s.SHA256 != sha256 {
		return nil, forge.Errorf(forge.KindPrecondition, "eval.compare", "this site has suite %.64s (%.12s) no more: its thresholds and margins are not known", suite, sha256).
			WithHint("forgectl eval run MODEL --suite %s makes evals of the suite as it is now", suite)
	}
	return asBenchmarks(s), nil
}

func asBenchmarks(s recipes.Suite) []gate.Benchmark {
	out := make([]gate.Benchmark, len(s.Benchmarks))
	for i, b := range s.Benchmarks {
		out[i] = gate.Benchmark{Task: b.Task, Filter: b.Filter, Metric: b.Metric, Lower: b.Direction == "lower", Safety: b.Safety, Threshold: math.NaN()}
		if b.Threshold != nil {
			out[i].Threshold = *b.Threshold
		}
		if b.Margin != nil {
			out[i].Margin = *b.Margin
		}
	}
	return out
}

// columnsOf reads an eval's columns; of one that was made before there were any, its samples.
func (d *Daemon) columnsOf(ctx context.Context, t *store.Tenant, e forge.Eval) ([]store.EvalColumns, error) {
	columns, err := t.EvalColumns(ctx, e)
	if err != nil || len(columns) > 0 {
		return columns, err
	}
	return unpackedColumns(ctx, t, e)
}

func unpackedColumns(ctx context.Context, t *store.Tenant, e forge.Eval) (columns []store.EvalColumns, err error) {
	p := newPacker()
	seen := map[sampleKey]bool{}
	for _, s := range e.Scores {
		key := sampleKey{s.Task, s.Filter}
		if seen[key] {
			continue
		}
		seen[key] = true
		packed, err := t.EvalSamples(ctx, e.ID, s.Task, s.Filter)
		if forge.KindOf(err) == forge.KindNotFound && err != nil { // a group
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := eachSample(packed.Data, func(line []byte) (bool, error) {
			if why := p.line(append(line, '\n')); why != "" {
				return false, errors.New(why)
			}
			return true, nil
		}); err != nil {
			return nil, unreadSamples(err)
		}
	}
	for _, key := range p.order {
		if why := p.at[key].ordered(); why != "" {
			return nil, unreadSamples(errors.New(why))
		}
		columns = append(columns, p.at[key].columns)
	}
	return columns, nil
}

func unreadSamples(err error) error {
	return forge.Errorf(forge.KindUnavailable, "eval.samples", "the stored samples cannot be read: %w", err)
}

// compareEvals holds two evals against each other. KindNotFound; KindPrecondition where the site has the suite no more.
func (d *Daemon) compareEvals(ctx context.Context, p forge.Principal, baseline, candidate string, o gate.Options) (forge.Comparison, []forge.Flip, error) {
	t := d.db.For(p)
	b, err := t.Eval(ctx, baseline)
	if err != nil {
		return forge.Comparison{}, nil, err
	}
	c, err := t.Eval(ctx, candidate)
	if err != nil {
		return forge.Comparison{}, nil, err
	}
	return d.compare(ctx, t, b, c, o)
}

func (d *Daemon) compare(ctx context.Context, t *store.Tenant, b, c forge.Eval, o gate.Options) (forge.Comparison, []forge.Flip, error) {
	benchmarks, err := d.benchmarksOf(c.Suite, c.SuiteSHA256)
	if err != nil && b.SuiteSHA256 == c.SuiteSHA256 { // of two suites that differ the comparison itself says more
		return forge.Comparison{}, nil, err
	}
	ofB, err := d.columnsOf(ctx, t, b)
	if err != nil {
		return forge.Comparison{}, nil, err
	}
	ofC, err := d.columnsOf(ctx, t, c)
	if err != nil {
		return forge.Comparison{}, nil, err
	}
	out, flips := gate.Compare(sideFrom(b, ofB), sideFrom(c, ofC), benchmarks, o)
	return out, flips, d.tellFlips(ctx, t, b, c, flips)
}

// compareFound holds what a run has just found against the baseline that it was submitted with. nil: it has none. What keeps the two from
// being compared is told in the comparison: it is no reason to lose the eval.
func (d *Daemon) compareFound(ctx context.Context, r forge.Run, spec forge.RunSpec, found *store.EvalFound) (*forge.Comparison, error) {
	if spec.Baseline == nil {
		return nil, nil
	}
	t := d.db.For(forge.Principal{Tenant: r.Tenant})
	out := forge.Comparison{Candidate: found.Brief(), Baseline: forge.EvalBrief{Eval: spec.Baseline.Eval, Model: spec.Baseline.Model}, Suite: found.Suite, SuiteSHA256: found.SuiteSHA256,
		Verdict: forge.CompareIncomparable, Benchmarks: []forge.BenchmarkComparison{}}
	b, err := t.Eval(ctx, spec.Baseline.ID)
	if err == nil {
		var benchmarks []gate.Benchmark
		var columns []store.EvalColumns
		if benchmarks, err = d.benchmarksOf(found.Suite, found.SuiteSHA256); err == nil {
			if columns, err = d.columnsOf(ctx, t, b); err == nil {
				out, _ = gate.Compare(sideFrom(b, columns), sideFrom(found.Eval, found.Columns), benchmarks, gate.Options{})
				return &out, nil
			}
		}
	}
	switch forge.KindOf(err) {
	case forge.KindNotFound, forge.KindPrecondition:
		out.Invalid = []forge.Invalidity{{Field: "baseline", Why: err.Error()}}
		return &out, nil
	}
	return nil, fmt.Errorf("compare eval %d with its baseline %s: %w", r.Number, spec.Baseline.Eval, err)
}

// ofPath is the field of findEval that a path names: what is not there is not found, and no field is wrong.
const ofPath = "candidate"

// findEval finds an eval by its name, or the newest whole one of NAME@VERSION by a suite as it is now.
func (d *Daemon) findEval(ctx context.Context, t *store.Tenant, field, name, suite string) (forge.Eval, error) {
	absent := func(err error) error {
		if field == ofPath {
			return err
		}
		return asField(err, field)
	}
	if !strings.Contains(name, "@") {
		e, err := t.Eval(ctx, name)
		return e, absent(err)
	}
	ref, err := forge.ParseRef(name)
	if err != nil {
		return forge.Eval{}, forge.Invalidf(field, "%v; want NAME@VERSION, the number of an eval's run, or iN for one that was imported", err)
	}
	if suite == "" {
		return forge.Eval{}, forge.Invalidf("suite", "is empty, and %s may have been evaluated by several", name).WithHint("--suite NAME; or name the eval: forgectl eval list --model %s", name)
	}
	s, err := d.live().suites.Get(suite)
	if err != nil {
		return forge.Eval{}, asField(err, "suite")
	}
	v, err := t.ModelVersion(ctx, ref)
	if err != nil {
		return forge.Eval{}, absent(err)
	}
	e, err := t.NewestEval(ctx, v.ID, s.Name, s.SHA256)
	if forge.KindOf(err) == forge.KindNotFound && err != nil {
		of := forge.Ref{Name: v.Name, Number: v.Number}
		return e, forge.Errorf(forge.KindNotFound, "eval.compare", "%s: there is no whole eval of %s by suite %s as it is now (%.12s)", field, of, s.Name, s.SHA256).
			WithHint("forgectl eval run %s --suite %s", of, s.Name)
	}
	return e, err
}

func (s evals) CompareEvals(ctx context.Context, p forge.Principal, f api.CompareFilter) (api.EvalComparison, error) {
	t := s.d.db.For(p)
	none := api.EvalComparison{}
	c, err := s.d.findEval(ctx, t, ofPath, f.Candidate, f.Suite)
	if err != nil {
		return none, err
	}
	b, err := s.d.findEval(ctx, t, "baseline", f.Baseline, f.Suite)
	if err != nil {
		return none, err
	}
	out, flips, err := s.d.compare(ctx, t, b, c, gate.Options{Flips: min(max(f.Flips, 0), api.MaxFlips)})
	if flips == nil {
		flips = []forge.Flip{}
	}
	return api.EvalComparison{Comparison: out, Flips: flips}, err
}

// tellFlips gives flipped samples their words: what was asked and wanted, and what both answered.
func (d *Daemon) tellFlips(ctx context.Context, t *store.Tenant, b, c forge.Eval, flips []forge.Flip) error {
	docs := map[sampleKey][]int64{}
	for _, f := range flips {
		key := sampleKey{f.Task, f.Filter}
		docs[key] = append(docs[key], f.DocID)
	}
	for key, ids := range docs {
		before, err := d.samplesOf(ctx, t, b, key, ids)
		if err != nil {
			return err
		}
		after, err := d.samplesOf(ctx, t, c, key, ids)
		if err != nil {
			return err
		}
		for i := range flips {
			if f := &flips[i]; f.Task == key.task && f.Filter == key.filter {
				x := after[f.DocID]
				f.Prompt, f.Target, f.CandidateResponse, f.BaselineResponse = x.Prompt, x.Target, x.Response, before[f.DocID].Response
			}
		}
	}
	return nil
}

// samplesOf unpacks the samples of some documents.
func (d *Daemon) samplesOf(ctx context.Context, t *store.Tenant, e forge.Eval, key sampleKey, docs []int64) (map[int64]api.EvalSample, error) {
	blocks, err := t.EvalBlocks(ctx, e, key.task, key.filter, docs)
	if err != nil {
		return nil, err
	}
	if len(blocks) == 0 { // of before there were columns
		packed, err := t.EvalSamples(ctx, e.ID, key.task, key.filter)
		if err != nil {
			return nil, err
		}
		blocks = [][]byte{packed.Data}
	}
	wanted := map[int64]bool{}
	for _, id := range docs {
		wanted[id] = true
	}
	out := map[int64]api.EvalSample{}
	for _, data := range blocks {
		if err := eachSample(data, func(line []byte) (bool, error) {
			var x api.EvalSample
			if err := json.Unmarshal(line, &x); err != nil {
				return false, err
			}
			if wanted[x.DocID] {
				out[x.DocID] = x
			}
			return true, nil
		}); err != nil {
			return nil, unreadSamples(err)
		}
	}
	return out, nil
}

// eachSample goes through packed samples, as long as it is told to.
func eachSample(data []byte, do func(line []byte) (more bool, err error)) error {
	zip, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return eachLine(zip, maxSampleLine+1, do)
}
