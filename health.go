package forge

import "time"

// RunAct is what a rule of GPU health does to the run that has the GPU.
type RunAct string

// The acts on runs. A shim carries them out, beside the ranks: no daemon has to be alive for it.
const (
	RunGoesOn    RunAct = "go_on"
	RunFails     RunAct = "fail"      // its own fault: its end is the user's, and it is ended if it does not end by itself
	RunElsewhere RunAct = "elsewhere" // ended at once, unsaved, since what a bad GPU has computed is not to be kept, and resumed on other GPUs
)

// HoldAct is what a rule does to the hardware. forged carries them out.
type HoldAct string

// The acts on hardware, weakest first. What forged held back it lets back by itself, after a check; an operator's word is never undone.
const (
	HoldNothing HoldAct = "nothing"     // recorded
	HoldWarn    HoldAct = "warn"        // shown at the GPU
	HoldDrain   HoldAct = "drain_gpu"   // nothing new; back when the cause is gone and a check passes
	HoldGPU     HoldAct = "cordon_gpu"  // nothing new; back when it was reset and a check passes
	HoldNode    HoldAct = "cordon_node" // the same for all GPUs of the node
)

// HealthRules are the site's changes to the built-in table of GPU health and to the built-in log patterns, in the form in which they travel to
// shims. Both tables are in internal/health.
type HealthRules struct {
	Rules    []HealthRule  `json:"rules,omitempty" yaml:"rules"`
	Patterns []LogPattern  `json:"patterns,omitempty" yaml:"patterns"`
	Patience time.Duration `json:"patience_ns,omitempty" yaml:"-"` // how long a run may take to end by itself after a fault of its own; 0: a minute
	Settle   time.Duration `json:"settle_ns,omitempty" yaml:"-"`   // how long a GPU must have been well before it comes back; 0: 5 minutes
}

// HealthRule is one line of the table: XIDs, or a signal of the readings, and what follows.
type HealthRule struct {
	Name   string  `json:"name" yaml:"name" doc:"xid_79, or the name of a signal: temperature_max"`
	XIDs   []int   `json:"xids,omitempty" yaml:"xids"`
	Class  string  `json:"class,omitempty" yaml:"class" doc:"app, warn, job, gpu, link, node"`
	Run    RunAct  `json:"run,omitempty" yaml:"run"`
	Hold   HoldAct `json:"hold,omitempty" yaml:"hold"`
	Words  string  `json:"words,omitempty" yaml:"words" doc:"What it is, for people"`
	Source string  `json:"source,omitempty" yaml:"source" doc:"Who says so"`

	Above *float64      `json:"above,omitempty" yaml:"above" doc:"Of a signal: the threshold, in its own unit"`
	For   time.Duration `json:"for_ns,omitempty" yaml:"-" doc:"Of a signal: how long it must last, or the time over which it is counted"`

	Clear    *float64      `json:"clear,omitempty" yaml:"clear" doc:"Of a signal: what it must be back at before it is over; absent: not beyond the threshold"`
	ClearFor time.Duration `json:"clear_for_ns,omitempty" yaml:"-" doc:"How long it must be away before it is over; of an XID: not come again"`
}

// LogPattern is what a line of a failed rank's output says of the failure.
type LogPattern struct {
	Name   string        `json:"name" yaml:"name"`
	Match  string        `json:"match" yaml:"match" doc:"RE2 regular expression, on one line"`
	Action PatternAction `json:"action" yaml:"action"`
	Words  string        `json:"words,omitempty" yaml:"words"`
}

// PatternAction is what a matching line makes of a failure.
type PatternAction string

// The actions.
const (
	PatternExcludeNode PatternAction = "exclude_node" // goes on elsewhere; the node is avoided by this run
	PatternNoRetry     PatternAction = "no_retry"     // would fail the same way again
	PatternRetry       PatternAction = "retry"        // goes on at once
	PatternIgnore      PatternAction = "ignore"       // a built-in one, switched off
)

// PatternCUDAOOM is the name of the built-in pattern that is told as cuda_oom.
const PatternCUDAOOM = "cuda_oom"

// PatternHit is the line that explains a failure.
type PatternHit struct {
	Name   string        `json:"name"`
	Action PatternAction `json:"action"`
	Rank   int           `json:"rank"`
	Line   string        `json:"line" doc:"Cut to 300 bytes"`
}

// Finding is what a rule found, once: a condition that lasts is found when it begins and when it ends.
type Finding struct {
	At    time.Time `json:"at"`
	Rule  string    `json:"rule" doc:"Name of the rule"`
	Class string    `json:"class"`
	UUID  string    `json:"uuid,omitempty" doc:"Absent: the node as a whole"`
	XID   int       `json:"xid,omitempty"`
	Count int       `json:"count,omitempty" doc:"How often within a second, of events"`
	Run   RunAct    `json:"run"`
	Hold  HoldAct   `json:"hold"`
	Words string    `json:"words" doc:"What was seen, with numbers"`
	Over  bool      `json:"over,omitempty" doc:"The condition has ended; what it held back may be checked"`
}
