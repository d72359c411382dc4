//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

func TestARunLongerThanItsTimeLimitGoesOnUntilItsTotalTimeIsUsedUp(t *testing.T) {
	ctx, s := open(t)
	run := submit(t, ctx, s, "--set", "steps=60", "--set", "step_ms=40", "--time", "1s", "--total-time", "1h")
	r := until(t, ctx, s, run, "ended", ended)
	if got := lastLoss(t, ctx, s, run); got != forgedtest.ProbeLoss(60) {
		t.Errorf("loss %v, undisturbed %v", got, forgedtest.ProbeLoss(60))
	}
	if len(r.Attempts) < 3 {
		t.Errorf("%d attempts for 2.4 s of work in parts of one", len(r.Attempts))
	}
	for i, a := range r.Attempts[1:] {
		if before := r.Attempts[i]; before.Reason != forge.EndCheckpointedLimit || a.ResumeStep != before.LastStep {
			t.Errorf("attempt %d ended %s at step %d, and the next began at %d", before.Number, before.Reason, before.LastStep, a.ResumeStep)
		}
	}
	short := submit(t, ctx, s, "--set", "steps=1000", "--set", "step_ms=40", "--time", "1s", "--total-time", "2s")
	r = until(t, ctx, s, short, "ended", ended)
	if last := r.Attempts[len(r.Attempts)-1]; r.State != forge.RunFailed || !strings.Contains(last.Detail, "total time of 2s is used up") {
		t.Errorf("%s: %+v", r.State, last)
	}
	sound(t, ctx, s, r.ID)
}

func TestASaveThatWasTooSlowForTheGraceBeginsEarlierTheNextTimeAndTheLossIsSaid(t *testing.T) {
	ctx, s := open(t)
	run := submit(t, ctx, s, "--set", "steps=70", "--set", "step_ms=40", "--set", "save_every=20", "--set", "save_ms=900", "--time", "2500ms", "--grace", "300ms", "--total-time", "1h")
	r := until(t, ctx, s, run, "in its third attempt, or ended", func(r api.RunDetail) bool { return r.Attempt > 2 || ended(r) })
	first, second := r.Attempts[0], r.Attempts[1]
	if first.Reason != forge.EndTimeLimit || !strings.Contains(first.Detail, "steps since step 20 are done again") || second.ResumeStep != 20 {
		t.Errorf("%s (%s), then from step %d", first.Reason, first.Detail, second.ResumeStep)
	}
	if second.Reason != forge.EndCheckpointedLimit && second.Reason != forge.EndCompleted {
		t.Errorf("the second time: %s (%s)", second.Reason, second.Detail)
	}
	r = until(t, ctx, s, run, "ended", ended)
	if got := lastLoss(t, ctx, s, run); got != forgedtest.ProbeLoss(70) {
		t.Errorf("loss %v, undisturbed %v", got, forgedtest.ProbeLoss(70))
	}
	sound(t, ctx, s, r.ID)
}

func TestARunBeginsFromAnothersCheckpoint(t *testing.T) {
	ctx, s := open(t)
	theirs := submit(t, ctx, s, "--set", "steps=40", "--set", "save_every=10")
	until(t, ctx, s, theirs, "ended", ended)
	for step, want := range map[string]int64{"20": 20, "latest": 40} {
		run := submit(t, ctx, s, "--set", "steps=60", "--resume-from", theirs+"@"+step)
		r := until(t, ctx, s, run, "ended", ended)
		if got := lastLoss(t, ctx, s, run); r.Attempts[0].ResumeStep != want || got != forgedtest.ProbeLoss(60) {
			t.Errorf("@%s: began at step %d, loss %v, want %v", step, r.Attempts[0].ResumeStep, got, forgedtest.ProbeLoss(60))
		}
		out, err := s.Ctl(ctx, "run", "show", run)
		must(t, err)
		if !strings.Contains(out, "run "+theirs+" at step") {
			t.Errorf("nothing says where it began:\n%s", out)
		}
	}
	t.Run("what does not suit is refused at once", func(t *testing.T) {
		spec := write(t, filepath.Join(s.Dir, "run.yaml"), "recipe: probe\nresume_from: "+theirs+"@15\n")
		for name, tc := range map[string]struct {
			args  []string
			words []string
		}{
			"no such step":               {[]string{"--resume-from", theirs + "@15"}, []string{"no checkpoint of step 15", "it has 40, 30, 20, 10"}},
			"the same in a run file":     {[]string{"-f", spec}, []string{"no checkpoint of step 15"}},
			"no such run":                {[]string{"--resume-from", "77@10"}, []string{"resume_from", "77"}},
			"no step":                    {[]string{"--resume-from", theirs}, []string{"RUN@STEP"}},
			"a step that is no number":   {[]string{"--resume-from", theirs + "@last"}, []string{"last", "latest"}},
			"nothing":                    {[]string{"--resume-from", ""}, []string{"empty"}},
			"another number of ranks":    {[]string{"--resume-from", theirs + "@10", "--gpus-per-node", "2"}, []string{"saved by 1 ranks and this run has 2"}},
			"a dry run says the same":    {[]string{"--resume-from", theirs + "@15", "--dry-run"}, []string{"no checkpoint of step 15"}},
			"a checkpoint that was torn": {[]string{"--resume-from", theirs + "@30"}, []string{"step 30", "torn", "7 bytes"}},
		} {
			t.Run(name, func(t *testing.T) {
				if strings.Contains(name, "torn") {
					must(t, os.Truncate(filepath.Join(s.RunDir(string(show(t, ctx, s, theirs).ID)), "attempts/0001/checkpoints/checkpoint-30/state.bin"), 7))
				}
				args := append([]string{"run", "submit"}, tc.args...)
				if name != "the same in a run file" {
					args = append(args, "probe")
				}
				_, err := s.Ctl(ctx, args...)
				refused(t, err, exitInvalid, tc.words...)
			})
		}
	})
	t.Run("what turns out bad before it starts ends the run, which never begins from nothing", func(t *testing.T) {
		first := submit(t, ctx, s, "--set", "steps=100", "--gpus-per-node", "2")
		run := submit(t, ctx, s, "--set", "steps=60", "--resume-from", theirs+"@10", "--after", first)
		must(t, os.Truncate(filepath.Join(s.RunDir(string(show(t, ctx, s, theirs).ID)), "attempts/0001/checkpoints/checkpoint-10/state.bin"), 7))
		r := until(t, ctx, s, run, "ended", ended)
		if a := r.Attempts[0]; r.State != forge.RunFailed || r.Reason != forge.EndBadInput || !strings.Contains(a.Detail, "step 10 of run "+theirs) || !strings.Contains(a.Detail, "7 bytes") {
			t.Errorf("%s: %+v", r.State, a)
		}
		if _, err := os.Stat(filepath.Join(s.RunDir(string(r.ID)), "starts")); err == nil {
			t.Error("a rank was started")
		}
	})
	sound(t, ctx, s)
}

func TestABranchSurvivesTheRetentionOfTheOtherRunAndKillsOfItsOwn(t *testing.T) {
	ctx, s := open(t)
	theirs := submit(t, ctx, s, "--set", "steps=120", "--set", "step_ms=20", "--set", "save_every=5", "--set", "save_ms=3", "--set", "keep_last=2")
	r := until(t, ctx, s, theirs, "at its second save", func(r api.RunDetail) bool { return r.SavedStep >= 10 })
	from := r.SavedStep
	run := submit(t, ctx, s, "--set", "steps=130", "--set", "step_ms=20", "--set", "save_every=0", "--after", theirs, "--resume-from", fmt.Sprintf("%s@%d", theirs, from))
	s.Kill()
	must(t, s.Start(ctx))
	until(t, ctx, s, theirs, "ended", ended)
	var saves []forge.Checkpoint
	must(t, s.CtlJSON(ctx, &saves, "run", "checkpoints", theirs))
	if len(saves) != 2 || saves[0].Step != 120 || saves[0].Took <= 0 {
		t.Errorf("retention left %+v", saves)
	}
	must(t, s.CtlJSON(ctx, &saves, "run", "checkpoints", theirs, "--all"))
	if last := saves[len(saves)-1]; len(saves) < 20 || last.Removed.IsZero() || last.Verdict == forge.VerdictTorn {
		t.Errorf("%d in all, the oldest %+v", len(saves), last)
	}
	for n := range 2 { // before it has anything of its own
		r = until(t, ctx, s, run, "running", func(r api.RunDetail) bool { return r.Attempt == n+1 && r.State == forge.RunRunning && r.Step > from })
		_, ranks := live(t, s, r)
		must(t, syscall.Kill(ranks[0], syscall.SIGKILL))
	}
	r = until(t, ctx, s, run, "ended", ended)
	if got := lastLoss(t, ctx, s, run); got != forgedtest.ProbeLoss(130) {
		t.Errorf("loss %v, undisturbed %v", got, forgedtest.ProbeLoss(130))
	}
	for _, a := range r.Attempts {
		if a.ResumeStep != from {
			t.Errorf("attempt %d began at step %d, want %d", a.Number, a.ResumeStep, from)
		}
	}
	sound(t, ctx, s, r.ID)
}
