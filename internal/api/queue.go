package api

import (
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Queue is what waits and runs, in the order of the plan. Other tenants' load is anonymous.
type Queue struct {
	Entries []QueueEntry `json:"entries"`
	More    int          `json:"more,omitempty" doc:"Entries after these"`
	Others  OthersLoad   `json:"others"`
}

// QueueEntry is one of the tenant's runs.
type QueueEntry struct {
	Position int            `json:"position" doc:"0 for a run that has its GPUs, or waits in the queue of its cluster's own batch system"`
	Run      int64          `json:"run"`
	Name     string         `json:"name,omitempty"`
	User     string         `json:"user"`
	Recipe   string         `json:"recipe"`
	State    forge.RunState `json:"state"`
	Priority int            `json:"priority"`
	GPUs     int            `json:"gpus"`
	Why      string         `json:"why,omitempty"`
	Since    time.Time      `json:"since"`
	Start    *Start         `json:"start,omitempty" doc:"When it is expected to start; of runs that wait"`
}

// OthersLoad is what other tenants use, without names (invariant 8).
type OthersLoad struct {
	Waiting int `json:"waiting"`
	Running int `json:"running"`
	GPUs    int `json:"gpus"`
}
