package api

import (
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Why says why a run is where it is.
type Why struct {
	Run      int64          `json:"run"`
	State    forge.RunState `json:"state"`
	Sentence string         `json:"sentence" doc:"The whole answer in one sentence"`
	Code     forge.HoldCode `json:"code,omitempty"`
	Position int            `json:"position,omitempty"`
	Waiting  int            `json:"waiting,omitempty"`
	Evidence []string       `json:"evidence,omitempty" doc:"What the sentence rests on"`
	Start    *Start         `json:"start,omitempty" doc:"When it is expected to start; of runs that wait"`
	Terms    *forge.Terms   `json:"terms,omitempty" doc:"Where it stands in the order and by which values; of runs that wait"`
	Sooner   []string       `json:"sooner,omitempty" doc:"What would let it start sooner, each tried by a plan of its own"`
	Next     []string       `json:"next,omitempty" doc:"Commands that may help"`
}

// Start is when a run is expected to start: the queue played on by what is known of how long runs last.
type Start struct {
	At   time.Time `json:"at,omitzero" doc:"Absent: not known"`
	Low  time.Time `json:"low,omitzero" doc:"With four chances in five it starts from low to high"`
	High time.Time `json:"high,omitzero" doc:"Absent: not known, or too far away"`
	Note string    `json:"note,omitempty" doc:"Why there is no time"`
}

// LogQuery asks for a piece of one rank's output. Attempt 0 is the newest. A follower asks
// again with Attempt and Offset of the last answer's Next.
type LogQuery struct {
	Rank    int
	Attempt int
	Stream  string // stdout | stderr
	Offset  int64
	Max     int
}

// LogChunk is a piece of a log.
type LogChunk struct {
	Attempt int            `json:"attempt"`
	Rank    int            `json:"rank"`
	Stream  string         `json:"stream"`
	Data    string         `json:"data" doc:"UTF-8; other bytes are replaced"`
	Next    int64          `json:"next" doc:"Offset to ask for next"`
	End     bool           `json:"end" doc:"The attempt has ended and this is all of it"`
	Newer   int            `json:"newer,omitempty" doc:"Number of the attempt after this one, if there is one"`
	State   forge.RunState `json:"state"`
}

// MetricsQuery asks for a curve; at most Points buckets per key.
type MetricsQuery struct {
	Keys   []string
	From   int64
	To     int64
	Points int
}

// Metrics holds curves by key.
type Metrics struct {
	Step       int64                           `json:"step"`
	TotalSteps int64                           `json:"total_steps"`
	Keys       []string                        `json:"keys"`
	Curves     map[string][]forge.MetricBucket `json:"curves"`
	Last       map[string]float64              `json:"last"`
	Units      map[string]string               `json:"units,omitempty" doc:"By key, of all keys that the run's recipe names, reported or not; empty: a plain number"`
}

// The bounds of a batch of metrics; those of a point are those of a line of the metrics file.
const (
	MaxMetricPoints = 1000
	MaxMetricValues = 20_000 // of all points together: one batch is one write, and others wait for it
	MaxMetricKeys   = 256    // of one point
)

// AddMetricsRequest brings points of the curves of one attempt.
type AddMetricsRequest struct {
	Attempt    int           `json:"attempt" minimum:"1" doc:"Which attempt they are of: FORGE_ATTEMPT. Only the newest one is written to"`
	TotalSteps int64         `json:"total_steps,omitempty" minimum:"0" doc:"How many steps the run is to have; 0: as it was"`
	Points     []MetricPoint `json:"points" minItems:"1" maxItems:"1000" doc:"In any order; a step may come more than once"`
}

// MetricPoint is what one step reported.
type MetricPoint struct {
	Step   int64               `json:"step" minimum:"0" doc:"Optimizer step"`
	Time   time.Time           `json:"time,omitzero" doc:"When it was done; absent: when it came"`
	Values map[string]*float64 `json:"values" doc:"By key, at most 256. null stands for what is no number (NaN, infinite): such a value is dropped and counted"`
}

// MetricsAdded says what became of a batch. It is on the disk.
type MetricsAdded struct {
	Run     int64 `json:"run"`
	Attempt int   `json:"attempt"`
	Points  int   `json:"points" doc:"Steps that were written"`
	Values  int   `json:"values" doc:"Values that were written"`
	Dropped int   `json:"dropped" doc:"Values that were null"`
}
