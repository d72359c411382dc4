package api

import (
	"context"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Services is what the operations need, one small interface a noun. internal/daemon
// implements them on store.For(principal), so that no handler can reach another tenant.
//
// Error contract of every method: forge.Error; KindNotFound for what is absent or another
// tenant's, KindInvalid with Field for bad input, KindForbidden for a role that may not.
type Services struct {
	Auth     Auth
	Datasets Datasets
	Models   Models
	Runs     Runs
	Holds    Holds
	RunData  RunData
	Keys     Keys
	Site     Site
	Clusters Clusters
	Events   Events
}

// Auth turns a secret into a principal. KindUnauthorized for a key that is unknown or revoked,
// by the same text.
type Auth interface {
	Authenticate(ctx context.Context, secret string) (forge.Principal, error)
}

// Datasets registers and shows datasets. Paths are read on the server's host.
type Datasets interface {
	AddDataset(ctx context.Context, p forge.Principal, r AddDatasetRequest) (forge.DatasetVersion, error)
	Datasets(ctx context.Context, p forge.Principal, page Page) ([]forge.Dataset, error)
	Dataset(ctx context.Context, p forge.Principal, name string) (forge.Dataset, error)
}

// Models imports base models and registers trained ones.
type Models interface {
	ImportModel(ctx context.Context, p forge.Principal, r ImportModelRequest) (forge.ModelVersion, error)
	RegisterModel(ctx context.Context, p forge.Principal, r RegisterModelRequest) (forge.ModelVersion, error)
	Models(ctx context.Context, p forge.Principal, page Page) ([]forge.Model, error)
	Model(ctx context.Context, p forge.Principal, name string) (forge.Model, error)
}

// Runs submits runs and acts on them. A run is named by its number or its id.
type Runs interface {
	SubmitRun(ctx context.Context, p forge.Principal, r SubmitRunRequest) (Submitted, error)
	Run(ctx context.Context, p forge.Principal, run string) (RunDetail, error)
	Runs(ctx context.Context, p forge.Principal, f RunFilter) ([]forge.Run, error)
	CancelRun(ctx context.Context, p forge.Principal, run string, mode forge.CancelMode) (forge.Run, error)
	RetryRun(ctx context.Context, p forge.Principal, run string) (Submitted, error)
}

// Holds keeps waiting runs from being placed, and lets them go on.
type Holds interface {
	HoldRun(ctx context.Context, p forge.Principal, run, reason string) (forge.Run, error)
	ReleaseRun(ctx context.Context, p forge.Principal, run string) (forge.Run, error)
}

// RunData reads what a run produced and why it waits.
type RunData interface {
	Why(ctx context.Context, p forge.Principal, run string) (Why, error)
	Log(ctx context.Context, p forge.Principal, run string, q LogQuery) (LogChunk, error)
	Metrics(ctx context.Context, p forge.Principal, run string, q MetricsQuery) (Metrics, error)
	Checkpoints(ctx context.Context, p forge.Principal, run string) ([]forge.Checkpoint, error)
	Queue(ctx context.Context, p forge.Principal) (Queue, error)
}

// Keys manages the API keys of the principal's tenant.
type Keys interface {
	CreateKey(ctx context.Context, p forge.Principal, r CreateKeyRequest) (CreatedKey, error)
	Keys(ctx context.Context, p forge.Principal) ([]forge.Key, error)
	RevokeKey(ctx context.Context, p forge.Principal, id string) (forge.Key, error)
}

// Site answers about the daemon itself.
type Site interface {
	Nodes(ctx context.Context, p forge.Principal) ([]NodeView, error)
	// Ready returns why the daemon is not ready; empty means that it is.
	Ready(ctx context.Context) []string
}

// Clusters shows clusters and lets those go on that were paused. ResumeCluster is for operators:
// KindForbidden for anyone else, before it is said whether there is such a cluster.
type Clusters interface {
	Clusters(ctx context.Context, p forge.Principal) ([]ClusterView, error)
	ResumeCluster(ctx context.Context, p forge.Principal, name string) (ClusterView, error)
}

// Events is the audit trail as a stream.
type Events interface {
	// EventsAfter returns at most limit events with Seq > after, oldest first, of the principal's
	// tenant; run narrows to one run when not empty.
	EventsAfter(ctx context.Context, p forge.Principal, run string, after int64, limit int) ([]forge.Event, error)
	// Changed returns a channel that is closed at the next committed event.
	Changed() <-chan struct{}
}

// Page is a slice of a listing: at most Limit items after the cursor.
type Page struct {
	Limit int
	After string
}

// AddDatasetRequest registers a file or directory as the next version of a dataset.
type AddDatasetRequest struct {
	Name    string `json:"name" doc:"Dataset name" example:"support-chat"`
	Path    string `json:"path" doc:"Absolute path on the server's host: a .jsonl file, or a directory of them"`
	License string `json:"license,omitempty" doc:"SPDX expression" example:"Apache-2.0"`
	Parent  string `json:"parent,omitempty" doc:"NAME@VERSION that this one was made from"`
}

// ImportModelRequest registers existing weights as a base model.
type ImportModelRequest struct {
	Name    string `json:"name"`
	Path    string `json:"path" doc:"Absolute path of a model directory on the server's host"`
	License string `json:"license,omitempty" doc:"SPDX expression"`
}

// RegisterModelRequest registers the output of a completed run.
type RegisterModelRequest struct {
	Name string `json:"name"`
	Run  string `json:"run" doc:"Run number or id"`
}

// SubmitRunRequest is what `forgectl run submit` sends; a run file (-f) has the same fields.
// Zero values mean "the recipe's default".
type SubmitRunRequest struct {
	Name            string         `json:"name,omitempty" yaml:"name"`
	Recipe          string         `json:"recipe" yaml:"recipe"`
	Dataset         string         `json:"dataset,omitempty" yaml:"dataset" doc:"NAME or NAME@VERSION"`
	Base            string         `json:"base,omitempty" yaml:"base" doc:"NAME or NAME@VERSION"`
	Params          map[string]any `json:"params,omitempty" yaml:"params" doc:"Parameters of the run file, dotted or nested"`
	Set             []string       `json:"set,omitempty" yaml:"-" doc:"KEY=VALUE, over params"`
	Nodes           int            `json:"nodes,omitempty" yaml:"nodes" minimum:"0"`
	GPUsPerNode     int            `json:"gpus_per_node,omitempty" yaml:"gpus_per_node" minimum:"0"`
	GPUs            int            `json:"gpus,omitempty" yaml:"gpus" minimum:"0" doc:"Total over all nodes; refused if it does not divide by nodes"`
	CPUsPerGPU      int            `json:"cpus_per_gpu,omitempty" yaml:"cpus_per_gpu" minimum:"0"`
	MemoryMiBPerGPU int64          `json:"memory_mib_per_gpu,omitempty" yaml:"memory_mib_per_gpu" minimum:"0"`
	TimeLimit       forge.Duration `json:"time_limit,omitzero" yaml:"time_limit" doc:"Of one attempt: 30m, 1-12:00:00, 90"`
	TotalTime       forge.Duration `json:"total_time,omitzero" yaml:"total_time"`
	StartTimeout    forge.Duration `json:"start_timeout,omitzero" yaml:"start_timeout"`
	StallTimeout    forge.Duration `json:"stall_timeout,omitzero" yaml:"stall_timeout"`
	Grace           forge.Duration `json:"grace,omitzero" yaml:"grace"`
	Priority        *int           `json:"priority,omitempty" yaml:"priority" doc:"0 to 100, higher first; default 50"`
	MaxRetries      int            `json:"max_retries,omitempty" yaml:"max_retries" minimum:"0"`
	Register        string         `json:"register,omitempty" yaml:"register" doc:"Model name for the output"`
	After           []string       `json:"after,omitempty" yaml:"after" doc:"Runs that must complete first"`
	Cluster         string         `json:"cluster,omitempty" yaml:"cluster"`
	DryRun          bool           `json:"dry_run,omitempty" yaml:"-" doc:"Resolve and check, store nothing"`
}

// Submitted is the answer to a submission.
type Submitted struct {
	Run      forge.Run `json:"run"`
	Position int       `json:"position" doc:"Place in the queue, 1 is next; 0 for a dry run"`
	Waiting  int       `json:"waiting" doc:"Runs in the queue, this one included"`
	Warnings []string  `json:"warnings,omitempty"`
}

// RunDetail is a run with its attempts.
type RunDetail struct {
	forge.Run
	Attempts []forge.Attempt `json:"attempts"`
	ETA      time.Time       `json:"eta,omitzero" doc:"When the last step is expected, from the steps seen"`
}

// RunFilter narrows a listing of runs; newest first.
type RunFilter struct {
	States []forge.RunState
	User   string
	Limit  int
	Before int64 // run number; 0: from the newest
}

// Why says why a run is where it is.
type Why struct {
	Run      int64          `json:"run"`
	State    forge.RunState `json:"state"`
	Sentence string         `json:"sentence" doc:"The whole answer in one sentence"`
	Code     forge.HoldCode `json:"code,omitempty"`
	Position int            `json:"position,omitempty"`
	Waiting  int            `json:"waiting,omitempty"`
	Evidence []string       `json:"evidence,omitempty" doc:"What the sentence rests on"`
	Next     []string       `json:"next,omitempty" doc:"Commands that may help"`
}

// LogQuery asks for a piece of one rank's output. Attempt 0 is the newest. A follower asks
// again with Attempt and Offset of the last answer's Next.
type LogQuery struct {
	Rank    int
	Attempt int
	Stream  string // stdout | stderr
	Offset  int64
	Max     int
}

// LogChunk is a piece of a log.
type LogChunk struct {
	Attempt int            `json:"attempt"`
	Rank    int            `json:"rank"`
	Stream  string         `json:"stream"`
	Data    string         `json:"data" doc:"UTF-8; other bytes are replaced"`
	Next    int64          `json:"next" doc:"Offset to ask for next"`
	End     bool           `json:"end" doc:"The attempt has ended and this is all of it"`
	Newer   int            `json:"newer,omitempty" doc:"Number of the attempt after this one, if there is one"`
	State   forge.RunState `json:"state"`
}

// MetricsQuery asks for a curve; at most Points buckets per key.
type MetricsQuery struct {
	Keys   []string
	From   int64
	To     int64
	Points int
}

// Metrics holds curves by key.
type Metrics struct {
	Step       int64                           `json:"step"`
	TotalSteps int64                           `json:"total_steps"`
	Keys       []string                        `json:"keys"`
	Curves     map[string][]forge.MetricBucket `json:"curves"`
	Last       map[string]float64              `json:"last"`
}

// Queue is what waits and runs, in the order of the plan. Other tenants' load is anonymous.
type Queue struct {
	Entries []QueueEntry `json:"entries"`
	Others  OthersLoad   `json:"others"`
}

// QueueEntry is one of the tenant's runs.
type QueueEntry struct {
	Position int            `json:"position" doc:"0 for a run that has its GPUs"`
	Run      int64          `json:"run"`
	Name     string         `json:"name,omitempty"`
	User     string         `json:"user"`
	Recipe   string         `json:"recipe"`
	State    forge.RunState `json:"state"`
	Priority int            `json:"priority"`
	GPUs     int            `json:"gpus"`
	Why      string         `json:"why,omitempty"`
	Since    time.Time      `json:"since"`
}

// OthersLoad is what other tenants use, without names (invariant 8).
type OthersLoad struct {
	Waiting int `json:"waiting"`
	Running int `json:"running"`
	GPUs    int `json:"gpus"`
}

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

// CreateKeyRequest makes a key for a user of the tenant.
type CreateKeyRequest struct {
	User string     `json:"user"`
	Role forge.Role `json:"role,omitempty" enum:"member,operator"`
}

// CreatedKey carries the secret, this once.
type CreatedKey struct {
	forge.Key
	Secret string `json:"secret"`
}
