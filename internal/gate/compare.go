package gate

import (
	"cmp"
	"math"
	"slices"

	forge "github.com/forge-ml/forge-ml"
)

// Bounds and defaults of the options.
const (
	defaultAlpha     = 0.05
	defaultResamples = 10_000
	leastResamples   = 1_000 // of fewer the ends of an interval are a matter of luck
	mostResamples    = 1_000_000
	power            = 0.8 // with which Needed pairs would settle it
)

func (o Options) withDefaults() Options {
	if !(o.Alpha > 0 && o.Alpha < 0.5) {
		o.Alpha = defaultAlpha
	}
	if o.Resamples <= 0 {
		o.Resamples = defaultResamples
	}
	o.Resamples = min(max(o.Resamples, leastResamples), mostResamples)
	return o
}

// Compare holds a candidate against a baseline, pair by pair: docs/statistics.md has the formulas, docs/adr/0033 the reasons. Everything that keeps the
// two from being compared is listed, and then no benchmark is: a comparison of some benchmarks would hide those that dropped out.
func Compare(baseline, candidate Side, benchmarks []Benchmark, o Options) (forge.Comparison, []forge.Flip) {
	o = o.withDefaults()
	out := forge.Comparison{Baseline: baseline.EvalBrief, Candidate: candidate.EvalBrief, Suite: candidate.Suite, SuiteSHA256: candidate.SuiteSHA256,
		Alpha: o.Alpha, Resamples: o.Resamples, Seed: o.Seed, Verdict: forge.CompareIncomparable, Benchmarks: []forge.BenchmarkComparison{}}
	var d differences
	d.facts(baseline, candidate)
	if len(benchmarks) == 0 {
		d.add("benchmarks", "", "", "the suite has no benchmark, so there is nothing to compare by")
	}
	var pairs []*paired
	for _, m := range benchmarks {
		pairs = append(pairs, d.pair(m, baseline, candidate))
	}
	if len(d.found) > 0 {
		out.Invalid = d.found
		return out, nil
	}
	for _, p := range pairs {
		out.Benchmarks = append(out.Benchmarks, p.compare(o))
	}
	correct(out.Benchmarks)
	out.Verdict = forge.CompareNonInferior
	for i := range out.Benchmarks {
		b := &out.Benchmarks[i]
		judge(b, pairs[i], o)
		if slices.Index(forge.CompareVerdicts, b.Verdict) < slices.Index(forge.CompareVerdicts, out.Verdict) {
			out.Verdict = b.Verdict
		}
	}
	return out, flips(pairs, o.Flips)
}

// turned is the difference of one pair, above 0 where the candidate is better.
func (p *paired) turned(i int) float64 {
	x := p.c[i] - p.b[i]
	if p.Lower {
		x = -x
	}
	if p.weight != nil {
		x *= p.weight[i]
	}
	return x
}

// compare is everything about one benchmark but for what the others have a say in.
func (p *paired) compare(o Options) forge.BenchmarkComparison {
	n := len(p.doc)
	out := forge.BenchmarkComparison{Task: p.Task, Filter: p.Filter, Metric: p.Metric, Direction: direction(p.Lower), Safety: p.Safety, Pairs: int64(n), Margin: p.Margin}
	d := make([]float64, n)
	for i := range d {
		d[i] = p.turned(i)
		if d[i] > 0 {
			out.Better++
		} else if d[i] < 0 {
			out.Worse++
		}
	}
	out.Baseline, out.Candidate = meanOf(p.b), meanOf(p.c)
	if p.weight != nil {
		out.Baseline, out.Candidate = meanOf(times(p.b, p.weight)), meanOf(times(p.c, p.weight))
	}
	if p.shares && p.cluster == nil && p.weight == nil {
		out.Method = "mcnemar"
		out.Difference = float64(out.Better-out.Worse) / float64(n)
		out.P = mcnemar(out.Better, out.Worse)
		out.Low, out.High = shareInterval(out.Better, out.Worse, out.Pairs, o.Alpha)
	} else {
		out.Method = "bootstrap"
		u := unitsOf(d, p.cluster)
		if p.cluster != nil {
			out.Clusters = int64(len(u.sum))
		}
		r := chanceOf(o.Seed, p.Benchmark)
		mean, err := u.mean()
		out.Difference = mean
		out.Low, out.High = u.interval(mean, err, u.bootstrap(mean, o.Resamples, r), o.Alpha, p.reach())
		out.P = u.flipped(o.Resamples, r)
	}
	for _, x := range []*float64{&out.Baseline, &out.Candidate, &out.Difference, &out.Low, &out.High, &out.P} {
		*x = rounded(*x)
	}
	return out
}

// unitsOf are the differences themselves, or of each cluster their sum and number, in the order in which clusters are first seen.
func unitsOf(d []float64, cluster []uint64) units {
	if cluster == nil {
		return units{sum: d}
	}
	var out units
	at := map[uint64]int{}
	for i, c := range cluster {
		k, seen := at[c]
		if !seen {
			k = len(out.sum)
			at[c] = k
			out.sum, out.size = append(out.sum, 0), append(out.size, 0)
		}
		out.sum[k] += d[i]
		out.size[k]++
	}
	return out
}

// reach is how large the difference of a pair can be as far as anyone can tell: 1 for scores between 0 and 1, else as wide as the scores that were seen.
func (p *paired) reach() float64 {
	lo, hi := 0., 1.
	for i := range p.b {
		lo, hi = min(lo, p.b[i], p.c[i]), max(hi, p.b[i], p.c[i])
	}
	if p.weight != nil {
		return (hi - lo) * slices.Max(p.weight)
	}
	return hi - lo
}

func direction(lower bool) string {
	if lower {
		return "lower"
	}
	return "higher"
}

// Holm corrects chances of a false alarm for there being several (Holm 1979): whoever calls those at or below alpha raises one false alarm or more among
// them all with a chance of at most alpha.
func Holm(p []float64) []float64 {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p[a], p[b]) })
	out, least := make([]float64, len(p)), 0.
	for k, i := range order {
		least = max(least, min(1, float64(len(p)-k)*p[i]))
		out[i] = least
	}
	return out
}

// correct is Holm over the suite. Safety benchmarks are left out: there a drop that is missed costs more than an alarm too many.
func correct(all []forge.BenchmarkComparison) {
	var p []float64
	for i := range all {
		if all[i].PAdjusted = all[i].P; !all[i].Safety {
			p = append(p, all[i].P)
		}
	}
	p = Holm(p)
	for i := range all {
		if !all[i].Safety {
			all[i].PAdjusted, p = p[0], p[1:]
		}
	}
}

// judge comes to a verdict. Whoever set a margin has said that a drop within it is none, so what is shown to lie within is no worse, were it ever so
// surely below 0. Else it is regressed if it is below 0 beyond chance and by at least half the margin. The half is no further hurdle: an interval that
// ends below 0 around a middle less than half the margin down begins above the whole margin.
func judge(b *forge.BenchmarkComparison, p *paired, o Options) {
	switch {
	case b.Low > -b.Margin:
		b.Verdict = forge.CompareNonInferior
	case b.PAdjusted <= o.Alpha && b.High < 0 && b.Difference <= -b.Margin/2:
		b.Verdict = forge.CompareRegressed
	default:
		b.Verdict = forge.CompareInconclusive
		b.Needed = needed(b, p, o.Alpha)
	}
	if up, ok := p.upTo(o.Alpha); ok && b.Safety {
		b.UpTo = &up
	}
	b.Words = words(b, o.Alpha)
}

// PairsFor is how many pairs show a drop with a chance of 80 %, where that share of pairs of scores of 0 and 1 differs.
func PairsFor(drop, differ, alpha float64) int64 {
	return int64(math.Ceil(pairsFor(drop, differ-drop*drop, alpha)))
}

// pairsFor is the number at which a mean of that size is told from 0, one-sided, with a chance of 80 %.
func pairsFor(mean, variance, alpha float64) float64 {
	z := (phiInv(1-alpha) + phiInv(power)) / mean
	return z * z * variance
}

// needed is how many pairs would settle it with a chance of 80 %, if the differences go on as they are: as regressed or as no worse, whichever takes
// fewer. 0: no number would.
func needed(b *forge.BenchmarkComparison, p *paired, alpha float64) int64 {
	n := float64(b.Pairs)
	d := make([]float64, len(p.doc))
	for i := range d {
		d[i] = p.turned(i)
	}
	u := unitsOf(d, p.cluster)
	_, err := u.mean()
	best, perUnit := math.Inf(1), n/float64(len(u.sum))
	switch {
	case b.Better+b.Worse == 0 && b.Margin > 0: // until what was not seen is within the margin
		best = math.Log(alpha) / math.Log1p(-min(b.Margin/p.reach(), 0.99)) * perUnit
	case b.Better+b.Worse > 0 && len(u.sum) > 1:
		ask := func(alpha, by float64) {
			if by > 0 {
				best = min(best, pairsFor(by, err*err*n, alpha))
			}
		}
		ask(alpha, b.Difference+b.Margin)
		if b.Difference <= -b.Margin/2 {
			ask(alpha*b.P/max(b.P, b.PAdjusted), -b.Difference)
		}
		if b.Method == "bootstrap" {
			best = max(best, fewUnits*perUnit)
		}
	}
	if math.IsInf(best, 1) || best > 1e15 {
		return 0
	}
	return max(b.Pairs+1, int64(math.Ceil(best)))
}

// upTo is the share of failures that is still possible where the candidate showed none.
func (p *paired) upTo(alpha float64) (float64, bool) {
	if !p.shares {
		return 0, false
	}
	good := 1.
	if p.Lower {
		good = 0
	}
	for _, s := range p.c {
		if s != good {
			return 0, false
		}
	}
	n := len(p.doc)
	if p.cluster != nil {
		n = len(unitsOf(p.c, p.cluster).sum)
	}
	return rounded(ruleOfThree(float64(n), 0.05)), true
}
