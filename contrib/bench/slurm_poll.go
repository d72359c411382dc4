package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

const (
	pollTime   = time.Minute
	pollSettle = 15 * time.Second
)

// nobody runs forged where its requests have to be told from those of Slurm's own daemons, which are root's.
var nobody = &syscall.Credential{Uid: 65534, Gid: 65534}

// slurmPoll is what it costs to watch, for a minute at the default intervals, 1,000 runs that wait in Slurm: the CPU of
// forged and of all programs that it started, and the time that slurmctld spent on forged's requests.
func slurmPoll(ctx context.Context, e env) ([]figure, error) {
	cpu, rpc, err := watching(ctx, e, 1000)
	if err != nil {
		return nil, err
	}
	return []figure{atMost("slurm_poll_cpu", cpu, "%core", "limit", 1, 1), atMost("slurm_ctld_load", rpc, "%time", "limit", 1, 1)}, nil
}

// slurmPollMany is the CPU of watching 10,000.
func slurmPollMany(ctx context.Context, e env) ([]figure, error) {
	cpu, _, err := watching(ctx, e, 10000)
	if err != nil {
		return nil, err
	}
	return []figure{atMost("slurm_poll_cpu_10k", cpu, "%core", "limit", 5, 1)}, nil
}

func watching(ctx context.Context, e env, jobs int) (cpu, rpc float64, err error) {
	h, err := openHPC(ctx, e, slurmtest.Options{Nodes: 2, GPUs: 2}, nobody, "max_pending: 20000")
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = h.close() }()
	if _, err := h.c.Run("scontrol", "update", "partitionname=main", "state=down"); err != nil { // jobs are taken, and wait
		return 0, 0, err
	}
	if err := each(ctx, jobs, clients, func(ctx context.Context, _ int) error { _, err := h.submit(ctx, shortSet...); return err }); err != nil {
		return 0, 0, err
	}
	if err := poll(ctx, time.Second, func() (bool, error) {
		out, err := h.c.Run("squeue", "-h", "-a", "-o", "%i")
		return err == nil && strings.Count(out, "\n") >= jobs, nil
	}); err != nil {
		return 0, 0, err
	}
	if err := pause(ctx, pollSettle); err != nil {
		return 0, 0, err
	}
	return h.watched(ctx, pollTime)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// watched measures, over a time, the CPU of forged with its children, and slurmctld's time for forged's user, both in
// per cent of that time.
func (h *hpc) watched(ctx context.Context, d time.Duration) (cpu, rpc float64, err error) {
	cpu0, err0 := treeTicks(h.Pid())
	rpc0, err1 := h.rpcMicros()
	began := time.Now()
	if err := errors.Join(err0, err1, pause(ctx, d)); err != nil {
		return 0, 0, err
	}
	cpu1, err0 := treeTicks(h.Pid())
	rpc1, err1 := h.rpcMicros()
	took := time.Since(began).Seconds()
	return float64(cpu1-cpu0) / clockTicks / took * 100, float64(rpc1-rpc0) / 1e6 / took * 100, errors.Join(err0, err1)
}

// treeTicks is the CPU of a process and of all its children that ended.
func treeTicks(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	var sum int64
	for _, i := range []int{11, 12, 13, 14} { // utime, stime, and those of children
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

var rpcByUser = regexp.MustCompile(`(?m)^\s+nobody\s+\(\s*\d+\) count:\d+\s+ave_time:\d+\s+total_time:(\d+)`)

// rpcMicros is what slurmctld says that it spent on the requests of forged's user.
func (h *hpc) rpcMicros() (int64, error) {
	out, err := h.c.Run("sdiag")
	if err != nil {
		return 0, err
	}
	m := rpcByUser.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("sdiag knows nothing of nobody's requests:\n%s", out)
	}
	return strconv.ParseInt(m[1], 10, 64)
}

const failovers = 5

// slurmFailover is the time from when forged knows that a node of a gang failed to when Slurm has the next attempt: the
// records of forged's own trail say both.
func slurmFailover(ctx context.Context, e env) ([]figure, error) {
	h, err := openHPC(ctx, e, slurmtest.Options{Nodes: 4, GPUs: 2}, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = h.close() }()
	var took []float64
	for range failovers {
		s, err := h.failover(ctx)
		if err != nil {
			return nil, err
		}
		took = append(took, s)
	}
	return []figure{atMost("slurm_failover_s", median(took), "s", "limit", 2, 1)}, nil
}

func (h *hpc) failover(ctx context.Context) (float64, error) {
	out, err := h.client.SubmitRun(ctx, api.SubmitRunRequest{Recipe: "probe", Nodes: 2, GPUsPerNode: 2, Set: []string{"steps=100000", "step_ms=50", "save_every=10"}})
	if err != nil {
		return 0, err
	}
	run := fmt.Sprint(out.Run.Number)
	var d api.RunDetail
	look := func(so func() bool) error {
		return poll(ctx, 50*time.Millisecond, func() (_ bool, err error) { d, err = h.client.Run(ctx, run); return so(), err })
	}
	if err := look(func() bool { return d.SavedStep > 0 && len(d.Attempts[0].Placement) == 2 }); err != nil {
		return 0, err
	}
	node := string(d.Attempts[0].Placement[1].Node)
	if _, err := h.c.Run("scontrol", "update", "nodename="+node, "state=down", "reason=bench"); err != nil {
		return 0, err
	}
	if err := look(func() bool { return len(d.Attempts) > 1 && d.Attempts[1].ExternalID != "" }); err != nil {
		return 0, err
	}
	known, handed := d.Attempts[0].ExitedAt, time.Now()
	if _, err := h.client.CancelRun(ctx, run, "now"); err != nil {
		return 0, err
	}
	if err := look(func() bool { return d.State.Terminal() }); err != nil {
		return 0, err
	}
	_, err = h.c.Run("scontrol", "update", "nodename="+node, "state=resume")
	return handed.Sub(known).Seconds(), errors.Join(err, h.idle(ctx))
}
