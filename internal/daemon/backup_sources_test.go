package daemon

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// submitted uploads a working directory and makes a run of it.
func (r *rig) submitted(t *testing.T, body string) (forge.Run, []byte) {
	t.Helper()
	src, archive := archiveOf(t, body)
	if _, err := (snapshots{r.Daemon}).AddSnapshot(t.Context(), r.op, src.SHA256, bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	out, err := runs{r.Daemon}.SubmitRun(t.Context(), r.op, scriptRun(&src))
	if err != nil {
		t.Fatal(err)
	}
	return out.Run, archive
}

func TestABackupHasTheWorkingDirectoriesOfRunsThatHaveNotEnded(t *testing.T) {
	r := startForPrograms(t)
	dir := r.live().cfg.StateDir
	waits, archive := r.submitted(t, "print('waits')\n")
	over, _ := r.submitted(t, "print('over')\n")
	if _, err := (runs{r.Daemon}).CancelRun(t.Context(), r.op, fmt.Sprint(over.Number), forge.CancelNow); err != nil {
		t.Fatal(err)
	}
	r.await(t, over.ID, "ended, also where it had been started", func(run forge.Run) bool { return run.State.Terminal() })
	broken, _ := r.submitted(t, "print('broken')\n")
	lost, _ := r.submitted(t, "print('lost')\n")
	ss := snapshots{r.Daemon}
	if err := os.WriteFile(ss.file(r.op.Tenant, broken.Spec.Source.SHA256), []byte("rotten"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(ss.file(r.op.Tenant, lost.Spec.Source.SHA256)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "b.tar.gz")
	made, err := Backup(t.Context(), BackupOptions{StateDir: dir, Out: file, Version: "test", Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	said := strings.Join(made.Without, "\n")
	if len(made.Without) != 2 || !strings.Contains(said, "of run 3: it is not whole") || !strings.Contains(said, "of run 4: it is not there") {
		t.Errorf("the backup says it is without %q", made.Without)
	}
	to := shortDir(t)
	done, err := Restore(t.Context(), RestoreOptions{File: file, StateDir: to, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, n := range done.Manifest.NotIncluded {
		if strings.HasPrefix(n.What, "working directory") {
			named = append(named, n.What)
		}
	}
	if len(named) != 2 {
		t.Errorf("the restore names %q", named)
	}
	r.stop()
	got, err := os.ReadFile(filepath.Join(to, snapshotsDir, string(r.op.Tenant), "used", waits.Spec.Source.SHA256, snapshotArchive))
	if err != nil || !bytes.Equal(got, archive) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	all, err := filepath.Glob(filepath.Join(to, snapshotsDir, "*", "used", "*"))
	if err != nil || len(all) != 1 {
		t.Errorf("restored: %q, %v", all, err)
	}
}

func TestAMemberOfABackupThatOnlyLooksLikeAWorkingDirectoryIsRefused(t *testing.T) {
	digest := strings.Repeat("a", 64)
	for name, ok := range map[string]bool{
		"snapshots/01ARZ3NDEKTSV4RRFFQ69G5FAV/used/" + digest + "/archive.tar.gz":       true,
		"snapshots/01ARZ3NDEKTSV4RRFFQ69G5FAV/used/" + digest + "/../archive.tar.gz":    false,
		"snapshots/../../used/" + digest + "/archive.tar.gz":                            false,
		"snapshots/01ARZ3NDEKTSV4RRFFQ69G5FAV/new/" + digest + "/archive.tar.gz":        false,
		"snapshots/01ARZ3NDEKTSV4RRFFQ69G5FAV/used/" + digest + "/authorized_keys":      false,
		"/snapshots/01ARZ3NDEKTSV4RRFFQ69G5FAV/used/" + digest + "/archive.tar.gz":      false,
		"snapshots/01ARZ3NDEKTSV4RRFFQ69G5FAV/used/" + digest[:63] + "G/archive.tar.gz": false,
	} {
		if sourceMember(name) != ok {
			t.Errorf("%s: want %v", name, ok)
		}
	}
}
