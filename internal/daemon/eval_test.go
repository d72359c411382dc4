package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/executortest"
)

// leftEval is what an eval of a suite leaves: its two files.
type leftEval struct {
	scores  map[string]any
	samples string
}

func scoredLine(doc int) string {
	return fmt.Sprintf(`{"task":"forge_logic","filter":"none","doc_id":%d,"doc_hash":"d","prompt_hash":"p","target_hash":"t","metrics":{"acc":1},"target":"0","response":"r","prompt":"q"}`+"\n", doc)
}

func goodEval(run forge.Run) leftEval {
	samples := scoredLine(0) + scoredLine(1)
	sum := sha256.Sum256([]byte(samples))
	return leftEval{samples: samples, scores: map[string]any{
		"schema": 1, "run_id": run.ID, "suite": map[string]any{"name": run.Spec.Suite.Name, "sha256": run.Spec.Suite.SHA256, "version": 1},
		"harness": map[string]any{"lm_eval": "0.4.13"}, "model": map[string]any{"name": run.Spec.Model.Name, "sha256": run.Spec.Model.SHA256, "base_sha256": ""},
		"dtype": "float32", "device": "cpu", "batch_size": 8, "seed": 1234, "limit": 0,
		"tasks": []any{map[string]any{"task": "forge_logic", "version": "1.0", "task_hash": "h", "n_shot": 0, "n_samples": map[string]any{"original": 2, "effective": 2},
			"scores": []any{map[string]any{"metric": "acc", "filter": "none", "value": 1.0, "stderr": nil, "n": 2, "higher_is_better": true, "aggregation": "mean"}}}},
		"samples": map[string]any{"count": 2, "bytes": len(samples), "sha256": hex.EncodeToString(sum[:])},
	}}
}

// evaluated submits an eval and lets it end well with what change makes of its files.
func (r *rig) evaluated(t *testing.T, change func(*leftEval), state forge.RunState) forge.Run {
	t.Helper()
	return r.evaluates(t, api.SubmitRunRequest{Recipe: "judge2", Model: "tiny", Suite: "reasoning-offline"}, change, state)
}

func (r *rig) evaluates(t *testing.T, q api.SubmitRunRequest, change func(*leftEval), state forge.RunState) forge.Run {
	t.Helper()
	run := r.asks(t, q)
	key := r.launched(t, run.ID, 1)
	r.fake.Start(key)
	left := goodEval(run)
	change(&left)
	text, err := json.Marshal(left.scores)
	if err != nil {
		t.Fatal(err)
	}
	r.fake.Leave(key, forge.StreamScores, string(text))
	r.fake.Leave(key, forge.StreamEvalSamples, left.samples)
	r.fake.Exit(key, executortest.Ending{Output: output(t, map[string]string{"scores.json": "{}"})}, 0)
	return r.await(t, run.ID, string(state), inState(state))
}

func TestWhatAnEvalFoundIsStoredWithItsEndAndShown(t *testing.T) {
	r := startChain(t)
	r.imports(t, "tiny", nil)
	done := r.evaluated(t, func(*leftEval) {}, forge.RunCompleted)
	e, err := evals{r.Daemon}.Eval(t.Context(), r.op, fmt.Sprint(done.Number))
	if err != nil || e.Model != "tiny@1" || e.Suite != "reasoning-offline" || len(e.Scores) != 1 || e.Scores[0].Value != 1 || e.Scores[0].StdErr != nil || !*e.Scores[0].Higher ||
		e.Limited || e.Facts.Harness["lm_eval"] != "0.4.13" || len(e.Benchmarks) != 2 || e.Facts.Tasks[0].Effective != 2 {
		t.Fatalf("%+v, %v", e, err)
	}
	for _, f := range []api.EvalFilter{{}, {Model: "tiny"}, {Model: "tiny@1", Suite: "reasoning-offline"}} {
		if l, err := (evals{r.Daemon}).Evals(t.Context(), r.op, f); err != nil || len(l.Items) != 1 || l.Items[0].Scores != nil || l.Items[0].RunNumber != done.Number {
			t.Errorf("%+v: %+v, %v", f, l, err)
		}
	}
	for _, f := range []api.EvalFilter{{Model: "tin"}, {Model: "tiny@2"}, {Suite: "default"}} {
		if l, err := (evals{r.Daemon}).Evals(t.Context(), r.op, f); err != nil || len(l.Items) != 0 {
			t.Errorf("%+v: %+v, %v", f, l, err)
		}
	}
	one, err := evals{r.Daemon}.EvalSamples(t.Context(), r.op, string(done.ID), api.SampleFilter{Task: "forge_logic", Filter: "none", Limit: 1})
	if err != nil || len(one.Items) != 1 || one.Items[0].Prompt != "q" || one.Next == "" {
		t.Fatalf("%+v, %v", one, err)
	}
	two, err := evals{r.Daemon}.EvalSamples(t.Context(), r.op, string(done.ID), api.SampleFilter{Task: "forge_logic", Filter: "none", Limit: 1, Cursor: one.Next})
	if err != nil || len(two.Items) != 1 || two.Items[0].DocID != 1 || two.Next != "" {
		t.Errorf("%+v, %v", two, err)
	}
	_, err = evals{r.Daemon}.EvalSamples(t.Context(), r.op, string(done.ID), api.SampleFilter{Task: "other", Filter: "none", Limit: 1})
	if forge.KindOf(err) != forge.KindNotFound {
		t.Errorf("%v", err)
	}
}

func TestAnEvalWhoseFilesDoNotHoldHasNotCompleted(t *testing.T) {
	r := startChain(t)
	r.imports(t, "tiny", nil)
	task := func(l *leftEval) map[string]any { return l.scores["tasks"].([]any)[0].(map[string]any) }
	score := func(l *leftEval) map[string]any { return task(l)["scores"].([]any)[0].(map[string]any) }
	for name, c := range map[string]struct {
		change func(*leftEval)
		says   string
	}{
		"another suite":               {func(l *leftEval) { l.scores["suite"].(map[string]any)["sha256"] = "00" }, "scores are of suite reasoning-offline (00)"},
		"another model":               {func(l *leftEval) { l.scores["model"].(map[string]any)["sha256"] = "00" }, "scores are of model 00"},
		"another run":                 {func(l *leftEval) { l.scores["run_id"] = "X" }, "scores.json is of run"},
		"a schema of tomorrow":        {func(l *leftEval) { l.scores["schema"] = 2 }, "has schema 2"},
		"no value":                    {func(l *leftEval) { delete(score(l), "value") }, "acc has no value"},
		"a limit nobody asked for":    {func(l *leftEval) { l.scores["limit"] = 5 }, "limited to 5 samples; 0 was submitted"},
		"samples that were left out":  {func(l *leftEval) { task(l)["n_samples"].(map[string]any)["effective"] = 1 }, "evaluated 1 of 2 samples"},
		"no tasks":                    {func(l *leftEval) { l.scores["tasks"] = []any{} }, "has no tasks"},
		"no scores at all":            {func(l *leftEval) { l.scores = nil }, "scores.json has schema 0"},
		"a sample that was lost":      {func(l *leftEval) { l.samples = scoredLine(0) }, "its samples are 1"},
		"a sample that was altered":   {func(l *leftEval) { l.samples = strings.Replace(l.samples, `"acc":1`, `"acc":0`, 1) }, "its samples are 2 with digest"},
		"samples that are torn":       {func(l *leftEval) { l.samples = l.samples[:len(l.samples)-5] }, "end inside a line"},
		"no samples":                  {func(l *leftEval) { l.samples = "" }, "there are no eval_samples"},
		"more samples than are taken": {func(l *leftEval) { l.scores["samples"].(map[string]any)["bytes"] = 1 << 30 }, "at most 268435456 are kept"},
		"a score over more than there are": {func(l *leftEval) {
			score(l)["n"] = 3
		}, "is over 3 samples, and they are not all there"},
	} {
		t.Run(name, func(t *testing.T) {
			got := r.evaluated(t, c.change, forge.RunFailed)
			as, err := r.db.AttemptsOf(t.Context(), got.ID)
			if err != nil || got.Reason != forge.EndOutputsInvalid || !strings.Contains(as[0].Detail, c.says) {
				t.Errorf("%s: %s, %v; want %s", got.Reason, as[0].Detail, err, c.says)
			}
			if _, err := (evals{r.Daemon}).Eval(t.Context(), r.op, string(got.ID)); forge.KindOf(err) != forge.KindNotFound {
				t.Errorf("it is stored all the same: %v", err)
			}
		})
	}
}

func TestASuiteIsPinnedWhenAnEvalIsSubmitted(t *testing.T) {
	r := startChain(t)
	r.imports(t, "tiny", nil)
	ask := func(change func(*api.SubmitRunRequest)) api.SubmitRunRequest {
		q := api.SubmitRunRequest{Recipe: "judge2", Model: "tiny", Suite: "reasoning-offline", DryRun: true}
		change(&q)
		return q
	}
	got := r.asks(t, ask(func(*api.SubmitRunRequest) {})).Spec
	want, err := evals{r.Daemon}.Suite(t.Context(), r.op, "reasoning-offline")
	if err != nil || got.Suite == nil || got.Suite.SHA256 != want.SHA256 || !got.Eval {
		t.Errorf("%+v, %v", got.Suite, err)
	}
	r.refuses(t, ask(func(q *api.SubmitRunRequest) { q.Suite = "" }), "suite", "needs a suite")
	r.refuses(t, ask(func(q *api.SubmitRunRequest) { q.Suite = "reasonning" }), "suite", "there is no suite")
	r.refuses(t, ask(func(q *api.SubmitRunRequest) { q.Register = "chat" }), "register", "makes no model")
}
