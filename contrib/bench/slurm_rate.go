package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

const (
	rateRuns    = 500
	rateRounds  = 3
	acceptRuns  = 300
	startRounds = 30
	startSlack  = 150 // ms that forge may add
)

// throughput is what 8 nodes with 4 GPUs each, all on this machine, carry: short jobs are bound by its two cores.
var throughput = slurmtest.Options{Nodes: 8, GPUs: 4}

const shortParams = `"steps": 1, "step_ms": 0, "save_every": 0`

var shortSet = []string{"steps=1", "step_ms=0", "save_every=0"}

// slurmRate is how many short runs a second are done, from the first submission to the last end that forged knows of,
// against the same jobs without forge by eight sbatch at a time, until Slurm knows the last end. Rounds alternate.
func slurmRate(ctx context.Context, e env) ([]figure, error) {
	h, err := openHPC(ctx, e, throughput, nil, "max_pending: 10000")
	if err != nil {
		return nil, err
	}
	defer func() { _ = h.close() }()
	p, err := h.plain()
	if err != nil {
		return nil, err
	}
	var ours, theirs []float64
	for round := range rateRounds {
		began := time.Now()
		if err := each(ctx, rateRuns, sbatchers, func(ctx context.Context, i int) error {
			_, err := p.sbatch(ctx, fmt.Sprintf("rate-%d-%d", round, i), shortParams)
			return err
		}); err != nil {
			return nil, err
		}
		if err := h.idle(ctx); err != nil {
			return nil, err
		}
		theirs = append(theirs, rateRuns/time.Since(began).Seconds())
		done, err := filepath.Glob(filepath.Join(p.dir, fmt.Sprintf("rate-%d-*", round), "status.json"))
		if err != nil || len(done) != rateRuns {
			return nil, fmt.Errorf("%d of %d plain jobs ended well (%w)", len(done), rateRuns, err)
		}

		began = time.Now()
		if err := each(ctx, rateRuns, sbatchers, func(ctx context.Context, _ int) error { _, err := h.submit(ctx, shortSet...); return err }); err != nil {
			return nil, err
		}
		if err := h.completed(ctx, rateRuns*(round+1)); err != nil {
			return nil, err
		}
		ours = append(ours, rateRuns/time.Since(began).Seconds())
		if e.verbose {
			fmt.Printf("  round %d: forge %.1f runs/s, plain sbatch %.1f jobs/s\n", round+1, ours[round], theirs[round])
		}
	}
	return []figure{atLeast("slurm_rate", median(ours), "runs/s", "parallel-sbatch", median(theirs), 0.9)}, nil
}

// completed waits until forged says of so many runs that they completed, and that none ended otherwise. Until then it asks, like
// squeue, for what has not ended: to list all that ever ran, five times a second, was a good part of what was measured.
func (h *hpc) completed(ctx context.Context, n int) error {
	unfinished := slices.DeleteFunc(slices.Clone(forge.RunStates), forge.RunState.Terminal)
	if err := poll(ctx, 200*time.Millisecond, func() (bool, error) {
		for _, err := range h.client.EveryRunRow(ctx, api.RunFilter{States: unfinished}) {
			return false, err
		}
		return true, nil
	}); err != nil {
		return err
	}
	done := 0
	for r, err := range h.client.EveryRunRow(ctx, api.RunFilter{}) {
		if err != nil {
			return err
		}
		if r.State != forge.RunCompleted {
			return fmt.Errorf("run %d is %s", r.Number, r.State)
		}
		done++
	}
	if done != n {
		return fmt.Errorf("%d runs, want %d", done, n)
	}
	return nil
}

// slurmAccept is how fast a burst of submissions is accepted, durably, while forged hands them on: against sbatch, one after
// the other, as scripts have it. Both are left to work on what they were given before the next round.
func slurmAccept(ctx context.Context, e env) ([]figure, error) {
	h, err := openHPC(ctx, e, throughput, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = h.close() }()
	p, err := h.plain()
	if err != nil {
		return nil, err
	}
	var ours, theirs []float64
	for round := range rateRounds {
		began := time.Now()
		if err := each(ctx, acceptRuns, 1, func(ctx context.Context, i int) error {
			_, err := p.sbatch(ctx, fmt.Sprintf("accept-%d-%d", round, i), shortParams)
			return err
		}); err != nil {
			return nil, err
		}
		theirs = append(theirs, acceptRuns/time.Since(began).Seconds())
		if err := h.idle(ctx); err != nil {
			return nil, err
		}
		began = time.Now()
		if err := each(ctx, acceptRuns, clients, func(ctx context.Context, _ int) error { _, err := h.submit(ctx, shortSet...); return err }); err != nil {
			return nil, err
		}
		ours = append(ours, acceptRuns/time.Since(began).Seconds())
		if err := h.completed(ctx, acceptRuns*(round+1)); err != nil {
			return nil, err
		}
	}
	return []figure{atLeast("slurm_accept", median(ours), "runs/s", "sequential-sbatch", median(theirs), 20)}, nil
}

// slurmStart is the time from the call of submit to the first instruction of the rank, on an idle cluster, against that
// of sbatch. They take turns.
func slurmStart(ctx context.Context, e env) ([]figure, error) {
	h, err := openHPC(ctx, e, slurmtest.Options{}, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = h.close() }()
	p, err := h.plain()
	if err != nil {
		return nil, err
	}
	var ours, theirs []float64
	for i := range startRounds {
		began := time.Now()
		starts, err := p.sbatch(ctx, fmt.Sprintf("start-%d", i), shortParams)
		if err != nil {
			return nil, err
		}
		at, err := firstStart(ctx, starts)
		if err != nil {
			return nil, err
		}
		theirs = append(theirs, ms(at.Sub(began)))
		if err := h.idle(ctx); err != nil {
			return nil, err
		}
		began = time.Now()
		out, err := h.submit(ctx, shortSet...)
		if err != nil {
			return nil, err
		}
		if at, err = firstStart(ctx, filepath.Join(h.RunDir(string(out.Run.ID)), "starts")); err != nil {
			return nil, err
		}
		ours = append(ours, ms(at.Sub(began)))
		if err := h.idle(ctx); err != nil {
			return nil, err
		}
	}
	if e.verbose {
		fmt.Printf("  forge %.0f ms, plain sbatch %.0f ms\n", median(ours), median(theirs))
	}
	return []figure{atMost("slurm_start_ms", median(ours), "ms", fmt.Sprintf("sbatch+%dms", startSlack), median(theirs)+startSlack, 1)}, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
