//go:build e2e && long

package e2e

import (
	"fmt"
	"math"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func TestARunWaitsForTwoOfThreeToSaveAndThoseThatDoNotAreKilledAndGoOnFromAnOlderCheckpoint(t *testing.T) {
	ctx, s := open(t, slots(3))
	probe := func(extra ...string) []string {
		return append([]string{"--set", "steps=250", "--set", "step_ms=40", "--set", "save_every=10"}, extra...)
	}
	calm := submit(t, ctx, s, "--set", "steps=250", "--set", "step_ms=1", "--set", "save_every=10")
	until(t, ctx, s, calm, "ended", ended)
	runs := []string{submit(t, ctx, s, probe("--priority", "10")...), submit(t, ctx, s, probe("--priority", "10", "--set", "deaf=1")...),
		submit(t, ctx, s, probe("--priority", "10", "--set", "deaf=1")...)}
	for _, r := range runs {
		until(t, ctx, s, r, "running", atStep(12))
	}
	urgent := submit(t, ctx, s, "--gpus-per-node", "3", "--priority", "90", "--set", "steps=5")
	until(t, ctx, s, urgent, "waiting for two of three", func(api.RunDetail) bool {
		w := why(t, ctx, s, urgent)
		return w.Code == forge.HoldPreempting && strings.Contains(w.Sentence, "waits for 2 of 3 runs to save") && len(w.Evidence) >= 3 &&
			strings.Contains(w.Evidence[0], "run "+runs[1])
	})
	if w := why(t, ctx, s, runs[1]); !strings.Contains(w.Sentence, "make room for a run ahead of it") {
		t.Errorf("the run that is to save: %s", w.Sentence)
	}
	if r := until(t, ctx, s, urgent, "ended", ended); r.State != forge.RunCompleted {
		t.Fatalf("%s %s", r.State, r.Reason)
	}
	for i, run := range runs {
		r := until(t, ctx, s, run, "ended", ended)
		madeRoom(t, r, i == 0)
		if a, b := lastLoss(t, ctx, s, calm), lastLoss(t, ctx, s, run); a != b {
			t.Errorf("run %s preempted %v, undisturbed %v", run, b, a)
		}
		if i > 0 {
			said := "did not save what it was at"
			if first := r.Attempts[0]; first.SavedStep == first.LastStep { // killed just after one of its own checkpoints
				said = fmt.Sprintf("saved at step %d", first.SavedStep)
			}
			if es := eventsOf(t, ctx, s, run, forge.EventRunPreempted); len(es) != 1 || !strings.Contains(es[0].Message, said) {
				t.Errorf("want %q in %+v", said, es)
			}
		}
	}
	sound(t, ctx, s)
}

// TestAPreemptedTrainingEndsWithTheLossOfAnUndisturbedOne is a preemption of real PEFT and TRL on two ranks; `make demo` resumes the same training
// after kills, and the probe is preempted, in `make test`.
func TestAPreemptedTrainingEndsWithTheLossOfAnUndisturbedOne(t *testing.T) {
	ctx, s, _ := openForTraining(t)
	train := func() string {
		var out api.Submitted
		must(t, s.CtlJSON(ctx, &out, "run", "submit", "lora_sft", "--dataset", "chat@1", "--base", "tiny", "--gpus-per-node", "2", "--cpus-per-gpu", "1",
			"--mem-per-gpu", "2G", "--priority", "20", "--set", "train.max_steps=24", "--set", "checkpoint.every_steps=1000",
			"--set", "train.learning_rate=5e-3", "--set", "train.batch_size=4"))
		return string(out.Run.ID)
	}
	calm := train()
	until(t, ctx, s, calm, "ended", ended)
	low := train()
	until(t, ctx, s, low, "half-way", func(r api.RunDetail) bool { return r.State == forge.RunRunning && r.Step >= 6 })
	urgent := submit(t, ctx, s, "--gpus-per-node", "2", "--priority", "80", "--set", "steps=5")
	if r := until(t, ctx, s, urgent, "ended", ended); r.State != forge.RunCompleted {
		t.Fatalf("%s %s", r.State, r.Reason)
	}
	r := until(t, ctx, s, low, "ended", ended)
	madeRoom(t, r, true)
	a, b := lastLoss(t, ctx, s, calm), lastLoss(t, ctx, s, low)
	t.Logf("last loss %.9f undisturbed, %.9f preempted at step %d", a, b, r.Attempts[0].SavedStep)
	if math.Abs(a-b) > 1e-6 {
		t.Errorf("last loss %.9f undisturbed, %.9f preempted", a, b)
	}
	sound(t, ctx, s, r.ID)
}
