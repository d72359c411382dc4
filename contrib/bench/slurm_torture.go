package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// slurmTorture is 300 runs under ten minutes of random kills of slurmctld, slurmd, whole nodes and forged: how many were
// lost, doubled or stuck.
func slurmTorture(ctx context.Context, e env) ([]figure, error) {
	x := forgedtest.SlurmTorture{Bin: e.bin, Runs: 300, Chaos: 10 * time.Minute, Settle: 5 * time.Minute, Seed: uint64(time.Now().UnixNano())}
	v, err := x.Run(ctx)
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	if e.verbose {
		fmt.Printf("  seed %d, %d runs, done to them: %v\n", x.Seed, v.Runs, v.Did)
	}
	bad := 0
	for what, words := range map[string][]string{"lost": v.Lost, "doubled": v.Doubled, "stuck": v.Stuck} {
		bad += len(words)
		for _, w := range words {
			fmt.Printf("  %s: %s\n", what, w)
		}
	}
	f := figure{"slurm_torture", float64(bad), "runs", "runs", float64(v.Runs), "0 lost, doubled or stuck", bad == 0}
	return []figure{f}, v.Close()
}
