package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/api/client"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

const (
	launches  = 200
	fdatasync = 6
)

// launchP50 is the time from the call of submit to the first instruction of the rank, against
// what cannot be saved: one fork + exec of forged and six syncs of the disk. Both are measured
// in turn, 200 times.
func launchP50(ctx context.Context, e env) ([]figure, error) {
	s, err := site(ctx, e)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	c, err := client.New(client.Options{Address: s.Server(), Key: s.Key})
	if err != nil {
		return nil, err
	}
	var launch, floor []float64
	for range launches {
		ms, err := launchOnce(ctx, s, c)
		if err != nil {
			return nil, err
		}
		launch = append(launch, ms)
		if ms, err = floorOnce(ctx, e, s.Dir); err != nil {
			return nil, err
		}
		floor = append(floor, ms)
	}
	return []figure{atMost("launch_p50", median(launch), "ms", "exec+6fdatasync", median(floor), 3)}, nil
}

func launchOnce(ctx context.Context, s *forgedtest.Site, c *client.Client) (float64, error) {
	began := time.Now()
	out, err := c.SubmitRun(ctx, api.SubmitRunRequest{Recipe: "probe", Set: []string{"steps=1", "step_ms=0", "save_every=0"}})
	if err != nil {
		return 0, err
	}
	starts := filepath.Join(s.RunDir(string(out.Run.ID)), "starts")
	deadline := time.Now().Add(10 * time.Second)
	for { // looking must not cost what is measured: a stat, no request
		if st, err := os.Stat(starts); err == nil && st.Size() > 0 {
			break
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("run %d did not start", out.Run.Number)
		}
		time.Sleep(time.Millisecond)
	}
	for {
		r, err := c.Run(ctx, fmt.Sprint(out.Run.Number))
		if err != nil {
			return 0, err
		}
		if r.State == forge.RunCompleted {
			break
		}
		if r.State.Terminal() || time.Now().After(deadline) {
			return 0, fmt.Errorf("run %d is %s (%s)", r.Number, r.State, r.Reason)
		}
		time.Sleep(10 * time.Millisecond)
	}
	b, err := os.ReadFile(starts)
	if err != nil {
		return 0, err
	}
	var attempt, rank int
	var ns int64
	if _, err := fmt.Sscanf(string(b), "%d %d %d", &attempt, &rank, &ns); err != nil {
		return 0, err
	}
	return float64(time.Unix(0, ns).Sub(began).Microseconds()) / 1000, nil
}

// floorOnce starts forged, which does nothing, and syncs six small writes.
func floorOnce(ctx context.Context, e env, dir string) (float64, error) {
	f, err := os.CreateTemp(dir, "sync")
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close(); _ = os.Remove(f.Name()) }()
	began := time.Now()
	cmd := exec.CommandContext(ctx, filepath.Join(e.bin, "forged"), "shim")
	var x *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &x) { // it refuses, having started
		return 0, err
	}
	for range fdatasync {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return 0, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
	}
	return float64(time.Since(began).Microseconds()) / 1000, nil
}
