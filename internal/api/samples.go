package api

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
)

// Samples shows what the policy of a run wrote while it learned.
type Samples interface {
	// Samples are oldest first. KindPrecondition for a run that keeps none.
	Samples(ctx context.Context, p forge.Principal, run string, q SamplesQuery) (RunSamples, error)
}

// MaxSamples is the most that one answer has.
const MaxSamples = 200

// SamplesQuery asks for the newest Last samples, or for those of one step.
type SamplesQuery struct {
	Step int64 // below 0: any
	Last int
}

// RunSamples is what a policy wrote, in the order in which it did. Where attempts went over the same step, the newest counts.
type RunSamples struct {
	Run   int64          `json:"run"`
	State forge.RunState `json:"state"`
	Items []Sample       `json:"items"`
	More  bool           `json:"more" doc:"There are others, before these"`
	Bad   int            `json:"bad,omitempty" doc:"Lines among those read that are none of a sample"`
}

// Sample is one completion and how it was scored.
type Sample struct {
	Step       int64              `json:"step"`
	Attempt    int                `json:"attempt"`
	Prompt     string             `json:"prompt" doc:"Text, or the messages as JSON"`
	Completion string             `json:"completion"`
	Reward     *float64           `json:"reward,omitempty" doc:"What it was scored with, all in all"`
	Rewards    map[string]float64 `json:"rewards,omitempty" doc:"By reward function or model"`
	Tokens     int                `json:"tokens,omitempty" doc:"Of the completion"`
}
