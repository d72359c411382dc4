package api

import forge "github.com/forge-ml/forge-ml"

// Estimate is what a run would take, by the shape of its models and its parameters. What it does not know is an error that names the field.
type Estimate struct {
	Gang       forge.Gang       `json:"gang" doc:"Of the run, as it would be submitted"`
	Parameters int64            `json:"parameters" doc:"Weights of the base model"`
	Parts      []EstimatePart   `json:"parts" doc:"What one rank holds when it holds most"`
	Bytes      int64            `json:"bytes" doc:"Of all parts together, of one GPU; not all of them are at their highest at once"`
	GPUs       []EstimateFit    `json:"gpus" doc:"By each type of GPU that the run may go to"`
	Advice     []EstimateAdvice `json:"advice,omitempty" doc:"Where it fits none of them: what would"`
	Steps      int64            `json:"steps,omitempty" doc:"Optimizer steps; absent: not known"`
	Duration   forge.Duration   `json:"duration,omitzero" doc:"On the first type of GPU that holds it; absent: not known"`
	From       string           `json:"from,omitempty" enum:"history,operations" doc:"Where the duration is from: runs like it that ended, or a count of operations at an assumed share of the GPU's peak"`
	GPUHours   float64          `json:"gpu_hours,omitempty"`
	Cost       *float64         `json:"cost,omitempty" doc:"On the GPU that the duration is of, at its price; absent: nobody has said what it costs"`
	Currency   string           `json:"currency,omitempty" doc:"Of the cost; absent: the site names none"`
	Notes      []string         `json:"notes" doc:"What this rests on, and what is a guess"`
}

// EstimatePart is one part of the memory of a rank.
type EstimatePart struct {
	Name  string `json:"name" enum:"weights,adapters,gradients,optimizer,casts,activations,logits,kv_cache,reference,reward_model,value_model,gathered,allowance"`
	Bytes int64  `json:"bytes"`
	Guess bool   `json:"guess,omitempty" doc:"An allowance, or what no test has counted"`
	Late  bool   `json:"late,omitempty" doc:"It grows while activations, logits and casts are taken down: bytes of the whole counts only the larger of the two"`
	Doc   string `json:"doc"`
}

// EstimateFit is a type of GPU, and whether a rank fits it.
type EstimateFit struct {
	Type      string         `json:"type"`
	Cluster   string         `json:"cluster"`
	Count     int            `json:"count" doc:"Of this type and memory"`
	MemoryMiB int64          `json:"memory_mib,omitempty" doc:"Of one; of a CPU slot what the run asks for. Absent: not known"`
	Fits      string         `json:"fits" enum:"yes,no,barely,unknown" doc:"barely: only without the allowance"`
	Bytes     int64          `json:"bytes" doc:"What a rank holds there"`
	FreeBytes int64          `json:"free_bytes" doc:"What is left; below 0: what is missing"`
	Duration  forge.Duration `json:"duration,omitzero" doc:"By the count of operations, where the GPU's peak is known"`
}

// EstimateAdvice is a change that would make it fit the largest GPU.
type EstimateAdvice struct {
	Set   []string `json:"set" doc:"KEY=VALUE"`
	GPUs  int      `json:"gpus,omitempty" doc:"In all; absent: as many as now"`
	Bytes int64    `json:"bytes" doc:"What a rank would hold then"`
}
