package api

import forge "github.com/forge-ml/forge-ml"

// ScanDatasetRequest has a run read files on a node, under the account that its ranks have there, and register them when it completes. Of the request
// that it is made of, scanned, redaction and copy do not go with it, nor does the policy redact.
type ScanDatasetRequest struct {
	AddDatasetRequest
	Cluster   string              `json:"cluster,omitempty" doc:"Which one reads; absent: the first that runs jobs without a GPU"`
	Threads   int                 `json:"threads,omitempty" minimum:"0" maximum:"256" doc:"CPUs of the job; 0: one"`
	Priority  *int                `json:"priority,omitempty" doc:"0 to 100, higher first; default 50"`
	TimeLimit forge.Duration      `json:"time_limit,omitzero" doc:"Of one attempt: 30m, 1-12:00:00, 90"`
	Batch     *forge.BatchOptions `json:"batch,omitempty" doc:"Words for the batch system of a cluster of kind slurm"`
	DryRun    bool                `json:"dry_run,omitempty" doc:"Check and resolve, store nothing"`
}

// DatasetScansPath is where such a run is submitted.
const DatasetScansPath = "/v1/dataset-scans"
