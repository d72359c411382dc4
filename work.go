package forge

import (
	"slices"
	"strings"
	"time"
)

// GPUTime is an amount of service: one millisecond on one GPU is 1. It is whole, so that sums do not depend on their order.
type GPUTime int64

// GPUTimeOf is the service of some GPUs over a time.
func GPUTimeOf(d time.Duration, gpus int) GPUTime { return GPUTime(d.Milliseconds() * int64(gpus)) }

// Work is what is known of how much a run has done and how much it has left: what its place in the queue rests on.
// An estimator makes it (package scheduler/estimate); a plan only reads it.
type Work struct {
	Ran    time.Duration // with its GPUs, in the attempts that ended
	Left   time.Duration // expected time still to run, as of AsOf while it runs; when it is started again, else
	AsOf   time.Time     // zero for one that waits
	Known  bool          // Left was observed: it counts down exactly, and nothing else is believed
	Rank   GPUTime       // where Left is not known: the service to expect per completion. Changes only when the estimator says so
	Source WorkSource
}

// WorkSource says where an estimate comes from, in order of trust.
type WorkSource string

// The sources.
const (
	WorkProgress WorkSource = "progress" // steps left times the time of a step
	WorkProbe    WorkSource = "probe"    // it will say how far it is once it has worked for a little
	WorkHistory  WorkSource = "history"  // how runs like it ended
	WorkIndex    WorkSource = "index"    // nothing but how long it ran, and how long runs of its size do
)

// Arrival is one run that came, and all of its service where that is known: known ones alone are listed. Those that ended are among them.
type Arrival struct {
	Run     RunID
	At      time.Time
	Service GPUTime
	GPUs    int
}

// Constraints narrow down where a gang may go. The zero value means anywhere.
type Constraints struct {
	GPUTypes     []string          `json:"gpu_types,omitempty" yaml:"gpu_types" doc:"One of these types; empty: any. A submission may name them as people do (h100); the run has their whole names"`
	GPUMemoryMiB int64             `json:"gpu_memory_mib,omitempty" yaml:"gpu_memory_mib" minimum:"0" doc:"Of each GPU at least; 0: any"`
	Labels       map[string]string `json:"labels,omitempty" yaml:"labels" doc:"Of every node"`
	Exclude      []NodeName        `json:"exclude,omitempty" yaml:"exclude" doc:"Not on these nodes. A submission may write several as Slurm does: gpu-[1-3,7]"`
	Within       string            `json:"within,omitempty" yaml:"within" doc:"A label that all nodes of the gang have one value of: rack"`
}

// Empty says that nothing is asked for.
func (c *Constraints) Empty() bool {
	return c == nil || len(c.GPUTypes) == 0 && c.GPUMemoryMiB == 0 && len(c.Labels) == 0 && len(c.Exclude) == 0 && c.Within == ""
}

// Key is equal for constraints that mean the same.
func (c *Constraints) Key() string {
	if c.Empty() {
		return ""
	}
	var b strings.Builder
	for _, t := range slices.Sorted(slices.Values(c.GPUTypes)) {
		b.WriteString("t" + t + "\n")
	}
	if c.GPUMemoryMiB > 0 {
		b.WriteString("m" + FormatMiB(c.GPUMemoryMiB) + "\n")
	}
	keys := make([]string, 0, len(c.Labels))
	for k := range c.Labels {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		b.WriteString("l" + k + "\t" + c.Labels[k] + "\n")
	}
	for _, n := range slices.Sorted(slices.Values(c.Exclude)) {
		b.WriteString("x" + string(n) + "\n")
	}
	if c.Within != "" {
		b.WriteString("w" + c.Within + "\n")
	}
	return b.String()
}

// Quota bounds what a tenant or a user has at once. Zero values bound nothing and guarantee nothing.
type Quota struct {
	GPUs       int `json:"gpus,omitempty" doc:"Guaranteed: idle ones are lent to others and taken back by preemption. Of tenants only"`
	MaxGPUs    int `json:"max_gpus,omitempty" doc:"Never more at once; 0: no bound"`
	MaxRunning int `json:"max_running,omitempty" doc:"Runs at once; 0: no bound"`
	MaxQueued  int `json:"max_queued,omitempty" doc:"Runs that wait; more are refused at submit; 0: no bound"`
	EvalGPUs   int `json:"eval_gpus,omitempty" doc:"For evals at once, which count in no other bound; 0: no bound. Of tenants only"`
}

// TenantShare is what a tenant is entitled to and what it had lately.
type TenantShare struct {
	Tenant TenantID
	Weight float64 // of the site's GPUs; 1 is usual
	Used   GPUTime // decayed with the policy's half-life, what runs now included
	Quota  Quota
	Spent  string      // why nothing of it is placed: its budget is spent; empty: it is not
	Users  []UserQuota // those that have one, by name
}

// UserQuota bounds one user of a tenant.
type UserQuota struct {
	User  string
	Quota Quota
}
