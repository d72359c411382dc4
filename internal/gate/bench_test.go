package gate_test

import (
	"testing"

	"github.com/forge-ml/forge-ml/internal/gate"
)

func BenchmarkContinuous(b *testing.B) {
	r := seeded("c")
	n := 100000
	x, y := make([]float64, n), make([]float64, n)
	for i := range x {
		x[i] = r.Float64()
		y[i] = x[i] + 0.1*r.NormFloat64() - 0.01
	}
	s, c := side("1", map[string][]float64{"t": x}), side("2", map[string][]float64{"t": y})
	for b.Loop() {
		gate.Compare(s, c, []gate.Benchmark{bench("t", 0.02)}, gate.Options{Flips: 100})
	}
}
