//go:build e2e && long

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/artefact"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// openAsNobody starts a site whose forged has no rights of root: root may write where others may not.
func openAsNobody(t *testing.T, root string) (context.Context, *forgedtest.Site) {
	t.Helper()
	dir, err := os.MkdirTemp("", "forge")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chown(dir, 65534, 65534))
	must(t, os.Chmod(dir, 0o755))
	bin := filepath.Join(t.TempDir(), "bin")
	copyBin(t, bin)
	return open(t, func(o *forgedtest.Options) {
		o.Network = "host" // an unprivileged user may not be allowed a network namespace
		o.Dir, o.Bin, o.User, o.ArtifactRoot = dir, bin, &syscall.Credential{Uid: 65534, Gid: 65534}, root
	})
}

// TestAnArtefactRootThatTakesNothingSaysSoAndLeavesNothingHalf: one that forged may not write to is refused at the start, and when it becomes so later, or is
// full, runs complete all the same, nothing of a copy is left, and the words name the place and the command that registers it later.
func TestAnArtefactRootThatTakesNothingSaysSoAndLeavesNothingHalf(t *testing.T) {
	root, err := os.MkdirTemp("", "forge-kept")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	if err := syscall.Mount("tmpfs", root, "tmpfs", 0, "size=256k,uid=65534,gid=65534,mode=0755"); err != nil {
		t.Fatalf("a small tmpfs cannot be mounted (this test needs root): %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(root, syscall.MNT_DETACH) })
	ctx, s := openAsNobody(t, root)
	deny := func() { must(t, os.Chown(root, 0, 0)) }
	allow := func() { must(t, os.Chown(root, 65534, 65534)) }
	empty := func(when string) {
		t.Helper()
		if left, err := filepath.Glob(filepath.Join(root, "*", "*")); err != nil || len(left) > 0 {
			t.Errorf("%s: %q, %v", when, left, err)
		}
	}
	trains := func(words ...string) (number string) {
		t.Helper()
		number = submit(t, ctx, s, "--set", "steps=3", "--register", "bot")
		if r := until(t, ctx, s, number, "ended", ended); r.State != forge.RunCompleted || r.Model != "" {
			t.Errorf("%s %s, %q", r.State, r.Reason, r.Model)
		}
		events, err := s.Ctl(ctx, "run", "events", number)
		must(t, err)
		for _, w := range append(words, root, "forgectl model register bot "+number) {
			if !strings.Contains(events, w) {
				t.Errorf("the events do not say %q:\n%s", w, events)
			}
		}
		empty("after a run")
		return number
	}

	must(t, s.Stop(ctx))
	deny()
	if err := s.Start(ctx); err == nil || !strings.Contains(err.Error(), "artifact_root") || !strings.Contains(err.Error(), root) || !strings.Contains(err.Error(), "give it to the user that runs forged") {
		t.Errorf("it starts: %v", err)
	}
	allow()
	must(t, s.Start(ctx))

	deny()
	denied := trains("permission denied", "uid 65534")
	_, err = s.Ctl(ctx, "model", "register", "bot", denied)
	refused(t, err, exitUnavailable, "permission denied", root, "uid 65534")
	empty("after a registration")
	allow()

	ballast := filepath.Join(root, "ballast")
	fill(t, ballast)
	full := trains("bytes more are needed")
	_, err = s.Ctl(ctx, "model", "register", "bot", full)
	refused(t, err, exitUnavailable, "bytes more are needed", root, "have the quota raised")
	empty("on a full disk")
	must(t, os.Remove(ballast))

	_, err = s.Ctl(ctx, "model", "register", "bot", denied)
	must(t, err)
	oneCopy(t, ctx, s, root)
	_, err = s.Ctl(ctx, "model", "register", "bot", full)
	must(t, err)
	sound(t, ctx, s)
}

// TestWhatForgedMayNotRemoveStaysWholeAndIsNamed: a checkpoint that forged may not move stays as it is, one that it may move and not empty is in the trash, both are
// named with what to do, and the next gc after that has been done ends it.
func TestWhatForgedMayNotRemoveStaysWholeAndIsNamed(t *testing.T) {
	ctx, s := openAsNobody(t, "")
	run := until(t, ctx, s, submit(t, ctx, s, "--set", "steps=17"), "ended", ended)
	must(t, s.Stop(ctx))
	aged(t, ctx, s)
	must(t, os.Chown(filepath.Join(s.State(), "forge.db"), 65534, 65534)) // root has written to it
	must(t, s.Start(ctx))
	at := func(step, file string) string {
		return filepath.Join(run.Attempts[0].RunDir, "attempts", "0001", "checkpoints", "checkpoint-"+step, file)
	}
	must(t, os.Chown(at("5", ""), 0, 0))
	must(t, os.Chmod(at("5", ""), 0o755))
	write(t, at("10", "deep/left"), "by root\n")

	out, err := s.Ctl(ctx, "gc", "--older-than", "1h", "--yes")
	refused(t, err, 1, at("5", ""), "permission denied", "uid 65534", "rm -r "+at("5", ""), artefact.TrashDir)
	if t.Failed() {
		t.Log(out)
	}
	for path, want := range map[string]bool{at("5", "state.bin"): true, at("10", ""): false, at("15", "state.bin"): true} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("%s is there: %v", path, err == nil)
		}
	}
	gone := func() (steps []int64) {
		var saves []forge.Checkpoint
		must(t, s.CtlJSON(ctx, &saves, "run", "checkpoints", "1", "--all"))
		for _, c := range saves {
			if !c.Removed.IsZero() {
				steps = append(steps, c.Step)
			}
		}
		slices.Sort(steps)
		return steps
	}
	if got := gone(); !slices.Equal(got, []int64{10}) {
		t.Errorf("%v are said to be removed, want 10", got)
	}

	trash := filepath.Join(filepath.Dir(run.Attempts[0].RunDir), artefact.TrashDir)
	deep, err := filepath.Glob(filepath.Join(trash, "*", "deep"))
	must(t, err)
	for _, dir := range append(deep, at("5", "")) {
		must(t, os.Chown(dir, 65534, 65534))
	}
	var r api.GCReport
	must(t, s.CtlJSON(ctx, &r, "gc", "--older-than", "1h", "--yes"))
	if left := artefact.Trash(filepath.Dir(trash)); len(left) > 0 || len(r.Failed) > 0 {
		t.Errorf("%q; %+v", left, r.Failed)
	}
	if got := gone(); !slices.Equal(got, []int64{5, 10}) {
		t.Errorf("%v are said to be removed, want 5 and 10", got)
	}

	// What rots is no reason for others to go.
	sick := until(t, ctx, s, submit(t, ctx, s, "--set", "steps=17"), "ended", ended)
	must(t, s.Stop(ctx))
	aged(t, ctx, s)
	must(t, os.Chown(filepath.Join(s.State(), "forge.db"), 65534, 65534))
	must(t, s.Start(ctx))
	saves := filepath.Join(sick.Attempts[0].RunDir, "attempts", "0001", "checkpoints")
	must(t, os.WriteFile(filepath.Join(saves, "checkpoint-15", "state.bin"), []byte("sixteen bytes..."), 0o600))
	_, err = s.Ctl(ctx, "gc", "--older-than", "1h", "--yes")
	refused(t, err, 1, "state.bin does not have the sha256", "rm -r "+filepath.Join(saves, "checkpoint-15"))
	for step, want := range map[string]bool{"5": false, "10": true, "15": true} {
		if _, err := os.Lstat(filepath.Join(saves, "checkpoint-"+step)); (err == nil) != want {
			t.Errorf("checkpoint-%s is there: %v", step, err == nil)
		}
	}
	sound(t, ctx, s)
}
