package recipes_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/recipes"
)

const minimal = `name: mine
doc: A recipe of the site
entry: {command: [python, train.py]}
`

func library(t testing.TB) recipes.Library {
	t.Helper()
	l, err := recipes.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func site(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, body := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestBuiltin(t *testing.T) {
	r, err := library(t).Get("lora_sft")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("lora_sft says what the daemon needs to run it", func(t *testing.T) {
		if r.Entry.Module != "forge_train.lora_sft" || r.Launch != forge.LaunchRank || !r.NeedsBase || !r.NeedsDataset || !r.Output {
			t.Errorf("got %+v", r)
		}
		for _, k := range []forge.DatasetKind{forge.KindMessages, forge.KindText, forge.KindPromptCompletion} {
			if !r.Accepts(k) {
				t.Errorf("does not accept %s", k)
			}
		}
		if r.Accepts(forge.KindPreference) {
			t.Error("accepts preference data")
		}
		if r.Gang.Nodes != 1 || r.Gang.GPUsPerNode != 1 || r.Limits.Grace.D() != forge.DefaultGrace || r.Limits.TimeLimit.D() != 24*time.Hour {
			t.Errorf("defaults: %+v %+v", r.Gang, r.Limits)
		}
		if len(r.SHA256) != 64 {
			t.Errorf("digest %q", r.SHA256)
		}
	})
	t.Run("every training module is part of the package", func(t *testing.T) {
		dir, err := recipes.ExtractPython(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range library(t).Names() {
			r, err := library(t).Get(name)
			if err != nil {
				t.Fatal(err)
			}
			if r.Entry.Module == "" {
				continue
			}
			if _, err := os.Stat(filepath.Join(dir, strings.ReplaceAll(r.Entry.Module, ".", "/")+".py")); err != nil {
				t.Error(err)
			}
		}
	})
	for _, name := range []string{"dpo", "reward"} {
		t.Run(name+" takes preference pairs, and names what it reports", func(t *testing.T) {
			r, err := library(t).Get(name)
			if err != nil {
				t.Fatal(err)
			}
			if !r.Accepts(forge.KindPreference) || r.Accepts(forge.KindMessages) || !r.NeedsBase || !r.Output || len(r.Metrics) < 10 {
				t.Errorf("got %+v", r)
			}
			if p, _ := r.Param("train.learning_rate"); p.Default == 2e-4 {
				t.Error("the recipe's own learning rate did not go over the fragment's")
			}
		})
	}
	t.Run("rlhf's own words on several parameters of fragments stand in their places, and nothing else is lost", func(t *testing.T) {
		r, err := library(t).Get("rlhf")
		if err != nil {
			t.Fatal(err)
		}
		if !r.RewardModel || !r.Workdir || !r.Accepts(forge.KindPrompt) || r.Accepts(forge.KindPreference) {
			t.Errorf("got %+v", r)
		}
		seen := map[string]int{}
		for _, p := range r.Params {
			seen[p.Name]++
		}
		for _, name := range []string{"train.learning_rate", "train.batch_size", "train.max_length", "train.max_steps", "train.parallel", "generation.backend", "rlhf.algorithm"} {
			if seen[name] != 1 {
				t.Errorf("%s is there %d times", name, seen[name])
			}
		}
		if p, _ := r.Param("train.batch_size"); p.Unit != "answers per GPU" {
			t.Errorf("the fragment's own word stands: %+v", p)
		}
	})
	t.Run("a caller's change does not reach the library", func(t *testing.T) {
		r.Params[0].Name, r.Datasets[0] = "broken", "broken"
		again, err := library(t).Get("lora_sft")
		if err != nil || again.Params[0].Name == "broken" || again.Datasets[0] == "broken" {
			t.Errorf("got %v, %v", again.Params[0], err)
		}
	})
	t.Run("an unknown recipe names those that exist and the nearest", func(t *testing.T) {
		_, err := library(t).Get("lora-sft")
		var fe *forge.Error
		if !errors.As(err, &fe) || fe.Kind != forge.KindNotFound || !strings.Contains(err.Error(), "there are: dpo, eval, lora_sft") || !strings.Contains(fe.Hint, "lora_sft") {
			t.Errorf("got %#v", err)
		}
	})
}

func TestSiteRecipes(t *testing.T) {
	t.Run("are added to the built-in ones, with the defaults of what they leave out", func(t *testing.T) {
		l, err := library(t).With(site(t, map[string]string{"mine.yaml": minimal, "README.md": "not a recipe"}))
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Names(); !slices.Contains(got, "lora_sft") || !slices.Contains(got, "mine") || l.Site("lora_sft") || !l.Site("mine") {
			t.Fatalf("names %v", got)
		}
		r, _ := l.Get("mine")
		if r.Launch != forge.LaunchRank || r.Gang != (forge.Gang{Nodes: 1, GPUsPerNode: 1, CPUsPerGPU: 1}) || r.Limits.StartTimeout.D() != forge.DefaultStartTimeout {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("replace a built-in one of the same name", func(t *testing.T) {
		base := library(t)
		l, err := base.With(site(t, map[string]string{"x.yaml": strings.Replace(minimal, "mine", "lora_sft", 1)}))
		if err != nil {
			t.Fatal(err)
		}
		if r, _ := l.Get("lora_sft"); r.Doc != "A recipe of the site" {
			t.Errorf("got %q", r.Doc)
		}
		if r, _ := base.Get("lora_sft"); r.Doc == "A recipe of the site" {
			t.Error("the library that it was added to has changed")
		}
	})
	t.Run("durations take Slurm's forms", func(t *testing.T) {
		l, err := library(t).With(site(t, map[string]string{"x.yaml": minimal + "limits: {time_limit: 1-12:00:00, grace: 90s, stall_timeout: 90}\n"}))
		if err != nil {
			t.Fatal(err)
		}
		r, _ := l.Get("mine")
		if r.Limits.TimeLimit.D() != 36*time.Hour || r.Limits.Grace.D() != 90*time.Second || r.Limits.StallTimeout.D() != 90*time.Minute {
			t.Errorf("got %+v", r.Limits)
		}
	})
	t.Run("are for training unless they say that they are for evals", func(t *testing.T) {
		digests := map[string]bool{}
		for kind, want := range map[string]recipes.Kind{"": recipes.KindTrain, "kind: train\n": recipes.KindTrain, "kind: eval\n": recipes.KindEval} {
			l, err := library(t).With(site(t, map[string]string{"x.yaml": minimal + kind}))
			if err != nil {
				t.Fatal(err)
			}
			r, _ := l.Get("mine")
			digests[r.SHA256] = true
			if r.Kind != want {
				t.Errorf("%q gives %q", kind, r.Kind)
			}
		}
		if len(digests) != 2 {
			t.Errorf("%d digests of two kinds", len(digests))
		}
	})
	t.Run("the digest follows the meaning and not the spelling", func(t *testing.T) {
		digest := func(body string) string {
			l, err := library(t).With(site(t, map[string]string{"x.yaml": body}))
			if err != nil {
				t.Fatal(err)
			}
			r, _ := l.Get("mine")
			return r.SHA256
		}
		p := "params:\n  - {name: a.b, type: int, default: 1, doc: A}\n"
		if digest(minimal+p) != digest("# note\n"+p+minimal) {
			t.Error("order and comments change it")
		}
		if digest(minimal+p) == digest(minimal+strings.Replace(p, "1", "2", 1)) {
			t.Error("another default does not change it")
		}
	})
	t.Run("a checkpoint means the same while the program and its parameters are the same", func(t *testing.T) {
		work := func(body string) string {
			l, err := library(t).With(site(t, map[string]string{"x.yaml": body}))
			if err != nil {
				t.Fatal(err)
			}
			r, _ := l.Get("mine")
			return r.WorkSHA256()
		}
		const p, q = "params:\n  - {name: a.b, type: int, default: 1, min: 0, doc: A}\n", "  - {name: a.c, type: int, default: 1, doc: C}\n"
		is := work(minimal + p)
		for what, body := range map[string]string{
			"the words of a parameter": minimal + strings.Replace(p, "doc: A", "doc: Something else", 1),
			"the words of the recipe":  strings.Replace(minimal, "A recipe of the site", "Other words", 1) + p,
			"a default limit":          minimal + p + "limits: {time_limit: 2h}\n",
		} {
			if work(body) != is {
				t.Errorf("%s changes it", what)
			}
		}
		for what, body := range map[string]string{
			"another default":   minimal + strings.Replace(p, "default: 1", "default: 2", 1),
			"another bound":     minimal + strings.Replace(p, "min: 0", "min: 1", 1),
			"another type":      minimal + strings.Replace(p, "int", "float", 1),
			"another parameter": minimal + p + q,
			"another launch":    minimal + p + "launch: node\n",
		} {
			if work(body) == is {
				t.Errorf("%s does not change it", what)
			}
		}
	})
}

func TestBadRecipes(t *testing.T) {
	param := func(s string) string { return minimal + "params:\n  - " + s + "\n" }
	for _, c := range []struct{ name, body, field, line, want string }{
		{"an unknown key", minimal + "colour: red\n", "colour", ":4:", "unknown field"},
		{"a key given twice", minimal + "name: other\n", "name", ":4:", "already defined"},
		{"a parameter's key given twice", param("{name: a, type: int, type: int, default: 1, doc: A}"), "type", ":5:", "already defined"},
		{"broken YAML", "name: [\n", "recipe", ":1:", ""},
		{"a value of the wrong type", minimal + "needs_base: 3\n", "needs_base", ":4:", "want true or false"},
		{"a map where a list should be", minimal + "params: {a: 1}\n", "params", ":4:", "sequence is expected"},
		{"a word where a number should be", minimal + "gang:\n  nodes: two\n", "gang.nodes", ":5:", "want a whole number"},
		{"no document", "# nothing\n", "recipe", "", "0 YAML documents"},
		{"two documents", minimal + "---\n" + minimal, "recipe", "", "2 YAML documents"},
		{"an anchor", minimal + "datasets: &a [text]\n", "recipe", ":4:", "anchors"},
		{"a name that is no name", strings.Replace(minimal, "mine", "My Recipe", 1), "name", ":1:", "a-z"},
		{"an unknown kind", minimal + "kind: test\n", "kind", ":4:", "want train, eval or scan"},
		{"no doc", "name: a\nentry: {module: a}\n", "doc", "x.yaml", "say in a line"},
		{"no entry", "name: a\ndoc: A\n", "entry", "x.yaml", "a module or a command"},
		{"two entries", "name: a\ndoc: A\nentry: {module: a, command: [b]}\n", "entry", ":3:", "give one"},
		{"a module that is no module", "name: a\ndoc: A\nentry: {module: a/b.py}\n", "entry.module", ":3:", "dotted name"},
		{"an unknown launch mode", minimal + "launch: gpu\n", "launch", ":4:", "rank (one process per GPU) or node"},
		{"an unknown kind of dataset", minimal + "datasets:\n  - text\n  - csv\n", "datasets[1]", ":6:", "messages"},
		{"needs a dataset of no kind", minimal + "needs_dataset: true\n", "datasets", "x.yaml", "list the kinds"},
		{"a gang of no nodes", minimal + "gang: {nodes: 0}\n", "gang.nodes", ":4:", "want 1 to"},
		{"negative memory", minimal + "gang: {memory_mib_per_gpu: -1}\n", "gang.memory_mib_per_gpu", ":4:", "want 0 to"},
		{"a duration that is none", minimal + "limits:\n  grace: soon\n", "limits.grace", ":5:", `"36h"`},
		{"a negative duration", minimal + "limits: {grace: -5s}\n", "limits.grace", ":4:", "negative"},
		{"a parameter without a name", param("{type: int, default: 1, doc: A}"), "params[0].name", ":5:", "dotted words"},
		{"a parameter of an unknown type", param("{name: a, type: number, default: 1, doc: A}"), "params[0].type", ":5:", "int, float, bool, string, enum, list"},
		{"a parameter without a default", param("{name: a, type: int, doc: A}"), "params[0].default", ":5:", "missing"},
		{"a parameter without doc", param("{name: a, type: int, default: 1}"), "params[0].doc", ":5:", "say in a line"},
		{"a default of another type", param(`{name: a, type: int, default: "1", doc: A}`), "params[0].default", ":5:", "want a whole number"},
		{"a default out of range", param("{name: a, type: int, default: 9, max: 8, doc: A}"), "params[0].default", ":5:", "at most 8"},
		{"bounds the wrong way round", param("{name: a, type: int, default: 9, min: 8, max: 7, doc: A}"), "params[0].min", ":5:", "above its max 7"},
		{"bounds of text", param("{name: a, type: string, default: x, min: 8, doc: A}"), "params[0]", ":5:", "no min and max"},
		{"a bound that is not finite", param("{name: a, type: float, default: 1, max: .inf, doc: A}"), "params[0]", ":5:", "finite"},
		{"an enum of nothing", param("{name: a, type: enum, default: x, doc: A}"), "params[0].enum", ":5:", "list the values"},
		{"an enum's default outside of it", param("{name: a, type: enum, enum: [y], default: x, doc: A}"), "params[0].default", ":5:", "want one of y"},
		{"values of a type that is no enum", param("{name: a, type: string, enum: [x], default: x, doc: A}"), "params[0].enum", ":5:", "want type enum"},
		{"a parameter declared twice", param("{name: a, type: int, default: 1, doc: A}\n  - {name: a, type: int, default: 1, doc: A}"), "params[1].name", ":6:", "twice"},
		{"a parameter that is also a group", param("{name: a.b, type: int, default: 1, doc: A}\n  - {name: a, type: int, default: 1, doc: A}"), "params[1].name", ":6:", "group"},
	} {
		t.Run(c.name+" is refused with file, line and field", func(t *testing.T) {
			dir := site(t, map[string]string{"x.yaml": c.body})
			_, err := library(t).With(dir)
			var fe *forge.Error
			if !errors.As(err, &fe) || fe.Kind != forge.KindInvalid {
				t.Fatalf("got %v", err)
			}
			if fe.Field != c.field {
				t.Errorf("field %q, want %q (%v)", fe.Field, c.field, err)
			}
			for _, want := range []string{filepath.Join(dir, "x.yaml"), c.line, c.want} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

func TestBadRecipeDirectories(t *testing.T) {
	refused := func(t *testing.T, dir, want string) {
		t.Helper()
		_, err := library(t).With(dir)
		if forge.KindOf(err) != forge.KindInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	t.Run("a directory that is not there", func(t *testing.T) { refused(t, "/nowhere/recipes", "/nowhere/recipes") })
	t.Run("two files with one name", func(t *testing.T) {
		refused(t, site(t, map[string]string{"a.yaml": minimal, "b.yaml": minimal}), "a.yaml")
	})
	t.Run("a .yml file, which would be silently passed over", func(t *testing.T) {
		refused(t, site(t, map[string]string{"a.yml": minimal}), "end in .yaml")
	})
	t.Run("a file larger than a recipe can be", func(t *testing.T) {
		refused(t, site(t, map[string]string{"a.yaml": "#" + strings.Repeat("x", recipes.MaxRecipeBytes)}), "larger than 256 KiB")
	})
	t.Run("a directory named like a recipe", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "a.yaml"), 0o700); err != nil {
			t.Fatal(err)
		}
		refused(t, dir, "not a regular file")
	})
}

func FuzzRecipe(f *testing.F) {
	f.Add(minimal)
	f.Add(minimal + "params:\n  - {name: a.b, type: list, default: [1, x], doc: A}\n")
	f.Add("name: &a [*a]\n")
	f.Add("a: !!binary x\n? b\n: - c\n")
	base := library(f)
	f.Fuzz(func(t *testing.T, body string) {
		l, err := base.With(site(t, map[string]string{"x.yaml": body}))
		if err != nil {
			if forge.KindOf(err) != forge.KindInvalid {
				t.Fatalf("kind %s: %v", forge.KindOf(err), err)
			}
			return
		}
		for _, name := range l.Names() {
			r, err := l.Get(name)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := r.Resolve(nil, nil); err != nil {
				t.Fatalf("defaults of an accepted recipe do not resolve: %v", err)
			}
		}
	})
}
