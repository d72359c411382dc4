package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/forge-ml/forge-ml/internal/rundir"
	"github.com/forge-ml/forge-ml/nvml"
)

const (
	samplerWindow = time.Minute
	samplerLimit  = 0.5 // percent of the CPU of a training step
)

// samplerOverhead is the CPU that looking at eight GPUs costs a node, by the kernel's accounting: of a shim and the process that asks the driver, less that of a shim
// beside it that does not look, over a minute at the sampling interval. It is held against one core, which is the least that the ranks of a
// gang keep busy in a training step: eight of them keep eight.
func samplerOverhead(ctx context.Context, e env) ([]figure, error) {
	b, err := newGPUBench(ctx, e)
	if err != nil {
		return nil, err
	}
	var used [2]float64
	err = func() error {
		var pids [2][]int
		for i, w := range []*rundir.GPUWatch{{SampleEvery: nvml.DefaultEvery, LibraryPath: b.gpus.Dir}, nil} {
			at, cmd, err := b.start(w, "/bin/sleep", "600")
			if err != nil {
				return err
			}
			defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }() // the ranks die with it
			pids[i] = []int{cmd.Process.Pid}
			if w != nil {
				if err := watched(ctx, at); err != nil {
					return err
				}
				children, err := rundir.Children(cmd.Process.Pid)
				if err != nil {
					return err
				}
				live, err := rundir.ReadLive(at, 0)
				if err != nil {
					return err
				}
				ranks := map[int]bool{}
				for _, r := range live.Ranks {
					ranks[r.PID] = true
				}
				for _, pid := range children {
					if !ranks[pid] {
						pids[i] = append(pids[i], pid)
					}
				}
			} else if err := awaits(ctx, "its ranks", func() bool { _, err := rundir.ReadLive(at, 0); return err == nil }); err != nil {
				return err
			}
		}
		if len(pids[0]) != 2 {
			return fmt.Errorf("processes %v: want the shim and the one that asks the driver", pids[0])
		}
		sum := func() (out [2]float64, err error) {
			for i := range pids {
				for _, pid := range pids[i] {
					s, err := onCPU(pid)
					if err != nil {
						return out, err
					}
					out[i] += s
				}
			}
			return out, nil
		}
		before, err := sum()
		if err != nil {
			return err
		}
		select {
		case <-time.After(samplerWindow):
		case <-ctx.Done():
			return ctx.Err()
		}
		after, err := sum()
		for i := range used {
			used[i] = 100 * (after[i] - before[i]) / samplerWindow.Seconds()
		}
		return err
	}()
	if err = errors.Join(err, b.close()); err != nil {
		return nil, err
	}
	fmt.Printf("  sampler_overhead: of a core, %.3f %% with and %.3f %% without; %d GPUs every %s\n", used[0], used[1], xidGPUs, nvml.DefaultEvery)
	return []figure{atMost("sampler_overhead", used[0]-used[1], "%", "one core", samplerLimit, 1)}, nil
}
