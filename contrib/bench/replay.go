package main

import (
	"context"
	"fmt"

	"github.com/forge-ml/forge-ml/scheduler/sim"
)

const (
	replayRuns    = 16_000
	replaySeed    = 16
	replayLoad    = 0.95
	replaySeconds = 10
)

// replay16k plays a trace of our own making on 64 nodes of 8 GPUs to its end, each decision by the planner that the daemon has, with the
// preset default and what a server would know of its runs.
func replay16k(ctx context.Context, e env) ([]figure, error) {
	cluster := sim.Cluster{Nodes: 64, GPUs: 8}
	jobs, err := sim.Generate(sim.GenerateOptions{Jobs: replayRuns, Seed: replaySeed, Cluster: cluster, Load: replayLoad})
	if err != nil {
		return nil, err
	}
	policy, err := sim.Policy("default")
	if err != nil {
		return nil, err
	}
	var took []float64
	for range 3 {
		r, err := sim.Replay(ctx, jobs, sim.Options{Cluster: cluster, Policy: policy, Estimates: sim.EstimatesProgress})
		if err != nil {
			return nil, err
		}
		took = append(took, r.Wall)
		if e.verbose {
			fmt.Printf("  %+v\n", r.Figures)
		}
	}
	return []figure{atMost("replay_16k", median(took), "s", "limit", replaySeconds, 1)}, nil
}
