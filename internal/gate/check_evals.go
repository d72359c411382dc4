package gate

import (
	"fmt"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// suitesOf are the suites that a policy names, each once; more are those of a rule of its own.
func suitesOf(p Policy, more []string) []string {
	out := slices.Clone(more)
	for _, s := range p.Suites {
		if !slices.Contains(out, s.Suite) {
			out = append(out, s.Suite)
		}
	}
	return out
}

func noRegression(p Policy, e Evidence) []forge.RuleResult {
	rule := p.NoRegression
	if rule == nil {
		return nil
	}
	if e.Baseline == "" {
		return one(result(forge.GatePass, "", "nothing is in production yet, so there is nothing to be worse than"))
	}
	names := rule.Suites
	if len(names) == 0 {
		names = suitesOf(p, nil)
	}
	if len(names) == 0 {
		return one(result(forge.GateMissing, "no_regression: {suites: […]}", "the rule names no suite to compare by"))
	}
	var out []forge.RuleResult
	for _, s := range names {
		out = append(out, regressionOf(*rule, s, e))
	}
	return out
}

func regressionOf(rule RegressionRule, suite string, e Evidence) forge.RuleResult {
	c, ok := e.Compared[suite]
	v, has := e.Evals[suite]
	missing := func(hint, words string, args ...any) forge.RuleResult {
		r := about(suite, result(forge.GateMissing, hint, words, args...))
		if e.Reward {
			r.Hint = "a reward model writes nothing, so no suite can be asked of it; its gates should not ask for one"
		}
		return r
	}
	hint := evalHint(suite, e.Model) + ", and the same of " + e.Baseline
	switch {
	case e.Reward:
		return missing("", "it is a reward model: there can be no eval of it")
	case !ok:
		return missing(hint, "there is no comparison with %s, which is in production: one of the two has no whole eval of suite %s as it is", e.Baseline, suite)
	case c.Suite != suite || c.Baseline.Model != e.Baseline || c.Candidate.ModelSHA256 != e.SHA256 || e.SHA256 == "":
		return missing(hint, "the comparison is of %s (%.12s) with %s by suite %s, and not of this version with %s", orNone(c.Candidate.Model), orNone(c.Candidate.ModelSHA256), orNone(c.Baseline.Model), orNone(c.Suite), e.Baseline)
	case has && (v.Eval != c.Candidate.Eval || v.SuiteSHA256 != c.SuiteSHA256):
		return missing(hint, "the comparison is of eval %s, and the newest is %s, or its suite was changed since", c.Candidate.Eval, v.Eval)
	case !(c.Alpha > 0 && c.Alpha <= defaultAlpha):
		return missing(hint, "the comparison allows chance %g; gates allow at most %g", c.Alpha, defaultAlpha)
	}
	r := about(suite, result(forge.GateMissing, "", ""))
	r.Eval, r.Comparison = c.Candidate.Eval, &c
	against := fmt.Sprintf("against %s (eval %s)", e.Baseline, c.Baseline.Eval)
	var said []string
	for _, b := range c.Benchmarks {
		if b.Verdict == c.Verdict {
			said = append(said, b.Task+" "+b.Metric+" is "+b.Words)
		}
	}
	switch c.Verdict {
	case forge.CompareNonInferior:
		if len(c.Benchmarks) == 0 || len(c.Invalid) > 0 || slices.ContainsFunc(c.Benchmarks, func(b forge.BenchmarkComparison) bool { return b.Verdict != forge.CompareNonInferior }) {
			r.Words, r.Hint = "the comparison "+against+" contradicts itself", hint
			return r
		}
		r.Verdict, r.Words = forge.GatePass, fmt.Sprintf("no worse %s in %d of %d benchmarks", against, len(c.Benchmarks), len(c.Benchmarks))
	case forge.CompareRegressed:
		r.Verdict, r.Words = forge.GateFail, fmt.Sprintf("worse %s: %s", against, strings.Join(said, "; "))
		r.Hint = fmt.Sprintf("forgectl eval compare %s %s shows the samples that flipped", c.Baseline.Eval, c.Candidate.Eval)
	case forge.CompareInconclusive:
		r.Verdict, r.Words = forge.GateInconclusive, fmt.Sprintf("not settled %s: %s", against, strings.Join(said, "; "))
		r.Hint = "a suite with more samples, a wider margin, or no_regression: {inconclusive: warn}"
		if rule.Inconclusive == "warn" {
			r.Verdict, r.Words, r.Hint = forge.GatePass, r.Words+"; the policy only warns of that", ""
		}
	default:
		var why []string
		for _, i := range c.Invalid {
			why = append(why, i.Field+": "+i.Why)
		}
		r.Words, r.Hint = fmt.Sprintf("it cannot be compared with %s (eval %s): %s", e.Baseline, c.Baseline.Eval, orNone(strings.Join(why, "; "))), "evaluate both alike: "+hint
	}
	return r
}

func noOverlap(p Policy, e Evidence) []forge.RuleResult {
	if !p.NoOverlap {
		return nil
	}
	var names []string
	if p.NoRegression != nil {
		names = p.NoRegression.Suites
	}
	if names = suitesOf(p, names); len(names) == 0 {
		return one(result(forge.GateMissing, "name suites in the policy", "the policy names no suite whose questions could be looked for"))
	}
	var out []forge.RuleResult
	for _, s := range names {
		out = append(out, about(s, overlapOf(s, e)))
	}
	return out
}

func overlapOf(suite string, e Evidence) forge.RuleResult {
	v, no := evalOf(e, suite)
	if no != nil {
		return *no
	}
	l := v.Facts.Leak
	switch {
	case l == nil && e.Kind == forge.ModelBase:
		return result(forge.GateMissing, "gates of base models should not ask this", "of what a base model has read nobody knows anything")
	case l == nil || len(l.Looked)+len(l.Unlooked) == 0:
		return result(forge.GateMissing, "an eval looks by itself where the suite's data is its own and the datasets are registered; evaluate it again", "nobody looked whether its questions were trained on (eval %s)", v.Eval)
	}
	r := result(forge.GatePass, "", "%s", l.Words())
	r.Eval, r.Overlaps = v.Eval, l.Looked
	if len(l.Unlooked) > 0 {
		r.Verdict, r.Hint = forge.GateMissing, "forgectl dataset overlap DATASET --suite "+suite+" reads any dataset; register those that are gone"
	}
	for _, o := range l.Looked {
		if o.Any() {
			r.Verdict, r.Hint = forge.GateFail, "take those rows out of the dataset and train again, or ask by another suite"
		}
	}
	return r
}
