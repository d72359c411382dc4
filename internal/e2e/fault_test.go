//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
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

// long is a probe run of two ranks that takes some seconds and saves often.
func long(extra ...string) []string {
	return append([]string{"--gpus-per-node", "2", "--set", "steps=100", "--set", "step_ms=20", "--set", "save_every=10"}, extra...)
}

// live reads the pids that the shim of an attempt recorded.
func live(t *testing.T, s *forgedtest.Site, r api.RunDetail) (shim int, ranks map[int]int) {
	t.Helper()
	var l struct {
		Pid   int
		Ranks []struct{ Rank, Pid int }
	}
	must(t, json.Unmarshal([]byte(read(t, filepath.Join(s.RunDir(string(r.ID)), "attempts", fmt.Sprintf("%04d", r.Attempt), "nodes", "0000", "live.json"))), &l))
	ranks = map[int]int{}
	for _, x := range l.Ranks {
		ranks[x.Rank] = x.Pid
	}
	return l.Pid, ranks
}

func atStep(n int64) func(api.RunDetail) bool {
	return func(r api.RunDetail) bool { return r.State == forge.RunRunning && r.Step >= n && r.SavedStep > 0 }
}

func lastLoss(t *testing.T, ctx context.Context, s *forgedtest.Site, run string) float64 {
	t.Helper()
	r := show(t, ctx, s, run)
	if r.State != forge.RunCompleted || r.Loss == nil {
		t.Fatalf("run %s is %s (%s)", run, r.State, r.Reason)
	}
	return *r.Loss
}

func TestAKilledRankEndsTheGangAndTheRunResumesFromItsLastVerifiedCheckpoint(t *testing.T) {
	ctx, s := open(t)
	calm := submit(t, ctx, s, long()...)
	until(t, ctx, s, calm, "ended", ended)
	run := submit(t, ctx, s, long()...)
	_, ranks := live(t, s, until(t, ctx, s, run, "half-way", atStep(45)))
	must(t, syscall.Kill(ranks[1], syscall.SIGKILL))
	r := until(t, ctx, s, run, "ended", ended)
	if len(r.Attempts) != 2 || r.Attempts[0].Reason != forge.EndKilledExternally || r.Attempts[1].ResumeStep < 40 {
		t.Errorf("attempts: %+v", r.Attempts)
	}
	if a, b := lastLoss(t, ctx, s, calm), lastLoss(t, ctx, s, run); a != b {
		t.Errorf("disturbed %v, undisturbed %v", b, a)
	}
	sound(t, ctx, s, r.ID)
}

func TestAKilledShimIsFoundLostAndNothingOfItLives(t *testing.T) {
	ctx, s := open(t)
	run := submit(t, ctx, s, long()...)
	shim, _ := live(t, s, until(t, ctx, s, run, "half-way", atStep(25)))
	must(t, syscall.Kill(shim, syscall.SIGKILL))
	r := until(t, ctx, s, run, "ended", ended)
	if r.State != forge.RunCompleted || r.Attempts[0].Reason != forge.EndExecutorLost {
		t.Errorf("%s: %+v", r.State, r.Attempts)
	}
	sound(t, ctx, s, r.ID)
}

func TestAKilledDaemonAdoptsWhatRuns(t *testing.T) {
	ctx, s := open(t)
	run := submit(t, ctx, s, long("--register", "bot")...)
	until(t, ctx, s, run, "running", atStep(15))
	s.Kill()
	must(t, s.Start(ctx))
	r := until(t, ctx, s, run, "ended", ended)
	if r.State != forge.RunCompleted || len(r.Attempts) != 1 || r.Model != "bot@1" {
		t.Errorf("%s, model %q, attempts %+v", r.State, r.Model, r.Attempts)
	}
	sound(t, ctx, s, r.ID)
}

func TestAStoppedDaemonLeavesJobsRunningAndLearnsTheirExit(t *testing.T) {
	ctx, s := open(t)
	run := submit(t, ctx, s, long("--set", "fail_at=60", "--set", "fail_code=41")...)
	r := until(t, ctx, s, run, "running", atStep(15))
	must(t, s.Stop(ctx))
	_, ranks := live(t, s, r)
	for rank, pid := range ranks {
		awaitGone(t, ctx, rank, pid)
	}
	must(t, s.Start(ctx))
	r = until(t, ctx, s, run, "ended", ended)
	if r.State != forge.RunFailed || r.Reason != forge.EndUserExit || !strings.Contains(r.Attempts[0].Detail, "41") {
		t.Errorf("%s %s: %+v", r.State, r.Reason, r.Attempts)
	}
	sound(t, ctx, s, r.ID)
}

func awaitGone(t *testing.T, ctx context.Context, rank, pid int) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	// A zombie is dead, though its pid is still taken until somebody reaps it: it has no command line.
	for cmd, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && len(cmd) > 0; cmd, err = os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) {
		select {
		case <-ctx.Done():
			t.Fatalf("rank %d (pid %d) never ended", rank, pid)
		case <-tick.C:
		}
	}
}

func TestBrokenCheckpointsAreSkippedForTheOneBefore(t *testing.T) {
	for name, breakIt := range map[string]func(t *testing.T, dir string){
		"truncated":    func(t *testing.T, dir string) { must(t, os.Truncate(filepath.Join(dir, "state.bin"), 7)) },
		"file missing": func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "state.bin"))) },
		"manifest of another attempt": func(t *testing.T, dir string) {
			m := filepath.Join(dir, "forge_manifest.json")
			write(t, m, strings.Replace(read(t, m), `"attempt":1`, `"attempt":9`, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, s := open(t)
			run := submit(t, ctx, s, long()...)
			r := until(t, ctx, s, run, "half-way", func(r api.RunDetail) bool { return r.SavedStep >= 40 })
			shim, _ := live(t, s, r)
			must(t, s.Stop(ctx)) // so that nothing is resumed before the damage is done
			must(t, syscall.Kill(shim, syscall.SIGKILL))
			awaitGone(t, ctx, -1, shim)
			dirs, err := filepath.Glob(filepath.Join(s.RunDir(string(r.ID)), "attempts", "0001", "checkpoints", "checkpoint-*"))
			must(t, err)
			newest, step := "", 0
			for _, d := range dirs {
				var n int
				_, err := fmt.Sscanf(filepath.Base(d), "checkpoint-%d", &n)
				must(t, err)
				if _, err := os.Stat(filepath.Join(d, "forge_manifest.json")); err == nil && n > step {
					newest, step = d, n
				}
			}
			breakIt(t, newest)
			must(t, s.Start(ctx))
			r = until(t, ctx, s, run, "ended", ended)
			if r.State != forge.RunCompleted || r.Attempts[1].ResumeStep != int64(step-10) {
				t.Errorf("%s; resumed at %d after checkpoint-%d broke", r.State, r.Attempts[1].ResumeStep, step)
			}
			events, err := s.Ctl(ctx, "run", "events", run)
			must(t, err)
			if !strings.Contains(events, "run.checkpoint_skipped") || !strings.Contains(events, filepath.Base(newest)) {
				t.Errorf("no event names the broken checkpoint:\n%s", events)
			}
			sound(t, ctx, s, r.ID)
		})
	}
}

func TestARunAfterOneThatFailsIsHeldAndSaysWhy(t *testing.T) {
	ctx, s := open(t)
	first := submit(t, ctx, s, "--set", "steps=3", "--set", "fail_at=2")
	child := submit(t, ctx, s, "--after", first)
	until(t, ctx, s, first, "ended", ended)
	out, err := s.Ctl(ctx, "run", "why", child)
	must(t, err)
	if r := show(t, ctx, s, child); r.State != forge.RunPending || !strings.Contains(out, "run "+first) || !strings.Contains(out, "failed") {
		t.Errorf("%s: %s", r.State, out)
	}
	ok := submit(t, ctx, s, "--set", "steps=2")
	second := submit(t, ctx, s, "--after", ok, "--set", "steps=2")
	if r := until(t, ctx, s, second, "ended", ended); r.State != forge.RunCompleted || r.StartedAt.Before(show(t, ctx, s, ok).EndedAt) {
		t.Errorf("%s, started before what it waits for had ended", r.State)
	}
	sound(t, ctx, s)
}

func TestASupersededAttemptThatComesBackChangesNothing(t *testing.T) {
	ctx, s := open(t)
	run := submit(t, ctx, s, long()...)
	r := until(t, ctx, s, run, "half-way", atStep(25))
	_, ranks := live(t, s, r)
	must(t, syscall.Kill(ranks[0], syscall.SIGKILL))
	r = until(t, ctx, s, run, "ended", ended)
	before := read(t, filepath.Join(s.RunDir(string(r.ID)), "starts"))
	// The launcher of attempt 1 comes late: everything it needs is still there.
	late := s.Daemon(ctx, "shim", "--run-dir", s.RunDir(string(r.ID)), "--attempt", "1", "--node", "0")
	_ = late.Run()
	if after := read(t, filepath.Join(s.RunDir(string(r.ID)), "starts")); after != before {
		t.Errorf("a rank of attempt 1 started again:\n%s", after)
	}
	if again := show(t, ctx, s, run); again.Step != r.Step || again.State != r.State {
		t.Errorf("the run changed: %+v", again.Run)
	}
	sound(t, ctx, s, r.ID)
}

func TestCancel(t *testing.T) {
	for name, tc := range map[string]struct {
		flag   []string
		reason forge.EndReason
	}{
		"term keeps the checkpoints": {nil, forge.EndCancelled},
		"save writes one first":      {[]string{"--save"}, forge.EndCheckpointedUser},
		"now kills":                  {[]string{"--now"}, forge.EndCancelled},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, s := open(t)
			run := submit(t, ctx, s, long()...)
			at := until(t, ctx, s, run, "running", atStep(15))
			_, err := s.Ctl(ctx, append([]string{"run", "cancel", run}, tc.flag...)...)
			must(t, err)
			r := until(t, ctx, s, run, "ended", ended)
			if r.State != forge.RunCancelled || r.Reason != tc.reason || r.SavedStep < at.SavedStep {
				t.Errorf("%s %s, saved %d: %+v", r.State, r.Reason, r.SavedStep, r.Attempts)
			}
			if name == "save writes one first" && r.SavedStep%10 == 0 && r.SavedStep == at.SavedStep {
				t.Errorf("no checkpoint was written on request, the newest is of step %d", r.SavedStep)
			}
			sound(t, ctx, s, r.ID)
		})
	}
}

func TestAPendingRunIsCancelledAtOnce(t *testing.T) {
	ctx, s := open(t)
	busy := submit(t, ctx, s, long()...)
	waits := submit(t, ctx, s, long()...)
	until(t, ctx, s, busy, "running", atStep(10))
	_, err := s.Ctl(ctx, "run", "cancel", waits)
	must(t, err)
	if r := show(t, ctx, s, waits); r.State != forge.RunCancelled || len(r.Attempts) != 0 {
		t.Errorf("%s with %d attempts", r.State, len(r.Attempts))
	}
	_, err = s.Ctl(ctx, "run", "cancel", waits)
	refused(t, err, exitPrecondition, "cancelled")
	_, err = s.Ctl(ctx, "run", "cancel", busy, "--now")
	must(t, err)
	until(t, ctx, s, busy, "ended", ended)
	sound(t, ctx, s)
}

func TestFruitlessAttemptsPutTheRunOnHoldWithItsEvidence(t *testing.T) {
	ctx, s := open(t)
	run := submit(t, ctx, s, "--set", "steps=1000", "--set", "save_every=0", "--set", "fail_at=3", "--set", "fail_code=88")
	r := until(t, ctx, s, run, "held", func(r api.RunDetail) bool { return r.Hold != nil })
	if r.State != forge.RunPending || len(r.Attempts) != 3 || r.Hold.By != "forged" || !strings.Contains(r.Hold.Reason, "88") {
		t.Errorf("%s after %d attempts: %+v", r.State, len(r.Attempts), r.Hold)
	}
	sound(t, ctx, s, r.ID)
}

func TestUserFailuresAreRetriedAsOftenAsAskedFor(t *testing.T) {
	ctx, s := open(t)
	run := submit(t, ctx, s, "--set", "steps=5", "--set", "fail_at=3", "--max-retries", "2")
	if r := until(t, ctx, s, run, "ended", ended); r.State != forge.RunFailed || len(r.Attempts) != 3 || r.Reason != forge.EndUserExit {
		t.Errorf("%s %s after %d attempts", r.State, r.Reason, len(r.Attempts))
	}
	bad := submit(t, ctx, s, "--set", "steps=5", "--set", "fail_at=3", "--set", "fail_code=87", "--max-retries", "2")
	if r := until(t, ctx, s, bad, "ended", ended); r.State != forge.RunFailed || len(r.Attempts) != 1 || r.Reason != forge.EndBadInput {
		t.Errorf("bad input: %s %s after %d attempts, want one", r.State, r.Reason, len(r.Attempts))
	}
	sound(t, ctx, s)
}

func TestHigherPriorityGoesFirst(t *testing.T) {
	ctx, s := open(t)
	busy := submit(t, ctx, s, "--gpus-per-node", "2", "--set", "steps=30", "--set", "step_ms=20")
	low := submit(t, ctx, s, "--gpus-per-node", "2", "--set", "steps=2")
	high := submit(t, ctx, s, "--gpus-per-node", "2", "--set", "steps=2", "--priority", "90")
	until(t, ctx, s, low, "ended", ended)
	if a, b := show(t, ctx, s, high).StartedAt, show(t, ctx, s, low).StartedAt; !a.Before(b) {
		t.Errorf("priority 90 started at %s, priority 50 at %s", a, b)
	}
	_ = busy
	sound(t, ctx, s)
}
