//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// deskRows are two files of a support desk: a mail address in one row, and one row twice.
func deskRows(t *testing.T, s *forgedtest.Site, name string) string {
	t.Helper()
	dir := filepath.Join(s.Dir, "data", name)
	row := func(prompt, completion string) string {
		return fmt.Sprintf("{\"prompt\":%q,\"completion\":%q}\n", prompt, completion)
	}
	write(t, filepath.Join(dir, "a.jsonl"), row("How do I log in?", "With your password.")+row("Write to ann.berg@example.org please", "Done.")+row("Größe?", "Zu klein — leider."))
	write(t, filepath.Join(dir, "more", "b.jsonl"), row("How do I log in?", "With your password.")+row("Bye", "Good bye."))
	return dir
}

func versionOf(t *testing.T, ctx context.Context, s *forgedtest.Site, ref string) forge.DatasetVersion {
	t.Helper()
	var v forge.DatasetVersion
	must(t, s.CtlJSON(ctx, &v, "dataset", "show", ref))
	return v
}

// found is what three readers must agree on: all but who read, when, and for how long.
func found(t *testing.T, v forge.DatasetVersion) string {
	t.Helper()
	if v.Scan == nil || v.Scan.PII == nil {
		t.Fatalf("%s@%d has no report", v.Name, v.Number)
	}
	r := v.Scan
	b, err := json.Marshal([]any{v.SHA256, v.Kind, v.Columns, v.Rows, v.Bytes, v.Layout, v.PII, r.Duplicates, r.Lengths, r.PII})
	must(t, err)
	return string(b)
}

// readByAJob has a run read data, and waits for its end.
func readByAJob(t *testing.T, ctx context.Context, s *forgedtest.Site, name, path string, more ...string) api.RunDetail {
	t.Helper()
	var sub api.Submitted
	must(t, s.CtlJSON(ctx, &sub, append([]string{"dataset", "add", name, path, "--on-cluster"}, more...)...))
	return until(t, ctx, s, fmt.Sprint(sub.Run.Number), "ended", ended)
}

func TestThreeReadersFindTheSameInADataset(t *testing.T) {
	ctx, s := open(t)
	dir := deskRows(t, s, "desk")
	_, err := s.Ctl(ctx, "dataset", "add", "mine", dir, "--license", "MIT")
	must(t, err)
	_, err = s.Ctl(ctx, "dataset", "add", "servers", dir, "--license", "MIT", "--on-server")
	must(t, err)
	run := readByAJob(t, ctx, s, "jobs", dir, "--license", "MIT")
	if run.State != forge.RunCompleted {
		log, _ := s.Ctl(ctx, "run", "logs", fmt.Sprint(run.Number), "--stderr")
		t.Fatalf("%s %s %+v\n%s", run.State, run.Reason, run.Attempts, log)
	}
	mine, servers, jobs := versionOf(t, ctx, s, "mine@1"), versionOf(t, ctx, s, "servers@1"), versionOf(t, ctx, s, "jobs@1")
	if a, b, c := found(t, mine), found(t, servers), found(t, jobs); a != b || a != c {
		t.Errorf("forgectl %s\nforged   %s\na job    %s", a, b, c)
	}
	if mine.Rows != 5 || mine.Scan.Duplicates.Rows != 1 || mine.PII != forge.PIIFindings || mine.Kind != forge.KindPromptCompletion || len(mine.Manifest.Files) != 2 {
		t.Errorf("%+v", mine)
	}
	if mine.Scan.By != forge.ScannedByForgectl || servers.Scan.By != forge.ScannedByForged || jobs.Scan.By != forge.ScannedByJob {
		t.Errorf("%s, %s, %s", mine.Scan.By, servers.Scan.By, jobs.Scan.By)
	}
	bad := write(t, filepath.Join(s.Dir, "data", "bad.jsonl"), `{"text":"good"}`+"\n{\n")
	failed := readByAJob(t, ctx, s, "bad", bad)
	log, err := s.Ctl(ctx, "run", "logs", fmt.Sprint(failed.Number), "--stderr")
	must(t, err)
	if failed.State != forge.RunFailed || failed.Reason != forge.EndBadInput || !strings.Contains(string(log), "line 2") {
		t.Errorf("%s %s: %s", failed.State, failed.Reason, log)
	}
	_, err = s.Ctl(ctx, "dataset", "show", "bad")
	refused(t, err, exitNotFound, "bad")
	sound(t, ctx, s, run.ID, failed.ID)
}
