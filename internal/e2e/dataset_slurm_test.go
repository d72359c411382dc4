//go:build e2e && long

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// completed ends a test in which a job that reads did not do it, with what it said.
func completed(t *testing.T, ctx context.Context, s *forgedtest.Site, name, path string, more ...string) forge.DatasetVersion {
	t.Helper()
	run := readByAJob(t, ctx, s, name, path, more...)
	if run.State != forge.RunCompleted {
		log, _ := s.Ctl(ctx, "run", "logs", fmt.Sprint(run.Number), "--stderr")
		t.Fatalf("%s %s %+v\n%s", run.State, run.Reason, run.Attempts, log)
	}
	v := versionOf(t, ctx, s, name+"@1")
	for !v.Indexed { // after the run's end: it takes no time of the transaction
		if ctx.Err() != nil {
			t.Fatalf("its rows never were indexed: %+v", v)
		}
		v = versionOf(t, ctx, s, name+"@1")
	}
	if v.Scan == nil || v.Scan.By != forge.ScannedByJob {
		t.Errorf("%+v", v)
	}
	return v
}

// failed wants bad rows to end a job that reads with their places, and nothing of it to be registered.
func failed(t *testing.T, ctx context.Context, s *forgedtest.Site, name, path string) {
	t.Helper()
	run := readByAJob(t, ctx, s, name, path)
	log, err := s.Ctl(ctx, "run", "logs", fmt.Sprint(run.Number), "--stderr")
	must(t, err)
	if run.State != forge.RunFailed || run.Reason != forge.EndBadInput || !strings.Contains(log, filepath.Base(path)+": line 2") {
		t.Errorf("%s %s %+v\n%s", run.State, run.Reason, run.Attempts, log)
	}
	_, err = s.Ctl(ctx, "dataset", "show", name)
	refused(t, err, exitNotFound, name)
}

const badRows = `{"text":"good"}` + "\n{\n"

func TestASlurmJobReadsADatasetAsForgectlDoes(t *testing.T) {
	h := openSlurm(t, calm(t))
	dir := deskRows(t, h.Site, "desk")
	_, err := h.Ctl(h.ctx, "dataset", "add", "mine", dir, "--license", "MIT")
	must(t, err)
	mine, jobs := versionOf(t, h.ctx, h.Site, "mine@1"), completed(t, h.ctx, h.Site, "jobs", dir, "--license", "MIT")
	if a, b := found(t, mine), found(t, jobs); a != b {
		t.Errorf("forgectl %s\na job    %s", a, b)
	}
	asked := 0
	for line := range strings.Lines(h.c.Must(t, "scontrol", "show", "job", "-o")) {
		if strings.Contains(line, "JobName=forge-"+h.cluster+"-") {
			if asked++; strings.Contains(strings.ToLower(line), "gpu") {
				t.Errorf("it asked for a GPU: %s", line)
			}
		}
	}
	if asked != 1 {
		t.Errorf("Slurm knows %d jobs of this forge, want one", asked)
	}
	failed(t, h.ctx, h.Site, "bad", write(t, filepath.Join(h.Dir, "data", "bad.jsonl"), badRows))
}

func TestAJobOfHersReadsADatasetThatOnlySheMayRead(t *testing.T) {
	if !slurmtest.AmongPeople(t, filepath.Join(binDir(t), "forged")) {
		return
	}
	ctx, p := openAsPeople(t)
	ina := p.person(t, ctx, "ina", "--unix-uid", fmt.Sprint(slurmtest.AliceUID))
	open, hers := deskRows(t, p.Site, "desk"), filepath.Join(p.scratch, "alice", "desk")
	must(t, os.CopyFS(hers, os.DirFS(open)))
	bad := write(t, filepath.Join(p.scratch, "alice", "bad.jsonl"), badRows)
	must(t, filepath.WalkDir(filepath.Join(p.scratch, "alice"), func(path string, e fs.DirEntry, err error) error {
		mode := fs.FileMode(0o600)
		if e.IsDir() {
			mode = 0o700
		}
		return errors.Join(err, os.Chown(path, slurmtest.AliceUID, slurmtest.AliceUID), os.Chmod(path, mode))
	}))
	if out, err := p.asAccount(ctx, slurmtest.ForgeUID, "ls", hers); err == nil {
		t.Fatalf("forged's account sees %s", out)
	}
	_, err := ina.Ctl(ctx, "dataset", "add", "mine", open)
	must(t, err)
	mine, jobs := versionOf(t, ctx, ina, "mine@1"), completed(t, ctx, ina, "jobs", hers)
	if a, b := found(t, mine), strings.ReplaceAll(found(t, jobs), hers, open); a != b {
		t.Errorf("forgectl %s\na job    %s", a, b)
	}
	failed(t, ctx, ina, "bad", bad)
	_, err = ina.Ctl(ctx, "dataset", "add", "servers", hers, "--on-server")
	refused(t, err, exitPrecondition, "belong to their users", "--on-cluster")
}
