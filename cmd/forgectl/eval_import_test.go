package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/recipes"
)

const harnessDate = "_2026-11-26T18-55-11.392023"

// harnessAt copies what lm_eval 0.4.13 wrote for the suite beside it, changed as a test wants it.
func harnessAt(t *testing.T, change func(name, text string) (string, string)) (string, recipes.Suite) {
	t.Helper()
	suite, err := recipes.ReadSuite("testdata/harness/suite")
	if err != nil {
		t.Fatal(err)
	}
	from, dir := "testdata/harness/0.4.13/org__tiny", t.TempDir()
	files, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(from, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		name, text := change(f.Name(), string(b))
		if name == "" {
			continue
		}
		if err := os.MkdirAll(filepath.Join(dir, "org__tiny"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "org__tiny", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, suite
}

func asWritten(name, text string) (string, string) { return name, text }

// readAll reads a harness's output as eval import does, and gives the lines that would be sent.
func readAll(dir string, suite recipes.Suite) (api.EvalHead, []api.TaskSample, error) {
	r, err := readHarness(dir, "", suite)
	if err != nil {
		return api.EvalHead{}, nil, err
	}
	var text bytes.Buffer
	if err := r.samples(&text); err != nil {
		return r.head, nil, err
	}
	var out []api.TaskSample
	for line := range bytes.Lines(text.Bytes()) {
		var s api.TaskSample
		if err := json.Unmarshal(line, &s); err != nil {
			return r.head, nil, err
		}
		out = append(out, s)
	}
	return r.head, out, nil
}

func TestWhatTheHarnessWroteIsReadWhole(t *testing.T) {
	dir, suite := harnessAt(t, asWritten)
	h, samples, err := readAll(dir, suite)
	if err != nil || len(h.Scores) != 2 || len(samples) != 8 || h.Facts.Samples != 8 || len(h.Files) != 3 || len(h.Lacks) != 0 {
		t.Fatalf("%+v, %d samples, %v", h, len(samples), err)
	}
	if s := h.Scores[0]; s.Task != "forge_logic" || s.Metric != "acc" || s.Filter != "none" || s.Value != 0.5 || s.N != 4 || s.StdErr == nil || !*s.Higher || s.Aggregation != "mean" {
		t.Errorf("%+v", s)
	}
	if f := h.Facts; f.Harness["lm_eval"] != "0.4.13" || f.DType != "float32" || f.BatchSize != 4 || f.Tasks[0].Version != "1.0" || f.Tasks[0].Hash == "" || f.Limit != 0 || h.MadeAt.Year() != 2026 {
		t.Errorf("%+v", f)
	}
	if s := samples[3]; s.Cluster != "a2" || s.DocID != 3 || len(s.DocHash) != 64 || !strings.Contains(s.Prompt, "Does it follow") || s.Metrics["acc"] != 0 && s.Metrics["acc"] != 1 {
		t.Errorf("%+v", s)
	}
	if samples[4].Cluster != "" || samples[4].Filter != "number" {
		t.Errorf("%+v", samples[4])
	}
}

// What releases before 0.4.3 wrote, made from what 0.4.13 did: other names, no digests, no filter, lists of arguments.
func TestWhatOlderReleasesWroteIsReadAndItsDigestsAreThoseOfNewerOnes(t *testing.T) {
	dir, suite := harnessAt(t, asWritten)
	_, want, err := readAll(dir, suite)
	if err != nil {
		t.Fatal(err)
	}
	old, _ := harnessAt(t, func(name, text string) (string, string) {
		if strings.HasPrefix(name, "results") {
			var doc map[string]json.RawMessage
			if err := json.Unmarshal([]byte(text), &doc); err != nil {
				t.Fatal(err)
			}
			for _, key := range []string{"task_hashes", "n-samples", "lm_eval_version", "transformers_version", "chat_template_sha", "model_name"} {
				delete(doc, key)
			}
			b, _ := json.Marshal(doc)
			return "results.json", string(b)
		}
		var out bytes.Buffer
		for line := range strings.Lines(text) {
			doc := line[strings.Index(line, `"doc": `)+len(`"doc": `) : strings.Index(line, `, "target": `)]
			var row map[string]json.RawMessage
			if err := json.Unmarshal([]byte(line), &row); err != nil {
				t.Fatal(err)
			}
			var named map[string]map[string]any
			if err := json.Unmarshal(row["arguments"], &named); err != nil {
				t.Fatal(err)
			}
			row["arguments"], _ = json.Marshal([][]any{{named["gen_args_0"]["arg_0"], named["gen_args_0"]["arg_1"]}})
			row["doc"] = json.RawMessage(doc)
			for _, key := range []string{"doc_hash", "prompt_hash", "target_hash", "filter", "metrics"} {
				delete(row, key)
			}
			b, _ := json.Marshal(row)
			out.Write(append(b, '\n'))
		}
		task := strings.TrimSuffix(strings.TrimPrefix(name, "samples_"), harnessDate+".jsonl")
		return "pretrained__org__tiny_" + task + ".jsonl", out.String()
	})
	h, got, err := readAll(old, suite)
	if err != nil || len(got) != len(want) || len(h.Lacks) < 4 || h.Facts.Tasks[0].Effective != 4 || h.Scores[0].N != 4 {
		t.Fatalf("%+v, %v", h, err)
	}
	for i := range want {
		if got[i].DocHash != want[i].DocHash || got[i].PromptHash != want[i].PromptHash || got[i].TargetHash != want[i].TargetHash || got[i].Filter != want[i].Filter {
			t.Errorf("%d: %+v; want %+v", i, got[i], want[i])
		}
	}
}

func TestWhatDoesNotHoldIsNamedByFileLineAndField(t *testing.T) {
	const logic = "samples_forge_logic" + harnessDate + ".jsonl"
	in := func(file, old, text string) func(string, string) (string, string) {
		return func(name, is string) (string, string) {
			if strings.HasPrefix(name, file) {
				if !strings.Contains(is, old) {
					t.Fatalf("%s does not have %q", name, old)
				}
				is = strings.Replace(is, old, text, 1)
			}
			return name, is
		}
	}
	for name, c := range map[string]struct {
		change      func(name, text string) (string, string)
		field, says string
	}{
		"results that are cut off": {func(name, text string) (string, string) {
			if strings.HasPrefix(name, "results") {
				text = text[:len(text)/2]
			}
			return name, text
		}, "results", "is not whole JSON"},
		"samples that are cut off": {func(name, text string) (string, string) {
			if name == logic {
				text = text[:len(text)-20]
			}
			return name, text
		}, "samples", logic + ":4: is not whole JSON"},
		"a sample that is gone": {func(name, text string) (string, string) {
			if name == logic {
				text = text[:strings.LastIndex(strings.TrimSpace(text), "\n")+1]
			}
			return name, text
		}, "doc_id", "3 samples of filter \"none\", and its scores are over 4"},
		"a sample too many": {func(name, text string) (string, string) {
			if name == logic {
				last := text[strings.LastIndex(strings.TrimSpace(text), "\n")+1:]
				text += strings.Replace(last, `"doc_id": 3`, `"doc_id": 9`, 1)
			}
			return name, text
		}, "doc_id", "more samples than scores"},
		"a document twice": {in(logic, `"doc_id": 1`, `"doc_id": 0`), "doc_id", logic + ":2: 0 (filter \"none\") is there twice"},
		"no samples": {func(name, text string) (string, string) {
			if name == logic {
				name = ""
			}
			return name, text
		}, "samples.forge_logic", "--log_samples"},
		"an empty file of samples": {func(name, text string) (string, string) {
			if name == logic {
				text = ""
			}
			return name, text
		}, "samples", "is empty"},
		"no samples seen":             {in("results", "\"effective\": 4", "\"effective\": 0"), "n-samples.forge_logic", "has seen 0 samples"},
		"a part, and no limit":        {in("results", "\"original\": 4", "\"original\": 9"), "n-samples.forge_logic", "4 of 9 samples, and no limit"},
		"another version of the task": {in("results", "\"forge_logic\": 1.0", "\"forge_logic\": 2.0"), "versions.forge_logic", `is "2.0"; suite small has version 1.0`},
		"a score that is no number":   {in("results", "\"acc,none\": 0.5", "\"acc,none\": NaN"), "results.forge_logic.acc,none", "want a number"},
		"a sample that is no number":  {in(logic, "\"acc\": ", "\"acc\": NaN, \"x\": "), "acc", logic + ":1: is NaN; want a number"},
		"a metric that is not there":  {in("results", "\"acc,none\"", "\"f1,none\""), "results.forge_logic.acc,none", "suite small asks for it"},
		"a field for clusters":        {in(logic, "\"author\": \"a1\", ", ""), "doc.author", logic + ":1: is missing: the suite groups samples by it"},
		"an unknown filter":           {in(logic, "\"filter\": \"none\"", "\"filter\": \"strict\""), "filter", "the results have no score of it"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, suite := harnessAt(t, c.change)
			_, _, err := readAll(dir, suite)
			var fe *forge.Error
			if !errors.As(err, &fe) || fe.Field != c.field || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v; want %s: %s", err, c.field, c.says)
			}
		})
	}
}
