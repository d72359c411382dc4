package gate

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestChanceIsEvenAndNormal(t *testing.T) {
	r, cells := &chance{7}, [64]float64{}
	var sum, squares, fourth float64
	const draws = 200_000
	for range draws {
		cells[int(64*r.float())]++
		z := r.normal()
		sum, squares, fourth = sum+z, squares+z*z, fourth+z*z*z*z
	}
	chi := 0.
	for _, n := range cells {
		chi += (n - draws/64) * (n - draws/64) / (draws / 64)
	}
	if chi > 63+5*math.Sqrt(2*63) || math.Abs(sum/draws) > 0.01 || math.Abs(squares/draws-1) > 0.015 || math.Abs(fourth/draws-3) > 0.1 {
		t.Errorf("chi-squared %g, moments %g %g %g", chi, sum/draws, squares/draws, fourth/draws)
	}
	// the sequence that its authors give for this seed
	if c := (&chance{1234567}); c.next() != 6457827717110365317 || c.next() != 3203168211198807973 {
		t.Error("it is not splitmix64")
	}
}

func TestBinomialDrawsFallAsTheirChancesSay(t *testing.T) {
	r := &chance{1}
	for _, x := range []struct {
		n int64
		p float64
	}{{1, 0.5}, {7, 0.3}, {40, 0.02}, {30, 0.5}, {200, 0.06}, {1000, 0.4}, {1000, 0.97}, {100_000, 0.25}, {100_000, 0.00005}} {
		const draws = 20_000
		seen := map[int64]float64{}
		for range draws {
			seen[binomial(r, x.n, x.p)]++
		}
		// chi-squared over cells that are expected five times or more, what is left in one
		chi, cells, rest, left := 0., 0, float64(draws), 0.
		for k := range x.n + 1 {
			want := draws * choose(float64(k), float64(x.n), x.p, 1-x.p)
			if want < 5 {
				left += seen[k]
				continue
			}
			chi += (seen[k] - want) * (seen[k] - want) / want
			rest -= want
			cells++
		}
		if rest > 5 {
			chi += (left - rest) * (left - rest) / rest
		}
		df := float64(cells)
		if z := (math.Cbrt(chi/df) - 1 + 2/(9*df)) / math.Sqrt(2/(9*df)); z > 4 {
			t.Errorf("binomial(%d, %g): chi-squared %.1f over %d cells", x.n, x.p, chi, cells)
		}
	}
}

// oneByOne is the bootstrap as the books have it.
func oneByOne(u units, resamples int, r *rand.Rand) []float64 {
	out := make([]float64, resamples)
	for i := range out {
		var sum, size float64
		for range u.sum {
			s, m := u.of(r.IntN(len(u.sum)))
			sum, size = sum+s, size+m
		}
		out[i] = sum / size
	}
	slices.Sort(out)
	return out
}

func TestDrawingBlocksComesToDrawingUnitsOneByOne(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	fill := func(n int, f func() float64) []float64 {
		out := make([]float64, n)
		for i := range out {
			out[i] = f()
		}
		return out
	}
	sizes := fill(120, func() float64 { return float64(1 + r.IntN(9)) })
	grouped := units{sum: fill(120, r.NormFloat64), size: sizes}
	for i := range grouped.sum {
		grouped.sum[i] = sizes[i]*0.1 + grouped.sum[i]
	}
	outlier := fill(400, func() float64 { return 0.01 * r.NormFloat64() })
	outlier[17] = -4
	for name, u := range map[string]units{
		"few values": {sum: fill(300, func() float64 { return float64(r.IntN(3) - 1) })},
		"many":       {sum: fill(500, r.NormFloat64)},
		"skewed":     {sum: fill(300, r.ExpFloat64)},
		"an outlier": {sum: outlier},
		"clusters":   grouped,
	} {
		const resamples = 5_000
		mean, err := u.mean()
		fast, slow := u.bootstrap(mean, resamples, &chance{2}), oneByOne(u, resamples, r)
		for _, q := range []float64{0.01, 0.05, 0.2, 0.5, 0.75, 0.95, 0.99} {
			i := int(q * resamples)
			// both are drawn: their error at a quantile is about sqrt(q(1-q)/resamples) over the density there
			allowed := 4.5 * math.Sqrt(2*q*(1-q)/resamples) / (math.Exp(-phiInv(q)*phiInv(q)/2) / math.Sqrt(2*math.Pi)) * err
			if name == "an outlier" {
				allowed = max(allowed, 0.35*err) // so many copies of it, or one more: the distribution has steps, none of them at these quantiles
			}
			if math.Abs(fast[i]-slow[i]) > allowed {
				t.Errorf("%s: quantile %g is %g, one by one %g (allowed %g)", name, q, fast[i], slow[i], allowed)
			}
		}
	}
}

func TestAnOutlierHasABlockOfItsOwn(t *testing.T) {
	v := make([]float64, 5000)
	for i := range v {
		v[i] = float64(i) / 5000
	}
	v[100] = 900
	blocks := blocksOf(v, nil)
	if last := blocks[len(blocks)-1]; last.n != 1 || last.mean != 900 || last.spread != 0 {
		t.Errorf("%+v", last)
	}
	n := int64(0)
	for _, b := range blocks {
		n += b.n
	}
	if n != 5000 || len(blocks) > 2*mostBlocks {
		t.Errorf("%d units in %d blocks", n, len(blocks))
	}
}

func TestFlippedSignsOfEqualSizeAreMcNemars(t *testing.T) {
	for _, x := range []struct{ better, worse int }{{0, 6}, {4, 12}, {10, 10}, {30, 20}, {40, 60}} {
		u := units{sum: make([]float64, 200)}
		for i := range x.better {
			u.sum[i] = 1
		}
		for i := range x.worse {
			u.sum[100+i] = -1
		}
		got, want := u.flipped(20_000, &chance{5}), mcnemar(int64(x.better), int64(x.worse))
		if math.Abs(got-want) > 4.5*math.Sqrt(want*(1-want)/20_000)+1e-4 {
			t.Errorf("%d better, %d worse: %g, exactly %g", x.better, x.worse, got, want)
		}
	}
	if got := (units{sum: make([]float64, 50)}).flipped(1000, &chance{5}); got != 1 {
		t.Errorf("where nothing differs, p is %g", got)
	}
}

// TestTheIntervalHoldsTheDifference counts it, over every table that n pairs can come to and over settings from hardly any to mostly differing pairs.
func TestTheIntervalHoldsTheDifference(t *testing.T) {
	for _, n := range []int64{10, 40} {
		low := make([][]float64, n+1) // by better, worse
		for b := range n + 1 {
			for w := range n + 1 - b {
				l, h := shareInterval(b, w, n, 0.05)
				if d := float64(b-w) / float64(n); !(l <= d && d <= h && -1 <= l && h <= 1) {
					t.Fatalf("%d better and %d worse of %d: %g to %g does not hold %g", b, w, n, l, h, d)
				}
				if exact := mcnemar(b, w); (h < 0) != (exact < 0.05) {
					t.Fatalf("%d better and %d worse of %d: p is %g and the interval ends at %g", b, w, n, exact, h)
				}
				low[b] = append(low[b], l)
			}
		}
		worst := 1.
		for _, differ := range []float64{0.002, 0.01, 0.03, 0.1, 0.3, 0.7} {
			for _, share := range []float64{0, 0.2, 0.5, 0.8, 0.95, 1} { // of worse among them
				pw, held := differ*share, 0.
				for m := range n + 1 {
					of := choose(float64(m), float64(n), differ, 1-differ)
					for w := range m + 1 {
						if low[m-w][w] <= differ-2*pw+1e-12 {
							held += of * choose(float64(w), float64(m), share, 1-share)
						}
					}
				}
				worst = min(worst, held)
			}
		}
		t.Logf("n = %d: at least %.4f", n, worst)
		if !(worst >= 0.94) {
			t.Errorf("at n = %d the bound holds with chance %.4f, of 0.95", n, worst)
		}
	}
}
