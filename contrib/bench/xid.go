package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
	"github.com/forge-ml/forge-ml/internal/rundir"
	"github.com/forge-ml/forge-ml/nvml"
)

const (
	xidTrials     = 20
	xidGPUs       = 8
	xidLimit      = 1000.0 // ms
	decideLimit   = 100.0  // ms
	restartTrials = 10
	restartLimit  = 2.0 // s
)

// gpuBench is attempts of eight ranks on eight GPUs of the fake driver, each with a shim of its own and no daemon.
type gpuBench struct {
	e    env
	dir  string
	gpus *forgedtest.FakeGPUs
	n    int
}

func newGPUBench(ctx context.Context, e env) (*gpuBench, error) {
	dir, err := os.MkdirTemp("", "fbench")
	if err != nil {
		return nil, err
	}
	b := &gpuBench{e: e, dir: dir}
	b.gpus, err = forgedtest.NewFakeGPUs(ctx, ".", filepath.Join(dir, "nvml"), xidGPUs)
	return b, err
}

func (b *gpuBench) close() error { return os.RemoveAll(b.dir) }

// start is one attempt, whose ranks do nothing but be there.
func (b *gpuBench) start(watch *rundir.GPUWatch, command ...string) (rundir.Attempt, *exec.Cmd, error) {
	b.n++
	run := forge.RunID(fmt.Sprintf("BENCH%d", b.n))
	l := rundir.LaunchFile{
		Launch: forge.Launch{Key: forge.AttemptKey(run, 1), Run: run, Number: int64(b.n), Attempt: 1, RunDir: filepath.Join(b.dir, string(run)),
			Spec: forge.RunSpec{Launch: forge.LaunchRank, Entry: forge.Entry{Command: command}, Grace: forge.Duration(time.Second),
				Gang: forge.Gang{Nodes: 1, GPUsPerNode: xidGPUs}}},
		Options: rundir.LaunchOptions{GPU: watch},
	}
	share := forge.Share{Node: "bench"}
	for i := range xidGPUs {
		share.Slots = append(share.Slots, i)
		l.Devices = append(l.Devices, forge.GPU{Slot: i, Kind: forge.GPUDevice, Type: "H100", UUID: b.gpus.UUID("", i)})
	}
	l.Placement = []forge.Share{share}
	at := rundir.At(l.RunDir, 1)
	if err := rundir.Prepare(l); err != nil {
		return at, nil, err
	}
	cmd := exec.Command(filepath.Join(b.e.bin, "forged"), append([]string{"shim"}, rundir.ShimFlags(at, 0)...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return at, nil, err
	}
	return at, cmd, nil
}

// watched waits until the GPUs are seen: from then on what the driver says is heard.
func watched(ctx context.Context, at rundir.Attempt) error {
	return awaits(ctx, "a look at the GPUs", func() bool {
		var l forge.GPULook
		data, err := os.ReadFile(at.GPUsPath(0))
		return err == nil && json.Unmarshal(data, &l) == nil && l.State == forge.NVMLOK
	})
}

func awaits(ctx context.Context, what string, is func() bool) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !is(); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within a minute", what)
		}
	}
	return nil
}

// xidToKill is the time from the write of the driver's event to the last word of the shim, by which every process of the gang is gone: the worst of twenty
// trials with eight ranks that do not listen to TERM. What of it is the decision ends with the first rank's death.
func xidToKill(ctx context.Context, e env) ([]figure, error) {
	b, err := newGPUBench(ctx, e)
	if err != nil {
		return nil, err
	}
	var ended, decided []float64
	for n := range xidTrials {
		at, cmd, err := b.start(&rundir.GPUWatch{LibraryPath: b.gpus.Dir}, "/bin/sh", "-c", "trap '' TERM; while :; do sleep 100; done")
		if err == nil {
			err = watched(ctx, at)
		}
		if err != nil {
			return nil, errors.Join(err, b.close())
		}
		began := time.Now()
		if err = b.gpus.XID("", n%xidGPUs, 79); err == nil {
			err = awaits(ctx, "the gang's end", func() bool { _, err := os.Lstat(at.ExitPath(0)); return err == nil })
		}
		took := time.Since(began)
		if err = errors.Join(err, cmd.Wait()); err != nil {
			return nil, errors.Join(err, b.close())
		}
		x, err := rundir.ReadExit(at, 0)
		if err != nil || x.Cause != forge.StopGPUFault {
			return nil, errors.Join(fmt.Errorf("ended by %s (%s)", x.Cause, x.Detail), err, b.close())
		}
		first := x.Ranks[0].EndedAt
		for _, r := range x.Ranks {
			if r.EndedAt.Before(first) {
				first = r.EndedAt
			}
		}
		ended = append(ended, float64(took.Microseconds())/1000)
		decided = append(decided, float64(first.Sub(began).Microseconds())/1000)
	}
	fmt.Printf("  xid_to_kill_ms: %d trials of %d ranks, median %.1f, worst %.1f; first rank dead: median %.1f, worst %.1f\n",
		xidTrials, xidGPUs, median(ended), slices.Max(ended), median(decided), slices.Max(decided))
	return []figure{
		atMost("xid_to_kill_ms", slices.Max(ended), "ms", "limit", xidLimit, 1),
		atMost("xid_decide_ms", slices.Max(decided), "ms", "limit", decideLimit, 1),
	}, b.close()
}

// childRestart is the time from the KILL of the process that asks the driver to the next good look: the worst of ten.
func childRestart(ctx context.Context, e env) ([]figure, error) {
	b, err := newGPUBench(ctx, e)
	if err != nil {
		return nil, err
	}
	var took []float64
	for range restartTrials {
		s, err := b.restart(ctx)
		if err != nil {
			return nil, errors.Join(err, b.close())
		}
		took = append(took, s)
	}
	fmt.Printf("  nvml_child_restart_s: %d trials, median %.3f\n", len(took), median(took))
	return []figure{atMost("nvml_child_restart_s", slices.Max(took), "s", "limit", restartLimit, 1)}, b.close()
}

func (b *gpuBench) restart(ctx context.Context) (float64, error) {
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	pids, looks, done := make(chan int, 8), make(chan forge.GPULook, 64), make(chan struct{})
	w := nvml.NewWatcher(nvml.WatchOptions{Self: filepath.Join(b.e.bin, "forged"), LibraryPath: b.gpus.Dir, Log: zerolog.Nop(), Child: func(pid int) { pids <- pid }})
	go func() {
		defer close(done)
		w.Run(ctx, func(n nvml.News) {
			if n.Look != nil {
				looks <- *n.Look
			}
		})
	}()
	defer func() { stop(); <-done }()
	good := func() error {
		for {
			select {
			case l := <-looks:
				if l.State == forge.NVMLOK && len(l.GPUs) == xidGPUs {
					return nil
				}
			case <-ctx.Done():
				return errors.New("no good look within a minute")
			}
		}
	}
	if err := good(); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := syscall.Kill(<-pids, syscall.SIGKILL); err != nil {
		return 0, err
	}
	err := good()
	return time.Since(began).Seconds(), err
}

// onCPU is how long the threads of a process have run, in seconds.
func onCPU(pid int) (float64, error) {
	paths, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task/*/schedstat"))
	if len(paths) == 0 {
		return 0, fmt.Errorf("process %d has no schedstat", pid)
	}
	sum := 0.0
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			continue // a thread that ended meanwhile
		}
		var ns float64
		if _, err := fmt.Sscan(string(data), &ns); err != nil {
			return 0, err
		}
		sum += ns / 1e9
	}
	return sum, nil
}
