package scheduler

import (
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Policy is all that a site may choose about its queue, as values: every preset runs through the same code. The zero value is strict
// order of arrival: nothing overtakes, nothing is stopped.
type Policy struct {
	Preset string `json:"preset" yaml:"preset"` // the one that it was made from; decides nothing
	// Order is what runs of one class are ordered by.
	Order OrderBy `json:"order" yaml:"order"`
	// FairShare puts tenants that had more than their share of GPU time behind those that had less.
	FairShare bool `json:"fair_share" yaml:"fair_share"`
	// HalfLife is how fast GPU time that was used counts less.
	HalfLife time.Duration `json:"half_life" yaml:"half_life"`
	// MaxBackfillTries bounds how many different shapes of runs are tried behind a run that
	// waits; 0 means none. Equal shapes count once, so that a deep queue is still looked at whole.
	MaxBackfillTries int `json:"max_backfill_tries" yaml:"max_backfill_tries"`
	// BackfillMargin is how long before a reservation a backfilled run's time limit must end: a
	// run outlives its limit by its grace and by the time until its release is proven.
	BackfillMargin time.Duration `json:"backfill_margin" yaml:"backfill_margin"`
	// PreemptInOrder lets a waiting run have runs stopped that come after it in the order, also those of its own class.
	PreemptInOrder bool `json:"preempt_in_order" yaml:"preempt_in_order"`
	// PreemptGap is, without PreemptInOrder, by how much a waiting run's priority must exceed that of a run that is stopped
	// for it; 0 means that nothing is ever preempted but what a tenant borrowed of another's quota.
	PreemptGap int `json:"preempt_gap" yaml:"preempt_gap"`
	// RestartCost is what stopping a run costs on each of its GPUs beside the work since its last
	// checkpoint: the time to save, to start again and to load.
	RestartCost time.Duration `json:"restart_cost" yaml:"restart_cost"`
	// A run that was preempted n times is spared until min(SpareMost, Spare × (1 + SpareGrowth × n)) after the last time.
	Spare       time.Duration `json:"spare" yaml:"spare"`
	SpareGrowth float64       `json:"spare_growth" yaml:"spare_growth"`
	SpareMost   time.Duration `json:"spare_most" yaml:"spare_most"`
	// Runs that have waited for AgeAfter go first, longest wait first, until they hold AgeShare of the GPUs or more. 0: no such lane.
	AgeAfter time.Duration `json:"age_after" yaml:"age_after"`
	AgeShare float64       `json:"age_share" yaml:"age_share"`
	// SmallPrefix is the part of the waiting work that may go, shortest first, before critical runs.
	SmallPrefix float64 `json:"small_prefix" yaml:"small_prefix"`
	// A run is critical that has left at least Guard × (W + Mirror × A/G): W is what the whole cluster needs for all that is there, A the
	// service of what came in as long a time as the run has left, G all GPUs. 0: none is.
	Guard  float64 `json:"guard" yaml:"guard"`
	Mirror float64 `json:"mirror" yaml:"mirror"`
	// CriticalBonus multiplies what is left of a critical run that runs, and the wait of one in the ageing lane: equals do not take turns.
	CriticalBonus float64 `json:"critical_bonus" yaml:"critical_bonus"`
	// KnownFactor and BlindFactor multiply the rank of what runs, where what is left is known and where it is not.
	KnownFactor float64 `json:"known_factor" yaml:"known_factor"`
	BlindFactor float64 `json:"blind_factor" yaml:"blind_factor"`
	// ReplanEvery bounds how long no plan is made: a run may become critical while nothing happens. 0: only events.
	ReplanEvery time.Duration `json:"replan_every" yaml:"replan_every"`
	// Probe is how long a run that reports its progress works before it is believed.
	Probe time.Duration `json:"probe" yaml:"probe"`
	// Spread names labels of nodes, nearest first: a gang goes to as few values of each as it can.
	Spread string `json:"spread" yaml:"spread"`
}

// OrderBy is what runs of one class are ordered by.
type OrderBy string

// The orders.
const (
	OrderArrival  OrderBy = "arrival"  // who came first
	OrderService  OrderBy = "service"  // least expected remaining GPU time first
	OrderAttained OrderBy = "attained" // least GPU time had so far first, in levels that double
)

// The defaults and bounds of a policy.
const (
	DefaultMaxBackfillTries = 5000
	DefaultBackfillMargin   = time.Minute
	MaxBackfillTriesLimit   = 1_000_000
	MaxBackfillMargin       = 24 * time.Hour
	DefaultPreemptGap       = 20
	DefaultRestartCost      = 30 * time.Second
	MaxRestartCost          = 24 * time.Hour
	DefaultPreset           = "default"
)

// presets are the policies by name. All numbers of default are in the middle of the plateau on which its promises hold (docs/queue.md).
var presets = map[string]Policy{
	"fifo": {},
	"fair": {FairShare: true, HalfLife: 7 * 24 * time.Hour, MaxBackfillTries: DefaultMaxBackfillTries, BackfillMargin: DefaultBackfillMargin,
		PreemptGap: DefaultPreemptGap, RestartCost: DefaultRestartCost, Spare: 10 * time.Minute, SpareGrowth: 0.1, SpareMost: 4 * time.Hour, Spread: "switch,rack"},
	"default": {Order: OrderService, FairShare: true, HalfLife: 7 * 24 * time.Hour, MaxBackfillTries: DefaultMaxBackfillTries, BackfillMargin: DefaultBackfillMargin,
		PreemptInOrder: true, RestartCost: DefaultRestartCost, Spare: 10 * time.Minute, SpareGrowth: 0.1, SpareMost: 4 * time.Hour,
		AgeAfter: 21 * 24 * time.Hour, AgeShare: 0.1, SmallPrefix: 0.1, Guard: 0.55, Mirror: 2.1, CriticalBonus: 1.2, KnownFactor: 0.9, BlindFactor: 0.7,
		ReplanEvery: time.Hour, Probe: 2 * time.Minute, Spread: "switch,rack"},
	"srsf": {Order: OrderService, MaxBackfillTries: MaxBackfillTriesLimit, PreemptInOrder: true, KnownFactor: 1, BlindFactor: 1, CriticalBonus: 1},
	"las":  {Order: OrderAttained, MaxBackfillTries: MaxBackfillTriesLimit, PreemptInOrder: true, KnownFactor: 1, BlindFactor: 1, CriticalBonus: 1},
}

// Presets lists the names of the policies that ship.
func Presets() []string {
	var names []string
	for n := range presets {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Preset is a policy by name.
func Preset(name string) (Policy, error) {
	p, ok := presets[name]
	if !ok {
		return Policy{}, forge.Invalidf("preset", "%q is not a policy; want %s", name, strings.Join(Presets(), ", "))
	}
	p.Preset = name
	if p.Order == "" {
		p.Order = OrderArrival
	}
	return p, nil
}

// DefaultPolicy is what a site gets that chooses nothing.
func DefaultPolicy() Policy {
	p, _ := Preset(DefaultPreset)
	return p
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
	switch p.Order {
	case "", OrderArrival, OrderService, OrderAttained:
	default:
		return forge.Invalidf("order", "%q is not an order; want %s, %s or %s", p.Order, OrderArrival, OrderService, OrderAttained)
	}
	for _, f := range []struct {
		field     string
		v, lo, hi float64
	}{
		{"guard", p.Guard, 0, 10}, {"mirror", p.Mirror, 0, 100}, {"small_prefix", p.SmallPrefix, 0, 1}, {"age_share", p.AgeShare, 0, 1},
		{"critical_bonus", p.CriticalBonus, 0, 10}, {"known_factor", p.KnownFactor, 0, 1}, {"blind_factor", p.BlindFactor, 0, 1}, {"spare_growth", p.SpareGrowth, 0, 100},
	} {
		if !(f.v >= f.lo && f.v <= f.hi) {
			return forge.Invalidf(f.field, "%v is out of range; want %v to %v", f.v, f.lo, f.hi)
		}
	}
	for _, d := range []struct {
		field string
		v     time.Duration
	}{{"half_life", p.HalfLife}, {"spare", p.Spare}, {"spare_most", p.SpareMost}, {"age_after", p.AgeAfter}, {"replan_every", p.ReplanEvery}, {"probe", p.Probe}} {
		if d.v < 0 || d.v > 10*365*24*time.Hour {
			return forge.Invalidf(d.field, "%s is out of range; want 0s to 10 years", d.v)
		}
	}
	return nil
}
