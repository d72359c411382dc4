package daemon

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/gate"
)

// asks are the two benchmarks of reasoning-offline.
var asked = []struct{ task, filter, metric string }{{"forge_logic", "none", "acc"}, {"forge_story", "number", "exact_match"}}

// answers is an eval of 30 samples in each task, of which the first so many are right. The file has them from last to first: nothing may rest on its order.
func answers(right int) (samples string, tasks []any) {
	var text strings.Builder
	for _, a := range asked {
		for doc := 29; doc >= 0; doc-- {
			score := 0
			if doc < right {
				score = 1
			}
			fmt.Fprintf(&text, `{"task":%q,"filter":%q,"doc_id":%d,"doc_hash":"d%d","prompt_hash":"p","target_hash":"t","metrics":{%q:%d},"target":"yes","response":"said %d","prompt":"question %d"}`+"\n",
				a.task, a.filter, doc, doc, a.metric, score, score, doc)
		}
		tasks = append(tasks, map[string]any{"task": a.task, "version": "1.0", "task_hash": "h", "n_shot": 0, "n_samples": map[string]any{"original": 30, "effective": 30},
			"scores": []any{map[string]any{"metric": a.metric, "filter": a.filter, "value": float64(right) / 30, "stderr": nil, "n": 30, "higher_is_better": true, "aggregation": "mean"}}})
	}
	return text.String(), tasks
}

func rightIn(n int) func(*leftEval) {
	return func(l *leftEval) {
		samples, tasks := answers(n)
		sum := sha256.Sum256([]byte(samples))
		l.samples = samples
		l.scores["tasks"] = tasks
		l.scores["samples"] = map[string]any{"count": 60, "bytes": len(samples), "sha256": hex.EncodeToString(sum[:])}
	}
}

func TestAnEvalIsComparedWithItsBaselineWhenItEndsAndAWorseOneLeavesAnEvent(t *testing.T) {
	r := startChain(t)
	r.imports(t, "tiny", nil)
	first := r.evaluated(t, rightIn(28), forge.RunCompleted)
	q := api.SubmitRunRequest{Recipe: "judge2", Model: "tiny", Suite: "reasoning-offline", Baseline: "tiny@1"}
	same := r.evaluates(t, q, rightIn(28), forge.RunCompleted)
	q.Baseline = fmt.Sprint(first.Number)
	worse := r.evaluates(t, q, rightIn(3), forge.RunCompleted)

	e, err := evals{r.Daemon}.Eval(t.Context(), r.op, fmt.Sprint(same.Number))
	if err != nil || e.Comparison == nil || e.Comparison.Verdict != forge.CompareNonInferior || e.Comparison.Baseline.Eval != fmt.Sprint(first.Number) || len(e.Comparison.Benchmarks) != 2 {
		t.Errorf("%+v, %v", e.Comparison, err)
	}
	if r.events(t, same.ID, forge.EventEvalRegressed) != 0 {
		t.Error("an eval that is no worse left an event")
	}
	e, err = evals{r.Daemon}.Eval(t.Context(), r.op, fmt.Sprint(worse.Number))
	if err != nil || e.Comparison == nil || e.Comparison.Verdict != forge.CompareRegressed || e.Comparison.Benchmarks[0].Worse != 25 {
		t.Errorf("%+v, %v", e.Comparison, err)
	}
	if r.events(t, worse.ID, forge.EventEvalRegressed) != 1 {
		t.Error("an eval that is worse left no event")
	}

	// What is asked for later has the same numbers, and the words of what flipped.
	x, err := evals{r.Daemon}.CompareEvals(t.Context(), r.op, api.CompareFilter{Baseline: fmt.Sprint(first.Number), Candidate: fmt.Sprint(worse.Number), Flips: 3})
	if err != nil || x.Verdict != e.Comparison.Verdict || x.Benchmarks[0] != e.Comparison.Benchmarks[0] || len(x.Flips) != 3 {
		t.Fatalf("%+v, %v", x, err)
	}
	for _, f := range x.Flips {
		if !f.Worse || f.Prompt != fmt.Sprintf("question %d", f.DocID) || f.Target != "yes" || f.BaselineResponse != "said 1" || f.CandidateResponse != "said 0" {
			t.Errorf("%+v", f)
		}
	}
	if x, err := (evals{r.Daemon}).CompareEvals(t.Context(), r.op, api.CompareFilter{Baseline: "tiny@1", Candidate: "tiny@1", Suite: "reasoning-offline"}); err != nil || x.Candidate.Eval != fmt.Sprint(worse.Number) {
		t.Errorf("%+v, %v", x, err)
	}
}

// Evals of before there were columns are compared all the same: from their samples.
func TestColumnsAreWhatTheSamplesSay(t *testing.T) {
	r := startChain(t)
	r.imports(t, "tiny", nil)
	run := r.evaluated(t, rightIn(7), forge.RunCompleted)
	stored, err := r.evalSide(t.Context(), r.op, fmt.Sprint(run.Number))
	if err != nil || len(stored.Samples) != 2 || len(stored.Benchmarks) != 2 {
		t.Fatalf("%+v, %v", stored, err)
	}
	s := stored.Samples[0]
	if s.Task != "forge_logic" || s.Doc[0] != 0 || s.Doc[29] != 29 || s.Scores["acc"][6] != 1 || s.Scores["acc"][7] != 0 || s.Cluster != nil || s.Asked[0] == s.Asked[1] {
		t.Errorf("%+v", s)
	}
	db := r.db.For(r.op)
	e, err := db.Eval(t.Context(), fmt.Sprint(run.Number))
	if err != nil {
		t.Fatal(err)
	}
	kept, err := db.EvalColumns(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	if read, err := unpackedColumns(t.Context(), db, e); err != nil || fmt.Sprint(read) != fmt.Sprint(kept) {
		t.Errorf("%+v, %v; want %+v", read, err, kept)
	}
	if _, flips, err := r.compareEvals(t.Context(), r.op, fmt.Sprint(run.Number), fmt.Sprint(run.Number), gate.Options{Flips: 5}); err != nil || len(flips) != 0 {
		t.Errorf("%v, %v", flips, err)
	}
}

func TestABaselineThatNothingCouldBeComparedWithIsRefusedAtSubmit(t *testing.T) {
	r := startChain(t)
	r.imports(t, "tiny", nil)
	ask := func(baseline, suite string) api.SubmitRunRequest {
		return api.SubmitRunRequest{Recipe: "judge2", Model: "tiny", Suite: suite, Baseline: baseline, DryRun: true}
	}
	if _, err := (runs{r.Daemon}).SubmitRun(t.Context(), r.op, ask("tiny@1", "reasoning-offline")); forge.KindOf(err) != forge.KindNotFound || !strings.Contains(forge.HintOf(err), "forgectl eval run tiny@1 --suite reasoning-offline") {
		t.Errorf("%v", err)
	}
	run := r.evaluated(t, rightIn(7), forge.RunCompleted)
	r.refuses(t, ask(fmt.Sprint(run.Number), "quality-offline"), "baseline", "is of suite reasoning-offline")
	if got := r.asks(t, ask("tiny@1", "reasoning-offline")).Spec.Baseline; got == nil || got.ID != string(run.ID) || got.Model != "tiny@1" {
		t.Errorf("%+v", got)
	}
}

// sent is an eval as forgectl eval import sends it.
func sent(t *testing.T, right int, change func(h *api.EvalHead, samples *string)) (body []byte, digest string) {
	t.Helper()
	samples, _ := answers(right)
	h := api.EvalHead{Model: "tiny@1", Suite: "reasoning-offline", Called: "org/tiny", Files: []forge.EvalFile{{Name: "results_x.json", Bytes: 9, SHA256: "ab"}}}
	h.Facts = forge.EvalFacts{Harness: map[string]string{"lm_eval": "0.4.13"}, DType: "float32", Device: "cpu", BatchSize: 8}
	for _, a := range asked {
		h.Facts.Tasks = append(h.Facts.Tasks, forge.EvalTask{Task: a.task, Version: "1.0", Hash: "h", Original: 30, Effective: 30})
		h.Scores = append(h.Scores, forge.EvalScore{Task: a.task, Filter: a.filter, Metric: a.metric, Value: float64(right) / 30, N: 30, Higher: new(true), Aggregation: "mean"})
	}
	change(&h, &samples)
	sum := sha256.Sum256([]byte(samples))
	h.Facts.Samples, h.Facts.SamplesSHA = int64(strings.Count(samples, "\n")), hex.EncodeToString(sum[:])
	head, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(append(head, '\n'))
	_, _ = z.Write([]byte(samples))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	all := sha256.Sum256(out.Bytes())
	return out.Bytes(), hex.EncodeToString(all[:])
}

func TestAnEvalThatWasMadeElsewhereIsTakenOverAndSaysSo(t *testing.T) {
	r := startChain(t)
	v := r.imports(t, "tiny", nil)
	run := r.evaluated(t, rightIn(28), forge.RunCompleted)
	body, digest := sent(t, 28, func(*api.EvalHead, *string) {})
	e, err := evals{r.Daemon}.ImportEval(t.Context(), r.op, digest, bytes.NewReader(body))
	if err != nil || e.Name != "i1" || e.Run != "" || e.Imported == nil || e.Imported.By != r.op.Actor() || e.Imported.Called != "org/tiny" || e.Facts.ModelSHA256 != v.SHA256 || e.Facts.SuiteVersion != 1 {
		t.Fatalf("%+v, %v", e, err)
	}
	two, err := evals{r.Daemon}.ImportEval(t.Context(), r.op, digest, bytes.NewReader(body))
	if err != nil || two.Name != "i2" {
		t.Errorf("%+v, %v", two, err)
	}
	l, err := evals{r.Daemon}.Evals(t.Context(), r.op, api.EvalFilter{Model: "tiny@1"})
	if err != nil || len(l.Items) != 3 || l.Items[0].Name != "i2" || l.Items[2].Name != fmt.Sprint(run.Number) {
		t.Errorf("%+v, %v", l, err)
	}
	x, err := evals{r.Daemon}.CompareEvals(t.Context(), r.op, api.CompareFilter{Baseline: "i1", Candidate: "i2"})
	if err != nil || x.Verdict != forge.CompareNonInferior || len(x.Flips) != 0 {
		t.Errorf("%+v, %v", x, err)
	}
	newest, err := r.db.For(r.op).NewestEval(t.Context(), v.ID, e.Suite, e.SuiteSHA256)
	if err != nil || newest.ID != string(run.ID) {
		t.Errorf("a gate would take an imported eval: %+v, %v", newest, err)
	}
	if _, err := (evals{r.Daemon}).Eval(t.Context(), r.otherTenant(t), "i1"); forge.KindOf(err) != forge.KindNotFound {
		t.Errorf("another tenant sees it: %v", err)
	}
}

func TestAnImportThatDoesNotHoldIsRefusedWhoeverReadIt(t *testing.T) {
	r := startChain(t)
	r.imports(t, "tiny", nil)
	for name, c := range map[string]struct {
		change func(h *api.EvalHead, samples *string)
		says   string
	}{
		"a score that its samples do not give": {func(h *api.EvalHead, _ *string) { h.Scores[0].Value = 0.9 }, "forge_logic.acc,none: is 0.9, and the mean of its samples 0.9333"},
		"a sample that is gone":                {func(_ *api.EvalHead, s *string) { *s = (*s)[strings.Index(*s, "\n")+1:] }, "is over 30 samples, and they are not all there"},
		"a document twice":                     {func(_ *api.EvalHead, s *string) { *s = strings.Replace(*s, `"doc_id":29`, `"doc_id":28`, 1) }, "document 28 is there twice"},
		"another version of a task":            {func(h *api.EvalHead, _ *string) { h.Facts.Tasks[0].Version = "2.0" }, `is version "2.0" of the task`},
		"a part without a limit":               {func(h *api.EvalHead, _ *string) { h.Facts.Tasks[0].Original = 31 }, "has seen 30 of 31 samples"},
		"nothing seen":                         {func(h *api.EvalHead, _ *string) { h.Facts.Tasks[0].Effective = 0 }, "has seen 0 of 30 samples"},
		"a benchmark without score":            {func(h *api.EvalHead, _ *string) { h.Scores = h.Scores[:1] }, "have no forge_story exact_match (number)"},
		"samples without score": {func(_ *api.EvalHead, s *string) {
			*s += strings.Replace(scoredLine(0), "forge_logic", "forge_other", 1)
		}, "task forge_other (none) has 1 of them and no score"},
		"a sample without digest": {func(_ *api.EvalHead, s *string) { *s = strings.Replace(*s, `"doc_hash":"d29"`, `"doc_hash":""`, 1) }, "has no doc_hash"},
		"no files":                {func(h *api.EvalHead, _ *string) { h.Files = nil }, "files: are 0"},
		"another model":           {func(h *api.EvalHead, _ *string) { h.Model = "tiny@9" }, "tiny"},
	} {
		t.Run(name, func(t *testing.T) {
			body, digest := sent(t, 28, c.change)
			_, err := evals{r.Daemon}.ImportEval(t.Context(), r.op, digest, bytes.NewReader(body))
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v; want %s", err, c.says)
			}
		})
	}
	body, digest := sent(t, 28, func(*api.EvalHead, *string) {})
	for says, b := range map[string][]byte{"cannot be unpacked": body[:len(body)-20], "is no gzip": []byte("{}")} {
		if _, err := (evals{r.Daemon}).ImportEval(t.Context(), r.op, digest, bytes.NewReader(b)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v; want %s", err, says)
		}
	}
	if _, err := (evals{r.Daemon}).ImportEval(t.Context(), r.op, strings.Repeat("0", 64), bytes.NewReader(body)); err == nil || !strings.Contains(err.Error(), "has the digest "+digest) {
		t.Errorf("%v", err)
	}
	if l, err := (evals{r.Daemon}).Evals(t.Context(), r.op, api.EvalFilter{}); err != nil || len(l.Items) != 0 {
		t.Errorf("%+v, %v", l, err)
	}
}
