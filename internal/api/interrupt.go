package api

import forge "github.com/forge-ml/forge-ml"

// InterruptRequest rehearses what a cluster does to runs.
type InterruptRequest struct {
	As forge.InterruptAs `json:"as,omitempty" enum:"preempt,timeout" doc:"preempt: as by a run ahead of it, which there is none of; timeout: as by the attempt's time limit. Default preempt"`
}

// RunSeat is where a rank of a run runs now: what a shell beside it needs.
type RunSeat struct {
	Run     int64             `json:"run"`
	Attempt int               `json:"attempt"`
	Rank    int               `json:"rank"`
	Cluster forge.ClusterName `json:"cluster"`
	Job     string            `json:"job" doc:"Id in the cluster's batch system"`
	Owner   string            `json:"owner" doc:"The system's account that the job belongs to; nobody else may enter it"`
	Node    forge.NodeName    `json:"node"`
	Env     string            `json:"env" doc:"A file, on the node, that a shell reads to have the rank's environment"`
}
