//go:build e2e

// Package e2e runs the real forged, forgectl and rank programs, as a user would, and looks at
// what comes out. `make test` builds the binaries and names their directory in FORGE_BIN.
package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
	"github.com/forge-ml/forge-ml/internal/invariant"
)

const caseTimeout = 90 * time.Second

func binDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("FORGE_BIN")
	if dir == "" {
		t.Fatal("FORGE_BIN is not set; run these tests through make test")
	}
	return dir
}

// open starts a site of its own with the probe recipe and two CPU slots.
func open(t *testing.T, change ...func(*forgedtest.Options)) (context.Context, *forgedtest.Site) {
	t.Helper()
	return openFor(t, caseTimeout, change...)
}

// openFor is open for a test that takes longer than a case may.
func openFor(t *testing.T, limit time.Duration, change ...func(*forgedtest.Options)) (context.Context, *forgedtest.Site) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	o := forgedtest.Options{Bin: binDir(t), CPUSlots: 2, WithProbe: true, Network: "none", PollEvery: 50 * time.Millisecond, Extra: "retry: {backoff_min: 50ms, backoff_max: 1s}\n"}
	for _, c := range change {
		c(&o)
	}
	s, err := forgedtest.New(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("forged's log:\n%s", s.LogTail())
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx, s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// submit submits the probe recipe and returns the run's number.
func submit(t *testing.T, ctx context.Context, s *forgedtest.Site, args ...string) string {
	t.Helper()
	var out api.Submitted
	must(t, s.CtlJSON(ctx, &out, append([]string{"run", "submit", "probe"}, args...)...))
	return fmt.Sprint(out.Run.Number)
}

func show(t *testing.T, ctx context.Context, s *forgedtest.Site, run string) api.RunDetail {
	t.Helper()
	var r api.RunDetail
	must(t, s.CtlJSON(ctx, &r, "run", "show", run))
	return r
}

// until waits for something to be so of a run; a deadline, not a number of looks, ends it.
func until(t *testing.T, ctx context.Context, s *forgedtest.Site, run, what string, ok func(api.RunDetail) bool) api.RunDetail {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		r := show(t, ctx, s, run)
		if ok(r) {
			return r
		}
		select {
		case <-ctx.Done():
			why, _ := s.Ctl(context.WithoutCancel(ctx), "run", "why", run)
			events, _ := s.Ctl(context.WithoutCancel(ctx), "run", "events", run)
			t.Fatalf("run %s never was %s: %s, attempt %d, step %d\n%s\n%s", run, what, r.State, r.Attempt, r.Step, why, events)
		case <-tick.C:
		}
	}
}

func ended(r api.RunDetail) bool { return r.State.Terminal() }

// sound ends a test: nothing of an ended run may live, and no invariant may be broken.
func sound(t *testing.T, ctx context.Context, s *forgedtest.Site, acknowledged ...forge.RunID) {
	t.Helper()
	f, err := invariant.Gather(ctx, s.State(), acknowledged)
	must(t, err)
	for _, v := range invariant.Judge(f) {
		t.Error(v)
	}
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

// refused expects a command to fail with an exit code and to say each of some words.
func refused(t *testing.T, err error, code int, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("it was accepted")
	}
	if got := forgedtest.ExitCode(err); got != code {
		t.Errorf("exit code %d, want %d: %v", got, code, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v\ndoes not say %q", err, w)
		}
	}
}
