package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

const (
	overheadPairs = 8
	overheadFrom  = 20  // the step that is measured from: imports, first batches and allocations are over
	overheadTo    = 220 // and to
	overheadRest  = 10  // steps after it, so that nothing of the end is in it
	overheadBound = 15 * time.Minute
	overheadLimit = 1.03
	student95     = 2.365 // two-sided 95 % for 8 pairs
)

// overheadCPU is the user and system time that a step of lora_sft takes, in the steady state: of the rank and its shim as a forged of this machine runs them, against
// the process of the bare TRL script, in 8 interleaved pairs. The clock is read between two steps of the same process (when it has reported step 20 and step 220), so
// that nothing of the start is in it; neither side saves meanwhile. The value is the median of the pairs' ratios; the interval is for their mean.
func overheadCPU(ctx context.Context, e env) ([]figure, error) {
	ctx, cancel := context.WithTimeout(ctx, overheadBound)
	defer cancel()
	s, err := newSchool(ctx, e, forgedtest.Options{})
	if err != nil {
		return nil, err
	}
	params, err := paramsIn(bareParams)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	params["train.max_steps"], params["checkpoint.every_steps"] = overheadTo+overheadRest, 1_000_000
	var ratios, logs, ours, theirs []float64
	pair := func(n int) error {
		var bare, run, shim float64
		sides := []func() error{
			func() (err error) { bare, err = s.bareCPU(ctx, n); return err },
			func() (err error) { run, shim, err = s.runCPU(ctx, params); return err },
		}
		for i := range sides { // who is first alternates
			if err := sides[(i+n)%len(sides)](); err != nil {
				return err
			}
		}
		ours, theirs = append(ours, run), append(theirs, bare)
		ratios, logs = append(ratios, run/bare), append(logs, math.Log(run/bare))
		fmt.Fprintf(os.Stderr, "overhead_cpu: pair %d of %d: %.3f ms-cpu a step (the shim %.3f of it), bare %.3f, ratio %.4f\n", n+1, overheadPairs, run, shim, bare, run/bare)
		return nil
	}
	for n := range overheadPairs {
		if err := pair(n); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	low, high := interval(logs)
	fmt.Printf("  overhead_cpu: %d pairs, %.3f ms-cpu a step, bare %.3f; ratio 95%% interval %.4f to %.4f\n", len(ratios), median(ours), median(theirs), math.Exp(low), math.Exp(high))
	return []figure{atMost("overhead_cpu", median(ratios), "x", "bare", 1, overheadLimit)}, s.Close()
}

// interval is Student's for the mean of 8 values.
func interval(v []float64) (low, high float64) {
	n, sum, squares := float64(len(v)), 0.0, 0.0
	for _, x := range v {
		sum += x
	}
	mean := sum / n
	for _, x := range v {
		squares += (x - mean) * (x - mean)
	}
	half := student95 * math.Sqrt(squares/(n-1)/n)
	return mean - half, mean + half
}

// bareCPU runs the bare script and measures its process. It prints a line a step.
func (s *school) bareCPU(ctx context.Context, n int) (float64, error) {
	dir := filepath.Join(s.Dir, fmt.Sprint("bare-", n))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return 0, err
	}
	log := filepath.Join(dir, "stdout")
	out, err := os.Create(log)
	if err != nil {
		return 0, err
	}
	cmd := s.bare(ctx, dir, "lora_sft", overheadTo+overheadRest)
	var diagnostics bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, &diagnostics
	if err := cmd.Start(); err != nil {
		return 0, errors.Join(err, out.Close())
	}
	ended := make(chan struct{})
	go func() { err = cmd.Wait(); close(ended) }()
	ms, measured := perStep(ctx, log, "'loss'", ended, func() ([]int, error) { return []int{cmd.Process.Pid}, nil })
	<-ended
	if err = errors.Join(err, measured, out.Close()); err != nil {
		return 0, fmt.Errorf("the bare script: %w\n%s", err, &diagnostics)
	}
	return ms[0], nil
}

// runCPU does the same with a run, and measures its rank and its shim: what both take, and the shim's part.
func (s *school) runCPU(ctx context.Context, params map[string]any) (both, shim float64, err error) {
	run, err := s.train(ctx, "lora_sft", params)
	if err != nil {
		return 0, 0, err
	}
	dir := attemptDir(s.Site, run.ID, 1)
	ms, err := perStep(ctx, filepath.Join(dir, "metrics.jsonl"), `"loss"`, nil, func() ([]int, error) {
		l, err := liveIn(dir)
		if err != nil {
			return nil, err
		}
		return []int{l.Pid, l.Ranks[0].Pid}, nil
	})
	if err != nil {
		return 0, 0, err
	}
	_, err = completed(ctx, s.Site, run)
	return ms[0] + ms[1], ms[0], err
}

// perStep is the CPU time of a step, in milliseconds, of each of some processes that write a line with a word for each.
func perStep(ctx context.Context, path, word string, ended <-chan struct{}, pids func() ([]int, error)) (ms []float64, err error) {
	var at [2][]int64
	for i, steps := range []int{overheadFrom, overheadTo} {
		for n := 0; n < steps; {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-ended:
				return nil, fmt.Errorf("it ended after %d steps", n)
			case <-time.After(5 * time.Millisecond): // much less than a step
			}
			b, err := os.ReadFile(path)
			if err != nil && !os.IsNotExist(err) {
				return nil, err
			}
			n = bytes.Count(b, []byte(word))
		}
		all, err := pids()
		if err != nil {
			return nil, err
		}
		for _, pid := range all {
			ticks, err := cpuTicks(pid)
			if err != nil {
				return nil, err
			}
			at[i] = append(at[i], ticks)
		}
	}
	for i := range at[0] {
		ms = append(ms, float64(at[1][i]-at[0][i])*1000/clockTicks/(overheadTo-overheadFrom))
	}
	return ms, nil
}
