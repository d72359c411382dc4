//go:build e2e && long

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// setAside runs restore while the run directories of a site are out of its state directory, and everything that works in them stands still.
func setAside(t *testing.T, s *forgedtest.Site, restore func()) {
	t.Helper()
	procs, err := forgedtest.Survivors(s.Dir)
	must(t, err)
	for _, p := range procs {
		must(t, syscall.Kill(p.Pid, syscall.SIGSTOP))
	}
	runs, aside := filepath.Join(s.State(), "runs"), filepath.Join(s.Dir, "runs-aside")
	must(t, os.Rename(runs, aside))
	restore()
	must(t, os.Rename(aside, runs))
	for _, p := range procs {
		_ = syscall.Kill(p.Pid, syscall.SIGCONT)
	}
}

func TestARestoredDatabaseCatchesUpWithRunDirectoriesThatAreNewer(t *testing.T) {
	ctx, s := open(t)
	calm := submit(t, ctx, s, long()...)
	until(t, ctx, s, calm, "ended", ended)
	run := submit(t, ctx, s, "--gpus-per-node", "2", "--set", "steps=400", "--set", "step_ms=20", "--set", "save_every=10", "--register", "bot")
	queued := submit(t, ctx, s, long()...)
	until(t, ctx, s, run, "saved", atStep(20))
	file := filepath.Join(s.Dir, "site.tar.gz")
	_, err := forged(t, ctx, s, "backup", "--state-dir", s.State(), "--out", file)
	must(t, err)

	// After the backup: the attempt is superseded, and its successor is at work when the database is lost.
	r := show(t, ctx, s, run)
	_, ranks := live(t, s, r)
	must(t, syscall.Kill(ranks[1], syscall.SIGKILL))
	r = until(t, ctx, s, run, "in its second attempt", func(r api.RunDetail) bool {
		return r.Attempt == 2 && r.State == forge.RunRunning && r.SavedStep > 30
	})
	lost := submit(t, ctx, s, "--set", "steps=1")
	s.Kill()
	setAside(t, s, func() {
		must(t, os.RemoveAll(s.State()))
		out, err := forged(t, ctx, s, "restore", "--state-dir", s.State(), file)
		must(t, err)
		if want := "belong at " + filepath.Join(s.State(), "runs"); !strings.Contains(out, want) {
			t.Errorf("restore does not say %q:\n%s", want, out)
		}
	})

	// It is not taken for another, and nothing is placed beside it: forged names it and waits.
	soon, cancel := context.WithTimeout(ctx, 3*time.Second)
	err = s.Start(soon)
	cancel()
	if err == nil {
		t.Fatal("forged is ready although an attempt is at work that it does not know")
	}
	for _, w := range []string{"restored from a backup", "attempt 2 of run " + string(r.ID), "kill "} {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v\ndoes not say %q", err, w)
		}
	}
	shim, _ := live(t, s, r)
	must(t, syscall.Kill(shim, syscall.SIGTERM))
	must(t, s.WaitReady(ctx))

	got := until(t, ctx, s, run, "waiting", func(r api.RunDetail) bool { return r.State == forge.RunPending })
	if got.Hold == nil || got.Attempt != 2 || len(got.Attempts) != 2 || got.Attempts[1].Reason != forge.EndSuperseded || got.SavedStep < 30 {
		t.Errorf("held %+v, attempt %d of %+v, saved %d", got.Hold, got.Attempt, got.Attempts, got.SavedStep)
	}
	// Between the two attempts the queued run may have had its turn, and ended without the database of the backup.
	if q := show(t, ctx, s, queued); q.Hold == nil || q.State != forge.RunPending {
		t.Errorf("the queued run is %s, hold %+v", q.State, q.Hold)
	}
	if _, err := s.Ctl(ctx, "run", "show", lost); forgedtest.ExitCode(err) != exitNotFound {
		t.Errorf("run %s was submitted after the backup: %v", lost, err)
	}
	for _, x := range []string{run, queued} {
		_, err = s.Ctl(ctx, "run", "release", x)
		must(t, err)
	}
	end := until(t, ctx, s, run, "ended", ended)
	if end.State != forge.RunCompleted || end.Attempt != 3 || end.Attempts[2].ResumeStep < 30 || end.Model != "bot@1" {
		t.Errorf("%s as %q after %+v", end.State, end.Model, end.Attempts)
	}
	until(t, ctx, s, queued, "ended", ended)
	if a, b := lastLoss(t, ctx, s, calm), lastLoss(t, ctx, s, queued); a != b {
		t.Errorf("the queued run ended at %v, undisturbed %v", b, a)
	}
	sound(t, ctx, s, r.ID)
}
