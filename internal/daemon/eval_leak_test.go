package daemon

import (
	"encoding/json"
	"os"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/executortest"
)

// judged evaluates a model, and gives what is stored.
func (r *rig) judged(t *testing.T, model string) api.EvalDetail {
	t.Helper()
	run := r.asks(t, api.SubmitRunRequest{Recipe: "judge2", Model: model, Suite: "reasoning-offline"})
	key := r.launched(t, run.ID, 1)
	r.fake.Start(key)
	left := goodEval(run)
	text, err := json.Marshal(left.scores)
	if err != nil {
		t.Fatal(err)
	}
	r.fake.Leave(key, forge.StreamScores, string(text))
	r.fake.Leave(key, forge.StreamEvalSamples, left.samples)
	r.fake.Exit(key, executortest.Ending{Output: output(t, map[string]string{"scores.json": "{}"})}, 0)
	r.await(t, run.ID, "completed", inState(forge.RunCompleted))
	e, err := evals{r.Daemon}.Eval(t.Context(), r.op, string(run.ID))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestAnEvalSaysWhichOfItsQuestionsWereTrainedOn(t *testing.T) {
	r := startChain(t)
	r.imports(t, "tiny", nil)
	train := func(data, base, name string) {
		t.Helper()
		r.completes(t, r.asks(t, api.SubmitRunRequest{Recipe: "tune", Dataset: data, Base: base, Register: name, NoCheck: true}), wholeFiles)
	}
	r.licensed(t, "honest", askRow, "MIT")
	r.licensed(t, "leaky", `{"prompt": "lena has 12 pencils, and gives 5 to Max: how many has she left", "completion": "7"}`+"\n", "MIT")
	train("honest", "tiny", "one")
	train("leaky", "one", "two")
	train("honest", "two", "three")
	for model, want := range map[string]string{
		"tiny":  "",
		"one":   "none in honest@1",
		"two":   "1 of 60 questions are in leaky@1; none in honest@1",
		"three": "1 of 60 questions are in leaky@1; none in honest@1", // by what it went on from
	} {
		got := ""
		if l := r.judged(t, model).Facts.Leak; l != nil {
			got = l.Words()
		}
		if got != want {
			t.Errorf("%s: %q; want %q", model, got, want)
		}
	}
	v, err := r.db.For(r.op).DatasetVersion(t.Context(), forge.Ref{Name: "leaky"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(v.Manifest.Root); err != nil {
		t.Fatal(err)
	}
	if got := r.judged(t, "two").Facts.Leak.Words(); got != "none in honest@1; leaky@1 was not looked at: forged cannot read it, or it has changed" {
		t.Errorf("%q", got)
	}
}
