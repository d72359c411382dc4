package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/gate"
)

const (
	gatePairs   = 10_000  // comparisons that are simulated for each setting
	gateSamples = 100_000 // of the evals that compare_ms compares
	gateTries   = 9
)

// gateSeed is what the simulations of gates are drawn from, whatever the clock says: a figure that may not pass 5 % shall not depend on the day.
func gateSeed(e env) uint64 {
	if e.seed != 0 {
		return e.seed
	}
	return 20261126
}

// evalOf is a whole eval of one task, whose scores these are.
func evalOf(name, task string, scores []float64, cluster []uint64) gate.Side {
	n := int64(len(scores))
	col := gate.Samples{Task: task, Filter: "none", Doc: make([]int64, n), Asked: make([][16]byte, n), Cluster: cluster, Scores: map[string][]float64{"acc": scores}}
	sum := 0.
	for i, v := range scores {
		col.Doc[i] = int64(i)
		binary.BigEndian.PutUint64(col.Asked[i][:], uint64(i)+1)
		sum += v
	}
	return gate.Side{EvalBrief: forge.EvalBrief{Eval: name, Model: "m@" + name, ModelSHA256: name}, Suite: "s", SuiteSHA256: "s",
		Facts:   forge.EvalFacts{Harness: map[string]string{"lm_eval": "0.4.13"}, ModelSHA256: name, DType: "bfloat16", Device: "cuda", Tasks: []forge.EvalTask{{Task: task, Hash: "h", Original: n, Effective: n}}},
		Scores:  []forge.EvalScore{{Task: task, Filter: "none", Metric: "acc", Value: sum / float64(n), N: n, Aggregation: "mean"}},
		Samples: []gate.Samples{col}}
}

// heldAgainst is what the comparison of two such evals comes to; the figures are wrong if it cannot be made.
func heldAgainst(b, c []float64, cluster []uint64, margin float64, o gate.Options) (forge.BenchmarkComparison, error) {
	got, _ := gate.Compare(evalOf("1", "t", b, cluster), evalOf("2", "t", c, cluster), []gate.Benchmark{{Task: "t", Filter: "none", Metric: "acc", Margin: margin}}, o)
	if len(got.Benchmarks) != 1 {
		return forge.BenchmarkComparison{}, fmt.Errorf("the two were not compared: %+v", got.Invalid)
	}
	return got.Benchmarks[0], nil
}

// tried counts how often f holds in so many tries, each with random numbers of its own.
func tried(ctx context.Context, seed uint64, times int, f func(r *rand.Rand) (bool, error)) (int, error) {
	var next, held atomic.Int64
	var wg sync.WaitGroup
	var once sync.Once
	var failed error
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(times) && ctx.Err() == nil; i = next.Add(1) {
				ok, err := f(rand.New(rand.NewPCG(seed, uint64(i))))
				if err != nil {
					once.Do(func() { failed = err })
					return
				}
				if ok {
					held.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if failed == nil {
		failed = ctx.Err()
	}
	return int(held.Load()), failed
}

// differing draws n pairs of scores of 0 and 1 of which a share differs, by that much more to the worse side than to the better.
func differing(r *rand.Rand, n int, share, drop float64) (b, c []float64) {
	b, c = make([]float64, n), make([]float64, n)
	for i := range b {
		switch u := r.Float64(); {
		case u < (share+drop)/2:
			b[i], c[i] = 1, 0
		case u < share:
			b[i], c[i] = 0, 1
		default:
			b[i] = float64(i % 2)
			c[i] = b[i]
		}
	}
	return b, c
}

// unchanged are ways in which two evals of a model that did not change come out. The margin is 0, with which most is called a regression.
var unchanged = []struct {
	name      string
	resamples int
	draw      func(r *rand.Rand, n int) (b, c []float64, cluster []uint64)
}{
	{"0/1, 5 % differ", 0, func(r *rand.Rand, n int) (b, c []float64, _ []uint64) { b, c = differing(r, n, 0.05, 0); return }},
	{"0/1, 10 % differ", 0, func(r *rand.Rand, n int) (b, c []float64, _ []uint64) { b, c = differing(r, n, 0.1, 0); return }},
	{"0/1, 20 % differ", 0, func(r *rand.Rand, n int) (b, c []float64, _ []uint64) { b, c = differing(r, n, 0.2, 0); return }},
	{"0/1 in groups of 5 that turn together", 1000, func(r *rand.Rand, n int) (b, c []float64, cluster []uint64) {
		few, turned := differing(r, n/5, 0.1, 0)
		for i := range n {
			b, c, cluster = append(b, few[i/5]), append(c, turned[i/5]), append(cluster, uint64(i/5))
		}
		return
	}},
	{"grades in quarters, 15 % differ", 1000, func(r *rand.Rand, n int) (b, c []float64, _ []uint64) {
		for range n {
			x := float64(r.IntN(5)) / 4
			y := x
			if r.Float64() < 0.15 {
				y = float64(r.IntN(5)) / 4
			}
			b, c = append(b, x), append(c, y)
		}
		return
	}},
	{"continuous, skewed", 1000, func(r *rand.Rand, n int) (b, c []float64, _ []uint64) {
		for range n {
			x, y := math.Exp(-r.ExpFloat64()), 0.1*r.ExpFloat64()
			if r.Uint64()&1 == 0 {
				x, y = x+y, x
			} else {
				y += x
			}
			b, c = append(b, x), append(c, y)
		}
		return
	}},
}

// suiteUnchanged compares a suite of four benchmarks of which none changed.
func suiteUnchanged(r *rand.Rand, n int) (forge.CompareVerdict, error) {
	var left, right gate.Side
	var suite []gate.Benchmark
	for k, share := range []float64{0.05, 0.1, 0.1, 0.2} {
		task := fmt.Sprint("t", k)
		b, c := differing(r, n, share, 0)
		x, y := evalOf("1", task, b, nil), evalOf("2", task, c, nil)
		if k == 0 {
			left, right = x, y
		} else {
			left.Facts.Tasks, left.Scores, left.Samples = append(left.Facts.Tasks, x.Facts.Tasks...), append(left.Scores, x.Scores...), append(left.Samples, x.Samples...)
			right.Facts.Tasks, right.Scores, right.Samples = append(right.Facts.Tasks, y.Facts.Tasks...), append(right.Scores, y.Scores...), append(right.Samples, y.Samples...)
		}
		suite = append(suite, gate.Benchmark{Task: task, Filter: "none", Metric: "acc"})
	}
	got, _ := gate.Compare(left, right, suite, gate.Options{})
	if len(got.Benchmarks) != len(suite) {
		return "", fmt.Errorf("the two were not compared: %+v", got.Invalid)
	}
	return got.Verdict, nil
}

// gateType1 is how often a model that did not change is called regressed.
func gateType1(ctx context.Context, e env) ([]figure, error) {
	worst := 0.
	for _, u := range unchanged {
		for _, n := range []int{200, 1000} {
			fired := int64(0)
			held, err := tried(ctx, gateSeed(e)+uint64(n), gatePairs, func(r *rand.Rand) (bool, error) {
				b, c, cluster := u.draw(r, n)
				got, err := heldAgainst(b, c, cluster, 0, gate.Options{Resamples: u.resamples, Seed: int64(r.Uint64() >> 1)})
				if got.Difference < -0.01 {
					atomic.AddInt64(&fired, 1)
				}
				return got.Verdict == forge.CompareRegressed, err
			})
			if err != nil {
				return nil, err
			}
			share := 100 * float64(held) / gatePairs
			fmt.Printf("  nothing changed, n = %d, %s: %.2f %% regressed; the mean is a point down in %.1f %%\n", n, u.name, share, 100*float64(fired)/gatePairs)
			worst = max(worst, share)
		}
	}
	for _, n := range []int{200, 1000} {
		held, err := tried(ctx, gateSeed(e)+uint64(n), gatePairs, func(r *rand.Rand) (bool, error) {
			v, err := suiteUnchanged(r, n)
			return v == forge.CompareRegressed, err
		})
		if err != nil {
			return nil, err
		}
		fmt.Printf("  nothing changed, n = %d, a suite of four: %.2f %% regressed in any\n", n, 100*float64(held)/gatePairs)
		worst = max(worst, 100*float64(held)/gatePairs)
	}
	return []figure{atMost("gate_type1", worst, "% regressed", "limit", 5, 1)}, nil
}

// gatePower is how many points of the exact test's power the verdict gives up: of the same simulated evals, those that the exact test calls worse and
// those that the verdict does.
func gatePower(ctx context.Context, e env) ([]figure, error) {
	worst := 0.
	for _, x := range []struct {
		n                   int
		share, drop, margin float64
	}{
		{200, 0.1, 0.05, 0.02}, {242, 0.1, 0.05, 0.05}, {338, 0.05, 0.03, 0.02}, {681, 0.1, 0.03, 0.02}, {1000, 0.2, 0.03, 0.01}, {1000, 0.1, 0.03, 0.02}, {1540, 0.1, 0.02, 0.02}, {6177, 0.1, 0.01, 0.005},
	} {
		var exact, unpaired atomic.Int64
		held, err := tried(ctx, gateSeed(e)+uint64(x.n), gatePairs, func(r *rand.Rand) (bool, error) {
			b, c := differing(r, x.n, x.share, x.drop)
			got, err := heldAgainst(b, c, nil, x.margin, gate.Options{})
			if p, _ := gate.Statistic("mcnemar", []float64{float64(got.Better), float64(got.Worse)}); p <= 0.05 {
				exact.Add(1)
			}
			// what lm-eval's own comparison does: two means with their standard errors, as if of different questions
			if p, q := got.Baseline, got.Candidate; (q-p)/math.Sqrt((p*(1-p)+q*(1-q))/float64(x.n-1)) < -1.645 {
				unpaired.Add(1)
			}
			return got.Verdict == forge.CompareRegressed, err
		})
		if err != nil {
			return nil, err
		}
		of, ours := 100*float64(exact.Load())/gatePairs, 100*float64(held)/gatePairs
		fmt.Printf("  %g points down, %g %% differ, n = %d, margin %g points: exact test %.1f %%, verdict %.1f %%; unpaired z-test %.1f %%\n", 100*x.drop, 100*x.share, x.n, 100*x.margin, of, ours, 100*float64(unpaired.Load())/gatePairs)
		worst = max(worst, of-ours)
	}
	return []figure{atMost("gate_power", worst, "points below", "limit", 2, 1)}, nil
}

// gateSource gives the two evals that compare_ms compares: from memory here; what it takes to read them from the database is added where they are read.
type gateSource func(b, c []float64) (baseline, candidate gate.Side, err error)

func fromMemory(b, c []float64) (gate.Side, gate.Side, error) {
	return evalOf("1", "t", b, nil), evalOf("2", "t", c, nil), nil
}

// compareMS compares two evals of 100,000 samples: of 0 and 1, and of any score.
func compareMS(_ context.Context, e env) ([]figure, error) {
	return compareFrom(e, fromMemory)
}

func compareFrom(e env, source gateSource) ([]figure, error) {
	r, worst := rand.New(rand.NewPCG(gateSeed(e), 1)), 0.
	b, c := differing(r, gateSamples, 0.1, 0.002)
	x, y := make([]float64, gateSamples), make([]float64, gateSamples)
	for i := range x {
		x[i] = r.Float64()
		y[i] = x[i] + 0.1*r.NormFloat64() - 0.001
	}
	for _, one := range []struct {
		name string
		b, c []float64
	}{{"0/1", b, c}, {"continuous", x, y}} {
		var took []float64
		for range gateTries {
			start := time.Now()
			left, right, err := source(one.b, one.c)
			if err != nil {
				return nil, err
			}
			got, flips := gate.Compare(left, right, []gate.Benchmark{{Task: "t", Filter: "none", Metric: "acc", Margin: 0.01}}, gate.Options{Flips: 50})
			took = append(took, float64(time.Since(start).Microseconds())/1000)
			if len(got.Benchmarks) != 1 || len(flips) != 50 {
				return nil, fmt.Errorf("%s: %+v", one.name, got.Invalid)
			}
		}
		slices.Sort(took)
		fmt.Printf("  %d samples, %s: %.1f ms (%.1f to %.1f)\n", gateSamples, one.name, took[gateTries/2], took[0], took[gateTries-1])
		worst = max(worst, took[gateTries/2])
	}
	return []figure{atMost("compare_ms", worst, "ms", "limit", 500, 1)}, nil
}
