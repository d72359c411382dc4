package gate_test

import (
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/gate"
)

func compareOne(t *testing.T, b, c []float64, margin float64) forge.BenchmarkComparison {
	t.Helper()
	got, _ := gate.Compare(side("1", map[string][]float64{"t": b}), side("2", map[string][]float64{"t": c}), []gate.Benchmark{bench("t", margin)}, gate.Options{})
	if len(got.Benchmarks) != 1 {
		t.Fatalf("%s: %+v", got.Verdict, got.Invalid)
	}
	return got.Benchmarks[0]
}

func TestADropBeyondChanceIsARegression(t *testing.T) {
	got := compareOne(t, passes(200), passes(200, upTo(0, 12)...), 0.02)
	t.Logf("%+v", got)
	if got.Verdict != forge.CompareRegressed || got.Method != "mcnemar" || got.Worse != 12 || got.P != 1./4096 {
		t.Errorf("%+v", got)
	}
	got = compareOne(t, passes(1000), passes(1000, 1), 0.02)
	t.Logf("%+v", got)
	got = compareOne(t, passes(200), passes(200, 1, 2, 3), 0.02)
	t.Logf("%+v", got)
	r := seeded("c")
	x, y := make([]float64, 1000), make([]float64, 1000)
	for i := range x {
		x[i] = r.Float64()
		y[i] = x[i] + 0.1*r.NormFloat64() - 0.01
	}
	t.Logf("%+v", compareOne(t, x, y, 0.02))
	t.Logf("%+v", compareOne(t, x, x, 0.02))
}
