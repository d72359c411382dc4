package api

import (
	forge "github.com/forge-ml/forge-ml"
)

// NodeView is a node with what is free.
type NodeView struct {
	forge.Node
	FreeGPUs      int   `json:"free_gpus"`
	FreeCPUs      int   `json:"free_cpus"`
	FreeMemoryMiB int64 `json:"free_memory_mib"`
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
	Fix    string      `json:"fix,omitempty" doc:"What to do, as a command where there is one"`
}
