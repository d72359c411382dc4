package gate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// rules has one function for each rule, none for a rule that the policy does not ask.
var rules = map[forge.RuleName]func(Policy, Evidence) []forge.RuleResult{
	forge.RuleBlocked:    notBlocked,
	forge.RuleDigest:     digest,
	forge.RuleLineage:    lineage,
	forge.RuleLicence:    licence,
	forge.RulePII:        pii,
	forge.RuleOverlap:    noOverlap,
	forge.RuleLoadTest:   loadTest,
	forge.RuleSoak:       soak,
	forge.RuleSuite:      suites,
	forge.RuleRegression: noRegression,
}

// severity: a failure is worse than what nobody knows, and that worse than what was looked at and is not settled.
var severity = []forge.GateVerdict{forge.GatePass, forge.GateInconclusive, forge.GateMissing, forge.GateFail}

func worse(a, b forge.GateVerdict) forge.GateVerdict {
	if slices.Index(severity, a) < slices.Index(severity, b) {
		return b
	}
	return a
}

// Check asks every rule of the policy of the evidence. The verdict is the worst of its rules; a policy without rules passes, unless a schedule blocks.
func Check(p Policy, e Evidence) forge.GateReport {
	out := forge.GateReport{Model: e.Model, SHA256: e.SHA256, From: e.From, To: e.To, Policy: p.Name, PolicySHA256: p.SHA256, At: e.Now,
		Verdict: forge.GatePass, Rules: []forge.RuleResult{}}
	for _, name := range forge.RuleNames {
		for _, r := range rules[name](p, e) {
			r.Rule = name
			out.Rules = append(out.Rules, r)
			out.Verdict = worse(out.Verdict, r.Verdict)
		}
	}
	return out
}

func result(v forge.GateVerdict, hint, words string, args ...any) forge.RuleResult {
	return forge.RuleResult{Verdict: v, Words: fmt.Sprintf(words, args...), Hint: hint}
}

func one(r forge.RuleResult) []forge.RuleResult { return []forge.RuleResult{r} }

// about is a result of one thing of several.
func about(on string, r forge.RuleResult) forge.RuleResult {
	r.On = on
	return r
}

func notBlocked(_ Policy, e Evidence) []forge.RuleResult {
	if len(e.Blocked) > 0 {
		return one(result(forge.GateFail, "look at the eval that the schedule names; its block ends with a better eval, or with the schedule", "blocked by %s", strings.Join(e.Blocked, "; ")))
	}
	return one(result(forge.GatePass, "", "no schedule blocks it"))
}

// finding is a rule that rests on one look.
func finding(asked bool, f *Finding, missing, hint string) []forge.RuleResult {
	switch {
	case !asked:
		return nil
	case f == nil:
		return one(result(forge.GateMissing, hint, "%s", missing))
	}
	r := result(forge.GatePass, "", "%s", f.Words)
	if !f.OK {
		r.Verdict, r.Hint = forge.GateFail, hint
	}
	r.Facts = f.Facts
	return one(r)
}

func digest(p Policy, e Evidence) []forge.RuleResult {
	return finding(p.Digest, e.Digest, "its bytes were not hashed anew, so nobody knows whether they are those that were registered", "its files must be readable, and those that were registered; else register them as a version of their own")
}

func licence(p Policy, e Evidence) []forge.RuleResult {
	return finding(p.Licence, e.Licence, "the licences of what it is made of were not looked at", "name the licence of each part (dataset edit), train without the part, or ask an operator about the lists")
}

func loadTest(p Policy, e Evidence) []forge.RuleResult {
	return finding(p.LoadTest, e.LoadTest, "it was never loaded and used by a fresh process", "a training run tests what it leaves; what came in otherwise is tested by an eval of it")
}

func lineage(p Policy, e Evidence) []forge.RuleResult {
	const hint = "register what it was made from, and train it from that"
	switch l := e.Lineage; {
	case !p.Lineage:
		return nil
	case l == nil:
		return one(result(forge.GateMissing, hint, "nothing is known of what it was made from"))
	case len(l.Missing) > 0:
		return one(result(forge.GateMissing, hint, "not known: %s", strings.Join(l.Missing, "; ")))
	case !l.Whole:
		return one(result(forge.GateMissing, hint, "not all that it was made from is known"))
	}
	return one(result(forge.GatePass, "", "all that it was made from is known by digest"))
}

// piiWorks are statuses that a policy may let pass. What nobody looked at, and findings that nobody answers for, never do, whatever it names.
var piiWorks = []forge.PIIStatus{forge.PIIClean, forge.PIIRedacted, forge.PIIWaived}

func pii(p Policy, e Evidence) []forge.RuleResult {
	if len(p.PII) == 0 {
		return nil
	}
	if len(e.Data) == 0 {
		return one(result(forge.GateMissing, "train it from registered datasets; gates of base models should not ask this", "no dataset is known that it was trained on, so nobody knows what is in them"))
	}
	var out []forge.RuleResult
	for _, d := range e.Data {
		out = append(out, about(d.Dataset, piiOf(p, d)))
	}
	return out
}

func piiOf(p Policy, d DataEvidence) forge.RuleResult {
	by := "said by whoever registered it"
	if d.ByForge {
		by = "found by forged or a job"
	}
	if d.Why != "" {
		by += ", waived: " + d.Why
	}
	const scan = "register its data anew (forgectl dataset add reads all of it) and train from that"
	switch {
	case d.Gone:
		return result(forge.GateMissing, "register it again, or train without it", "it is not registered any more (its status was %s)", orNone(string(d.PII)))
	case d.PII == forge.PIIScanning:
		return result(forge.GateMissing, "wait for the scan", "it is being scanned")
	case d.PII == "" || d.PII == forge.PIINotScanned:
		return result(forge.GateMissing, scan, "nobody looked for personal data in it")
	case d.PII == forge.PIIFindings:
		return result(forge.GateFail, "forgectl dataset redact "+d.Dataset+" and train from that; or somebody answers for them: forgectl dataset waive "+d.Dataset+" --reason …", "personal data was found in it, %s", by)
	case !slices.Contains(piiWorks, d.PII):
		return result(forge.GateMissing, scan, "its status %q is not one that this forged knows", d.PII)
	case !slices.Contains(p.PII, d.PII):
		return result(forge.GateFail, fmt.Sprintf("these do: %s", joined(p.PII)), "it is %s, %s", d.PII, by)
	}
	return result(forge.GatePass, "", "%s, %s", d.PII, by)
}

func soak(p Policy, e Evidence) []forge.RuleResult {
	want := p.Soak.D()
	switch {
	case want <= 0:
		return nil
	case e.Since.IsZero() || e.Now.IsZero():
		return one(result(forge.GateMissing, "see forgectl model history", "when it came into %s is not known", orNone(string(e.From))))
	case e.Now.Before(e.Since):
		return one(result(forge.GateMissing, "set the clock of the machine of forged right", "it came into %s at %s and now is %s: the clock was moved back, so how long it has been there is not known",
			e.From, e.Since.UTC().Format(time.RFC3339), e.Now.UTC().Format(time.RFC3339)))
	}
	been := e.Now.Sub(e.Since)
	if been < want {
		return one(result(forge.GateFail, "it will have been there long enough at "+e.Since.Add(want).UTC().Format(time.RFC3339), "%s in %s, of %s", been.Round(time.Second), e.From, p.Soak))
	}
	return one(result(forge.GatePass, "", "%s in %s, of %s", been.Round(time.Second), e.From, p.Soak))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func joined[S ~string](all []S) string {
	words := make([]string, len(all))
	for i, s := range all {
		words[i] = string(s)
	}
	return strings.Join(words, ", ")
}
