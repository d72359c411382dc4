package shim_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
	"github.com/forge-ml/forge-ml/internal/workdir"
)

// carrying is a change of a launch by which its command starts in a snapshot of these files.
func carrying(t *testing.T, files map[string]string) func(*rundir.LaunchFile) {
	t.Helper()
	dir := t.TempDir()
	for name, body := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	taken, err := workdir.Take(t.Context(), workdir.Options{Dir: dir}, &b)
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "archive.tar.gz")
	if err := os.WriteFile(archive, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(l *rundir.LaunchFile) { l.Spec.Source, l.SourceFile = &taken.Source, archive }
}

func TestACommandStartsInTheDirectoryThatItsRunCameWith(t *testing.T) {
	files := map[string]string{"go.sh": "#!/bin/sh\npwd; cat sub/words; echo left > made-here\n", "sub/words": "hello\n"}
	a := prepared(t, []string{"./go.sh"}, carrying(t, files), 1)
	_, x := runShim(t, a)
	if got := stdout(t, a, 0); got != a.WorkDir()+"\nhello\n" {
		t.Errorf("%q, %+v", got, x)
	}
	if b, err := os.ReadFile(filepath.Join(a.WorkDir(), "made-here")); err != nil || string(b) != "left\n" {
		t.Errorf("%q, %v", b, err)
	}
	t.Run("on all its nodes", func(t *testing.T) {
		a := prepared(t, []string{"./go.sh"}, carrying(t, files), 1, 1)
		startNodes(t, a, 1, 0)
		bothWords(t, a)
		for rank := range 2 {
			if got := stdout(t, a, rank); got != a.WorkDir()+"\nhello\n" {
				t.Errorf("rank %d: %q", rank, got)
			}
		}
	})
	t.Run("unless the archive is not what the run names", func(t *testing.T) {
		a := prepared(t, []string{"./go.sh"}, carrying(t, files), 1)
		if err := os.WriteFile(rundir.SourcePath(a.RunDir), []byte("another"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, x := runShim(t, a)
		if x.Cause != forge.StopInputs || len(x.Ranks) != 0 || !strings.Contains(x.Detail, "was changed in the run directory") {
			t.Errorf("%+v", x)
		}
	})
	t.Run("unless forged has lost it", func(t *testing.T) {
		a := prepared(t, []string{"./go.sh"}, func(l *rundir.LaunchFile) {
			carrying(t, files)(l)
			l.SourceFile = filepath.Join(t.TempDir(), "gone")
		}, 1)
		_, x := runShim(t, a)
		if x.Cause != forge.StopInputs || len(x.Ranks) != 0 || !strings.Contains(x.Detail, "is lost; submit the run again") {
			t.Errorf("%+v", x)
		}
	})
}

func TestAProgramThatIgnoresSignalsIsKilledAfterItsGraceAndMarked(t *testing.T) {
	a := prepared(t, program(t, executortest.Act{Hold: true, OnTerm: executortest.TermIgnored}), func(l *rundir.LaunchFile) {
		l.Spec.Grace = forge.Duration(300 * time.Millisecond)
	}, 1)
	startNodes(t, a, 0)
	eventually(t, "it runs", func() bool { return strings.Contains(stdout(t, a, 0), "start") })
	if err := rundir.WriteJSON(a.StopPath(), rundir.Stop{Signal: forge.SignalCancel, Intent: forge.IntentCancel, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "last word", func() bool { _, err := rundir.ReadExit(a, 0); return err == nil })
	x, err := rundir.ReadExit(a, 0)
	if err != nil || len(x.Ranks) != 1 || x.Ranks[0].Signal != 9 || !x.Ranks[0].ByShim || x.Cause != forge.StopIntent ||
		!strings.Contains(x.Detail, "killed at the end of the grace, by which it had not ended: rank 0") {
		t.Errorf("%+v, %v", x, err)
	}
}
