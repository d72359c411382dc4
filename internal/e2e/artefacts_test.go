//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// TestWhatARunLeavesIsLoadedBeforeItCountsAndCanBeMadeAgain: a real adapter passes its load test, one whose base is gone does not, and
// the bundle of the first one is submitted again.
func TestWhatARunLeavesIsLoadedBeforeItCountsAndCanBeMadeAgain(t *testing.T) {
	ctx, s, tiny := openForTraining(t)
	train := func(args ...string) string {
		var out api.Submitted
		must(t, s.CtlJSON(ctx, &out, slices.Concat([]string{"run", "submit", "lora_sft", "--dataset", "chat@1", "--base", "tiny", "--set", "train.batch_size=4"}, args)...))
		return string(out.Run.ID)
	}

	good := until(t, ctx, s, train("--set", "train.max_steps=4", "--register", "bot"), "ended", ended)
	if good.State != forge.RunCompleted || good.Model != "bot@1" {
		t.Fatalf("%s %s: %s", good.State, good.Reason, good.Attempts[0].Detail)
	}
	output := filepath.Join(good.Attempts[0].RunDir, "attempts", "0001", "output")
	var report struct {
		Loaded []struct {
			Kind   string `json:"kind"`
			Tokens []int  `json:"tokens"`
		} `json:"loaded"`
		Seconds float64 `json:"seconds"`
	}
	text, err := os.ReadFile(filepath.Join(output, "load_test.json"))
	must(t, err)
	must(t, json.Unmarshal(text, &report))
	if len(report.Loaded) != 1 || report.Loaded[0].Kind != "adapter" || len(report.Loaded[0].Tokens) == 0 {
		t.Errorf("%s", text)
	}
	t.Logf("the load test took %.1f s", report.Seconds)
	var bot forge.Model
	must(t, s.CtlJSON(ctx, &bot, "model", "show", "bot"))
	for _, name := range []string{"load_test.json", "README.md", "adapter_model.safetensors"} {
		if !slices.ContainsFunc(bot.Versions[0].Manifest.Files, func(f forge.File) bool { return f.Path == name }) {
			t.Errorf("%s is no part of the version that was registered", name)
		}
	}

	bundle := filepath.Join(s.Dir, "run.tar")
	_, err = s.Ctl(ctx, "run", "export", string(good.ID), "--to", bundle, "--with-data")
	must(t, err)
	names, err := exec.CommandContext(ctx, "tar", "-tf", bundle).Output()
	must(t, err)
	if want := "README.md\nbundle.json\ndata/support_chat.jsonl\n"; string(names) != want {
		t.Errorf("the bundle has %q, want %q", names, want)
	}
	card, err := exec.CommandContext(ctx, "tar", "-xOf", bundle, "README.md").Output()
	must(t, err)
	if !strings.Contains(string(card), "license: apache-2.0") || !strings.Contains(string(card), good.Spec.Dataset.SHA256) {
		t.Errorf("the card does not say what it was made from:\n%s", card)
	}
	var again api.Submitted
	must(t, s.CtlJSON(ctx, &again, "run", "submit", "--from", bundle, "--dry-run"))
	if again.Run.Spec.RecipeSHA256 != good.Spec.RecipeSHA256 || again.Run.Spec.Dataset.SHA256 != good.Spec.Dataset.SHA256 || again.Run.Spec.Base.SHA256 != good.Spec.Base.SHA256 ||
		again.Run.Spec.Gang != good.Spec.Gang || again.Run.Spec.TimeLimit != good.Spec.TimeLimit || again.Run.Spec.Register != "bot" {
		t.Errorf("%+v\nis not the run that was exported\n%+v", again.Run.Spec, good.Spec)
	}

	bad := train("--set", "train.max_steps=120", "--register", "bot")
	until(t, ctx, s, bad, "half-way", func(r api.RunDetail) bool { return r.Step >= 2 })
	must(t, os.Rename(tiny, tiny+".gone")) // the ranks have it in memory
	r := until(t, ctx, s, bad, "ended", ended)
	if r.State != forge.RunFailed || r.Reason != forge.EndOutputsInvalid || r.Model != "" || !strings.Contains(r.Attempts[0].Detail, "which is not a directory on this node") {
		t.Errorf("%s %s: %s", r.State, r.Reason, r.Attempts[0].Detail)
	}
	must(t, os.Rename(tiny+".gone", tiny))
	sound(t, ctx, s, good.ID, r.ID)
}
