package daemon

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

func step(name string, run api.SubmitRunRequest) api.StepRequest {
	return api.StepRequest{Step: name, Run: run}
}

// sftToEval is a whole chain, written in an order of its own.
func sftToEval() api.PipelineRequest {
	return api.PipelineRequest{Name: "chat", Steps: []api.StepRequest{
		step("eval", api.SubmitRunRequest{Recipe: "judge", Model: "step:rlhf"}),
		step("rlhf", api.SubmitRunRequest{Recipe: "rl", Base: "step:sft", RewardModel: "step:reward", Register: "policy"}),
		step("sft", api.SubmitRunRequest{Recipe: "tune", Base: "tiny"}),
		step("reward", api.SubmitRunRequest{Recipe: "reward", Base: "tiny", After: []string{"step:sft"}}),
	}}
}

func (r *rig) chains(t *testing.T, q api.PipelineRequest) map[string]forge.Run {
	t.Helper()
	s, err := pipelines{r.Daemon}.SubmitPipeline(t.Context(), r.op, q)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]forge.Run{}
	for _, x := range s.Steps {
		out[x.Step] = x.Run
	}
	return out
}

func (r *rig) why(t *testing.T, run forge.Run) api.Why {
	t.Helper()
	w, err := rundata{r.Daemon}.Why(t.Context(), r.op, fmt.Sprint(run.Number))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestAPipelineIsOneChain(t *testing.T) {
	r := startChain(t)
	r.imports(t, "tiny", nil)
	run := r.chains(t, sftToEval())
	if run["sft"].Number != 1 || run["reward"].Number != 2 || run["rlhf"].Number != 3 || run["eval"].Number != 4 {
		t.Fatalf("%+v", run)
	}
	if s := run["rlhf"].Spec; s.Start.Name != "run:1" || s.Start.Run != run["sft"].ID || s.RewardModel.Name != "run:2" || len(s.After) != 2 || s.Pipeline.Step != "rlhf" || s.Pipeline.ID == "" {
		t.Errorf("%+v", s)
	}
	if run["sft"].Spec.Register != "chat-sft" || run["reward"].Spec.Register != "chat-reward" || run["rlhf"].Spec.Register != "policy" || run["eval"].Spec.Register != "" {
		t.Error("what other steps take is registered, and nothing else")
	}
	if w := r.why(t, run["eval"]); !strings.Contains(strings.Join(w.Evidence, "; "), "it is step eval of pipeline chat; it needs step rlhf, run 3, which is pending") {
		t.Errorf("why: %q", w.Evidence)
	}
	for _, x := range []string{"sft", "reward", "rlhf"} {
		r.completes(t, run[x], adapterFiles)
	}
	r.completes(t, run["eval"], nil)
	d, err := runs{r.Daemon}.Run(t.Context(), r.op, "2")
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, s := range d.Chain {
		got += fmt.Sprintf("%s %d %s %s %v; ", s.Step, s.Run, s.State, s.Model, s.After)
	}
	if want := "sft 1 completed chat-sft@1 []; reward 2 completed chat-reward@1 [sft]; rlhf 3 completed policy@1 [sft reward]; eval 4 completed  [rlhf]; "; got != want {
		t.Errorf("the chain is %s\nwant %s", got, want)
	}
	for _, f := range []string{"chat", d.Spec.Pipeline.ID} {
		if l, err := (runs{r.Daemon}).Runs(t.Context(), r.op, api.RunFilter{Pipeline: f}); err != nil || len(l.Items) != 4 {
			t.Errorf("%s: %d runs, %v", f, len(l.Items), err)
		}
	}
	r.sameWorld(t)
}

func TestAStepThatFailsHoldsTheRestUntilItIsSubmittedAgain(t *testing.T) {
	r := startChain(t)
	r.imports(t, "tiny", nil)
	run := r.chains(t, sftToEval())
	key := r.launched(t, run["sft"].ID, 1)
	r.fake.Start(key)
	r.fake.Finish(key, 1)
	r.await(t, run["sft"].ID, "failed", inState(forge.RunFailed))
	var w api.Why // of the plan that has seen it
	r.await(t, run["reward"].ID, "held for its step", func(forge.Run) bool { w = r.why(t, run["reward"]); return w.Code == forge.HoldAfterFailed })
	if w.Code != forge.HoldAfterFailed || !strings.Contains(strings.Join(w.Evidence, "; "), "it needs step sft, run 1, which is failed") || strings.Join(w.Next, "; ") != "forgectl run retry 1" {
		t.Errorf("%+v", w)
	}
	again, err := runs{r.Daemon}.RetryRun(t.Context(), r.op, "1")
	if err != nil {
		t.Fatal(err)
	}
	d, err := runs{r.Daemon}.Run(t.Context(), r.op, fmt.Sprint(again.Run.Number))
	if err != nil {
		t.Fatal(err)
	}
	newest := map[string]forge.PipelineStep{}
	for _, s := range d.Chain {
		newest[s.Step] = s
	}
	if len(d.Chain) != 8 || newest["sft"].Run != 5 || newest["reward"].Run != 6 || newest["rlhf"].Run != 7 || newest["eval"].Run != 8 {
		t.Fatalf("%+v", d.Chain)
	}
	for _, x := range []string{"reward", "rlhf", "eval"} {
		if old := r.await(t, run[x].ID, "cancelled", inState(forge.RunCancelled)); old.Attempt != 0 {
			t.Errorf("%s had started", x)
		}
	}
	for _, x := range []string{"sft", "reward", "rlhf", "eval"} {
		next, err := r.db.For(r.op).Run(t.Context(), fmt.Sprint(newest[x].Run))
		if err != nil {
			t.Fatal(err)
		}
		files := adapterFiles
		if x == "eval" {
			files = nil
		}
		r.completes(t, next, files)
	}
	r.sameWorld(t)
}

func TestAPipelineIsStoredWholeOrNotAtAll(t *testing.T) {
	r := startChain(t)
	r.imports(t, "tiny", nil)
	for _, c := range []struct {
		what   string
		change func(q *api.PipelineRequest)
		field  string
		words  []string
	}{
		{"an unknown step", func(q *api.PipelineRequest) { q.Steps[1].Run.Base = "step:stf" }, "steps.rlhf.base", []string{`there is no step "stf"`, "eval, rlhf, sft, reward"}},
		{"a cycle", func(q *api.PipelineRequest) { q.Steps[2].Run.After = []string{"step:eval"} }, "steps.sft.after", []string{"wait for each other: eval → rlhf → sft → eval"}},
		{"a step that names itself", func(q *api.PipelineRequest) { q.Steps[2].Run.Base = "step:sft" }, "steps.sft.base", []string{"sft → sft"}},
		{"a model from a step that leaves none", func(q *api.PipelineRequest) { q.Steps[2].Run = api.SubmitRunRequest{Recipe: "judge", Model: "tiny"} }, "steps.rlhf.base", []string{"step sft is of recipe judge, which leaves no model"}},
		{"a reward model that is none", func(q *api.PipelineRequest) { q.Steps[1].Run.RewardModel = "step:sft" }, "steps.rlhf.reward_model", []string{"want a run of recipe reward"}},
		{"a fault within a step", func(q *api.PipelineRequest) { q.Steps[0].Run.Set = []string{"nothing=1"} }, "steps.eval.params.nothing", nil},
		{"a name twice", func(q *api.PipelineRequest) { q.Steps[0].Step = "sft" }, "steps", []string{`two steps "sft"`}},
		{"no name", func(q *api.PipelineRequest) { q.Name = "No Name" }, "name", nil},
	} {
		t.Run(c.what, func(t *testing.T) {
			q := sftToEval()
			c.change(&q)
			_, err := pipelines{r.Daemon}.SubmitPipeline(t.Context(), r.op, q)
			saysNo(t, err, c.field, c.words...)
		})
	}
	dry := sftToEval()
	dry.DryRun = true
	if run := r.chains(t, dry); run["rlhf"].Spec.Start.Name != "step:sft" || run["rlhf"].Number != 0 {
		t.Errorf("%+v", run["rlhf"].Spec)
	}
	l, err := runs{r.Daemon}.Runs(t.Context(), r.op, api.RunFilter{})
	if err != nil || len(l.Items) != 0 {
		t.Errorf("%d runs, %v: nothing of these was to be stored", len(l.Items), err)
	}
	// The last of them is refused by the store: as many as may wait do.
	if _, err := r.db.For(r.op).SubmitPipeline(t.Context(), store.NewPipeline{Name: "x", Steps: []store.NewStep{
		{Name: "a", Spec: script(1)}, {Name: "b", Spec: script(1, func(s *forge.RunSpec) { s.After = []forge.RunID{"step:c"} })}}}); err == nil {
		t.Error("a step that waits for none was stored")
	}
	if l, err := (runs{r.Daemon}).Runs(t.Context(), r.op, api.RunFilter{}); err != nil || len(l.Items) != 0 {
		t.Errorf("%d runs, %v: half a chain is stored", len(l.Items), err)
	}
}

func TestAPipelineThatIsSentTwiceIsThereOnce(t *testing.T) {
	r := startChain(t)
	r.imports(t, "tiny", nil)
	p := r.op
	p.Once = forge.Once{Op: "submit-pipeline", Key: "k", Digest: "d"}
	ids := map[string]bool{}
	for range 2 {
		s, err := pipelines{r.Daemon}.SubmitPipeline(t.Context(), p, sftToEval())
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range s.Steps {
			ids[string(x.Run.ID)] = true
		}
	}
	if len(ids) != 4 {
		t.Errorf("%d runs; want 4", len(ids))
	}
	p.Once.Digest = "another"
	if _, err := (pipelines{r.Daemon}).SubmitPipeline(t.Context(), p, sftToEval()); forge.KindOf(err) != forge.KindConflict {
		t.Error(err)
	}
	other := p
	other.Tenant = "elsewhere"
	for id := range ids {
		if x, err := r.db.For(r.op).Run(t.Context(), id); err == nil {
			if _, err := r.db.For(other).PipelineRuns(t.Context(), x.Spec.Pipeline.ID); forge.KindOf(err) != forge.KindNotFound || errors.Is(err, nil) {
				t.Errorf("another tenant sees it: %v", err)
			}
		}
	}
}
