package gate_test

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/forge-ml/forge-ml/internal/gate"
)

// reference is what contrib/bench/gate.py wrote.
type reference struct {
	Special [][3]json.RawMessage `json:"special"`
	Holm    []struct{ P, Adjusted []float64 }
	Boot    []struct {
		Name             string
		D                []float64
		Low, High, SD, P float64
	} `json:"bootstrap"`
}

func readReference(t *testing.T) (r reference) {
	t.Helper()
	data, err := os.ReadFile("testdata/reference.json")
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestStatisticsAreThoseOfScipyAndStatsmodels(t *testing.T) {
	seen, worst := map[string]int{}, 0.
	for _, row := range readReference(t).Special {
		var name string
		var args []float64
		var want float64
		for i, to := range []any{&name, &args, &want} {
			if err := json.Unmarshal(row[i], to); err != nil {
				t.Fatal(err)
			}
		}
		got, known := gate.Statistic(name, args)
		off := math.Abs(got-want) / math.Max(math.Abs(want), 1e-3)
		if !known || !(off <= 1e-12) {
			t.Errorf("%s%v is %.17g, scipy says %.17g (off %.2g)", name, args, got, want, off)
		}
		seen[name]++
		worst = max(worst, off)
	}
	if len(seen) < 12 {
		t.Errorf("only %v were compared", seen)
	}
	t.Logf("worst %.3g", worst)
	if _, known := gate.Statistic("tea leaves", nil); known {
		t.Error("tea leaves are no statistic")
	}
}

func TestHolmIsThatOfStatsmodels(t *testing.T) {
	for _, h := range readReference(t).Holm {
		for i, got := range gate.Holm(h.P) {
			if math.Abs(got-h.Adjusted[i]) > 1e-15 {
				t.Errorf("Holm of %v is %v, statsmodels says %v", h.P, gate.Holm(h.P), h.Adjusted)
				break
			}
		}
	}
}

func TestTheBootstrapIsThatOfScipyWithinItsOwnChance(t *testing.T) {
	for _, b := range readReference(t).Boot {
		got, _ := gate.Compare(side("1", map[string][]float64{"t": make([]float64, len(b.D))}), side("2", map[string][]float64{"t": b.D}), []gate.Benchmark{bench("t", 0.02)},
			gate.Options{Resamples: 8_000})
		one := got.Benchmarks[0]
		// by 8,000 resamples of ours the end of an interval is known to 2.4 % of the standard error; it is 1 % of it further out, units being few
		if math.Abs(one.Low-b.Low) > 0.1*b.SD || math.Abs(one.High-b.High) > 0.1*b.SD || math.Abs(one.P-b.P) > 0.015 || one.Method != "bootstrap" {
			t.Errorf("%s: %+v; scipy says %g to %g, p %g (standard error %g)", b.Name, one, b.Low, b.High, b.P, b.SD)
		}
		t.Logf("%s: low off %.4f se, high off %.4f se, p %.4f vs %.4f", b.Name, (one.Low-b.Low)/b.SD, (one.High-b.High)/b.SD, one.P, b.P)
	}
}
