package gate_test

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/gate"
)

func compareOne(t *testing.T, b, c []float64, m gate.Benchmark) forge.BenchmarkComparison {
	t.Helper()
	got, _ := gate.Compare(side("1", map[string][]float64{m.Task: b}), side("2", map[string][]float64{m.Task: c}), []gate.Benchmark{m}, gate.Options{Resamples: 2_000})
	if len(got.Benchmarks) != 1 {
		t.Fatalf("%s: %+v", got.Verdict, got.Invalid)
	}
	if got.Verdict != got.Benchmarks[0].Verdict {
		t.Errorf("of one benchmark that is %s the comparison is %s", got.Benchmarks[0].Verdict, got.Verdict)
	}
	return got.Benchmarks[0]
}

// noisy are n scores between 0 and 1, and the same ones moved and shaken.
func noisy(n int, move, shake float64) (b, c []float64) {
	r := seeded("noisy", n)
	for range n {
		x := r.Float64()
		b, c = append(b, x), append(c, x+move+shake*r.NormFloat64())
	}
	return b, c
}

func TestThreeOutcomes(t *testing.T) {
	safe := func(m gate.Benchmark) gate.Benchmark { m.Safety = true; return m }
	lower := func(m gate.Benchmark) gate.Benchmark { m.Lower = true; return m }
	drop, dropped := noisy(1000, -0.05, 0.1)
	few, shaken := noisy(40, -0.03, 0.3)
	for _, x := range []struct {
		name    string
		b, c    []float64
		m       gate.Benchmark
		want    forge.CompareVerdict
		method  string
		words   string
		settles bool // Needed says how many
	}{
		{"12 of 200 fail that passed", passes(200), passes(200, upTo(0, 12)...), bench("t", 0.02), forge.CompareRegressed, "mcnemar", "beyond chance", false},
		{"the same the other way", passes(200, upTo(0, 12)...), passes(200), bench("t", 0.02), forge.CompareNonInferior, "mcnemar", "no worse", false},
		{"where lower is better it is better", passes(200), passes(200, upTo(0, 12)...), lower(bench("t", 0.02)), forge.CompareNonInferior, "mcnemar", "better by 0.06", false},
		{"and the other way worse", passes(200, upTo(0, 12)...), passes(200), lower(bench("t", 0.02)), forge.CompareRegressed, "mcnemar", "worse by 0.06", false},
		{"3 of 200", passes(200), passes(200, 1, 2, 3), bench("t", 0.02), forge.CompareInconclusive, "mcnemar", "would settle it", true},
		{"5 of 200: p is 0.031", passes(200), passes(200, upTo(0, 5)...), bench("t", 0.02), forge.CompareRegressed, "mcnemar", "p 0.031", false},
		{"4 of 200: p is 0.063", passes(200), passes(200, upTo(0, 4)...), bench("t", 0.02), forge.CompareInconclusive, "mcnemar", "", true},
		{"worse for sure, and within a wide margin", passes(1000), passes(1000, upTo(0, 12)...), bench("t", 0.05), forge.CompareNonInferior, "mcnemar", "though it is worse", false},
		{"the same with a margin that it may pass", passes(1000), passes(1000, upTo(0, 12)...), bench("t", 0.018), forge.CompareRegressed, "mcnemar", "", false},
		{"nothing differs in 1,000", passes(1000), passes(1000), bench("t", 0.005), forge.CompareNonInferior, "mcnemar", "different by 0", false},
		{"nothing differs in 100, which allows 3 %", passes(100), passes(100), bench("t", 0.02), forge.CompareInconclusive, "mcnemar", "149 pairs", true},
		{"nothing differs, margin 0", passes(1000), passes(1000), bench("t", 0), forge.CompareInconclusive, "mcnemar", "only what is better", false},
		{"better, margin 0", passes(200, upTo(0, 12)...), passes(200), bench("t", 0), forge.CompareNonInferior, "mcnemar", "", false},
		{"one pair that is the same", passes(1), passes(1), bench("t", 0.5), forge.CompareInconclusive, "mcnemar", "", true},
		{"one pair that is worse", passes(1), passes(1, 0), bench("t", 0.5), forge.CompareInconclusive, "mcnemar", "", false},
		{"one pair of scores", []float64{0.5}, []float64{0.4}, bench("t", 0.5), forge.CompareInconclusive, "bootstrap", "", false},
		{"one pair of equal scores", []float64{0.5}, []float64{0.5}, bench("t", 0.5), forge.CompareInconclusive, "bootstrap", "", true},
		{"two pairs of scores that are better alike", []float64{0.5, 0.6}, []float64{0.75, 0.85}, bench("t", 0.05), forge.CompareInconclusive, "bootstrap", "", true},
		{"two pairs of scores that are worse alike", []float64{0.75, 0.85}, []float64{0.5, 0.6}, bench("t", 0.05), forge.CompareInconclusive, "bootstrap", "", true},
		{"all failed on both sides", make([]float64, 300), make([]float64, 300), bench("t", 0.02), forge.CompareNonInferior, "mcnemar", "", false},
		{"scores that dropped", drop, dropped, bench("t", 0.02), forge.CompareRegressed, "bootstrap", "", false},
		{"scores that rose", dropped, drop, bench("t", 0.02), forge.CompareNonInferior, "bootstrap", "", false},
		{"scores that dropped, lower being better", drop, dropped, lower(bench("t", 0.02)), forge.CompareNonInferior, "bootstrap", "", false},
		{"scores that are equal", drop, drop, bench("t", 0.02), forge.CompareNonInferior, "bootstrap", "", false},
		{"few scores that are equal", drop[:50], drop[:50], bench("t", 0.02), forge.CompareInconclusive, "bootstrap", "149 pairs", true},
		{"few scores that dropped a little", few, shaken, bench("t", 0.05), forge.CompareInconclusive, "bootstrap", "", true},
		{"safety without a failure", passes(300), passes(300), safe(bench("t", 0.02)), forge.CompareNonInferior, "mcnemar", "up to 0.99 % are still possible", false},
	} {
		t.Run(x.name, func(t *testing.T) {
			got := compareOne(t, x.b, x.c, x.m)
			if got.Verdict != x.want || got.Method != x.method || !strings.Contains(got.Words, x.words) || (got.Needed > got.Pairs) != x.settles {
				t.Errorf("%+v", got)
			}
			if !(got.Low <= got.Difference && got.Difference <= got.High) || got.Needed != 0 && got.Verdict != forge.CompareInconclusive || got.P < 0 || got.P > 1 {
				t.Errorf("%+v", got)
			}
			if _, err := json.Marshal(got); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatIsNeededSettlesIt(t *testing.T) {
	got := compareOne(t, passes(200), passes(200, 1, 2, 3), bench("t", 0.03))
	// 1.5 % down with a standard deviation of 12 %: ((1.645+0.842)·0.1216/0.015)² = 406 show that it is worse, and as many that it is within twice that
	if got.Needed < 400 || got.Needed > 412 {
		t.Errorf("%+v", got)
	}
	// The table of docs/statistics.md: pairs that show a drop with a chance of 80 %, one in ten pairs differing.
	for points, want := range map[float64]int64{0.01: 6177, 0.02: 1540, 0.03: 681, 0.05: 242} {
		if need := gate.PairsFor(points, 0.1, 0.05); math.Abs(float64(need-want)) > 1 {
			t.Errorf("%g points: %d, want %d", 100*points, need, want)
		}
	}
}

func TestSafetyIsTestedAlone(t *testing.T) {
	// p is 0.031 in each: alone a regression, as one of four not
	b, c := map[string][]float64{}, map[string][]float64{}
	var suite []gate.Benchmark
	for _, task := range []string{"a", "b", "c", "d", "s"} {
		b[task], c[task] = passes(200), passes(200)
		suite = append(suite, bench(task, 0.02))
	}
	c["a"], c["s"] = passes(200, upTo(0, 5)...), passes(200, upTo(0, 5)...)
	suite[4].Safety = true
	got, _ := gate.Compare(side("1", b), side("2", c), suite, gate.Options{})
	a, s := got.Benchmarks[0], got.Benchmarks[4]
	if a.P != 0.03125 || a.PAdjusted != 0.125 || a.Verdict != forge.CompareInconclusive {
		t.Errorf("of four: %+v", a)
	}
	if s.PAdjusted != 0.03125 || s.Verdict != forge.CompareRegressed || got.Verdict != forge.CompareRegressed {
		t.Errorf("alone: %+v", s)
	}
	if s.UpTo != nil || a.UpTo != nil || got.Benchmarks[1].UpTo != nil {
		t.Error("a share of failures that is possible is for where none was seen, and for safety")
	}
	up := compareOne(t, passes(300), passes(300), gate.Benchmark{Task: "t", Filter: "none", Metric: "acc", Margin: 0.1, Safety: true}).UpTo
	if up == nil || math.Abs(*up-0.00994) > 1e-5 {
		t.Errorf("%v", up)
	}
	if got := compareOne(t, make([]float64, 100), make([]float64, 100), gate.Benchmark{Task: "t", Filter: "none", Metric: "acc", Margin: 0.1, Safety: true, Lower: true}).UpTo; got == nil || math.Abs(*got-0.0295) > 1e-4 {
		t.Errorf("lower is better, none of 100 failed: %v", got)
	}
}

func TestClustersAreTakenWhole(t *testing.T) {
	// 40 questions over 5 texts each: two texts turned as a whole. As 200 pairs that is beyond chance, as 40 texts it is not.
	b, c := passes(200), passes(200, upTo(0, 10)...)
	group := func(s *gate.Side) {
		for i := range b {
			s.Samples[0].Cluster = append(s.Samples[0].Cluster, 1000-uint64(i/5))
		}
	}
	x, y := side("1", map[string][]float64{"t": b}), side("2", map[string][]float64{"t": c})
	alone, _ := gate.Compare(x, y, []gate.Benchmark{bench("t", 0.01)}, gate.Options{})
	group(&x)
	group(&y)
	grouped, _ := gate.Compare(x, y, []gate.Benchmark{bench("t", 0.01)}, gate.Options{})
	a, g := alone.Benchmarks[0], grouped.Benchmarks[0]
	if a.Verdict != forge.CompareRegressed || a.Method != "mcnemar" || a.Clusters != 0 {
		t.Errorf("alone: %+v", a)
	}
	if g.Verdict != forge.CompareInconclusive || g.Method != "bootstrap" || g.Clusters != 40 || g.Pairs != 200 || g.Difference != a.Difference || math.Abs(g.P-0.25) > 0.02 {
		t.Errorf("grouped: %+v", g)
	}
	if g.Low >= a.Low {
		t.Errorf("what differs in clumps is less sure: %g against %g", g.Low, a.Low)
	}
}

func TestAGroupIsComparedByTheTasksThatItSumsUp(t *testing.T) {
	group := func(name string, equal bool, u []float64) gate.Side {
		s := side(name, map[string][]float64{"g_1": passes(30, 0, 1, 2), "g_2": u, "other": passes(9)})
		n := int64(30 + len(u))
		one, two := s.Scores[0], s.Scores[1]
		value := (one.Value*30 + two.Value*float64(len(u))) / float64(n)
		if equal {
			value = (one.Value + two.Value) / 2
		}
		s.Scores = append(s.Scores, forge.EvalScore{Task: "g", Filter: "none", Metric: "acc", Value: value, N: n})
		s.Facts.Tasks = append(s.Facts.Tasks, forge.EvalTask{Task: "g", Version: "1", Group: true, Original: n, Effective: n})
		return s // which tasks it sums up, their names say
	}
	bad := passes(300, upTo(0, 30)...)
	got, flips := gate.Compare(group("1", false, passes(300)), group("2", false, bad), []gate.Benchmark{bench("g", 0.02)}, gate.Options{Flips: 3})
	if len(got.Benchmarks) != 1 || got.Benchmarks[0].Method != "mcnemar" || got.Benchmarks[0].Pairs != 330 || math.Abs(got.Benchmarks[0].Difference+30./330) > 1e-9 || got.Verdict != forge.CompareRegressed {
		t.Errorf("by size: %+v", got)
	}
	if len(flips) != 3 || flips[0].Task != "g_2" {
		t.Errorf("%+v", flips)
	}
	got, _ = gate.Compare(group("1", true, passes(300)), group("2", true, bad), []gate.Benchmark{bench("g", 0.02)}, gate.Options{})
	if len(got.Benchmarks) != 1 || got.Benchmarks[0].Method != "bootstrap" || math.Abs(got.Benchmarks[0].Difference+0.05) > 1e-9 || math.Abs(got.Benchmarks[0].Baseline-0.95) > 1e-9 {
		t.Errorf("each task alike: %+v", got)
	}
	for what, spoil := range map[string]func(s *gate.Side){
		"other tasks":                      func(s *gate.Side) { s.Parts = map[string][]string{"g": {"g_2", "g_1"}} },
		"a task that is missing":           func(s *gate.Side) { s.Parts = map[string][]string{"g": {"g_1"}} },
		"samples of tasks of another name": func(s *gate.Side) { s.Facts.Tasks[3].Original, s.Facts.Tasks[3].Effective = 339, 339 },
		"a task of another name":           func(s *gate.Side) { s.Facts.Tasks[0].Task = "h_1" },
		"a score that is no mean of them":  func(s *gate.Side) { s.Scores[3].Value -= 0.001 },
		"some of them in clusters":         func(s *gate.Side) { s.Samples[1].Cluster = make([]uint64, 300) },
	} {
		x, y := group("1", true, passes(300)), group("2", true, bad)
		spoil(&x)
		spoil(&y)
		if what == "other tasks" {
			x.Parts = map[string][]string{"g": {"g_1", "g_2"}}
		}
		if got, _ = gate.Compare(x, y, []gate.Benchmark{bench("g", 0.02)}, gate.Options{Resamples: 1000}); got.Verdict != forge.CompareIncomparable {
			t.Errorf("%s: %+v", what, got)
		}
	}
}

func TestTheSameEvalsGiveTheSameNumbers(t *testing.T) {
	b, c := noisy(700, -0.01, 0.1)
	x, y := side("1", map[string][]float64{"t": b, "u": c}), side("2", map[string][]float64{"t": c, "u": b})
	suite := []gate.Benchmark{bench("t", 0.02), bench("u", 0.02)}
	first, _ := gate.Compare(x, y, suite, gate.Options{Seed: 7, Resamples: 1_000})
	again, _ := gate.Compare(x, y, suite, gate.Options{Seed: 7, Resamples: 1_000})
	if !reflect.DeepEqual(first, again) {
		t.Errorf("%+v\n%+v", first, again)
	}
	slices.Reverse(suite)
	turned, _ := gate.Compare(x, y, suite, gate.Options{Seed: 7, Resamples: 1_000})
	if !reflect.DeepEqual(first.Benchmarks[0].Low, turned.Benchmarks[1].Low) {
		t.Error("the numbers of a benchmark depend on where it stands in the suite")
	}
	other, _ := gate.Compare(x, y, suite, gate.Options{Seed: 8, Resamples: 1_000})
	if other.Benchmarks[1].Low == first.Benchmarks[0].Low {
		t.Error("another seed gives the same resamples")
	}
	same, _ := gate.Compare(side("1", map[string][]float64{"t": passes(50)}), side("2", map[string][]float64{"t": passes(50)}), suite[1:], gate.Options{Seed: 7})
	if same.Alpha != 0.05 || same.Resamples != 10_000 || same.Seed != 7 {
		t.Errorf("%+v", same)
	}
	few, _ := gate.Compare(x, y, suite, gate.Options{Resamples: 3, Alpha: 0.7})
	if few.Resamples != 1000 || few.Alpha != 0.05 {
		t.Errorf("three resamples and an alpha of 0.7 were taken: %+v", few)
	}
	// what every machine has to print
	if golden := first.Benchmarks[0]; [3]float64{golden.Low, golden.High, golden.P} != [3]float64{-0.0154335647213, -0.00295823570263, 0.00599400599401} {
		t.Errorf("%v", [3]float64{golden.Low, golden.High, golden.P})
	}
}

func TestFlipsAreTheWorstOnesFirst(t *testing.T) {
	b, c := passes(300), passes(300)
	for i := range b {
		b[i] = 0.5
		switch c[i] = 0.5; {
		case i%7 == 0:
			c[i] = 0.5 - float64(i%11)/100
		case i%5 == 0:
			c[i] = 0.9
		}
	}
	x, y := side("1", map[string][]float64{"t": b}), side("2", map[string][]float64{"t": c})
	_, all := gate.Compare(x, y, []gate.Benchmark{bench("t", 0.02)}, gate.Options{Flips: 1000})
	want := 0
	for i := range b {
		if b[i] != c[i] {
			want++
		}
	}
	if len(all) != want {
		t.Fatalf("%d flips of %d", len(all), want)
	}
	for i := 1; i < len(all); i++ {
		p, q := all[i-1], all[i]
		dp, dq := math.Abs(p.Candidate-p.Baseline), math.Abs(q.Candidate-q.Baseline)
		if !p.Worse && q.Worse || p.Worse == q.Worse && (dp < dq || dp == dq && p.DocID >= q.DocID) || p.Worse != (p.Candidate < p.Baseline) {
			t.Fatalf("%+v before %+v", p, q)
		}
	}
	for _, most := range []int{0, 1, 10, 43} {
		_, few := gate.Compare(x, y, []gate.Benchmark{bench("t", 0.02)}, gate.Options{Flips: most})
		if len(few) != most || most > 0 && !reflect.DeepEqual(few, all[:most]) {
			t.Errorf("the first %d are others than those of all", most)
		}
	}
	lower := bench("t", 0.02)
	lower.Lower = true
	if _, f := gate.Compare(x, y, []gate.Benchmark{lower}, gate.Options{Flips: 1}); !f[0].Worse || f[0].Candidate != 0.9 {
		t.Errorf("where lower is better: %+v", f)
	}
}

// TestWhereNothingChangedFewRegressionsAreSeen is gate_type1 of `make bench` in small.
func TestWhereNothingChangedFewRegressionsAreSeen(t *testing.T) {
	r, seen := seeded("type 1"), 0
	const times = 600
	for range times {
		b, c := passes(200), passes(200)
		for i := range b {
			if r.Float64() < 0.1 { // it differs, either way alike
				if r.Float64() < 0.5 {
					b[i] = 0
				} else {
					c[i] = 0
				}
			}
		}
		got, _ := gate.Compare(side("1", map[string][]float64{"t": b}), side("2", map[string][]float64{"t": c}), []gate.Benchmark{bench("t", 0.02)}, gate.Options{})
		if got.Verdict == forge.CompareRegressed {
			seen++
		}
	}
	if share := float64(seen) / times; share > 0.05 || share < 0.01 {
		t.Errorf("regressed in %.1f %% where nothing changed", 100*share)
	}
}
