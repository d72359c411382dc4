package forge

import (
	"fmt"
	"strings"
	"time"
)

// GateVerdict is what a gate, or one of its rules, comes to.
type GateVerdict string

// The verdicts. Only pass lets a version through.
const (
	GatePass         GateVerdict = "pass"
	GateFail         GateVerdict = "fail"
	GateInconclusive GateVerdict = "inconclusive" // the evidence is there, and does not settle it
	GateMissing      GateVerdict = "missing"      // the evidence is not there
)

// GateVerdicts lists the whole set.
var GateVerdicts = []GateVerdict{GatePass, GateFail, GateInconclusive, GateMissing}

// RuleName is what a rule of a gate looks at.
type RuleName string

// The rules.
const (
	RuleSuite      RuleName = "suite"         // every benchmark of a suite reaches its threshold
	RuleRegression RuleName = "no_regression" // no worse than what is in production, by paired statistics
	RulePII        RuleName = "pii"           // personal data of all datasets in its lineage
	RuleLicence    RuleName = "licence"       // the licences of all that it is made of
	RuleLineage    RuleName = "lineage"       // all that it is made of is known, by digest
	RuleOverlap    RuleName = "no_overlap"    // no question of a suite was trained on
	RuleDigest     RuleName = "digest"        // its bytes are those that were registered
	RuleLoadTest   RuleName = "load_test"     // it was loaded and used once
	RuleSoak       RuleName = "soak"          // so long in the stage before
	RuleBlocked    RuleName = "not_blocked"   // no schedule that blocks has found it worse; asked of every version
)

// RuleNames lists the rules in the order in which they are reported.
var RuleNames = []RuleName{RuleBlocked, RuleDigest, RuleLineage, RuleLicence, RulePII, RuleOverlap, RuleLoadTest, RuleSoak, RuleSuite, RuleRegression}

// GateReport is what a gate found of a version, with every number that led there.
type GateReport struct {
	Model        string       `json:"model" doc:"NAME@VERSION"`
	SHA256       string       `json:"sha256" doc:"Of the version's manifest"`
	From         Stage        `json:"from"`
	To           Stage        `json:"to"`
	Policy       string       `json:"policy" doc:"Which rules: their name in the site's gates"`
	PolicySHA256 string       `json:"policy_sha256" doc:"Of the rules as they were"`
	At           time.Time    `json:"at"`
	Verdict      GateVerdict  `json:"verdict" enum:"pass,fail,inconclusive,missing" doc:"The worst of its rules: fail, missing, inconclusive, pass"`
	Rules        []RuleResult `json:"rules"`
}

// RuleResult is what one rule found.
type RuleResult struct {
	Rule       RuleName          `json:"rule"`
	On         string            `json:"on,omitempty" doc:"What it is about: a suite, a dataset, a base model"`
	Verdict    GateVerdict       `json:"verdict" enum:"pass,fail,inconclusive,missing"`
	Words      string            `json:"words" doc:"What was found, in a sentence"`
	Hint       string            `json:"hint,omitempty" doc:"What would make it pass"`
	Scores     []ScoreEvidence   `json:"scores,omitempty" doc:"Of a suite: its benchmarks"`
	Eval       string            `json:"eval,omitempty" doc:"The eval that it rests on"`
	Comparison *Comparison       `json:"comparison,omitempty" doc:"Of no_regression"`
	Overlaps   []Overlap         `json:"overlaps,omitempty" doc:"Of no_overlap"`
	Facts      map[string]string `json:"facts,omitempty" doc:"Digests, times and names that it rests on"`
}

// ScoreEvidence is one benchmark against its threshold.
type ScoreEvidence struct {
	Task      string      `json:"task"`
	Filter    string      `json:"filter"`
	Metric    string      `json:"metric"`
	Direction string      `json:"direction" enum:"higher,lower"`
	N         int64       `json:"n"`
	Value     float64     `json:"value"`
	Bound     float64     `json:"bound" doc:"What is held against the threshold: the value itself, or the bound of its 95 % interval on the bad side"`
	By        string      `json:"by" enum:"point,lower" doc:"point: the value itself; lower: the bound of its interval (the upper one where lower is better)"`
	Threshold float64     `json:"threshold"`
	Verdict   GateVerdict `json:"verdict"`
}

// GateRefusal is the error of a promotion whose gate has not passed. It carries all that the gate found.
type GateRefusal struct{ Report GateReport }

func (r *GateRefusal) Error() string {
	var on []string
	for _, x := range r.Report.Rules {
		if x.Verdict != GatePass {
			on = append(on, strings.TrimSpace(string(x.Rule)+" "+x.On)+": "+string(x.Verdict))
		}
	}
	return fmt.Sprintf("%s may not become %s by its gate: %s", r.Report.Model, r.Report.To, strings.Join(on, ", "))
}
