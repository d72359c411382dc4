package api

import (
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// SubmitRunRequest is what `forgectl run submit` sends; a run file (-f) has the same fields.
// Zero values mean "the recipe's default".
type SubmitRunRequest struct {
	Name            string              `json:"name,omitempty" yaml:"name"`
	Recipe          string              `json:"recipe" yaml:"recipe"`
	Dataset         string              `json:"dataset,omitempty" yaml:"dataset" doc:"NAME or NAME@VERSION"`
	Base            string              `json:"base,omitempty" yaml:"base" doc:"NAME or NAME@VERSION of a base model, or of a trained one to go on from; run:NUMBER for what that run registers"`
	RewardModel     string              `json:"reward_model,omitempty" yaml:"reward_model" doc:"NAME, NAME@VERSION or run:NUMBER; for recipes that take one"`
	Model           string              `json:"model,omitempty" yaml:"model" doc:"NAME, NAME@VERSION or run:NUMBER: what an eval is of"`
	Suite           string              `json:"suite,omitempty" yaml:"suite" doc:"What an eval runs: forgectl suite list"`
	Baseline        string              `json:"baseline,omitempty" yaml:"baseline" doc:"What an eval is compared with when it ends: an eval (12, i3), or NAME@VERSION for the newest whole eval of it by the same suite"`
	Force           bool                `json:"force,omitempty" yaml:"-" doc:"Submit although no GPU has the memory that it is estimated to take"`
	Params          map[string]any      `json:"params,omitempty" yaml:"params" doc:"Parameters of the run file, dotted or nested"`
	Set             []string            `json:"set,omitempty" yaml:"-" doc:"KEY=VALUE, over params"`
	Nodes           int                 `json:"nodes,omitempty" yaml:"nodes" minimum:"0"`
	GPUsPerNode     int                 `json:"gpus_per_node,omitempty" yaml:"gpus_per_node" minimum:"0"`
	GPUs            int                 `json:"gpus,omitempty" yaml:"gpus" minimum:"0" doc:"Total over all nodes; refused if it does not divide by nodes"`
	CPUsPerGPU      int                 `json:"cpus_per_gpu,omitempty" yaml:"cpus_per_gpu" minimum:"0"`
	MemoryMiBPerGPU int64               `json:"memory_mib_per_gpu,omitempty" yaml:"memory_mib_per_gpu" minimum:"0"`
	TimeLimit       forge.Duration      `json:"time_limit,omitzero" yaml:"time_limit" doc:"Of one attempt: 30m, 1-12:00:00, 90"`
	TotalTime       forge.Duration      `json:"total_time,omitzero" yaml:"total_time"`
	StartTimeout    forge.Duration      `json:"start_timeout,omitzero" yaml:"start_timeout"`
	StallTimeout    forge.Duration      `json:"stall_timeout,omitzero" yaml:"stall_timeout"`
	Grace           forge.Duration      `json:"grace,omitzero" yaml:"grace"`
	Priority        *int                `json:"priority,omitempty" yaml:"priority" doc:"0 to 100, higher first; default 50"`
	MaxRetries      int                 `json:"max_retries,omitempty" yaml:"max_retries" minimum:"0"`
	Register        string              `json:"register,omitempty" yaml:"register" doc:"Model name for the output"`
	After           []string            `json:"after,omitempty" yaml:"after" doc:"Runs that must complete first"`
	Cluster         string              `json:"cluster,omitempty" yaml:"cluster"`
	Where           *forge.Constraints  `json:"where,omitempty" yaml:"where" doc:"Narrows down the nodes that will do"`
	Preemptible     *bool               `json:"preemptible,omitempty" yaml:"preemptible" doc:"May be stopped for runs of a higher class, and go on later; true unless said otherwise"`
	Batch           *forge.BatchOptions `json:"batch,omitempty" yaml:"batch" doc:"Words for the batch system of a cluster of kind slurm"`
	Runtime         *forge.Runtime      `json:"runtime,omitempty" yaml:"runtime" doc:"Software to start in, over the recipe's and the cluster's"`
	SecretsFile     string              `json:"secrets_file,omitempty" yaml:"secrets_file" doc:"Path of a file of KEY=VALUE lines that only the job reads: 0600, and its owner's who runs the job"`
	NoCheck         bool                `json:"no_check,omitempty" yaml:"-" doc:"Do not look at rows and tokenizer first; what registration found wrong with rows is a warning"`
	ResumeFrom      string              `json:"resume_from,omitempty" yaml:"resume_from" doc:"RUN@STEP or RUN@latest: begin from that checkpoint of another run"`
	Command         []string            `json:"command,omitempty" yaml:"command" maxItems:"1024" doc:"The program and its arguments, without a shell; for recipes that need one"`
	Launch          forge.LaunchMode    `json:"launch,omitempty" yaml:"launch" enum:"rank,node" doc:"One process per GPU, or one per node; for recipes that need a command"`
	Source          *forge.Source       `json:"source,omitempty" yaml:"-" doc:"Snapshot that the command starts in: POST /v1/snapshots"`
	Scan            *forge.ScanAsk      `json:"-" yaml:"-"`       // forged's: what a run of recipe scan reads; POST /v1/dataset-scans
	Workdir         string              `json:"-" yaml:"workdir"` // forgectl's: it uploads what is there and sends the source
	DryRun          bool                `json:"dry_run,omitempty" yaml:"-" doc:"Resolve and check, store nothing"`
}

// Submitted is the answer to a submission.
type Submitted struct {
	Run      forge.Run   `json:"run"`
	Position int         `json:"position" doc:"Place in the queue by priority and time of submission alone, 1 is next; 0 for a dry run. The place in the real order is that of why and queue"`
	Waiting  int         `json:"waiting" doc:"Runs in the queue, this one included"`
	Warnings []string    `json:"warnings,omitempty"`
	Start    *Start      `json:"start,omitempty" doc:"Of a dry run: when it would be expected to start"`
	Effect   *Effect     `json:"effect,omitempty" doc:"Of a dry run: what that does to all others that wait"`
	Estimate *CostGuess  `json:"estimate,omitempty" doc:"What it may cost; absent: how long it takes is not known, its GPUs are free, or this site has no prices"`
	Batch    *JobPreview `json:"batch,omitempty" doc:"Of a dry run on a cluster of kind slurm: what its batch system would get"`
}

// CostGuess is what a run may cost, as far as can be told before it has begun.
type CostGuess struct {
	GPUHours float64  `json:"gpu_hours"`
	Cost     *float64 `json:"cost,omitempty" doc:"Absent: nobody has said what its GPUs cost, which is not the same as 0"`
	Currency string   `json:"currency,omitempty"`
	From     string   `json:"from" enum:"history,operations" doc:"As that of an estimate's duration"`
}

// JobPreview is the first attempt's job as it would be submitted. Ids that only a real run has are RUN in it.
type JobPreview struct {
	Args   []string `json:"args" doc:"Options for sbatch, an element each"`
	Script string   `json:"script" doc:"What sbatch reads from standard input"`
}

// RunDetail is a run with its attempts.
type RunDetail struct {
	forge.Run
	Attempts []forge.Attempt      `json:"attempts"`
	Cost     *forge.Cost          `json:"cost,omitempty" doc:"Of its attempts up to now; absent: none has had GPUs"`
	Currency string               `json:"currency,omitempty" doc:"Of the cost"`
	ETA      time.Time            `json:"eta,omitzero" doc:"When the last step is expected, from the steps seen"`
	Chain    []forge.PipelineStep `json:"chain,omitempty" doc:"Of a step of a pipeline: all steps, in order"`
}

// RunFilter narrows and orders a listing of runs; newest first when Sort is empty.
type RunFilter struct {
	States   []forge.RunState
	User     string
	Recipe   string
	Name     string    // names that begin with this
	Model    string    // registered as a version of this model
	Pipeline string    // step of the pipeline with this id, or of any with this name
	Batch    string    // has an attempt that the cluster's batch system knows by this id
	Since    time.Time // submitted at or after
	Until    time.Time // submitted before
	Sort     string    // number, priority, submitted_at, ended_at or loss; descending with a leading '-'
	Limit    int
	Cursor   string // next of the page before, bound to tenant, filters and order
}
