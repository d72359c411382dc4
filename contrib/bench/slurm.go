package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// sbatchers is how many sbatch run at once: what a person's `xargs -P8` would do.
const sbatchers = 8

// hpc is a forged on a real Slurm of one machine, and beside it what a person without forge would type.
type hpc struct {
	*forgedtest.Site
	c      *slurmtest.Cluster
	client *client.Client
	bin    string
	copied bool // bin is a copy of ours, to be removed
}

// openHPC starts both. Everything that is not given is as forged and the cluster have it by default.
func openHPC(ctx context.Context, e env, cluster slurmtest.Options, user *syscall.Credential, settings ...string) (*hpc, error) {
	c, err := slurmtest.Start(ctx, cluster)
	if err != nil {
		return nil, err
	}
	o := forgedtest.Options{Bin: e.bin, WithProbe: true, User: user, Extra: "limits:\n  requests_per_second: 0\n  streams_per_key: 0\n"}
	if user != nil {
		if o.Bin, err = publicBin(e.bin); err != nil {
			return nil, errors.Join(err, c.Down())
		}
	}
	if err := o.OnSlurm(forgedtest.Slurm{Cluster: c, Name: "hpc", Settings: settings}); err != nil {
		return nil, errors.Join(err, c.Down())
	}
	s, err := forgedtest.New(ctx, o)
	if err != nil {
		return nil, errors.Join(err, c.Down())
	}
	h := &hpc{Site: s, c: c, bin: o.Bin, copied: o.Bin != e.bin}
	if err := s.Start(ctx); err != nil {
		return nil, errors.Join(err, h.close())
	}
	h.client, err = client.New(client.Options{Address: s.Server(), Key: s.Key})
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

func (h *hpc) close() error {
	err := errors.Join(h.Site.Close(), h.c.Down())
	if h.copied {
		err = errors.Join(err, os.RemoveAll(h.bin))
	}
	return err
}

// publicBin copies the binaries to where any user may execute them.
func publicBin(bin string) (string, error) {
	dir, err := os.MkdirTemp("", "fbin")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	for _, name := range []string{"forged", "forgectl", "proberank"} {
		b, err := os.ReadFile(filepath.Join(bin, name))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o755); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// each calls f for 0 to n-1 from so many workers and stops at the first error.
func each(ctx context.Context, n, workers int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range next {
				if err := f(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
feed:
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

// submit asks forged for one short run.
func (h *hpc) submit(ctx context.Context, set ...string) (api.Submitted, error) {
	return h.client.SubmitRun(ctx, api.SubmitRunRequest{Recipe: "probe", Set: set})
}

// plain is the same job without forge: the options and the one step that forge's script has, and the same program, which
// writes the same line when it begins.
type plain struct {
	h   *hpc
	dir string
}

func (h *hpc) plain() (plain, error) {
	dir := filepath.Join(h.Dir, "plain")
	return plain{h, dir}, errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o777))
}

// sbatch hands one job over and returns where its rank will write.
func (p plain) sbatch(ctx context.Context, name string, params string) (starts string, err error) {
	dir := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Join(dir, "checkpoints"), 0o777); err != nil {
		return "", err
	}
	config := fmt.Sprintf(`{"run_id": %q, "attempt": 1, "params": {%s}}`, name, params)
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644), os.WriteFile(filepath.Join(dir, "fence"), []byte("1\n"), 0o644)); err != nil {
		return "", err
	}
	script := fmt.Sprintf(`#!/bin/bash
export RANK=0 WORLD_SIZE=1 FORGE_RUN_DIR=%[1]q FORGE_CONFIG=%[1]q/config.json FORGE_METRICS=%[1]q/metrics.jsonl FORGE_STATUS=%[1]q/status.json
export FORGE_FENCE_FILE=%[1]q/fence FORGE_CHECKPOINT_DIR=%[1]q/checkpoints FORGE_OUTPUT_DIR=%[1]q/output FORGE_STOP_FILE=%[1]q/stop
exec srun --ntasks-per-node=1 --nodes=1 --cpus-per-task=1 --mem=64M --kill-on-bad-exit=1 --mpi=none %[2]q
`, dir, filepath.Join(p.h.bin, "proberank"))
	cmd := exec.CommandContext(ctx, filepath.Join(p.h.c.Bin, "sbatch"), "--parsable", "--job-name=plain", "--nodes=1", "--ntasks-per-node=1", "--gres=gpu:1",
		"--cpus-per-task=1", "--mem=64M", "--output=/dev/null", "--no-requeue", "--chdir=/")
	cmd.Env, cmd.Stdin = p.h.c.Env(), strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("sbatch: %w: %s", err, out)
	}
	return filepath.Join(dir, "starts"), nil
}

// firstStart waits for the line that a rank writes when it begins. Looking costs no request.
func firstStart(ctx context.Context, path string) (time.Time, error) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if b, err := os.ReadFile(path); err == nil && strings.HasSuffix(string(b), "\n") {
			f := strings.Fields(string(b))
			ns, err := strconv.ParseInt(f[2], 10, 64)
			return time.Unix(0, ns), err
		}
		select {
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("%s: %w", path, ctx.Err())
		case <-tick.C:
		}
	}
}

// poll waits for a condition.
func poll(ctx context.Context, every time.Duration, so func() (bool, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if ok, err := so(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// idle waits until Slurm has no job.
func (h *hpc) idle(ctx context.Context) error {
	return poll(ctx, 200*time.Millisecond, func() (bool, error) {
		out, err := h.c.Run("squeue", "-h", "-a", "-o", "%i")
		return err == nil && strings.TrimSpace(out) == "", err
	})
}
