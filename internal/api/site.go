package api

import (
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// NodeView is a node with what is free.
type NodeView struct {
	forge.Node
	FreeGPUs      int   `json:"free_gpus"`
	FreeCPUs      int   `json:"free_cpus"`
	FreeMemoryMiB int64 `json:"free_memory_mib"`
	Faults        int   `json:"faults,omitempty" doc:"Attempts of the last 30 days that ended by a fault that it may have had its part in"`
}

// NodeDetail is a node with what went wrong on it.
type NodeDetail struct {
	NodeView
	KeptOut  string         `json:"kept_out,omitempty" doc:"Why jobs leave the node out for a day, although nobody drained it: what failed there lately. Undraining it lets it take work again"`
	NVML     *NodeNVML      `json:"nvml,omitempty" doc:"The last look at its GPUs; absent: there was none yet, or nobody sees its driver"`
	Health   []GPUDetail    `json:"gpu_health" doc:"Its GPUs, one by one, with what holds them back and what was said of them"`
	Use      *NodeUse       `json:"use,omitempty"`
	Failures []NodeFailures `json:"failures" doc:"Attempts of the last 30 days that ended by a fault that the node may have had its part in, by reason, the newest first. Whose they were is not said"`
}

// NodeNVML is how the last look at a node's GPUs went.
type NodeNVML struct {
	State  forge.NVMLState `json:"state" enum:"ok,no_driver,error,hung,blind"`
	Detail string          `json:"detail,omitempty" doc:"In words, when it is not ok"`
	Driver string          `json:"driver,omitempty" doc:"Version of the NVIDIA driver"`
	At     time.Time       `json:"at" doc:"By the clock of the node"`
}

// NodeFailures counts attempts that ended for one reason.
type NodeFailures struct {
	Reason  forge.EndReason `json:"reason"`
	Count   int             `json:"count"`
	Certain int             `json:"certain" doc:"Of them, those where the node alone had the fault"`
	Runs    int             `json:"runs" doc:"Different runs"`
	LastAt  time.Time       `json:"last_at"`
}

// DrainRequest says why new work is kept away from a node.
type DrainRequest struct {
	Reason string `json:"reason" minLength:"1" maxLength:"200" doc:"One line for people"`
}

// NodeChanged is a node after an operator's word, with what else there is to know.
type NodeChanged struct {
	NodeView
	Notes []string `json:"notes,omitempty" doc:"What the cluster's batch system did with it, where it was told"`
}

// ClusterView is a cluster with what is free in it.
type ClusterView struct {
	forge.Cluster
	Nodes    int `json:"nodes"`
	FreeGPUs int `json:"free_gpus"`
	GPUs     int `json:"gpus"`
}

// WhoAmI is how the daemon sees who asks.
type WhoAmI struct {
	Tenant      forge.Tenant `json:"tenant" doc:"Where requests act"`
	Home        string       `json:"home,omitempty" doc:"Name of the user's own tenant, when it is another"`
	User        string       `json:"user"`
	Role        forge.Role   `json:"role"`
	Via         forge.Via    `json:"via" enum:"key,socket"`
	MaxPriority int          `json:"max_priority" doc:"Highest priority that it may ask for"`
	Key         *forge.Key   `json:"key,omitempty"`
}

// CheckStatus is how a check came out.
type CheckStatus string

// The outcomes, best first.
const (
	CheckOK      CheckStatus = "ok"
	CheckWarn    CheckStatus = "warn"
	CheckFail    CheckStatus = "fail"
	CheckUnknown CheckStatus = "unknown" // could not be looked at; Found says why
)

// Check is one thing that the doctor looked at.
type Check struct {
	Name   string      `json:"name" doc:"Stable name" example:"clock_skew"`
	Status CheckStatus `json:"status" enum:"ok,warn,fail,unknown"`
	Found  string      `json:"found" doc:"What was seen, with its value and limit"`
	Means  string      `json:"means,omitempty" doc:"What it means for runs"`
	Fix    string      `json:"fix,omitempty" doc:"What to do, as a command where there is one"`
}
