package daemon

import (
	"encoding/json"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/recipes"
)

func TestOnlyWhatOurTrainingPackageLeavesIsLoadTested(t *testing.T) {
	module := func(name, recipe string) func(*forge.RunSpec) {
		return func(s *forge.RunSpec) { s.Recipe, s.Entry = recipe, forge.Entry{Module: name} }
	}
	for name, c := range map[string]struct {
		off  bool
		spec forge.RunSpec
		want bool
	}{
		"a training recipe":              {spec: script(1, module("forge_train.lora_sft", "lora_sft")), want: true},
		"not where the policy says no":   {off: true, spec: script(1, module("forge_train.lora_sft", "lora_sft"))},
		"not a program of the user's":    {spec: script(1)},
		"not a module of somebody else":  {spec: script(1, module("my_package.train", "lora_sft"))},
		"not an eval":                    {spec: script(1, module("forge_train.evaluate", "lora_sft"), func(s *forge.RunSpec) { s.Eval = true })},
		"not a recipe that leaves none":  {spec: script(1, module("forge_train.lora_sft", "script"))},
		"not a recipe that is gone away": {spec: script(1, module("forge_train.lora_sft", "gone"))},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, 1, func(o *Options) {
				if c.off {
					o.Config.Policy.LoadTest = new(false)
				}
			})
			r.launched(t, r.submit(t, c.spec).ID, 1)
			got := r.fake.Launches()[0].LoadTest
			if (got != nil) != c.want || got != nil && got.Module != "forge_train.load_test" {
				t.Errorf("load test %+v", got)
			}
		})
	}
}

func TestABundleNamesWhatARunIsMadeFromAndNothingOfItsSite(t *testing.T) {
	r := start(t, 1)
	q := r.inputsOf(t, chat, template)
	q.DryRun, q.SecretsFile, q.Register = false, "/home/ada/secrets.env", "bot"
	s, err := runs{r.Daemon}.SubmitRun(t.Context(), r.op, q)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundles{r.Daemon}.Bundle(t.Context(), r.op, string(s.Run.ID))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, site := range []string{"secrets.env", s.Run.Spec.Dataset.Path, s.Run.Spec.Base.Path, s.Run.Spec.Dataset.ID} {
		if strings.Contains(string(text), site) {
			t.Errorf("the bundle says %q: %s", site, text)
		}
	}
	want := s.Run.Spec
	if b.Format != api.BundleFormat || b.Spec.Dataset.SHA256 != want.Dataset.SHA256 || b.Spec.Base.SHA256 != want.Base.SHA256 || b.Spec.Register != "bot" ||
		recipes.CanonicalDigest(b.Spec.Params) != recipes.CanonicalDigest(want.Params) || b.Recipe == nil || b.Recipe.SHA256 != want.RecipeSHA256 || b.Card != "" {
		t.Errorf("%s", text)
	}
	if want.Dataset.Path == "" {
		t.Error("the run itself lost what its bundle leaves out")
	}
	if _, _, err := (bundles{r.Daemon}).Source(t.Context(), r.op, string(s.Run.ID)); forge.KindOf(err) != forge.KindPrecondition {
		t.Errorf("a run without a working directory: %v", err)
	}
	other := r.otherTenant(t)
	if _, err := (bundles{r.Daemon}).Bundle(t.Context(), other, string(s.Run.ID)); forge.KindOf(err) != forge.KindNotFound {
		t.Errorf("another tenant: %v", err)
	}
}

func TestARecipeThatHasChangedIsNotInTheBundle(t *testing.T) {
	r := start(t, 1)
	run := r.submit(t, script(1, func(s *forge.RunSpec) { s.RecipeSHA256 = "older" }))
	b, err := bundles{r.Daemon}.Bundle(t.Context(), r.op, string(run.ID))
	if err != nil || b.Recipe != nil || b.Spec.RecipeSHA256 != "older" {
		t.Errorf("%+v, %v", b, err)
	}
}
