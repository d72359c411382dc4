// Package estimate says how much work runs have left, for the queue to be ordered by: from what they report of their progress, else from
// how runs like them ended, else from nothing but how long they ran and how long runs of their size do. It is told what
// happens, in the order of time, and keeps no clock: the same story gives the same estimates.
package estimate

import (
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Like is what makes runs resemble each other.
type Like struct {
	Tenant  forge.TenantID
	Recipe  string
	Model   string // base model
	GPUType string // "" where it is not known yet
	GPUs    int
}

// Params are the knobs of a policy that estimates depend on.
type Params struct {
	Probe time.Duration // how long a run that reports its progress works before it is believed
}
