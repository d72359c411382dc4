package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/gate"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

// endsWell lets an eval end well.
func (r *rig) endsWell(t *testing.T, number int64) {
	t.Helper()
	r.endsWith(t, number, func(*leftEval) {})
}

// endsWith lets an eval end well, with what change makes of its files.
func (r *rig) endsWith(t *testing.T, number int64, change func(*leftEval)) {
	t.Helper()
	run, err := r.db.For(r.op).Run(t.Context(), fmt.Sprint(number))
	if err != nil {
		t.Fatal(err)
	}
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
	r.await(t, run.ID, "completed", inState(forge.RunCompleted))
}

// fires fires a schedule now, and gives back its firing.
func (r *rig) fires(t *testing.T, name string) forge.Firing {
	t.Helper()
	d, err := schedules{r.Daemon}.RunSchedule(t.Context(), r.op, name)
	if err != nil {
		t.Fatal(err)
	}
	return d.Firings[0]
}

// told waits for the verdict on the newest firing.
func (r *rig) told(t *testing.T, name string) forge.Firing {
	t.Helper()
	var f forge.Firing
	comesTrue(t, "the newest firing of "+name+" is judged", func() bool {
		kick(r.kickVerdicts)
		f = r.firings(t, name)[0]
		return !f.JudgedAt.IsZero()
	})
	return f
}

// comesTo is a comparison that comes to something.
func comesTo(v forge.CompareVerdict) forge.Comparison {
	c := forge.Comparison{Verdict: v}
	if v == forge.CompareIncomparable {
		c.Invalid = []forge.Invalidity{{Field: "limit", Why: "they did not see the same samples"}}
	} else {
		c.Benchmarks = []forge.BenchmarkComparison{{Task: "forge_logic", Metric: "acc", Baseline: 0.8, Candidate: 0.6, Verdict: v, Words: "worse by 0.2, p 0.001"}}
	}
	return c
}

// startJudged is a daemon whose comparisons the test decides; what was compared is written down.
func startJudged(t *testing.T) (*rig, *[]string, func(forge.CompareVerdict)) {
	t.Helper()
	r := startChain(t)
	var asked []string
	answer := make(chan forge.CompareVerdict, 1)
	judges := r.judging
	judges.compare = func(_ context.Context, _ forge.Principal, baseline, candidate string, _ gate.Options) (forge.Comparison, []forge.Flip, error) {
		asked = append(asked, baseline+" "+candidate)
		return comesTo(<-answer), nil, nil
	}
	r.judging = judges // nothing is judged yet
	return r, &asked, func(v forge.CompareVerdict) { answer <- v }
}

func TestARegressionBlocksAVersionUntilItIsFoundNoWorseOrCleared(t *testing.T) {
	r, asked, answer := startJudged(t)
	r.imports(t, "tiny", nil)
	v := r.imports(t, "tiny", map[string]string{"config.json": `{"architectures": ["LlamaForCausalLM"], "revision": 2}`})
	if v.Number != 2 {
		t.Fatalf("%+v", v)
	}
	r.schedules(t, r.op, func(q *api.AddScheduleRequest) {
		q.Run.Model, q.Baseline, q.OnRegression = "tiny@2", "tiny@1", forge.RegressionBlock
	})
	blocked := func(want int) string {
		t.Helper()
		words, err := r.blocks(t.Context(), r.op, v)
		if err != nil || len(words) != want {
			t.Fatalf("%q, %v; want %d", words, err, want)
		}
		return strings.Join(words, "")
	}
	// The baseline has no eval: it gets one first, and the second time that one is used.
	f := r.fires(t, "nightly")
	if f.Run != 2 || f.BaselineEval != "1" || f.Baseline != "tiny@1" || f.Model != "tiny@2" {
		t.Fatalf("%+v", f)
	}
	r.endsWell(t, 2)
	if _, waiting, err := r.db.OpenFirings(t.Context()); err != nil || waiting != 1 {
		t.Fatalf("the baseline's eval is waited for: %d, %v", waiting, err)
	}
	r.endsWell(t, 1)
	answer(forge.CompareRegressed)
	f = r.told(t, "nightly")
	if f.Verdict != forge.FiringVerdict(forge.CompareRegressed) || f.VerdictWords != "forge_logic acc 0.8 → 0.6 (worse by 0.2, p 0.001)" || (*asked)[0] != "1 2" {
		t.Fatalf("%+v, compared %q", f, *asked)
	}
	if words := blocked(1); !strings.Contains(words, "schedule nightly found tiny@2 worse") {
		t.Error(words)
	}
	page := httptest.NewRecorder()
	if r.meter.handler().ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil)); !strings.Contains(page.Body.String(), "\nforge_eval_regressions_total 1\n") {
		t.Error("the page of metrics does not count it")
	}
	events, err := r.db.For(r.op).Events(t.Context(), store.EventFilter{Types: []forge.EventType{forge.EventEvalRegressed}}, 0)
	if err != nil || len(events) != 1 || events[0].Number != 2 || events[0].Reason != "block" || events[0].Data["baseline_eval"] != "1" {
		t.Fatalf("%+v, %v", events, err)
	}
	if _, err := (schedules{r.Daemon}).RemoveSchedule(t.Context(), r.op, "nightly"); forge.KindOf(err) != forge.KindPrecondition || !strings.Contains(err.Error(), "blocks tiny@2") {
		t.Errorf("removed: %v", err)
	}
	for _, c := range []struct {
		verdict forge.CompareVerdict
		blocked int
	}{{forge.CompareInconclusive, 1}, {forge.CompareIncomparable, 1}, {forge.CompareNonInferior, 0}, {forge.CompareRegressed, 1}} {
		f := r.fires(t, "nightly")
		if f.BaselineEval != "1" {
			t.Fatalf("%+v", f)
		}
		r.endsWell(t, f.Run)
		answer(c.verdict)
		if f = r.told(t, "nightly"); f.Verdict != forge.FiringVerdict(c.verdict) {
			t.Fatalf("%+v", f)
		}
		blocked(c.blocked)
	}
	s, err := schedules{r.Daemon}.ClearSchedule(t.Context(), r.op, "nightly", "the suite had a typo")
	if err != nil || len(s.Blocks) != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	blocked(0)
	if f := r.firings(t, "nightly")[0]; f.Cleared != "admin" {
		t.Errorf("%+v", f)
	}
	if _, err := (schedules{r.Daemon}).RemoveSchedule(t.Context(), r.op, "nightly"); err != nil {
		t.Error(err)
	}
}

func TestAnEvalThatFailedOrHasNoBaselineIsMissingAndNoVerdict(t *testing.T) {
	r, asked, _ := startJudged(t)
	r.imports(t, "tiny", nil)
	r.schedules(t, r.op, func(q *api.AddScheduleRequest) { q.Baseline = "tiny@previous" })
	f := r.fires(t, "nightly")
	if f.Words != "nothing is compared: there is no tiny@previous" {
		t.Errorf("%+v", f)
	}
	run, err := r.db.For(r.op).Run(t.Context(), fmt.Sprint(f.Run))
	if err != nil {
		t.Fatal(err)
	}
	r.cancels(t, run)
	r.await(t, run.ID, "cancelled", func(x forge.Run) bool {
		for _, key := range r.fake.Live() {
			r.fake.Finish(key, 1)
		}
		return x.State == forge.RunCancelled
	})
	if f := r.told(t, "nightly"); f.Verdict != forge.FiringMissing || !strings.HasPrefix(f.VerdictWords, fmt.Sprintf("run %d cancelled", f.Run)) || len(*asked) != 0 {
		t.Errorf("%+v, compared %q", f, *asked)
	}
}

func TestARollbackBringsBackTheBaselineAndNothingElse(t *testing.T) {
	r := still(t)
	tenant := r.db.For(r.op)
	v := make([]forge.ModelVersion, 4)
	for i := 1; i < 4; i++ {
		v[i] = r.imports(t, "tiny", map[string]string{"config.json": fmt.Sprintf(`{"architectures": ["LlamaForCausalLM"], "revision": %d}`, i)})
	}
	boss, err := users{r.Daemon}.CreateUser(t.Context(), r.op, api.CreateUserRequest{Name: "boss", Role: forge.RoleAdmin})
	if err != nil {
		t.Fatal(err)
	}
	maker := forge.Principal{Tenant: r.op.Tenant, Home: r.op.Tenant, User: "boss", UserID: boss.ID, Role: forge.RoleAdmin}
	r.schedules(t, maker, func(q *api.AddScheduleRequest) { q.Baseline, q.OnRegression = "tiny@1", forge.RegressionRollback })
	s, err := tenant.Schedule(t.Context(), "nightly")
	if err != nil {
		t.Fatal(err)
	}
	f := store.OpenFiring{Schedule: s, Firing: forge.Firing{Run: 7, Model: "tiny@2", ModelID: v[2].ID, Baseline: "tiny@1", BaselineEval: "5", Due: time.Now()}}
	says := func(want string, in forge.ModelVersion) {
		t.Helper()
		words, err := r.rollBackFor(t.Context(), f)
		if err != nil || words != want {
			t.Fatalf("%q, %v; want %q", words, err, want)
		}
		if got, err := tenant.ModelVersion(t.Context(), forge.Ref{Name: "tiny", Label: "production"}); err == nil && got.ID != in.ID || err != nil && in.ID != "" {
			t.Fatalf("in production is %s@%d, %v", got.Name, got.Number, err)
		}
	}
	says("not rolled back: tiny@2 is not in production", v[0])
	storetest.Move(t, tenant, v[3].ID, forge.StageProduction)
	storetest.Move(t, tenant, v[2].ID, forge.StageProduction)
	says("not rolled back: tiny@3 would come back, and what it is worse than is tiny@1", v[2])
	f.Baseline = "tiny@3"
	if _, err := (users{r.Daemon}).UpdateUser(t.Context(), r.op, "boss", api.UpdateUserRequest{Role: ptrTo(forge.RoleMember)}); err != nil {
		t.Fatal(err)
	}
	says("not rolled back: boss, who made it, is member now, and rolls nothing back", v[2])
	if _, err := (users{r.Daemon}).UpdateUser(t.Context(), r.op, "boss", api.UpdateUserRequest{Role: ptrTo(forge.RoleAdmin)}); err != nil {
		t.Fatal(err)
	}
	says("rolled back: tiny@3 is in production again", v[3])
	says("not rolled back: tiny@2 is not in production", v[3]) // as a forged that was killed before it wrote the verdict down would
}

// Nothing of the comparison is made up here: samples come in with the evals, and the verdict is what their pairs say.
func TestASchedulesVerdictIsThatOfTheEvalsThemselves(t *testing.T) {
	r := startChain(t)
	r.imports(t, "tiny", nil)
	v := r.imports(t, "tiny", map[string]string{"config.json": `{"architectures": ["LlamaForCausalLM"], "revision": 2}`})
	baseline := r.evaluates(t, api.SubmitRunRequest{Recipe: "judge2", Model: "tiny@1", Suite: "reasoning-offline"}, rightIn(28), forge.RunCompleted)
	r.schedules(t, r.op, func(q *api.AddScheduleRequest) {
		q.Run.Model, q.Baseline, q.OnRegression = "tiny@2", "tiny@1", forge.RegressionBlock
	})
	blockedBy := func() forge.RuleResult {
		t.Helper()
		p, err := registry{r.Daemon}.PromoteModel(t.Context(), r.op, forge.Ref{Name: "tiny", Number: v.Number}, api.PromoteRequest{DryRun: true})
		if err != nil || p.Report.Rules[0].Rule != forge.RuleBlocked {
			t.Fatalf("%+v, %v", p, err)
		}
		return p.Report.Rules[0]
	}
	for _, c := range []struct {
		what    string
		change  func(*leftEval)
		verdict forge.CompareVerdict
		words   string
		blocked forge.GateVerdict
	}{
		{"as good", rightIn(28), forge.CompareNonInferior, "", forge.GatePass},
		{"25 of 30 answers lost", rightIn(3), forge.CompareRegressed, "forge_logic acc 0.9333 → 0.1 (", forge.GateFail},
		{"in another number format", func(l *leftEval) { rightIn(28)(l); l.scores["dtype"] = "bfloat16" }, forge.CompareIncomparable, "dtype: ", forge.GateFail},
		{"a few answers lost", rightIn(25), forge.CompareInconclusive, "forge_logic acc 0.9333 → 0.8333 (", forge.GateFail},
		{"as good again", rightIn(28), forge.CompareNonInferior, "", forge.GatePass},
	} {
		t.Run(c.what, func(t *testing.T) {
			f := r.fires(t, "nightly")
			if f.BaselineEval != fmt.Sprint(baseline.Number) {
				t.Fatalf("%+v", f)
			}
			r.endsWith(t, f.Run, c.change)
			f = r.told(t, "nightly")
			if f.Verdict != forge.FiringVerdict(c.verdict) || !strings.HasPrefix(f.VerdictWords, c.words) {
				t.Errorf("%s: %s; want %s: %s", f.Verdict, f.VerdictWords, c.verdict, c.words)
			}
			if x := blockedBy(); x.Verdict != c.blocked {
				t.Errorf("%+v", x)
			}
		})
	}
}
