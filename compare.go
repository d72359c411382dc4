package forge

import (
	"fmt"
	"strings"
	"time"
)

// Comparison is two evals of one suite held against each other, sample by sample. It says nothing of evals that did not ask the same: then
// Invalid names every difference, and the verdict is incomparable.
type Comparison struct {
	Baseline    EvalBrief             `json:"baseline"`
	Candidate   EvalBrief             `json:"candidate"`
	Suite       string                `json:"suite"`
	SuiteSHA256 string                `json:"suite_sha256"`
	Alpha       float64               `json:"alpha" doc:"Chance that one benchmark which did not change is called regressed"`
	Resamples   int                   `json:"resamples" doc:"Of the bootstrap"`
	Seed        int64                 `json:"seed" doc:"Of the bootstrap: the same two evals give the same numbers"`
	Verdict     CompareVerdict        `json:"verdict" enum:"regressed,non_inferior,inconclusive,incomparable" doc:"The worst of its benchmarks"`
	Invalid     []Invalidity          `json:"invalid,omitempty" doc:"What keeps the two from being compared"`
	Benchmarks  []BenchmarkComparison `json:"benchmarks" doc:"In the order of the suite; empty where they are incomparable"`
}

// Worse names the benchmarks that regressed.
func (c Comparison) Worse() string {
	var out []string
	for _, b := range c.Benchmarks {
		if b.Verdict == CompareRegressed {
			out = append(out, fmt.Sprintf("%s %s %.4g → %.4g", b.Task, b.Metric, b.Baseline, b.Candidate))
		}
	}
	return strings.Join(out, ", ")
}

// EvalBrief names an eval and what it was of.
type EvalBrief struct {
	Eval        string    `json:"eval" doc:"Number of its run; iN for the Nth that was imported"`
	Model       string    `json:"model" doc:"NAME@VERSION"`
	ModelSHA256 string    `json:"model_sha256"`
	CreatedAt   time.Time `json:"created_at"`
}

// CompareVerdict is what a paired comparison comes to.
type CompareVerdict string

// The verdicts, from bad to good but for the first.
const (
	CompareIncomparable CompareVerdict = "incomparable" // the two did not ask the same, or something of them is missing
	CompareRegressed    CompareVerdict = "regressed"    // worse, by the statistics and by at least what the benchmark's rule asks for
	CompareInconclusive CompareVerdict = "inconclusive" // neither is shown: Needed samples would settle it
	CompareNonInferior  CompareVerdict = "non_inferior" // worse by less than the margin, if at all
)

// CompareVerdicts lists the whole set.
var CompareVerdicts = []CompareVerdict{CompareIncomparable, CompareRegressed, CompareInconclusive, CompareNonInferior}

// Invalidity is one thing that two evals had to share and do not.
type Invalidity struct {
	Field     string `json:"field" doc:"limit, dtype, harness.lm_eval, tasks.NAME.n_shot, samples.NAME, …"`
	Baseline  string `json:"baseline,omitempty" doc:"Its value there; absent where there is none"`
	Candidate string `json:"candidate,omitempty"`
	Why       string `json:"why" doc:"In a sentence"`
}

// BenchmarkComparison is one number of the suite. Differences and their bounds are turned so that above 0 is better, whichever way the metric goes.
type BenchmarkComparison struct {
	Task       string         `json:"task"`
	Filter     string         `json:"filter"`
	Metric     string         `json:"metric"`
	Direction  string         `json:"direction" enum:"higher,lower" doc:"Which way is better"`
	Safety     bool           `json:"safety,omitempty" doc:"Tested alone: its p is not corrected for the others"`
	Method     string         `json:"method" enum:"mcnemar,bootstrap" doc:"mcnemar: exact, for scores of 0 and 1; bootstrap: paired, of samples or of their clusters"`
	Pairs      int64          `json:"pairs"`
	Clusters   int64          `json:"clusters,omitempty" doc:"Groups that were resampled whole; absent where samples stand for themselves"`
	Baseline   float64        `json:"baseline" doc:"Mean over the pairs"`
	Candidate  float64        `json:"candidate"`
	Difference float64        `json:"difference" doc:"Above 0: the candidate is better"`
	Low        float64        `json:"low" doc:"Of the interval that holds the difference with chance 1 - 2 alpha"`
	High       float64        `json:"high"`
	Better     int64          `json:"better" doc:"Pairs where the candidate is better"`
	Worse      int64          `json:"worse"`
	P          float64        `json:"p" doc:"Chance of a drop like this, or a larger one, where nothing changed"`
	PAdjusted  float64        `json:"p_adjusted" doc:"By Holm over the suite; of safety benchmarks p itself"`
	Margin     float64        `json:"margin" doc:"By how much it may be worse and still count as no worse"`
	Verdict    CompareVerdict `json:"verdict"`
	Needed     int64          `json:"needed,omitempty" doc:"Pairs that would settle it, at the differences seen; where it is inconclusive"`
	UpTo       *float64       `json:"up_to,omitempty" doc:"Of safety benchmarks without a failure: the share of failures that is still possible, at 95 % (rule of three)"`
	Words      string         `json:"words" doc:"In a sentence"`
}

// Flip is a sample that the two evals scored differently.
type Flip struct {
	Task      string  `json:"task"`
	Filter    string  `json:"filter"`
	Metric    string  `json:"metric"`
	DocID     int64   `json:"doc_id"`
	Baseline  float64 `json:"baseline"`
	Candidate float64 `json:"candidate"`
	Worse     bool    `json:"worse" doc:"The candidate is the worse one"`

	Prompt            string `json:"prompt,omitempty" doc:"Cut at 1,000 characters, as are the next three"`
	Target            string `json:"target,omitempty"`
	BaselineResponse  string `json:"baseline_response,omitempty"`
	CandidateResponse string `json:"candidate_response,omitempty"`
}
