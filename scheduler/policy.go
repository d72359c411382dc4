package scheduler

import (
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Policy is what a site may choose. The zero value is strict order: nothing overtakes, nothing is stopped.
type Policy struct {
	// MaxBackfillTries bounds how many different shapes of runs are tried behind a run that
	// waits; 0 means none. Equal shapes count once, so that a deep queue is still looked at whole.
	MaxBackfillTries int `json:"max_backfill_tries" yaml:"max_backfill_tries"`
	// BackfillMargin is how long before a reservation a backfilled run's time limit must end: a
	// run outlives its limit by its grace and by the time until its release is proven.
	BackfillMargin time.Duration `json:"backfill_margin" yaml:"backfill_margin"`
	// PreemptGap is by how much a waiting run's priority must exceed that of a run that is stopped
	// for it; 0 means that nothing is ever preempted.
	PreemptGap int `json:"preempt_gap" yaml:"preempt_gap"`
	// RestartCost is what stopping a run costs on each of its GPUs beside the work since its last
	// checkpoint: the time to save, to start again and to load.
	RestartCost time.Duration `json:"restart_cost" yaml:"restart_cost"`
}

// The defaults and bounds of a policy.
const (
	DefaultMaxBackfillTries = 5000
	DefaultBackfillMargin   = time.Minute
	MaxBackfillTriesLimit   = 1_000_000
	MaxBackfillMargin       = 24 * time.Hour
	DefaultPreemptGap       = 20
	DefaultRestartCost      = 30 * time.Second
	MaxRestartCost          = 24 * time.Hour
)

// DefaultPolicy is what a site gets that chooses nothing.
func DefaultPolicy() Policy {
	return Policy{MaxBackfillTries: DefaultMaxBackfillTries, BackfillMargin: DefaultBackfillMargin, PreemptGap: DefaultPreemptGap, RestartCost: DefaultRestartCost}
}

// Validate refuses values without a meaning.
func (p Policy) Validate() error {
	if p.MaxBackfillTries < 0 || p.MaxBackfillTries > MaxBackfillTriesLimit {
		return forge.Invalidf("max_backfill_tries", "%d is out of range; want 0 (strict order) to %d", p.MaxBackfillTries, MaxBackfillTriesLimit)
	}
	if p.BackfillMargin < 0 || p.BackfillMargin > MaxBackfillMargin {
		return forge.Invalidf("backfill_margin", "%s is out of range; want 0s to %s", p.BackfillMargin, MaxBackfillMargin)
	}
	if p.PreemptGap < 0 || p.PreemptGap > forge.MaxPriority {
		return forge.Invalidf("preempt_gap", "%d is out of range; want 0 (never preempt) to %d", p.PreemptGap, forge.MaxPriority)
	}
	if p.RestartCost < 0 || p.RestartCost > MaxRestartCost {
		return forge.Invalidf("restart_cost", "%s is out of range; want 0s to %s", p.RestartCost, MaxRestartCost)
	}
	return nil
}
