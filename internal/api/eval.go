package api

import (
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/recipes"
)

// SuiteRow is a suite in a listing.
type SuiteRow struct {
	Name    string `json:"name"`
	Doc     string `json:"doc"`
	Version int    `json:"version"`
	Tasks   int    `json:"tasks"`
	Offline bool   `json:"offline" doc:"All tasks and their data are its own: it runs without network and cache"`
	Site    bool   `json:"site" doc:"The site's own, and not built in"`
	SHA256  string `json:"sha256"`
}

// Suite is a suite with its benchmarks.
type Suite struct{ recipes.Suite }

// SuiteRowOf is what a listing shows of it.
func SuiteRowOf(s recipes.Suite) SuiteRow {
	return SuiteRow{Name: s.Name, Doc: s.Doc, Version: s.Version, Tasks: len(s.Tasks()), Offline: s.Offline, Site: s.Path != "", SHA256: s.SHA256}
}

// EvalFilter says which evals a listing shows; what is empty does not choose.
type EvalFilter struct {
	Model  string // NAME, or NAME@VERSION
	Suite  string
	Limit  int
	Cursor string
}

// EvalDetail is an eval with its suite, as the site has it now.
type EvalDetail struct {
	forge.Eval
	Benchmarks []recipes.Benchmark `json:"benchmarks,omitempty" doc:"Of the suite with this digest; absent when the site has it no more"`
}

// SampleFilter asks for a page of the samples of one task under one filter.
type SampleFilter struct {
	Task   string
	Filter string
	Limit  int
	Cursor string
}

// EvalSample is how one document went.
type EvalSample struct {
	DocID      int64              `json:"doc_id"`
	DocHash    string             `json:"doc_hash"`
	PromptHash string             `json:"prompt_hash" doc:"Two evals asked the same where document and prompt have equal hashes"`
	TargetHash string             `json:"target_hash"`
	Metrics    map[string]float64 `json:"metrics"`
	Target     string             `json:"target" doc:"What was wanted; cut at 1,000 characters, as are the next two"`
	Response   string             `json:"response"`
	Prompt     string             `json:"prompt"`
	Cluster    string             `json:"cluster,omitempty" doc:"The group that it belongs to, where the benchmark names a field for it"`
}

// CompareFilter asks for a comparison. A and B are evals (12, i3, an id), or NAME@VERSION with a suite: the newest whole eval of it.
type CompareFilter struct {
	Candidate string
	Baseline  string
	Suite     string
	Flips     int // most that are given
}

// DefaultFlips is how many samples are shown that two evals scored differently.
const (
	DefaultFlips = 5
	MaxFlips     = 1000
)

// EvalComparison is a comparison with samples that the two evals scored differently: where the candidate is worse first.
type EvalComparison struct {
	forge.Comparison
	Flips []forge.Flip `json:"flips"`
}

// Evals that were made elsewhere come as a gzip of lines of JSON: an EvalHead, and then the samples, each an EvalSample with task and filter.
const (
	EvalsPath      = "/v1/evals"
	EvalImportType = "application/gzip"
	MaxEvalHead    = 8 << 20   // bytes of the first line
	MaxEvalSamples = 256 << 20 // bytes of all lines behind it
	MaxSampleLine  = 1 << 20
	MaxEvalImport  = MaxEvalHead + MaxEvalSamples // what arrives is packed, and smaller
)

// EvalHead is the first line of an eval that is imported. Its facts are what the files of the harness say; suite version and digests of the
// model are forged's to know.
type EvalHead struct {
	Model  string            `json:"model" doc:"NAME@VERSION that it is of"`
	Suite  string            `json:"suite"`
	Called string            `json:"called" doc:"What the files call the model"`
	MadeAt time.Time         `json:"made_at,omitzero"`
	Files  []forge.EvalFile  `json:"files"`
	Lacks  []string          `json:"lacks,omitempty"`
	Facts  forge.EvalFacts   `json:"facts"`
	Scores []forge.EvalScore `json:"scores"`
}

// TaskSample is a line behind the head.
type TaskSample struct {
	Task   string `json:"task"`
	Filter string `json:"filter"`
	EvalSample
}
