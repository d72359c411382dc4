//go:build e2e && long

package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// TestWhatIsInADataset is `make demo-data`.
func TestWhatIsInADataset(t *testing.T) { tell(t, "data") }

func TestADatasetWithFindingsIsRedactedTrainedOnAndFoundAgain(t *testing.T) {
	ctx, s, _ := openForTraining(t)
	dir := deskRows(t, s, "desk")
	for _, args := range [][]string{{"dataset", "add", "desk", dir, "--license", "MIT"}, {"dataset", "redact", "desk@1", "--as", "clean", "--out", filepath.Join(s.Dir, "clean.jsonl")}} {
		_, err := s.Ctl(ctx, args...)
		must(t, err)
	}
	clean := versionOf(t, ctx, s, "clean@1")
	text := read(t, clean.Manifest.Root)
	if clean.PII != forge.PIIRedacted || len(clean.Parents) != 1 || clean.Parents[0].Name != "desk" || strings.Contains(text, "ann.berg") || !strings.Contains(text, "[EMAIL]") {
		t.Fatalf("%+v\n%s", clean, text)
	}
	var sub api.Submitted
	must(t, s.CtlJSON(ctx, &sub, "run", "submit", "lora_sft", "--dataset", "clean@1", "--base", "tiny", "--set", "train.batch_size=1", "--set", "train.max_steps=2", "--register", "bot"))
	_, err := s.Ctl(ctx, "dataset", "delete", "clean@1", "--yes")
	refused(t, err, exitPrecondition, fmt.Sprint(sub.Run.Number))
	if r := until(t, ctx, s, string(sub.Run.ID), "ended", ended); r.State != forge.RunCompleted {
		log, _ := s.Ctl(ctx, "run", "logs", string(sub.Run.ID), "--stderr")
		t.Fatalf("%s %s %+v\n%s", r.State, r.Reason, r.Attempts, log)
	}
	var im forge.Impact
	must(t, s.CtlJSON(ctx, &im, "dataset", "impact", "clean@1", "--row", "1"))
	if !slices.Contains(im.Models, "bot@1") {
		t.Errorf("%+v", im)
	}
	_, err = s.Ctl(ctx, "dataset", "delete", "clean@1", "--yes")
	must(t, err)
	_, err = s.Ctl(ctx, "run", "submit", "lora_sft", "--dataset", "clean@1", "--base", "tiny")
	refused(t, err, exitInvalid, "clean@1", "deleted")
	sound(t, ctx, s, sub.Run.ID)
}

func TestAFileThatChangesBetweenSubmitAndStartEndsTheAttempt(t *testing.T) {
	ctx, s, _ := openForTraining(t)
	path := write(t, filepath.Join(s.Dir, "d.jsonl"), strings.Repeat(goodRow, 4))
	_, err := s.Ctl(ctx, "dataset", "add", "d", path)
	must(t, err)
	submitted := submit(t, ctx, s, "--set", "steps=100000", "--gpus", "2") // the site is full
	until(t, ctx, s, submitted, "running", func(r api.RunDetail) bool { return r.State == forge.RunRunning })
	var waits api.Submitted
	must(t, s.CtlJSON(ctx, &waits, "run", "submit", "lora_sft", "--dataset", "d@1", "--base", "tiny", "--set", "train.max_steps=1"))
	write(t, path, strings.Repeat(goodRow, 5))
	_, err = s.Ctl(ctx, "run", "submit", "lora_sft", "--dataset", "d@1", "--base", "tiny")
	refused(t, err, exitInvalid, "d.jsonl", "changed")
	said, err := s.Ctl(ctx, "dataset", "verify", "d@1")
	refused(t, err, 1, "d@1 is not as it was registered")
	if !strings.Contains(said, "d.jsonl") {
		t.Errorf("%q does not name the file", said)
	}
	_, err = s.Ctl(ctx, "run", "cancel", submitted, "--now")
	must(t, err)
	r := until(t, ctx, s, string(waits.Run.ID), "ended", ended)
	if r.State != forge.RunFailed || r.Reason != forge.EndBadInput || !strings.Contains(r.Attempts[0].Detail, "d.jsonl") {
		t.Errorf("%s %s: %+v", r.State, r.Reason, r.Attempts)
	}
}
