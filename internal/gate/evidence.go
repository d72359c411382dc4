package gate

import (
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Policy is what is asked of a version before it enters a stage. A rule that is not set is not asked.
type Policy struct {
	Name         string            `json:"name" yaml:"-"`
	SHA256       string            `json:"sha256" yaml:"-"`
	Suites       []SuiteRule       `json:"suites,omitempty" yaml:"suites"`
	NoRegression *RegressionRule   `json:"no_regression,omitempty" yaml:"no_regression"`
	PII          []forge.PIIStatus `json:"pii,omitempty" yaml:"pii" doc:"Statuses that will do: clean, redacted, waived"`
	Licence      bool              `json:"licence,omitempty" yaml:"licence"`
	Lineage      bool              `json:"lineage,omitempty" yaml:"lineage"`
	NoOverlap    bool              `json:"no_overlap,omitempty" yaml:"no_overlap"`
	Digest       bool              `json:"digest,omitempty" yaml:"digest"`
	LoadTest     bool              `json:"load_test,omitempty" yaml:"load_test"`
	Soak         forge.Duration    `json:"soak,omitempty" yaml:"soak" doc:"In the stage before; 0s: not asked"`
}

// SuiteRule asks that all benchmarks of a suite reach their thresholds.
type SuiteRule struct {
	Suite string `json:"suite" yaml:"suite"`
	Bound string `json:"bound" yaml:"bound" doc:"What must reach the threshold: lower (the bound of the 95 % interval on the bad side) or point (the value itself); default lower"`
}

// RegressionRule asks that nothing is worse than what is in production. Without a version in production there is nothing to be worse than.
type RegressionRule struct {
	Suites       []string `json:"suites" yaml:"suites" doc:"Default: those of suites"`
	Inconclusive string   `json:"inconclusive" yaml:"inconclusive" doc:"What an inconclusive comparison does: block or warn; default block"`
}

// Benchmark is one number of a suite, as its file has it.
type Benchmark struct {
	Task      string
	Filter    string
	Metric    string
	Lower     bool // lower is better
	Threshold float64
	Margin    float64
	Safety    bool // tested alone, uncorrected
}

// Samples are the scores of one task under one filter, a column each; all columns have one length, and documents ascend.
type Samples struct {
	Task    string
	Filter  string
	Doc     []int64
	Asked   [][16]byte           // of each: the first 16 bytes of SHA-256 over doc hash and prompt hash; equal where the same was asked
	Cluster []uint64             // of each: the group that it belongs to; nil where samples stand for themselves
	Scores  map[string][]float64 // by metric
}

// Side is one eval of a comparison.
type Side struct {
	forge.EvalBrief
	Suite       string
	SuiteSHA256 string
	Limited     bool
	Facts       forge.EvalFacts
	Scores      []forge.EvalScore
	Samples     []Samples
	Parts       map[string][]string // of each group among the tasks: the tasks with samples that it sums up; of one that is not here, those whose names begin with its own
}

// Options bound a comparison. The zero value is what gates use.
type Options struct {
	Alpha     float64 // 0: 0.05
	Resamples int     // 0: 10,000
	Seed      int64
	Flips     int // most flips that are given; 0: none
}

// Evidence is all that Check looks at. What is nil or empty was not found.
type Evidence struct {
	Model    string // NAME@VERSION
	SHA256   string
	Kind     forge.ModelKind
	Reward   bool // scores, and writes nothing: no suite can be asked of it
	From, To forge.Stage
	Now      time.Time
	Since    time.Time // when it came into From
	Blocked  []string  // in words: schedules that block it, and why

	Lineage  *LineageEvidence
	Data     []DataEvidence
	Licence  *Finding // of all that it is made of, against the lists of its tenant
	Digest   *Finding // of its bytes, hashed anew
	LoadTest *Finding

	Evals    map[string]EvalEvidence     // by suite: the newest that is whole and of the suite as it is
	Baseline string                      // NAME@VERSION in production; empty: none
	Compared map[string]forge.Comparison // by suite, with the baseline; absent: one of the two evals is missing
}

// Finding is a yes or no that was found by looking.
type Finding struct {
	OK    bool
	Words string
	Facts map[string]string
}

// LineageEvidence is what a version is made of.
type LineageEvidence struct {
	Whole   bool
	Missing []string // in words: what is not known, or not registered any more
}

// DataEvidence is one dataset that it was trained on, however far back.
type DataEvidence struct {
	Dataset string // NAME@VERSION
	PII     forge.PIIStatus
	ByForge bool   // who scanned it: forged or a job, and not whoever registered it
	Why     string // of a waiver
	Gone    bool   // not registered any more
}

// EvalEvidence is an eval that a suite rule and no_overlap rest on.
type EvalEvidence struct {
	Side
	Benchmarks []Benchmark
}
