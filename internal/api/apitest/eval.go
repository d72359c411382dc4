package apitest

import (
	"context"
	"io"
	"strconv"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/recipes"
)

// AddEval puts an eval of tenant T1 there, with samples of its first score.
func (f *Fake) AddEval(e forge.Eval, samples ...api.EvalSample) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.evals = append(f.evals, fakeEval{e, samples})
}

type fakeEval struct {
	forge.Eval
	samples []api.EvalSample
}

// Suites implements api.Evals: the built-in ones.
func (f *Fake) Suites(context.Context, forge.Principal) ([]api.SuiteRow, error) {
	leave, err := f.enter("Suites")
	if err != nil {
		return nil, err
	}
	defer leave()
	l, err := recipes.BuiltinSuites()
	if err != nil {
		return nil, err
	}
	var out []api.SuiteRow
	for _, name := range l.Names() {
		s, err := l.Get(name)
		if err != nil {
			return nil, err
		}
		out = append(out, api.SuiteRowOf(s))
	}
	return out, nil
}

// Suite implements api.Evals.
func (f *Fake) Suite(_ context.Context, _ forge.Principal, name string) (api.Suite, error) {
	leave, err := f.enter("Suite")
	if err != nil {
		return api.Suite{}, err
	}
	defer leave()
	l, err := recipes.BuiltinSuites()
	if err != nil {
		return api.Suite{}, err
	}
	s, err := l.Get(name)
	return api.Suite{Suite: s}, err
}

// Evals implements api.Evals.
func (f *Fake) Evals(_ context.Context, p forge.Principal, q api.EvalFilter) (api.List[forge.Eval], error) {
	leave, err := f.enter("Evals")
	if err != nil {
		return api.List[forge.Eval]{}, err
	}
	defer leave()
	var all []forge.Eval
	for _, e := range f.evals {
		if p.Tenant == "T1" && (q.Suite == "" || e.Suite == q.Suite) && (q.Model == "" || e.Model == q.Model) {
			bare := e.Eval
			bare.Scores = nil
			all = append(all, bare)
		}
	}
	return pageOf(all, func(e forge.Eval) string { return e.ID + string(e.Run) }, q.Limit, q.Cursor, bound(p, "evals", q.Model, q.Suite))
}

func (f *Fake) evalOf(p forge.Principal, run string) (fakeEval, error) {
	for _, e := range f.evals {
		if p.Tenant == "T1" && (string(e.Run) == run || e.Name == run || strconv.FormatInt(e.RunNumber, 10) == run) {
			return e, nil
		}
	}
	return fakeEval{}, forge.Errorf(forge.KindNotFound, "eval.show", "run %.40s has no scores", run)
}

// Eval implements api.Evals.
func (f *Fake) Eval(_ context.Context, p forge.Principal, run string) (api.EvalDetail, error) {
	leave, err := f.enter("Eval")
	if err != nil {
		return api.EvalDetail{}, err
	}
	defer leave()
	e, err := f.evalOf(p, run)
	if err != nil {
		return api.EvalDetail{}, err
	}
	out := api.EvalDetail{Eval: e.Eval}
	if l, err := recipes.BuiltinSuites(); err == nil {
		if s, err := l.Get(e.Suite); err == nil {
			out.Benchmarks = s.Benchmarks
		}
	}
	return out, nil
}

// EvalSamples implements api.Evals.
func (f *Fake) EvalSamples(_ context.Context, p forge.Principal, run string, q api.SampleFilter) (api.List[api.EvalSample], error) {
	leave, err := f.enter("EvalSamples")
	if err != nil {
		return api.List[api.EvalSample]{}, err
	}
	defer leave()
	e, err := f.evalOf(p, run)
	if err != nil {
		return api.List[api.EvalSample]{}, err
	}
	return pageOf(e.samples, func(s api.EvalSample) string { return strconv.FormatInt(s.DocID, 10) }, q.Limit, q.Cursor, bound(p, "samples", run, q.Task, q.Filter))
}

// CompareEvals implements api.Evals: the two differ in nothing.
func (f *Fake) CompareEvals(_ context.Context, p forge.Principal, q api.CompareFilter) (api.EvalComparison, error) {
	leave, err := f.enter("CompareEvals")
	if err != nil {
		return api.EvalComparison{}, err
	}
	defer leave()
	b, err := f.evalOf(p, q.Baseline)
	if err != nil {
		return api.EvalComparison{}, err
	}
	c, err := f.evalOf(p, q.Candidate)
	if err != nil {
		return api.EvalComparison{}, err
	}
	out := api.EvalComparison{Comparison: forge.Comparison{Baseline: b.Brief(), Candidate: c.Brief(), Suite: c.Suite, SuiteSHA256: c.SuiteSHA256, Alpha: 0.05, Resamples: 10_000, Verdict: forge.CompareNonInferior,
		Benchmarks: []forge.BenchmarkComparison{}}, Flips: []forge.Flip{}}
	for _, s := range c.Scores {
		out.Benchmarks = append(out.Benchmarks, forge.BenchmarkComparison{Task: s.Task, Filter: s.Filter, Metric: s.Metric, Direction: "higher", Method: "mcnemar", Pairs: s.N, Baseline: s.Value, Candidate: s.Value,
			Low: -0.01, High: 0.01, P: 1, PAdjusted: 1, Margin: 0.05, Verdict: forge.CompareNonInferior, Words: "no worse than by 0.01"})
	}
	return out, nil
}

// ImportEval implements api.Evals: it reads the body, and answers with the first eval as if it had come so.
func (f *Fake) ImportEval(ctx context.Context, p forge.Principal, _ string, body io.Reader) (api.EvalDetail, error) {
	leave, err := f.enter("ImportEval")
	if err != nil {
		return api.EvalDetail{}, err
	}
	defer leave()
	if _, err := io.Copy(io.Discard, body); err != nil {
		return api.EvalDetail{}, err
	}
	e := forge.Eval{ID: "E1", Name: "i1", Model: "bot@1", ModelID: "V1", Suite: "default-offline", Imported: &forge.EvalImport{By: p.Actor(), Files: []forge.EvalFile{{Name: "results.json", Bytes: 1, SHA256: "00"}}}}
	f.evals = append(f.evals, fakeEval{Eval: e})
	return api.EvalDetail{Eval: e}, nil
}
