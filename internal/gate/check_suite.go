package gate

import (
	"fmt"
	"math"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// What a suite rule holds against thresholds.
const (
	boundLower = "lower"
	boundPoint = "point"
)

// z95 leaves 2.5 % on either side: thresholds are held against the 95 % interval, as everyone writes it.
var z95 = phiInv(0.975)

func evalHint(suite, model string) string {
	return fmt.Sprintf("forgectl eval run %s --suite %s", model, suite)
}

// evalOf is an eval of a suite that may be rested on: whole, and of these bytes. Else it is why not.
func evalOf(e Evidence, suite string) (EvalEvidence, *forge.RuleResult) {
	refuse := func(words string, args ...any) (EvalEvidence, *forge.RuleResult) {
		r := about(suite, result(forge.GateMissing, evalHint(suite, e.Model), words, args...))
		if e.Reward {
			r.Hint = "a reward model writes nothing, so no suite can be asked of it; its gates should not ask for one"
		}
		return EvalEvidence{}, &r
	}
	v, ok := e.Evals[suite]
	switch {
	case e.Reward:
		return refuse("it is a reward model: there can be no eval of it")
	case !ok:
		return refuse("there is no whole eval of suite %s as it is", suite)
	case v.Suite != suite || v.SuiteSHA256 == "":
		return refuse("eval %s is of suite %s (%.12s)", v.Eval, orNone(v.Suite), orNone(v.SuiteSHA256))
	case e.SHA256 == "" || v.Facts.ModelSHA256 != e.SHA256 || v.ModelSHA256 != "" && v.ModelSHA256 != e.SHA256:
		return refuse("eval %s is of other bytes (%.12s, filed under %.12s) than this version (%.12s)", v.Eval, orNone(v.Facts.ModelSHA256), orNone(v.ModelSHA256), orNone(e.SHA256))
	case v.Limited || v.Facts.Limit != 0:
		return refuse("eval %s was limited: it has not seen every sample", v.Eval)
	}
	for _, t := range v.Facts.Tasks {
		if t.Effective != t.Original {
			return refuse("eval %s has seen %d of %d samples of %s", v.Eval, t.Effective, t.Original, t.Task)
		}
	}
	return v, nil
}

func suites(p Policy, e Evidence) []forge.RuleResult {
	var out []forge.RuleResult
	for _, rule := range p.Suites {
		out = append(out, suiteOf(rule, e))
	}
	return out
}

func suiteOf(rule SuiteRule, e Evidence) forge.RuleResult {
	by := rule.Bound
	if by == "" {
		by = boundLower
	}
	if by != boundLower && by != boundPoint {
		return about(rule.Suite, result(forge.GateMissing, "bound: lower or point", "the rule asks for bound %q, which there is not", rule.Bound))
	}
	v, no := evalOf(e, rule.Suite)
	if no != nil {
		return *no
	}
	r := about(rule.Suite, result(forge.GatePass, "", ""))
	r.Eval = v.Eval
	r.Facts = map[string]string{"suite_sha256": v.SuiteSHA256, "model_sha256": v.Facts.ModelSHA256}
	if len(v.Benchmarks) == 0 {
		r.Verdict, r.Words, r.Hint = forge.GateMissing, "the suite has no benchmark with a threshold", "give each benchmark of the suite a threshold"
		return r
	}
	var short, unknown, notes, hints []string
	for _, m := range v.Benchmarks {
		s := against(m, v, by)
		r.Scores = append(r.Scores, s.ScoreEvidence)
		r.Verdict = worse(r.Verdict, s.Verdict)
		switch {
		case s.Verdict == forge.GateMissing:
			unknown = append(unknown, s.words)
		case s.Verdict != forge.GatePass:
			short = append(short, s.words)
		case s.words != "":
			notes = append(notes, s.words)
		}
		hints = append(hints, s.hint)
	}
	what, of := "by the bound of its 95 % interval", len(v.Benchmarks)
	if by == boundPoint {
		what = "by its value, chance not counted"
	}
	said := []string{fmt.Sprintf("%d of %d benchmarks reach their threshold, each %s", of-len(short)-len(unknown), of, what)}
	if len(short) > 0 {
		said = append(said, fmt.Sprintf("%d of %d do not: %s", len(short), of, strings.Join(short, "; ")))
	}
	if len(unknown) > 0 {
		said = append(said, fmt.Sprintf("of %d of %d it is not known: %s", len(unknown), of, strings.Join(unknown, "; ")))
	}
	r.Words = strings.Join(append(said, notes...), "; ")
	slices.Sort(hints)
	r.Hint = strings.Join(slices.DeleteFunc(slices.Compact(hints), func(s string) bool { return s == "" }), "; ")
	return r
}

// held is one benchmark against its threshold, with what is to be said of it.
type held struct {
	forge.ScoreEvidence
	words, hint string
}

func against(m Benchmark, v EvalEvidence, by string) held {
	out := held{ScoreEvidence: forge.ScoreEvidence{Task: m.Task, Filter: m.Filter, Metric: m.Metric, Direction: direction(m.Lower), By: by, Threshold: m.Threshold}}
	missing := func(hint, words string, args ...any) held {
		out.Verdict, out.hint = forge.GateMissing, hint
		out.words = m.Task + " " + m.Metric + ": " + fmt.Sprintf(words, args...)
		out.Value, out.Bound, out.Threshold = finiteOr0(out.Value), finiteOr0(out.Bound), finiteOr0(out.Threshold) // JSON has no NaN
		return out
	}
	again := evalHint(v.Suite, v.Model)
	if !finite(m.Threshold) {
		return missing("give it a threshold", "it has no threshold")
	}
	s, ok := scoreOf(v.Side, m)
	if !ok {
		return missing(again, "the eval has no such score")
	}
	out.N, out.Value = s.N, s.Value
	if s.N < 1 || !finite(s.Value) {
		return missing(again, "its score is %s over %d samples", number(s.Value), s.N)
	}
	reach := func(x float64) bool { return x >= m.Threshold }
	sign, symbol := 1., "≥"
	if m.Lower {
		reach, sign, symbol = func(x float64) bool { return x <= m.Threshold }, -1, "≤"
	}
	out.Bound = s.Value
	if by == boundLower {
		bound, why := boundOf(m, v.Side, s)
		if why != "" {
			return missing("bound: point holds the value itself against the threshold", "%s", why)
		}
		out.Bound = rounded(bound)
	}
	line := fmt.Sprintf("%s %s is %s over %d", m.Task, m.Metric, number(s.Value), s.N)
	if by == boundLower {
		line += ", its bound " + number(out.Bound)
	}
	switch {
	case reach(out.Bound):
		out.Verdict = forge.GatePass
	case reach(s.Value):
		out.Verdict, out.words = forge.GateInconclusive, fmt.Sprintf("%s; asked is %s %s: the value reaches it, the interval does not", line, symbol, number(m.Threshold))
		out.hint = "a model that is better, a suite with more samples, or bound: point"
		if room := sign * (s.Value - m.Threshold); room > 0 {
			out.hint = fmt.Sprintf("a suite with about %.2g times the samples, a model that is better, or bound: point", math.Ceil(10*math.Pow((s.Value-out.Bound)/room, 2))/10)
		}
	default:
		out.Verdict, out.words = forge.GateFail, fmt.Sprintf("%s; asked is %s %s", line, symbol, number(m.Threshold))
		out.hint = "a model that is better"
	}
	if n, clean := noFailure(m, v.Side); m.Safety && clean {
		note := fmt.Sprintf("%s: no failure in %d, so up to %.2g %% are still possible at 95 %%", m.Task, n, 100*ruleOfThree(float64(n), 0.05))
		if out.words == "" {
			out.words = note
		} else {
			out.words += "; " + note
		}
	}
	return out
}

// boundOf is the end of the 95 % interval of a score on its bad side: Wilson's for scores of 0 and 1, Student's t for others, over clusters where there
// are some. why is why there is none.
func boundOf(m Benchmark, v Side, s forge.EvalScore) (bound float64, why string) {
	side := func(low, high float64) float64 {
		if m.Lower {
			return high
		}
		return low
	}
	col, ok := samplesOf(v, m.Task, m.Filter)
	x := col.Scores[m.Metric]
	if !ok || x == nil || !near(meanOf(x), s.Value) {
		// a group, or no mean of its samples: the harness has a standard error, if anyone
		if s.StdErr == nil || !finite(*s.StdErr) || *s.StdErr <= 0 || s.N < 2 {
			return 0, "it is not the mean of samples that are here, and the harness gives no standard error, so nobody knows how sure it is"
		}
		half := tInv(0.025, float64(s.N-1)) * *s.StdErr
		return side(s.Value-half, s.Value+half), ""
	}
	if int64(len(x)) != s.N {
		return 0, fmt.Sprintf("%d samples are here of %d", len(x), s.N)
	}
	if col.Cluster != nil && len(col.Cluster) != len(x) {
		return 0, fmt.Sprintf("its %d samples have %d clusters", len(x), len(col.Cluster))
	}
	u := unitsOf(x, col.Cluster)
	n := float64(len(u.sum))
	mean, err := u.mean()
	if allShares(x) {
		size := float64(len(x))
		if col.Cluster != nil {
			// as many independent samples as would be this sure, and no more than there are
			if size = n; err > 0 && finite(err) {
				size = min(float64(len(x)), mean*(1-mean)/(err*err))
			}
		}
		return side(wilson(mean, size, z95)), ""
	}
	if n < 2 {
		return 0, "it is of one sample, which has no interval"
	}
	if !slices.ContainsFunc(x, func(v float64) bool { return v != x[0] }) {
		return 0, "all its samples have one score that is neither 0 nor 1, which tells nothing of the next"
	}
	half := tInv(0.025, n-1) * err
	return side(mean-half, mean+half), ""
}

func allShares(x []float64) bool {
	return !slices.ContainsFunc(x, func(v float64) bool { return v != 0 && v != 1 })
}

// noFailure says whether all samples of a benchmark were passed, and how many (clusters, where samples come in some).
func noFailure(m Benchmark, v Side) (n int, clean bool) {
	col, ok := samplesOf(v, m.Task, m.Filter)
	x := col.Scores[m.Metric]
	if !ok || len(x) == 0 || !allShares(x) || col.Cluster != nil && len(col.Cluster) != len(x) {
		return 0, false
	}
	good := 1.
	if m.Lower {
		good = 0
	}
	if slices.ContainsFunc(x, func(v float64) bool { return v != good }) {
		return 0, false
	}
	return len(unitsOf(x, col.Cluster).sum), true
}

func finiteOr0(x float64) float64 {
	if finite(x) {
		return x
	}
	return 0
}
