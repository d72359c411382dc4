//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// TestAModelIsEvaluatedAndItsScoresStayWithTheRun: an adapter that was just trained, over its base, with the real harness.
func TestAModelIsEvaluatedAndItsScoresStayWithTheRun(t *testing.T) {
	ctx, s, _ := openForTraining(t)
	var trained, asked api.Submitted
	must(t, s.CtlJSON(ctx, &trained, "run", "submit", "lora_sft", "--dataset", "chat@1", "--base", "tiny", "--set", "train.batch_size=4", "--set", "train.max_steps=2", "--register", "bot"))
	must(t, s.CtlJSON(ctx, &asked, "run", "submit", "eval", "--model", fmt.Sprintf("run:%d", trained.Run.Number), "--suite", "reasoning-offline"))
	r := until(t, ctx, s, string(asked.Run.ID), "ended", ended)
	if r.State != forge.RunCompleted || r.Step != r.TotalSteps || r.Step != 60 {
		log, _ := s.Ctl(ctx, "run", "logs", string(asked.Run.ID))
		t.Fatalf("%s %s, step %d of %d: %+v\n%s", r.State, r.Reason, r.Step, r.TotalSteps, r.Attempts, log)
	}
	var e api.EvalDetail
	must(t, s.CtlJSON(ctx, &e, "eval", "show", fmt.Sprint(r.Number)))
	if e.Model != "bot@1" || e.Suite != "reasoning-offline" || e.SuiteSHA256 != asked.Run.Spec.Suite.SHA256 || len(e.Scores) != 2 || e.Facts.BaseSHA256 == "" || e.Limited || e.Facts.Samples != 60 {
		t.Errorf("%+v", e)
	}
	table, err := s.Ctl(ctx, "eval", "show", fmt.Sprint(r.Number))
	must(t, err)
	t.Logf("%s", table)
	if !strings.Contains(string(table), "forge_logic") {
		t.Errorf("%s", table)
	}
	sound(t, ctx, s, trained.Run.ID) // an eval reports at times, and not each of its steps
}
