package gate

import (
	"cmp"
	"math"
	"slices"
)

// units are what is resampled: of each sample its difference, or of each cluster the sum of its differences and how many they are.
type units struct {
	sum  []float64
	size []float64 // nil: each is one sample
}

func (u units) of(i int) (sum, size float64) {
	if u.size == nil {
		return u.sum[i], 1
	}
	return u.sum[i], u.size[i]
}

// mean is the mean difference over samples; err its standard error, from unit to unit.
func (u units) mean() (mean, err float64) {
	var sum, size, squares float64
	for i := range u.sum {
		s, m := u.of(i)
		sum, size = sum+s, size+m
	}
	mean = sum / size
	for i := range u.sum {
		s, m := u.of(i)
		d := s - float64(mean*m)
		squares += float64(d * d)
	}
	n := float64(len(u.sum))
	if n < 2 {
		return mean, math.Inf(1)
	}
	return mean, math.Sqrt(squares*n/(n-1)) / size
}

// block stands for units that are alike: equal ones, or neighbours.
type block struct {
	n       int64
	mean    float64 // of the values
	spread  float64 // their variance within the block; 0: they are equal
	perUnit float64 // samples in each, on average
}

// mostBlocks: up to so many different values a resample is drawn exactly; of more, neighbours share a block.
const mostBlocks = 64

// blocksOf puts units together by value. A resample draws how many come out of each block, which is what drawing them one by one comes to. Inside
// of a block of unequal values their sum is drawn from the normal distribution with the block's own mean and variance. No block has more than a
// thirty-second of the units or of their sum of squares, so an outlier has one of its own; what is approximated is the thousandth part of the
// variance that is left inside (docs/adr/0033).
func blocksOf(value, size []float64) []block {
	order := make([]int32, len(value))
	for i := range order {
		order[i] = int32(i)
	}
	at := func(i int32) (v, m float64) {
		if size == nil {
			return value[i], 1
		}
		return value[i], size[i]
	}
	if size == nil {
		value = slices.Clone(value)
		slices.Sort(value)
	} else {
		slices.SortFunc(order, func(a, b int32) int {
			return cmp.Or(cmp.Compare(value[a], value[b]), cmp.Compare(size[a], size[b]), cmp.Compare(a, b))
		})
	}
	different, squares := 0, 0.
	for k, i := range order {
		v, m := at(i)
		squares += float64(v * v)
		if k == 0 {
			different++
		} else if v0, m0 := at(order[k-1]); v != v0 || m != m0 {
			different++
		}
	}
	most, share := int64(len(order)/(mostBlocks/2)), squares/(mostBlocks/2)
	var out []block
	var n, v1, v2, m1 float64
	flush := func() {
		if n > 0 {
			mean := v1 / n
			out = append(out, block{n: int64(n), mean: mean, spread: max(0, v2/n-float64(mean*mean)), perUnit: m1 / n})
		}
		n, v1, v2, m1 = 0, 0, 0, 0
	}
	for k, i := range order {
		v, m := at(i)
		if k > 0 {
			v0, m0 := at(order[k-1])
			equal := v == v0 && m == m0
			if different <= mostBlocks && !equal || different > mostBlocks && (int64(n) >= most || v2+float64(v*v) > share) && !(equal && v2 == float64(v0*v0)*n) {
				flush()
			}
		}
		n, v1, v2, m1 = n+1, v1+v, v2+float64(v*v), m1+m
	}
	flush()
	if different <= mostBlocks {
		for i := range out {
			out[i].spread = 0
		}
	}
	slices.SortStableFunc(out, func(a, b block) int { return cmp.Compare(b.n, a.n) })
	return out
}

// bootstrap are the means of so many resamples, ascending.
func (u units) bootstrap(mean float64, resamples int, r *chance) []float64 {
	values := make([]float64, len(u.sum))
	for i := range values {
		s, m := u.of(i)
		values[i] = s - float64(mean*m)
	}
	blocks := blocksOf(values, u.size)
	out := make([]float64, resamples)
	for i := range out {
		left, of := int64(len(values)), int64(len(values))
		var sum, spread, size float64
		for _, b := range blocks {
			k := left
			if b.n < of {
				k = binomial(r, left, float64(b.n)/float64(of))
			}
			left, of = left-k, of-b.n
			f := float64(k)
			sum, spread, size = sum+float64(f*b.mean), spread+float64(f*b.spread), size+float64(f*b.perUnit)
			if left == 0 {
				break
			}
		}
		if spread > 0 {
			sum += float64(math.Sqrt(spread) * r.normal())
		}
		out[i] = mean + sum/size
	}
	slices.Sort(out)
	return out
}

// flipped is the chance of a sum as low as the one seen, or lower, where each unit might as well have had the other sign: of two evals between which
// nothing changed, who is the baseline is chance. For scores of 0 and 1 this is McNemar's test. It counts the draw that was seen itself, so that
// the chance of p <= alpha is never above alpha.
func (u units) flipped(resamples int, r *chance) float64 {
	var seen, all float64
	var values []float64
	for _, s := range u.sum {
		if s != 0 {
			values = append(values, math.Abs(s))
		}
		seen, all = seen+s, all+math.Abs(s)
	}
	blocks, asLow := blocksOf(values, nil), 1
	seen += 1e-12 * all // what is equal but for rounding is equal
	for range resamples {
		var sum, spread float64
		for _, b := range blocks {
			up := binomial(r, b.n, 0.5)
			sum += float64(float64(2*up-b.n) * b.mean)
			spread += float64(float64(b.n) * b.spread)
		}
		if spread > 0 {
			sum += float64(math.Sqrt(spread) * r.normal())
		}
		if sum <= seen {
			asLow++
		}
	}
	return float64(asLow) / float64(resamples+1)
}

// interval is the paired percentile interval of the mean, each end passed with chance alpha: from the resamples, at the quantiles that Student's t
// asks for where units are few (Hesterberg 2015, "expanded percentile"), and no narrower than what was not seen allows.
func (u units) interval(mean, err float64, means []float64, alpha, reach float64) (low, high float64) {
	n := len(u.sum)
	low, high = math.Inf(-1), math.Inf(1)
	if n > 1 {
		t := tInv(alpha, float64(n-1))
		at := phi(-t * math.Sqrt(float64(n)/float64(n-1)))
		if k := int(at * float64(len(means)+1)); k >= 1 {
			low, high = means[k-1], means[len(means)-k]
		} else {
			low, high = mean-float64(t*err), mean+float64(t*err)
		}
	}
	differ := int64(0)
	for _, s := range u.sum {
		if s != 0 {
			differ++
		}
	}
	if differ < fewDiffer {
		_, share := clopperPearson(differ, int64(n), alpha)
		unseen := float64((share - float64(differ)/float64(n)) * reach)
		low, high = min(low, mean-unseen), max(high, mean+unseen)
	}
	if n < fewUnits { // two differences that happen to be equal have no spread, and prove nothing of the third; that they are no proof of a drop p knows
		low = min(low, mean-float64(ruleOfThree(float64(n), alpha)*reach))
	}
	return max(low, -reach), min(high, reach)
}

const (
	// fewDiffer: of fewer units that differ a bootstrap knows too little. Those that might have differed and did not are then allowed for.
	fewDiffer = 10
	// fewUnits: of fewer units it is allowed for that some might have come out in any way, and none of them was among these.
	fewUnits = 30
)

// binomial draws how many of n come out, each with chance p: by counting up where few are expected, else by Hörmann's transformed rejection with
// squeeze (BTRS, J. Stat. Comput. Simul. 46, 1993).
func binomial(r *chance, n int64, p float64) int64 {
	if p > 0.5 {
		return n - binomial(r, n, 1-p)
	}
	f := float64(n)
	odds := p / (1 - p)
	if f*p < 10 {
		for {
			u, at := r.float(), math.Exp(f*math.Log1p(-p))
			for k := 0.; k <= f && k < 120; k++ {
				if u < at {
					return int64(k)
				}
				u -= at
				at *= (f - k) / (k + 1) * odds
			}
		}
	}
	sd := math.Sqrt(f * p * (1 - p))
	b := 1.15 + 2.53*sd
	a := -0.0873 + 0.0248*b + 0.01*p
	c := f*p + 0.5
	squeeze := 0.92 - 4.2/b
	var alpha, logOdds, mode, top float64
	for {
		u, v := r.float()-0.5, r.float()
		us := 0.5 - math.Abs(u)
		k := math.Floor((2*a/us+b)*u + c)
		if us >= 0.07 && v <= squeeze {
			return int64(k)
		}
		if k < 0 || k > f {
			continue
		}
		if alpha == 0 {
			alpha, logOdds, mode = (2.83+5.1/b)*sd, math.Log(odds), math.Floor((f+1)*p)
			top = logFactorial(mode) + logFactorial(f-mode)
		}
		if math.Log(v*alpha/(a/(us*us)+b)) <= top-logFactorial(k)-logFactorial(f-k)+(k-mode)*logOdds {
			return int64(k)
		}
	}
}

func logFactorial(n float64) float64 {
	l, _ := math.Lgamma(n + 1)
	return l
}
