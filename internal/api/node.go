package api

import (
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// NodeAt names a node, or one of its GPUs.
type NodeAt struct {
	Cluster string // "": the name alone is clear
	Node    string
	GPU     string // UUID, or the number of a slot; "": the node as a whole
}

// NodeEventQuery narrows a node's history.
type NodeEventQuery struct {
	Since time.Time // at or after
	After int64     // only greater seqs
	Limit int
}

// GPUHealth says how well a GPU is.
type GPUHealth string

// The states of a GPU, best first.
const (
	GPUWell    GPUHealth = "well"
	GPUHeld    GPUHealth = "held"    // nothing new is placed on it, by a rule of GPU health or by an operator
	GPUSick    GPUHealth = "sick"    // nothing new is placed on it: it does not answer, or somebody else uses it
	GPUMissing GPUHealth = "missing" // the driver no longer names it; what it holds stays allocated
)

// GPUDetail is one GPU of a node with what is known against it.
type GPUDetail struct {
	Slot   int        `json:"slot"`
	UUID   string     `json:"uuid,omitempty"`
	Type   string     `json:"type"`
	Island int        `json:"island,omitempty"`
	NUMA   string     `json:"numa,omitempty"`
	Health GPUHealth  `json:"health" enum:"well,held,sick,missing"`
	Why    string     `json:"why,omitempty" doc:"In words, when it is not well"`
	Holds  []GPUHold  `json:"holds,omitempty" doc:"Who holds it back"`
	XIDs   []XIDCount `json:"xids,omitempty" doc:"What the driver said of it in the last 30 days, the most recent first"`
}

// GPUHold is what holds a GPU back, and what it waits for.
type GPUHold struct {
	forge.NodeHold
	Waits string `json:"waits_for,omitempty" doc:"What is missing until forge lets it back by itself"`
}

// XIDCount is how often a driver said one thing of a GPU.
type XIDCount struct {
	XID    int       `json:"xid"`
	Count  int       `json:"count"`
	LastAt time.Time `json:"last_at"`
	Words  string    `json:"words" doc:"What was said the last time"`
}

// NodeUse is what ran on a node in the last 30 days, and what came of it.
type NodeUse struct {
	GPUHours  float64  `json:"gpu_hours" doc:"Of attempts on its GPUs"`
	Failures  int      `json:"failures" doc:"Attempts that ended by a fault that is blamed on it"`
	MTBFHours *float64 `json:"mtbf_gpu_hours,omitempty" doc:"GPU-hours between such failures; absent: there was none"`
	Lost      float64  `json:"lost_gpu_hours" doc:"GPU-hours of those attempts, of which what was saved is not lost"`
	Goodput   *float64 `json:"goodput,omitempty" doc:"Part of the GPU-hours that were not of those attempts, 0 to 1; absent: there were none"`
}
