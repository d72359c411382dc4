package recipes_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/recipes"
)

const goodSuite = `name: mine
doc: Ours
version: 2
benchmarks:
  - {task: ours, metric: acc, direction: higher, threshold: 0.5, margin: 0.1}
`

const goodTask = `task: ours
dataset_path: json
dataset_kwargs: {data_files: {test: ours.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
`

// suiteAt writes a suite of files below a new directory.
func suiteAt(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mine")
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestSuites(t *testing.T) {
	builtin, err := recipes.BuiltinSuites()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("each of the four has a variant that runs anywhere, and every benchmark a threshold and a margin", func(t *testing.T) {
		for _, name := range []string{"default", "safety", "quality", "reasoning"} {
			online, err := builtin.Get(name)
			if err != nil || online.Offline || online.Path != "" {
				t.Errorf("%+v, %v", online, err)
			}
			offline, err := builtin.Get(name + "-offline")
			if err != nil || !offline.Offline || len(offline.Tasks()) < 2 {
				t.Errorf("%+v, %v", offline, err)
			}
		}
	})
	t.Run("a site's suite is added, and takes the place of a built-in one of its name", func(t *testing.T) {
		dir := filepath.Dir(suiteAt(t, map[string]string{"suite.yaml": goodSuite, "ours.yaml": goodTask, "ours.jsonl": "{}\n"}))
		with, err := builtin.With(dir)
		if err != nil {
			t.Fatal(err)
		}
		s, err := with.Get("mine")
		if err != nil || s.Path != filepath.Join(dir, "mine") || !s.Offline || s.Benchmarks[0].Filter != "none" || s.ChatTemplate != "never" || s.Version != 2 {
			t.Errorf("%+v, %v", s, err)
		}
		if err := os.WriteFile(filepath.Join(dir, "mine", "suite.yaml"), []byte(strings.Replace(goodSuite, "mine", "default", 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		if with, err = builtin.With(dir); err != nil {
			t.Fatal(err)
		}
		if s, _ := with.Get("default"); s.Doc != "Ours" || slices.Contains(with.Names(), "mine") {
			t.Errorf("%+v", s)
		}
	})
	t.Run("the digest covers every file, and is the number that the training package finds", func(t *testing.T) {
		files := map[string]string{"suite.yaml": goodSuite, "ours.yaml": goodTask, "ours.jsonl": "{\"question\": \"é\"}\n", ".hidden": "x", "__pycache__/x.pyc": "x"}
		s, err := recipes.ReadSuite(suiteAt(t, files))
		// recipes/python/tests/test_evaluate.py has the same digest of the same files
		if want := "3172025bfc72092431ce2c0bb86c33459f6cab214103130e07565e89c75e0f5e"; err != nil || s.SHA256 != want {
			t.Errorf("%s, %v; want %s", s.SHA256, err, want)
		}
		files["ours.jsonl"] += "{}\n"
		if other, err := recipes.ReadSuite(suiteAt(t, files)); err != nil || other.SHA256 == s.SHA256 {
			t.Errorf("other data, the same digest: %v", err)
		}
	})
	t.Run("a name that does not exist is answered with those that do", func(t *testing.T) {
		_, err := builtin.Get("defualt")
		if forge.KindOf(err) != forge.KindNotFound || forge.HintOf(err) != "did you mean default?" {
			t.Errorf("%v (%s)", err, forge.HintOf(err))
		}
	})
}

func TestASuiteThatCannotRunIsRefusedWithFileAndKey(t *testing.T) {
	for name, c := range map[string]struct{ file, old, new, says string }{
		"a benchmark without threshold":       {"suite.yaml", ", threshold: 0.5", "", "suite.yaml:5: is missing; say what the benchmark must reach"},
		"a benchmark without margin":          {"suite.yaml", ", margin: 0.1", "", "suite.yaml:5: is missing or below 0"},
		"a benchmark without direction":       {"suite.yaml", ", direction: higher", "", `"": want higher or lower`},
		"no version":                          {"suite.yaml", "version: 2\n", "", "0: want 1 or more"},
		"a key that does not exist":           {"suite.yaml", "doc: Ours", "doc: Ours\ncolour: red", "suite.yaml:3"},
		"a metric that the task has not":      {"suite.yaml", "metric: acc", "metric: f1", `task ours has no metric "f1"; it has acc`},
		"a filter that the task has not":      {"suite.yaml", "metric: acc", "metric: acc, filter: number", `task ours has no filter "number"; it has none`},
		"a task with a missing file":          {"ours.yaml", "test: ours.jsonl", "test: theirs.jsonl", `ours.yaml:3: there is no file "theirs.jsonl" in the suite`},
		"a task whose file lies outside":      {"ours.yaml", "test: ours.jsonl", "test: ../x.jsonl", "there is no file"},
		"a task with an unknown filter":       {"ours.yaml", "metric_list", "filter_list: [{name: a, filter: [{function: sieve}]}]\nmetric_list", `there is no filter "sieve"`},
		"a task with an unknown metric":       {"ours.yaml", "metric: acc", "metric: luck", `there is no metric "luck"`},
		"a task that brings code":             {"ours.yaml", `"{{question}}"`, "!function utils.text", "not allowed"},
		"a task whose data is on the network": {"ours.yaml", "dataset_path: json", "dataset_path: org/data", "reads json files that lie in the suite"},
		"a task of a split without a file":    {"ours.yaml", "test_split: test", "test_split: validation", "is no split of data_files"},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"suite.yaml": goodSuite, "ours.yaml": goodTask, "ours.jsonl": "{}\n"}
			changed := strings.Replace(files[c.file], c.old, c.new, 1)
			if changed == files[c.file] {
				t.Fatal("the test changes nothing")
			}
			files[c.file] = changed
			_, err := recipes.ReadSuite(suiteAt(t, files))
			if forge.KindOf(err) != forge.KindInvalid || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("%v; want %s", err, c.says)
			}
		})
	}
	t.Run("a link", func(t *testing.T) {
		dir := suiteAt(t, map[string]string{"suite.yaml": goodSuite, "ours.yaml": goodTask})
		if err := os.Symlink("/etc/passwd", filepath.Join(dir, "ours.jsonl")); err != nil {
			t.Fatal(err)
		}
		if _, err := recipes.ReadSuite(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%v", err)
		}
	})
	t.Run("what is no directory", func(t *testing.T) {
		if _, err := recipes.ReadSuite(filepath.Join(t.TempDir(), "none")); !strings.Contains(fmt.Sprint(err), "is not a directory") {
			t.Errorf("%v", err)
		}
	})
}
