package forge

import "time"

// Run is one request to execute a recipe. Spec never changes; retry makes a new run.
type Run struct {
	ID          RunID      `json:"id"`
	Tenant      TenantID   `json:"-"`
	Number      int64      `json:"number" doc:"Counts per tenant; what people type"`
	User        string     `json:"user"`
	Spec        RunSpec    `json:"spec"`
	State       RunState   `json:"state"`
	Reason      EndReason  `json:"reason,omitempty" doc:"End reason of the last ended attempt"`
	Hold        *Hold      `json:"hold,omitempty"`
	Cancel      CancelMode `json:"cancel_requested,omitempty"`
	Attempt     int        `json:"attempt" doc:"Number of the newest attempt, 0 before the first"`
	Retries     int        `json:"retries" doc:"User failures retried so far"`
	Fruitless   int        `json:"fruitless" doc:"Attempts in a row that ended without a newer verified checkpoint"`
	NotBefore   time.Time  `json:"not_before,omitzero" doc:"Back-off: not placed before this time"`
	Avoid       []NodeName `json:"avoid,omitempty" doc:"Nodes that the last infrastructure failures came from"`
	Step        int64      `json:"step" doc:"Last step seen"`
	TotalSteps  int64      `json:"total_steps"`
	SavedStep   int64      `json:"saved_step" doc:"Highest step with a durable checkpoint; 0 when none"`
	Loss        *float64   `json:"loss,omitempty"`
	Model       string     `json:"model,omitempty" doc:"NAME@VERSION once registered"`
	Parent      RunID      `json:"parent,omitempty" doc:"The run that this one retries"`
	SubmittedAt time.Time  `json:"submitted_at"`
	StartedAt   time.Time  `json:"started_at,omitzero" doc:"When the first attempt's ranks started"`
	EndedAt     time.Time  `json:"ended_at,omitzero"`
	Version     int64      `json:"-"` // grows with every change; decisions name the version that they rest on
}

// RunSpec is everything that was asked for, resolved at submit and never changed. Priority alone is what it is now: it says when a run
// goes, and nothing of what it does (docs/adr/0016).
type RunSpec struct {
	Name         string            `json:"name,omitempty"`
	Recipe       string            `json:"recipe"`
	RecipeSHA256 string            `json:"recipe_sha256"`
	RecipeWork   string            `json:"recipe_work_sha256,omitempty" doc:"Digest of what of the recipe gives its checkpoints their meaning; absent in runs of before it was noted"`
	Launch       LaunchMode        `json:"launch"`
	Entry        Entry             `json:"entry"`
	Params       map[string]any    `json:"params" doc:"Resolved parameters, dotted names"`
	Origins      map[string]string `json:"origins" doc:"Where each value came from: default, file, set"`
	Dataset      *InputRef         `json:"dataset,omitempty"`
	Base         *InputRef         `json:"base,omitempty"`
	Start        *InputRef         `json:"start,omitempty" doc:"Adapter over base that it begins from; what it learns is joined to it"`
	RewardModel  *InputRef         `json:"reward_model,omitempty" doc:"Scores what the policy writes"`
	Model        *InputRef         `json:"model,omitempty" doc:"Model version that an eval is of"`
	Suite        *SuiteRef         `json:"suite,omitempty" doc:"What an eval runs, as it was at submit"`
	Baseline     *EvalRef          `json:"baseline,omitempty" doc:"Eval of the same suite that this one is compared with when it ends"`
	Scan         *ScanAsk          `json:"scan,omitempty" doc:"Of a run that reads a dataset and registers it when it completes"`
	Pipeline     *PipelineRef      `json:"pipeline,omitempty" doc:"The chain of runs that it was submitted with"`
	Gang         Gang              `json:"gang"`
	Cluster      ClusterName       `json:"cluster,omitempty" doc:"Only this cluster; empty means any"`
	Priority     int               `json:"priority" doc:"0 to 100, higher first; the one word of a spec that may change while the run goes on: run priority"`
	TimeLimit    Duration          `json:"time_limit" doc:"Of one attempt; 0s means none"`
	TotalTime    Duration          `json:"total_time" doc:"Of the run over its attempts; 0s means none"`
	StartTimeout Duration          `json:"start_timeout" doc:"Until the first step; 0s means none"`
	StallTimeout Duration          `json:"stall_timeout" doc:"Between steps; 0s means none"`
	Grace        Duration          `json:"grace" doc:"From the checkpoint or cancel signal to KILL"`
	MaxRetries   int               `json:"max_retries" doc:"User failures retried; infrastructure failures are always retried"`
	Register     string            `json:"register,omitempty" doc:"Register the output as a version of this model"`
	After        []RunID           `json:"after,omitempty" doc:"Runs that must complete first"`
	Batch        *BatchOptions     `json:"batch,omitempty" doc:"Words for the cluster's own batch system"`
	Where        *Constraints      `json:"where,omitempty" doc:"Narrows down the nodes that will do"`
	Pinned       bool              `json:"pinned,omitempty" doc:"Must not be preempted; false unless asked for"`
	Eval         bool              `json:"eval,omitempty" doc:"By its recipe's kind; counts in the quota class of evals"`
	Runtime      *Runtime          `json:"runtime,omitempty" doc:"Recipe's and run's part of the software to start in, over the cluster's"`
	SecretsFile  string            `json:"secrets_file,omitempty" doc:"Path of a file of the job's owner with KEY=VALUE lines for the environment of ranks; its content stands nowhere"`
	ResumeFrom   *BranchPoint      `json:"resume_from,omitempty" doc:"Checkpoint of another run that it begins from while it has none of its own"`
	Source       *Source           `json:"source,omitempty" doc:"Snapshot of a working directory that the command starts in"`
}

// Weights are the inputs that other runs may make, each with what a run file calls it.
func (s *RunSpec) Weights() []NamedInput {
	return []NamedInput{{"base", s.Base}, {"start", s.Start}, {"reward_model", s.RewardModel}, {"model", s.Model}}
}

// NamedInput is an input and its field; nil where the run has none.
type NamedInput struct {
	Field string
	In    *InputRef
}

// NoGPU says that its job asks a batch system for CPUs and memory alone. Forge's own clusters place by slots: there it takes one.
func (s *RunSpec) NoGPU() bool { return s.Scan != nil }

// Whole is a parameter that is a whole number, whatever it went through.
func (s *RunSpec) Whole(param string) (n int64, ok bool) {
	switch v := s.Params[param].(type) {
	case int:
		return int64(v), true
	case int64:
		return v, true
	case float64:
		return int64(v), v == float64(int64(v))
	}
	return 0, false
}

// The bounds and defaults of a run's spec.
const (
	MinPriority         = 0
	MaxPriority         = 100
	DefaultPriority     = 50
	DefaultGrace        = 30 * time.Second
	DefaultStartTimeout = 30 * time.Minute
	DefaultStallTimeout = 30 * time.Minute
)

// LaunchMode says what the shim starts: one process per GPU, or one per node.
type LaunchMode string

// The launch modes.
const (
	LaunchRank LaunchMode = "rank"
	LaunchNode LaunchMode = "node"
)

// Entry is what runs: a module of the training package (started by the cluster's Python),
// or a command. Exactly one is set.
type Entry struct {
	Module  string   `json:"module,omitempty"`
	Command []string `json:"command,omitempty"`
}

// InputRef pins an input by id and digest; the name is for people. What another run is still to make is named by that run alone, until
// it has completed and registered it: then it is pinned as all others are, in the transaction that places the run that waits for it.
type InputRef struct {
	Name   string   `json:"name" doc:"NAME@VERSION; run:NUMBER before that run has registered it"`
	ID     string   `json:"id"`
	SHA256 string   `json:"sha256"`
	Path   string   `json:"path"`
	Run    RunID    `json:"run,omitempty" doc:"The run that makes it; it must complete first"`
	Base   *BaseRef `json:"base,omitempty" doc:"Of an adapter: the base model under it"`
}

// Pending says that its weights are still to be made, by the run that it names.
func (in *InputRef) Pending() bool { return in != nil && in.Run != "" && in.SHA256 == "" }

// AsBase is the input as what an adapter lies over.
func (in *InputRef) AsBase() *BaseRef {
	if in == nil {
		return nil
	}
	return &BaseRef{Name: in.Name, ID: in.ID, SHA256: in.SHA256, Path: in.Path}
}

// BaseRef pins the base model under an adapter.
type BaseRef struct {
	Name   string `json:"name" doc:"NAME@VERSION"`
	ID     string `json:"id"`
	SHA256 string `json:"sha256"`
	Path   string `json:"path"`
}

// SuiteRef pins the suite that an eval runs.
type SuiteRef struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256" doc:"Digest of the suite's file, its tasks and their data"`
	Path   string `json:"path,omitempty" doc:"Directory of a site's own suite, on control host and nodes alike; absent where it comes with the training package"`
}

// PipelineRef says which chain of runs a run is a step of.
type PipelineRef struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Step string `json:"step" doc:"Name of this run's step in the file"`
}

// Gang is the shape of a run: all its ranks start together or not at all.
type Gang struct {
	Nodes           int   `json:"nodes"`
	GPUsPerNode     int   `json:"gpus_per_node"`
	CPUsPerGPU      int   `json:"cpus_per_gpu"`
	MemoryMiBPerGPU int64 `json:"memory_mib_per_gpu"`
}

// GPUs is the size of the whole gang.
func (g Gang) GPUs() int { return g.Nodes * g.GPUsPerNode }

// CPUsPerNode is what one node must have free.
func (g Gang) CPUsPerNode() int { return g.GPUsPerNode * g.CPUsPerGPU }

// MemoryMiBPerNode is what one node must have free.
func (g Gang) MemoryMiBPerNode() int64 { return int64(g.GPUsPerNode) * g.MemoryMiBPerGPU }

// Hold keeps a pending run from being placed until someone or something releases it.
type Hold struct {
	By     string    `json:"by" doc:"user name, or forged"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// CancelMode is how a run was asked to stop.
type CancelMode string

// The cancel modes.
const (
	CancelNone CancelMode = ""
	CancelTerm CancelMode = "term" // TERM, grace, KILL
	CancelSave CancelMode = "save" // write a checkpoint first
	CancelNow  CancelMode = "now"  // KILL
)
