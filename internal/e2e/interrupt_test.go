//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// rehearsals are what a run can be asked to live through, and how its attempt has to end.
var rehearsals = map[string]forge.EndReason{"preempt": forge.EndCheckpointedPreempt, "timeout": forge.EndCheckpointedLimit}

func TestAnInterruptedRunGoesOnByItselfToTheSameResult(t *testing.T) {
	for as, reason := range rehearsals {
		t.Run("as "+as, func(t *testing.T) {
			t.Parallel()
			ctx, s := open(t)
			run := submit(t, ctx, s, "--gpus-per-node", "2", "--set", "steps=100", "--set", "step_ms=20", "--set", "save_every=0")
			rehearse(t, ctx, s, run, as, reason, 100)
			sound(t, ctx, s)
		})
	}
}

func TestAGangOnSlurmThatIsInterruptedGoesOnByItselfToTheSameResult(t *testing.T) {
	t.Parallel()
	h := openSlurm(t, calm(t))
	for as, reason := range rehearsals {
		run := h.gang(150, neverSaves...)
		h.strike()
		rehearse(t, h.ctx, h.Site, run, as, reason, 150)
		h.survived(run, 150)
	}
}

// rehearse interrupts a run that never saves by itself: where it resumes, it was asked to save.
func rehearse(t *testing.T, ctx context.Context, s *forgedtest.Site, run, as string, reason forge.EndReason, steps int) {
	t.Helper()
	until(t, ctx, s, run, "half-way", func(r api.RunDetail) bool { return r.State == forge.RunRunning && r.Step >= 25 })
	out, err := s.Ctl(ctx, "run", "interrupt", run, "--as", as)
	must(t, err)
	if !strings.Contains(out, as) {
		t.Errorf("it says %q", out)
	}
	r := until(t, ctx, s, run, "ended", ended)
	if r.State != forge.RunCompleted || r.Loss == nil || *r.Loss != forgedtest.ProbeLoss(steps) || r.Retries != 0 || len(r.Attempts) != 2 {
		t.Fatalf("%s (%s) with loss %v after %d retries; want it completed with %v: %+v", r.State, r.Reason, r.Loss, r.Retries, forgedtest.ProbeLoss(steps), r.Attempts)
	}
	if first, second := r.Attempts[0], r.Attempts[1]; first.Reason != reason || first.SavedStep < 25 || second.ResumeStep != first.SavedStep {
		t.Errorf("the first attempt ended %s (%s) at step %d, and the second resumed at %d; want %s", first.Reason, first.Detail, first.SavedStep, second.ResumeStep, reason)
	}
}

func TestAShellIsOpenedBesideARankOfARunOnSlurm(t *testing.T) {
	t.Parallel()
	h := openSlurm(t, calm(t))
	run := h.gang(100_000)
	r := h.until(run, "running", func(r api.RunDetail) bool { return r.State == forge.RunRunning && r.Step > 0 })
	// srun wants a terminal, which script makes; what is typed is what forgectl says to type.
	cmd := exec.CommandContext(h.ctx, "script", "-qec", filepath.Join(binDir(t), "forgectl")+" run shell "+run+" --rank 3", "/dev/null")
	cmd.Env = append(h.Command(h.ctx, "version").Env, h.c.Env()...)
	env := filepath.Join(h.RunDir(string(r.ID)), "attempts", "0001", "ranks", "0003", "env.sh")
	cmd.Stdin = strings.NewReader(". " + env + "; echo rank-$RANK of-$WORLD_SIZE node-$SLURMD_NODENAME job-$SLURM_JOB_ID; exit\n")
	out, err := cmd.CombinedOutput()
	want := fmt.Sprintf("rank-3 of-4 node-%s job-%s", r.Attempts[0].Placement[1].Node, r.Attempts[0].Batch.ID)
	if err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%v: the terminal does not show %q:\n%s", err, want, out)
	}
	_, err = h.Ctl(h.ctx, "run", "cancel", run, "--now")
	must(t, err)
	h.until(run, "ended", ended)
}
