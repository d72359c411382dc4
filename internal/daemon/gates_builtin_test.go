package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// answersSuite leaves what an eval of a suite with its data leaves, each question asked; of each task the first so many are wrong.
func (r *rig) answersSuite(t *testing.T, name string, wrong int) func(*leftEval) {
	t.Helper()
	s, err := r.live().suites.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := r.live().suites.Rows(name)
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, x := range rows {
		n[x.Task]++
	}
	var text strings.Builder
	var tasks []any
	for _, b := range s.Benchmarks {
		for doc := range n[b.Task] {
			score := 1
			if doc < wrong {
				score = 0
			}
			fmt.Fprintf(&text, `{"task":%q,"filter":%q,"doc_id":%d,"doc_hash":"d%d","prompt_hash":"p","target_hash":"t","metrics":{%q:%d},"target":"yes","response":"said %d","prompt":"question %d"}`+"\n",
				b.Task, b.Filter, doc, doc, b.Metric, score, score, doc)
		}
		tasks = append(tasks, map[string]any{"task": b.Task, "version": "1.0", "task_hash": "h", "n_shot": 0, "n_samples": map[string]any{"original": n[b.Task], "effective": n[b.Task]},
			"scores": []any{map[string]any{"metric": b.Metric, "filter": b.Filter, "value": 1 - float64(wrong)/float64(n[b.Task]), "stderr": nil, "n": n[b.Task], "higher_is_better": true, "aggregation": "mean"}}})
	}
	sum := sha256.Sum256([]byte(text.String()))
	return func(l *leftEval) {
		l.samples, l.scores["tasks"] = text.String(), tasks
		l.scores["samples"] = map[string]any{"count": len(rows), "bytes": text.Len(), "sha256": hex.EncodeToString(sum[:])}
	}
}

// The rules of a site that says nothing can be passed, with what any site has: a registered dataset, a run and two evals.
func TestAModelThatWasTrainedHereCanPassTheBuiltInGatesAndAWorseOneCannot(t *testing.T) {
	r := startChain(t)
	r.imports(t, "tiny", nil)
	r.licensed(t, "honest", askRow, "MIT")
	s := registry{r.Daemon}
	trains := func(version, wrong int) forge.Ref {
		t.Helper()
		r.completes(t, r.asks(t, api.SubmitRunRequest{Recipe: "tune", Dataset: "honest", Base: "tiny", Register: "bot", NoCheck: true}), wholeFiles)
		ref := forge.Ref{Name: "bot", Number: version}
		for _, suite := range []string{"default-offline", "safety-offline"} {
			r.evaluates(t, api.SubmitRunRequest{Recipe: "judge2", Model: ref.String(), Suite: suite}, r.answersSuite(t, suite, wrong), forge.RunCompleted)
		}
		return ref
	}
	promotes := func(ref forge.Ref) forge.GateReport {
		t.Helper()
		p, err := s.PromoteModel(t.Context(), r.op, ref, api.PromoteRequest{})
		var no *forge.GateRefusal
		if errors.As(err, &no) {
			return no.Report
		}
		if err != nil {
			t.Fatal(err)
		}
		return *p.Report
	}
	passes := func(ref forge.Ref) (last forge.GateReport) {
		t.Helper()
		for _, to := range []forge.Stage{forge.StageCandidate, forge.StageProduction} {
			if last = promotes(ref); last.Verdict != forge.GatePass || last.To != to || last.Policy != "default."+string(to) {
				t.Fatalf("%s to %s: %+v", ref, to, last)
			}
		}
		return last
	}
	of := func(report forge.GateReport, rule forge.RuleName, on string) forge.RuleResult {
		t.Helper()
		for _, x := range report.Rules {
			if x.Rule == rule && x.On == on {
				return x
			}
		}
		t.Fatalf("no rule %s on %q: %+v", rule, on, report.Rules)
		return forge.RuleResult{}
	}
	passes(trains(1, 0))
	// The second is as good; that so few questions do not settle it is said, and keeps nobody out.
	if x := of(passes(trains(2, 0)), forge.RuleRegression, "safety-offline"); x.Comparison.Verdict != forge.CompareInconclusive || !strings.Contains(x.Words, "the policy only warns of that") {
		t.Errorf("%+v", x)
	}
	worse := trains(3, 12)
	if _, err := s.PromoteModel(t.Context(), r.op, worse, api.PromoteRequest{Force: true, Reason: "to see"}); err != nil {
		t.Fatal(err)
	}
	report := promotes(worse)
	if x := of(report, forge.RuleRegression, "default-offline"); report.Verdict != forge.GateFail || report.To != forge.StageProduction || x.Verdict != forge.GateFail || x.Comparison.Verdict != forge.CompareRegressed {
		t.Errorf("%+v", report)
	}
	if x := of(report, forge.RuleOverlap, "default-offline"); x.Verdict != forge.GatePass || len(x.Overlaps) != 1 {
		t.Errorf("%+v", x)
	}
}
