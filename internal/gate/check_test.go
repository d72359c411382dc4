package gate_test

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/gate"
)

// strict is a policy that asks everything.
func strict() gate.Policy {
	return gate.Policy{Name: "production", SHA256: "p0", Suites: []gate.SuiteRule{{Suite: "ours", Bound: "lower"}}, NoRegression: &gate.RegressionRule{Inconclusive: "block"},
		PII: []forge.PIIStatus{forge.PIIClean, forge.PIIRedacted}, Licence: true, Lineage: true, NoOverlap: true, Digest: true, LoadTest: true, Soak: forge.Duration(24 * time.Hour)}
}

// good is evidence that passes it: a version of which everything is known and nothing is wrong.
func good() gate.Evidence {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	old, young := side("1", map[string][]float64{"t": passes(400, upTo(0, 20)...)}), side("2", map[string][]float64{"t": passes(400, upTo(0, 19)...)})
	young.Facts.Leak = &forge.EvalLeak{Looked: []forge.Overlap{{A: "rows@1", B: "ours", RowsA: 900, RowsB: 400}}}
	m := gate.Benchmark{Task: "t", Filter: "none", Metric: "acc", Threshold: 0.9, Margin: 0.02}
	compared, _ := gate.Compare(old, young, []gate.Benchmark{m}, gate.Options{})
	return gate.Evidence{Model: "chat@2", SHA256: "sha-2", Kind: forge.ModelTrained, From: forge.StageCandidate, To: forge.StageProduction, Now: now, Since: now.Add(-25 * time.Hour),
		Lineage: &gate.LineageEvidence{Whole: true}, Data: []gate.DataEvidence{{Dataset: "rows@1", PII: forge.PIIClean, ByForge: true}, {Dataset: "more@3", PII: forge.PIIRedacted}},
		Licence: &gate.Finding{OK: true, Words: "Apache-2.0"}, Digest: &gate.Finding{OK: true, Words: "3 files are as registered"}, LoadTest: &gate.Finding{OK: true, Words: "it answered"},
		Evals: map[string]gate.EvalEvidence{"ours": {Side: young, Benchmarks: []gate.Benchmark{m}}}, Baseline: "chat@1", Compared: map[string]forge.Comparison{"ours": compared}}
}

// eval changes the eval of good evidence.
func eval(f func(*gate.EvalEvidence)) func(*gate.Policy, *gate.Evidence) {
	return func(_ *gate.Policy, e *gate.Evidence) {
		v := e.Evals["ours"]
		f(&v)
		e.Evals["ours"] = v
	}
}

// scored gives the eval other scores.
func scored(scores []float64, change ...func(*gate.Benchmark)) func(*gate.Policy, *gate.Evidence) {
	return eval(func(v *gate.EvalEvidence) {
		leak := v.Facts.Leak
		v.Side = side("2", map[string][]float64{"t": scores})
		v.Facts.Leak = leak
		for _, f := range change {
			f(&v.Benchmarks[0])
		}
	})
}

func compared(f func(*forge.Comparison)) func(*gate.Policy, *gate.Evidence) {
	return func(_ *gate.Policy, e *gate.Evidence) {
		c := e.Compared["ours"]
		c.Benchmarks = slices.Clone(c.Benchmarks)
		f(&c)
		e.Compared["ours"] = c
	}
}

func verdictOf(v forge.CompareVerdict) func(*gate.Policy, *gate.Evidence) {
	return compared(func(c *forge.Comparison) {
		c.Verdict, c.Benchmarks[0].Verdict = v, v
		if v == forge.CompareIncomparable {
			c.Benchmarks, c.Invalid = nil, []forge.Invalidity{{Field: "dtype", Why: "it differs"}}
		}
	})
}

func lowerIsBetter(threshold float64) func(*gate.Benchmark) {
	return func(m *gate.Benchmark) { m.Lower, m.Threshold = true, threshold }
}

func data(f func(*gate.DataEvidence)) func(*gate.Policy, *gate.Evidence) {
	return func(_ *gate.Policy, e *gate.Evidence) { f(&e.Data[0]) }
}

const (
	pass, fail, missing, inconclusive = forge.GatePass, forge.GateFail, forge.GateMissing, forge.GateInconclusive
)

// truth is every rule against every state that its evidence can be in.
var truth = []struct {
	rule forge.RuleName
	what string
	with func(*gate.Policy, *gate.Evidence)
	want forge.GateVerdict
	says string // in its words or its hint
}{
	{forge.RuleBlocked, "no schedule blocks", func(*gate.Policy, *gate.Evidence) {}, pass, "no schedule"},
	{forge.RuleBlocked, "one does", func(_ *gate.Policy, e *gate.Evidence) { e.Blocked = []string{"nightly: safety dropped"} }, fail, "nightly: safety dropped"},

	{forge.RuleDigest, "as registered", func(*gate.Policy, *gate.Evidence) {}, pass, "3 files"},
	{forge.RuleDigest, "not hashed", func(_ *gate.Policy, e *gate.Evidence) { e.Digest = nil }, missing, "not hashed"},
	{forge.RuleDigest, "other bytes", func(_ *gate.Policy, e *gate.Evidence) { e.Digest = &gate.Finding{Words: "model.safetensors differs"} }, fail, "model.safetensors differs"},

	{forge.RuleLineage, "whole", func(*gate.Policy, *gate.Evidence) {}, pass, "by digest"},
	{forge.RuleLineage, "unknown", func(_ *gate.Policy, e *gate.Evidence) { e.Lineage = nil }, missing, "nothing is known"},
	{forge.RuleLineage, "with a hole", func(_ *gate.Policy, e *gate.Evidence) {
		e.Lineage = &gate.LineageEvidence{Missing: []string{"rows@1 is gone"}}
	}, missing, "rows@1 is gone"},
	{forge.RuleLineage, "whole and yet with a hole", func(_ *gate.Policy, e *gate.Evidence) {
		e.Lineage = &gate.LineageEvidence{Whole: true, Missing: []string{"rows@1 is gone"}}
	}, missing, "rows@1 is gone"},
	{forge.RuleLineage, "not whole, nobody says why", func(_ *gate.Policy, e *gate.Evidence) { e.Lineage = &gate.LineageEvidence{} }, missing, "not all"},

	{forge.RuleLicence, "allowed", func(*gate.Policy, *gate.Evidence) {}, pass, "Apache-2.0"},
	{forge.RuleLicence, "not looked at", func(_ *gate.Policy, e *gate.Evidence) { e.Licence = nil }, missing, "not looked at"},
	{forge.RuleLicence, "denied", func(_ *gate.Policy, e *gate.Evidence) { e.Licence = &gate.Finding{Words: "CC-BY-NC-4.0 is denied"} }, fail, "CC-BY-NC-4.0"},

	{forge.RulePII, "clean and redacted", func(*gate.Policy, *gate.Evidence) {}, pass, "clean, found by forged or a job"},
	{forge.RulePII, "clean, by the word of whoever registered it", data(func(d *gate.DataEvidence) { d.ByForge = false }), pass, "said by whoever registered it"},
	{forge.RulePII, "no data", func(_ *gate.Policy, e *gate.Evidence) { e.Data = nil }, missing, "no dataset is known"},
	{forge.RulePII, "no status", data(func(d *gate.DataEvidence) { d.PII = "" }), missing, "nobody looked"},
	{forge.RulePII, "not scanned", data(func(d *gate.DataEvidence) { d.PII = forge.PIINotScanned }), missing, "nobody looked"},
	{forge.RulePII, "not scanned, and a policy that would let it", func(p *gate.Policy, e *gate.Evidence) {
		p.PII, e.Data[0].PII = append(p.PII, forge.PIINotScanned), forge.PIINotScanned
	}, missing, "nobody looked"},
	{forge.RulePII, "being scanned", data(func(d *gate.DataEvidence) { d.PII = forge.PIIScanning }), missing, "being scanned"},
	{forge.RulePII, "findings", data(func(d *gate.DataEvidence) { d.PII = forge.PIIFindings }), fail, "dataset redact rows@1"},
	{forge.RulePII, "findings, and a policy that would let them", func(p *gate.Policy, e *gate.Evidence) {
		p.PII, e.Data[0].PII = append(p.PII, forge.PIIFindings), forge.PIIFindings
	}, fail, "personal data"},
	{forge.RulePII, "waived, which does not do here", data(func(d *gate.DataEvidence) { d.PII, d.Why = forge.PIIWaived, "public figures" }), fail, "clean, redacted"},
	{forge.RulePII, "waived, which does", func(p *gate.Policy, e *gate.Evidence) {
		p.PII = append(p.PII, forge.PIIWaived)
		e.Data[0].PII, e.Data[0].Why = forge.PIIWaived, "public figures"
	}, pass, "public figures"},
	{forge.RulePII, "a status of another release", data(func(d *gate.DataEvidence) { d.PII = "sparkling" }), missing, "sparkling"},
	{forge.RulePII, "gone", data(func(d *gate.DataEvidence) { d.Gone = true }), missing, "not registered any more"},

	{forge.RuleOverlap, "looked, nothing found", func(*gate.Policy, *gate.Evidence) {}, pass, "none in rows@1"},
	{forge.RuleOverlap, "found", eval(func(v *gate.EvalEvidence) {
		v.Facts.Leak = &forge.EvalLeak{Looked: []forge.Overlap{{A: "rows@1", B: "ours", RowsB: 400, Found: []forge.OverlapFound{{Grain: forge.GrainPrompt, Of: 400, Rows: 2}}}}}
	}), fail, "2 of 400 questions are in rows@1"},
	{forge.RuleOverlap, "found, and something not read", eval(func(v *gate.EvalEvidence) {
		v.Facts.Leak = &forge.EvalLeak{Looked: []forge.Overlap{{A: "rows@1", RowsB: 400, Found: []forge.OverlapFound{{Rows: 2}}}}, Unlooked: []forge.Unlooked{{Dataset: "more@3", Why: "too large"}}}
	}), fail, "more@3 was not looked at"},
	{forge.RuleOverlap, "something not read", eval(func(v *gate.EvalEvidence) {
		v.Facts.Leak = &forge.EvalLeak{Looked: v.Facts.Leak.Looked, Unlooked: []forge.Unlooked{{Dataset: "more@3", Why: "too large"}}}
	}), missing, "too large"},
	{forge.RuleOverlap, "nobody looked", eval(func(v *gate.EvalEvidence) { v.Facts.Leak = nil }), missing, "nobody looked"},
	{forge.RuleOverlap, "looked at nothing", eval(func(v *gate.EvalEvidence) { v.Facts.Leak = &forge.EvalLeak{} }), missing, "nobody looked"},
	{forge.RuleOverlap, "a base model", func(_ *gate.Policy, e *gate.Evidence) {
		e.Kind = forge.ModelBase
		eval(func(v *gate.EvalEvidence) { v.Facts.Leak = nil })(nil, e)
	}, missing, "what a base model has read"},
	{forge.RuleOverlap, "no eval", func(_ *gate.Policy, e *gate.Evidence) { e.Evals = nil }, missing, "no whole eval"},
	{forge.RuleOverlap, "a limited eval", eval(func(v *gate.EvalEvidence) { v.Limited = true }), missing, "limited"},
	{forge.RuleOverlap, "a policy without suites", func(p *gate.Policy, _ *gate.Evidence) { p.Suites = nil }, missing, "no suite"},

	{forge.RuleLoadTest, "passed", func(*gate.Policy, *gate.Evidence) {}, pass, "it answered"},
	{forge.RuleLoadTest, "not done", func(_ *gate.Policy, e *gate.Evidence) { e.LoadTest = nil }, missing, "never loaded"},
	{forge.RuleLoadTest, "failed", func(_ *gate.Policy, e *gate.Evidence) { e.LoadTest = &gate.Finding{Words: "it wrote NaN"} }, fail, "NaN"},

	{forge.RuleSoak, "25 of 24 hours", func(*gate.Policy, *gate.Evidence) {}, pass, "25h0m0s in candidate, of 24h0m0s"},
	{forge.RuleSoak, "to the second", func(_ *gate.Policy, e *gate.Evidence) { e.Since = e.Now.Add(-24 * time.Hour) }, pass, "24h0m0s"},
	{forge.RuleSoak, "not long enough", func(_ *gate.Policy, e *gate.Evidence) { e.Since = e.Now.Add(-23 * time.Hour) }, fail, "2026-11-26T13:00:00Z"},
	{forge.RuleSoak, "since when is not known", func(_ *gate.Policy, e *gate.Evidence) { e.Since = time.Time{} }, missing, "not known"},
	{forge.RuleSoak, "what time it is is not known", func(_ *gate.Policy, e *gate.Evidence) { e.Now = time.Time{} }, missing, "not known"},
	{forge.RuleSoak, "the clock was moved back", func(_ *gate.Policy, e *gate.Evidence) { e.Since = e.Now.Add(time.Second) }, missing, "moved back"},

	{forge.RuleSuite, "its bound reaches the threshold", func(*gate.Policy, *gate.Evidence) {}, pass, "1 of 1"},
	{forge.RuleSuite, "its value does, its bound does not", scored(passes(400, upTo(0, 35)...)), inconclusive, "the value reaches it, the interval does not"},
	{forge.RuleSuite, "its value does, and that is all that is asked", func(p *gate.Policy, e *gate.Evidence) {
		p.Suites[0].Bound = "point"
		scored(passes(400, upTo(0, 35)...))(p, e)
	}, pass, "chance not counted"},
	{forge.RuleSuite, "its value does not", scored(passes(400, upTo(0, 41)...)), fail, "0.8975 over 400, its bound 0.863897; asked is ≥ 0.9"},
	{forge.RuleSuite, "no bound named: the lower one", func(p *gate.Policy, e *gate.Evidence) {
		p.Suites[0].Bound = ""
		scored(passes(400, upTo(0, 35)...))(p, e)
	}, inconclusive, "the interval does not"},
	{forge.RuleSuite, "a bound that there is not", func(p *gate.Policy, _ *gate.Evidence) { p.Suites[0].Bound = "upper" }, missing, "upper"},
	{forge.RuleSuite, "lower is better: its upper bound reaches it", scored(make([]float64, 400), lowerIsBetter(0.02)), pass, "1 of 1"},
	{forge.RuleSuite, "lower is better: its value does, its upper bound does not", scored(passes(400, upTo(4, 400)...), lowerIsBetter(0.02)), inconclusive, "≤ 0.02"},
	{forge.RuleSuite, "lower is better: its value does not", scored(passes(400, upTo(9, 400)...), lowerIsBetter(0.02)), fail, "≤ 0.02"},
	{forge.RuleSuite, "scores between 0 and 1", scored(between(400, 0.95, 0.04)), pass, "1 of 1"},
	{forge.RuleSuite, "such scores, unsure", scored(between(400, 0.902, 0.04)), inconclusive, "t acc"},
	{forge.RuleSuite, "one such score", scored([]float64{0.95}), missing, "one sample"},
	{forge.RuleSuite, "one score for all", scored([]float64{0.95, 0.95, 0.95}), missing, "one score"},
	{forge.RuleSuite, "safety, no failure in 400", scored(passes(400), func(m *gate.Benchmark) { m.Safety = true }), pass, "up to 0.75 %"},
	{forge.RuleSuite, "no eval", func(_ *gate.Policy, e *gate.Evidence) { e.Evals = nil }, missing, "forgectl eval run chat@2 --suite ours"},
	{forge.RuleSuite, "an eval of another suite under its name", eval(func(v *gate.EvalEvidence) { v.Suite = "theirs" }), missing, "theirs"},
	{forge.RuleSuite, "an eval of nobody knows which suite", eval(func(v *gate.EvalEvidence) { v.SuiteSHA256 = "" }), missing, "eval 2"},
	{forge.RuleSuite, "an eval of other bytes", eval(func(v *gate.EvalEvidence) { v.Facts.ModelSHA256 = "sha-1" }), missing, "other bytes"},
	{forge.RuleSuite, "an eval that says it is of other bytes", eval(func(v *gate.EvalEvidence) { v.ModelSHA256 = "sha-1" }), missing, "other bytes"},
	{forge.RuleSuite, "an eval of nobody knows what", eval(func(v *gate.EvalEvidence) { v.Facts.ModelSHA256, v.ModelSHA256 = "", "" }), missing, "other bytes"},
	{forge.RuleSuite, "a version without digest", func(_ *gate.Policy, e *gate.Evidence) {
		e.SHA256 = ""
		eval(func(v *gate.EvalEvidence) { v.Facts.ModelSHA256, v.ModelSHA256 = "", "" })(nil, e)
	}, missing, "other bytes"},
	{forge.RuleSuite, "a limited eval", eval(func(v *gate.EvalEvidence) { v.Limited = true }), missing, "limited"},
	{forge.RuleSuite, "a limit among the facts", eval(func(v *gate.EvalEvidence) { v.Facts.Limit = 5 }), missing, "limited"},
	{forge.RuleSuite, "a task in part", eval(func(v *gate.EvalEvidence) { v.Facts.Tasks[0].Effective = 399 }), missing, "399 of 400"},
	{forge.RuleSuite, "no benchmark", eval(func(v *gate.EvalEvidence) { v.Benchmarks = nil }), missing, "no benchmark"},
	{forge.RuleSuite, "a benchmark without threshold", eval(func(v *gate.EvalEvidence) { v.Benchmarks[0].Threshold = math.NaN() }), missing, "no threshold"},
	{forge.RuleSuite, "no score", eval(func(v *gate.EvalEvidence) { v.Scores = nil }), missing, "no such score"},
	{forge.RuleSuite, "a score that is no number", eval(func(v *gate.EvalEvidence) { v.Scores[0].Value = math.NaN() }), missing, "NaN"},
	{forge.RuleSuite, "a score of no sample", eval(func(v *gate.EvalEvidence) { v.Scores[0].N = 0 }), missing, "over 0 samples"},
	{forge.RuleSuite, "a score of more samples than there are", eval(func(v *gate.EvalEvidence) { v.Scores[0].N = 500 }), missing, "400 samples are here of 500"},
	{forge.RuleSuite, "clusters of more samples than there are", eval(func(v *gate.EvalEvidence) {
		v.Benchmarks[0].Safety, v.Samples[0].Cluster = true, make([]uint64, 500)
		v.Samples[0].Scores["acc"], v.Scores[0].Value = passes(400), 1
	}), missing, "have 500 clusters"},
	{forge.RuleSuite, "no samples and no standard error", eval(func(v *gate.EvalEvidence) { v.Samples = nil }), missing, "bound: point"},
	{forge.RuleSuite, "no samples and a standard error of 0", eval(func(v *gate.EvalEvidence) { v.Samples, v.Scores[0].StdErr = nil, new(float64) }), missing, "bound: point"},
	{forge.RuleSuite, "no samples and a standard error", eval(func(v *gate.EvalEvidence) {
		se := 0.005
		v.Samples, v.Scores[0].StdErr = nil, &se
	}), pass, "1 of 1"},
	{forge.RuleSuite, "no samples and a large standard error", eval(func(v *gate.EvalEvidence) {
		se := 0.05
		v.Samples, v.Scores[0].StdErr = nil, &se
	}), inconclusive, "the interval does not"},
	{forge.RuleSuite, "a reward model", func(_ *gate.Policy, e *gate.Evidence) { e.Reward = true }, missing, "reward model"},

	{forge.RuleRegression, "no worse", func(*gate.Policy, *gate.Evidence) {}, pass, "no worse against chat@1"},
	{forge.RuleRegression, "nothing in production", func(_ *gate.Policy, e *gate.Evidence) { e.Baseline, e.Compared = "", nil }, pass, "nothing is in production yet"},
	{forge.RuleRegression, "not compared", func(_ *gate.Policy, e *gate.Evidence) { e.Compared = nil }, missing, "the same of chat@1"},
	{forge.RuleRegression, "regressed", verdictOf(forge.CompareRegressed), fail, "eval compare 1 2"},
	{forge.RuleRegression, "inconclusive", verdictOf(forge.CompareInconclusive), inconclusive, "not settled"},
	{forge.RuleRegression, "inconclusive, which only warns", func(p *gate.Policy, e *gate.Evidence) {
		p.NoRegression.Inconclusive = "warn"
		verdictOf(forge.CompareInconclusive)(p, e)
	}, pass, "only warns"},
	{forge.RuleRegression, "inconclusive, by default", func(p *gate.Policy, e *gate.Evidence) {
		p.NoRegression.Inconclusive = ""
		verdictOf(forge.CompareInconclusive)(p, e)
	}, inconclusive, "not settled"},
	{forge.RuleRegression, "incomparable", verdictOf(forge.CompareIncomparable), missing, "dtype: it differs"},
	{forge.RuleRegression, "incomparable, and only a warning asked for", func(p *gate.Policy, e *gate.Evidence) {
		p.NoRegression.Inconclusive = "warn"
		verdictOf(forge.CompareIncomparable)(p, e)
	}, missing, "dtype"},
	{forge.RuleRegression, "no verdict", verdictOf(""), missing, "cannot be compared"},
	{forge.RuleRegression, "no worse by no benchmark", compared(func(c *forge.Comparison) { c.Benchmarks = nil }), missing, "contradicts itself"},
	{forge.RuleRegression, "no worse with a benchmark that is", compared(func(c *forge.Comparison) { c.Benchmarks[0].Verdict = forge.CompareRegressed }), missing, "contradicts itself"},
	{forge.RuleRegression, "no worse though incomparable", compared(func(c *forge.Comparison) { c.Invalid = []forge.Invalidity{{Field: "seed"}} }), missing, "contradicts itself"},
	{forge.RuleRegression, "compared with another than is in production", compared(func(c *forge.Comparison) { c.Baseline.Model = "chat@0" }), missing, "chat@0"},
	{forge.RuleRegression, "a comparison of other bytes", compared(func(c *forge.Comparison) { c.Candidate.ModelSHA256 = "sha-9" }), missing, "sha-9"},
	{forge.RuleRegression, "a comparison by another suite", compared(func(c *forge.Comparison) { c.Suite = "theirs" }), missing, "theirs"},
	{forge.RuleRegression, "a comparison of an older eval", compared(func(c *forge.Comparison) { c.Candidate.Eval = "1" }), missing, "the newest is 2"},
	{forge.RuleRegression, "a comparison by the suite as it was", compared(func(c *forge.Comparison) { c.SuiteSHA256 = "old" }), missing, "changed since"},
	{forge.RuleRegression, "a comparison that lets too much to chance", compared(func(c *forge.Comparison) { c.Alpha = 0.3 }), missing, "0.3"},
	{forge.RuleRegression, "a suite of its own that was not compared", func(p *gate.Policy, _ *gate.Evidence) { p.NoRegression.Suites = []string{"safety"} }, missing, "suite safety"},
	{forge.RuleRegression, "no suite", func(p *gate.Policy, _ *gate.Evidence) { p.Suites = nil }, missing, "names no suite"},
	{forge.RuleRegression, "a reward model", func(_ *gate.Policy, e *gate.Evidence) { e.Reward = true }, missing, "reward model"},
}

// between are n scores around a mean.
func between(n int, mean, spread float64) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = mean + spread*(2*float64(i)/float64(n-1)-1)
	}
	return out
}

func TestTruth(t *testing.T) {
	seen := map[forge.RuleName]map[forge.GateVerdict]bool{}
	for _, x := range truth {
		t.Run(fmt.Sprintf("%s: %s", x.rule, x.what), func(t *testing.T) {
			p, e := strict(), good()
			x.with(&p, &e)
			got := gate.Check(p, e)
			worst, said := pass, ""
			for _, r := range got.Rules {
				if r.Rule == x.rule {
					worst, said = worseOf(worst, r.Verdict), said+r.Words+" / "+r.Hint+"\n"
				}
				if r.Words == "" || r.Verdict != pass && r.Hint == "" {
					t.Errorf("%s is %s without words or hint: %+v", r.Rule, r.Verdict, r)
				}
			}
			if worst != x.want || !strings.Contains(said, x.says) {
				t.Errorf("%s, want %s with %q: %s", worst, x.want, x.says, said)
			}
			if x.want == pass != (got.Verdict == pass) && x.rule != forge.RuleOverlap && x.rule != forge.RuleSuite || x.want != pass && got.Verdict == pass {
				t.Errorf("the gate says %s", got.Verdict)
			}
			if _, err := json.Marshal(got); err != nil {
				t.Error(err)
			}
			for _, r := range got.Rules { // what is no number is shown as none, and not as some
				for _, s := range r.Scores {
					if v := e.Evals["ours"]; len(v.Scores) > 0 && math.IsNaN(v.Scores[0].Value) && s.Value != 0 || math.IsNaN(v.Benchmarks[0].Threshold) && s.Threshold != 0 {
						t.Errorf("%+v", s)
					}
				}
			}
		})
		if seen[x.rule] == nil {
			seen[x.rule] = map[forge.GateVerdict]bool{}
		}
		seen[x.rule][x.want] = true
	}
	for _, r := range forge.RuleNames {
		if !seen[r][pass] || r != forge.RuleBlocked && !seen[r][missing] || r != forge.RuleLineage && !seen[r][fail] {
			t.Errorf("the table has no row where %s passes, fails or is missing: %v", r, seen[r])
		}
	}
}

var severity = []forge.GateVerdict{pass, inconclusive, missing, fail}

func worseOf(a, b forge.GateVerdict) forge.GateVerdict {
	return severity[max(slices.Index(severity, a), slices.Index(severity, b))]
}

func TestTheVerdictIsTheWorstOfItsRules(t *testing.T) {
	r := seeded("worst")
	for range 400 {
		p, e := strict(), good()
		var did []string
		bad := false
		for range 1 + r.IntN(4) {
			x := truth[r.IntN(len(truth))]
			if !func() (ok bool) {
				defer func() { ok = recover() == nil }()
				x.with(&p, &e)
				return true
			}() {
				break // nothing is left that this row could change
			}
			did = append(did, x.what)
			bad = x.want != pass && reflect.DeepEqual(p, strict()) // by what is asked otherwise it may well do
		}
		got, worst := gate.Check(p, e), pass
		for _, rule := range got.Rules {
			worst = worseOf(worst, rule.Verdict)
		}
		if got.Verdict != worst || bad && worst == pass { // what was broken last is broken still
			t.Errorf("%s of %s after %v", got.Verdict, worst, did)
		}
	}
}

// TestWithoutAnyOnePieceOfEvidenceNothingPasses takes away one field of the evidence at a time.
func TestWithoutAnyOnePieceOfEvidenceNothingPasses(t *testing.T) {
	if got := gate.Check(strict(), good()); got.Verdict != pass {
		t.Fatalf("%+v", got)
	}
	mayLack := map[string]string{"Model": "a name", "Kind": "which words are said", "Reward": "false is good", "From": "a name", "To": "a name", "Blocked": "empty is good", "Baseline": "nothing in production yet"}
	take := func(t *testing.T, name string, at func(*gate.Evidence) reflect.Value) {
		e := good()
		v := at(&e)
		v.Set(reflect.Zero(v.Type()))
		if got := gate.Check(strict(), e); got.Verdict == pass {
			t.Errorf("without %s it passes", name)
		}
	}
	for f := range reflect.TypeFor[gate.Evidence]().Fields() {
		if mayLack[f.Name] == "" {
			take(t, f.Name, func(e *gate.Evidence) reflect.Value { return reflect.ValueOf(e).Elem().FieldByIndex(f.Index) })
		}
	}
	for name, whole := range map[string]func(e *gate.Evidence) any{
		"Lineage": func(e *gate.Evidence) any { return e.Lineage }, "Data": func(e *gate.Evidence) any { return &e.Data[0] },
		"Licence": func(e *gate.Evidence) any { return e.Licence }, "Digest": func(e *gate.Evidence) any { return e.Digest }, "LoadTest": func(e *gate.Evidence) any { return e.LoadTest },
	} {
		e := good()
		for f := range reflect.TypeOf(whole(&e)).Elem().Fields() {
			if f.Name == "Whole" || f.Name == "PII" || f.Name == "OK" {
				take(t, name+"."+f.Name, func(e *gate.Evidence) reflect.Value { return reflect.ValueOf(whole(e)).Elem().FieldByIndex(f.Index) })
			}
		}
	}
}

func TestOnlyWhatIsAskedIsReported(t *testing.T) {
	got := gate.Check(gate.Policy{Name: "none"}, gate.Evidence{Model: "chat@2"})
	if got.Verdict != pass || len(got.Rules) != 1 || got.Rules[0].Rule != forge.RuleBlocked {
		t.Errorf("%+v", got)
	}
	if got := gate.Check(gate.Policy{}, gate.Evidence{Blocked: []string{"nightly"}}); got.Verdict != fail {
		t.Errorf("a schedule blocks whatever the policy says: %+v", got)
	}
	got = gate.Check(strict(), good())
	var order []forge.RuleName
	for _, r := range got.Rules {
		order = append(order, r.Rule)
	}
	if order = slices.Compact(order); !slices.Equal(order, forge.RuleNames) {
		t.Errorf("%v", order)
	}
	if e := good(); got.Model != e.Model || got.SHA256 != e.SHA256 || got.From != e.From || got.To != e.To || got.Policy != "production" || got.PolicySHA256 != "p0" || !got.At.Equal(e.Now) {
		t.Errorf("%+v", got)
	}
}

func TestASuiteRuleShowsEveryNumber(t *testing.T) {
	p, e := strict(), good()
	var s forge.RuleResult
	for _, r := range gate.Check(p, e).Rules {
		if r.Rule == forge.RuleSuite {
			s = r
		}
	}
	want := forge.ScoreEvidence{Task: "t", Filter: "none", Metric: "acc", Direction: "higher", N: 400, Value: 0.9525, Bound: 0.92700845059, By: "lower", Threshold: 0.9, Verdict: pass}
	if s.On != "ours" || s.Eval != "2" || len(s.Scores) != 1 || s.Scores[0] != want || s.Facts["suite_sha256"] != suiteSHA {
		t.Errorf("%+v", s)
	}
	// the same answers in 80 groups of 5, where whole groups fail, are less sure: the bound is further down
	eval(func(v *gate.EvalEvidence) {
		for i := range v.Samples[0].Doc {
			v.Samples[0].Cluster = append(v.Samples[0].Cluster, uint64(i/5))
		}
	})(&p, &e)
	for _, r := range gate.Check(p, e).Rules {
		if r.Rule == forge.RuleSuite && !(r.Scores[0].Bound < 0.90) {
			t.Errorf("%+v", r)
		}
	}
}
