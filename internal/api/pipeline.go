package api

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
)

// Pipelines submits chains of runs. Whose runs they are, and who may act on them, is as with Runs.
type Pipelines interface {
	// SubmitPipeline stores all runs or none. Errors are those of SubmitRun, their field with the step before it: steps.rlhf.base.
	SubmitPipeline(ctx context.Context, p forge.Principal, q PipelineRequest) (SubmittedPipeline, error)
	// Pipeline is what was submitted, with the runs that took the place of others since.
	Pipeline(ctx context.Context, p forge.Principal, id string) (SubmittedPipeline, error)
}

// PipelineRequest is a chain of runs. base, reward_model, model and after of a step may name another one as step:NAME; the order of
// the steps is of no importance.
type PipelineRequest struct {
	Name   string        `json:"name"`
	Steps  []StepRequest `json:"steps" minItems:"1" maxItems:"64"`
	DryRun bool          `json:"dry_run,omitempty" doc:"Resolve and check all steps, store nothing"`
}

// StepRequest is a run as a step. What another step takes from it is registered, as PIPELINE-STEP where it does not say otherwise.
type StepRequest struct {
	Step string           `json:"step" doc:"Name of the step"`
	Run  SubmitRunRequest `json:"run"`
}

// SubmittedPipeline is the answer, its steps in an order in which none comes before one that it waits for.
type SubmittedPipeline struct {
	ID    string          `json:"id,omitempty" doc:"Absent in a dry run"`
	Name  string          `json:"name"`
	Steps []SubmittedStep `json:"steps"`
}

// SubmittedStep is a run of it.
type SubmittedStep struct {
	Step     string    `json:"step"`
	Run      forge.Run `json:"run"`
	Warnings []string  `json:"warnings,omitempty"`
}
