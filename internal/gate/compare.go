package gate

import forge "github.com/forge-ml/forge-ml"

// Compare holds a candidate against a baseline, pair by pair.
func Compare(baseline, candidate Side, benchmarks []Benchmark, o Options) (forge.Comparison, []forge.Flip) {
	return forge.Comparison{Baseline: baseline.EvalBrief, Candidate: candidate.EvalBrief, Verdict: forge.CompareIncomparable,
		Invalid: []forge.Invalidity{{Field: "suite", Why: "comparisons are not built yet"}}, Benchmarks: []forge.BenchmarkComparison{}}, nil
}
