package apitest

import (
	"context"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// EstimateRun implements api.Estimates: lora_sft on a base fits an H100; without a base it is not known, and a base named huge fits nothing.
func (f *Fake) EstimateRun(_ context.Context, _ forge.Principal, r api.SubmitRunRequest) (api.Estimate, error) {
	leave, err := f.enter("EstimateRun")
	if err != nil {
		return api.Estimate{}, err
	}
	defer leave()
	if r.Recipe != "lora_sft" || r.Base == "" {
		e := forge.Errorf(forge.KindPrecondition, "run.estimate", "%s runs a program that is not forge's own, and what it holds is not known", r.Recipe)
		e.Field = "recipe"
		return api.Estimate{}, e
	}
	cost := 12.5
	out := api.Estimate{Gang: forge.Gang{Nodes: max(1, r.Nodes), GPUsPerNode: max(1, r.GPUsPerNode, r.GPUs), CPUsPerGPU: 1, MemoryMiBPerGPU: 2048}, Parameters: 8_000_000_000,
		Parts: []api.EstimatePart{
			{Name: "weights", Bytes: 16 << 30, Doc: "the frozen base, in the number format that is computed in"},
			{Name: "activations", Bytes: 8 << 30, Doc: "what the layers keep for the backward pass"},
			{Name: "allowance", Bytes: 2 << 30, Guess: true, Doc: "CUDA itself, and what is lost between blocks: an allowance, not a count"},
		},
		Bytes: 26 << 30, Steps: 1000, Duration: forge.Duration(5 * time.Hour), From: "operations", GPUHours: 5, Cost: &cost,
		GPUs: []api.EstimateFit{
			{Type: "NVIDIA H100 80GB HBM3", Cluster: "hpc", Count: 8, MemoryMiB: 80 << 10, Fits: "yes", Bytes: 26 << 30, FreeBytes: 54 << 30, Duration: forge.Duration(5 * time.Hour)},
			{Type: "NVIDIA RTX 4090", Cluster: "hpc", Count: 2, MemoryMiB: 24 << 10, Fits: "no", Bytes: 26 << 30, FreeBytes: -2 << 30, Duration: forge.Duration(30 * time.Hour)},
		},
		Notes: []string{"rows are taken to be full, 1024 tokens; shorter ones take less"}}
	if r.Base == "huge" {
		out.Parts[0].Bytes, out.Bytes = 160<<30, 170<<30
		out.GPUs = out.GPUs[:1]
		out.GPUs[0].Fits, out.GPUs[0].Bytes, out.GPUs[0].FreeBytes = "no", out.Bytes, -90<<30
		out.Advice = []api.EstimateAdvice{{Set: []string{"peft=qlora"}, Bytes: 60 << 30}, {Set: []string{"train.parallel=fsdp"}, GPUs: 4, Bytes: 48 << 30}}
	}
	return out, nil
}
