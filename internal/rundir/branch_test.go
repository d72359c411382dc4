package rundir_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

func branch(t *testing.T, dir string, keep bool) forge.BranchPoint {
	t.Helper()
	c, err := rundir.Branch(t.Context(), dir, "R", 2, 20, keep)
	if err != nil || c.Verdict != forge.VerdictVerified {
		t.Fatalf("%+v, %v", c, err)
	}
	return forge.BranchPoint{Run: "R", Number: 7, Attempt: c.Attempt, Step: c.Step, Path: c.Path, SHA256: c.SHA256}
}

func TestARunBeginsFromTheCheckpointOfAnotherWhileItHasNoneOfItsOwn(t *testing.T) {
	theirs, newest := saved(t)
	from := branch(t, theirs, false)
	if from.Path != newest {
		t.Errorf("it lies in %s, want it where it was", from.Path)
	}
	mine := filepath.Join(t.TempDir(), "S")
	fit := rundir.Fit{Run: "S", World: 2}
	r, err := rundir.ChooseResumeContext(t.Context(), mine, fit, &from)
	if err != nil || r.Run != "R" || r.Attempt != 2 || r.Step != 20 || r.Path != newest || r.SHA256 != from.SHA256 {
		t.Errorf("%+v, %v", r, err)
	}
	save(t, mine, 1, 30) // its manifest is of run R: foreign, and still the branch point is better than nothing
	if r, err = rundir.ChooseResumeContext(t.Context(), mine, fit, &from); err != nil || r.Step != 20 || len(r.Skipped) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	edit(t, filepath.Join(rundir.At(mine, 1).CheckpointDir(), "checkpoint-30"), func(m *rundir.SaveManifest) { m.Run = "S" })
	if r, err = rundir.ChooseResumeContext(t.Context(), mine, fit, &from); err != nil || r.Step != 30 || r.Run != "" {
		t.Errorf("its own: %+v, %v", r, err)
	}
}

func TestARunNeverBeginsFromNothingWhenItsBranchPointIsNoGood(t *testing.T) {
	for _, c := range []struct {
		name, why string
		fit       rundir.Fit
		spoil     func(t *testing.T, dir string)
	}{
		{"a flipped size", "torn: adapter.bin has 1 bytes", two, func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "adapter.bin"), 1); err != nil {
				t.Fatal(err)
			}
		}},
		{"gone", "not there any more", two, vanish},
		{"another number of ranks", "foreign: saved by 2 ranks, this attempt has 3", rundir.Fit{World: 3}, func(*testing.T, string) {}},
		{"another save under the same name", "another one than when the run was submitted", two, func(t *testing.T, dir string) {
			edit(t, dir, func(m *rundir.SaveManifest) { m.Seconds = 3 })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			theirs, newest := saved(t)
			from := branch(t, theirs, false)
			c.spoil(t, newest)
			c.fit.Run = "S"
			r, err := rundir.ChooseResumeContext(t.Context(), filepath.Join(t.TempDir(), "S"), c.fit, &from)
			if !errors.Is(err, rundir.ErrBranch) || !strings.Contains(err.Error(), c.why) || !strings.Contains(err.Error(), "step 20 of run 7") {
				t.Errorf("%+v, %v; want an error because of %q", r, err, c.why)
			}
		})
	}
}

func TestWhatARunBeginsFromOutlivesTheRetentionOfTheOther(t *testing.T) {
	theirs, newest := saved(t)
	left := filepath.Join(theirs, "held", ".tmp-killed")
	mustWrite(t, filepath.Join(left, "adapter.bin"), "half of it")
	if err := os.Chtimes(left, time.Time{}, time.Now().Add(-2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	from := branch(t, theirs, true)
	if again := branch(t, theirs, true); again != from {
		t.Errorf("a second time it is %+v, want %+v", again, from)
	}
	vanish(t, newest)
	r, err := rundir.ChooseResumeContext(t.Context(), filepath.Join(t.TempDir(), "S"), rundir.Fit{Run: "S", World: 2}, &from)
	if err != nil || r.Step != 20 || r.Path != from.Path {
		t.Errorf("%+v, %v", r, err)
	}
	if own := rundir.ChooseResume(theirs, two); own.Step != 10 {
		t.Errorf("the other run goes on from %+v: what is kept for others is not its own any more", own)
	}
	if got := names(t, filepath.Join(theirs, "held")); strings.Contains(got, "tmp") {
		t.Errorf("left behind: %s", got)
	}
	if _, err := rundir.Branch(t.Context(), theirs, "R", 2, 20, true); forge.KindOf(err) != forge.KindNotFound {
		t.Errorf("branching from one that is gone: %v", err)
	}
}

func TestABranchPointThatCannotBeReadInTimeIsTakenUnread(t *testing.T) {
	theirs, _ := saved(t)
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	c, err := rundir.Branch(ctx, theirs, "R", 2, 20, true)
	if err != nil || c.Verdict != forge.VerdictWritten || !strings.Contains(c.Path, "held") {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestRoomIsWhatTheFilesystemOrAQuotaLeaves(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m,mode=0777,usrquota,usrquota_block_hardlimit=3m"); err != nil {
		t.Logf("no quotas on tmpfs here (%v): the filesystem's own size alone is looked at", err)
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=3m"); err != nil {
			t.Logf("no filesystem of its own either (%v): only that there is an answer is looked at", err)
			if free, bound, err := rundir.Room(dir); err != nil || free <= 0 || bound == "" {
				t.Errorf("%d, %q, %v", free, bound, err)
			}
			return
		}
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	free, bound, err := rundir.Room(dir)
	t.Logf("%d bytes, by %s", free, bound)
	if err != nil || free <= 0 || free > 8<<20 {
		t.Fatalf("%d, %s, %v", free, bound, err)
	}
	mustWrite(t, filepath.Join(dir, "ballast"), strings.Repeat("x", 2<<20))
	if after, _, err := rundir.Room(dir); err != nil || after > free-2<<20 {
		t.Errorf("%d bytes before, %d after 2 MiB were written, %v", free, after, err)
	}
}

func TestWhatIsHeldStaysWhileItIsNeededAndIsRemovedADayLaterElse(t *testing.T) {
	theirs, newest := saved(t)
	from := branch(t, theirs, true)
	now := time.Now()
	prune := func(after time.Duration, needed bool) int {
		t.Helper()
		var need []string
		if needed {
			need = []string{from.Path}
		}
		n, err := rundir.PruneHeld(theirs, need, now.Add(after))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	vanish(t, newest)
	if n := prune(100*24*time.Hour, true); n != 0 {
		t.Fatalf("%d were removed that are needed", n)
	}
	if n := prune(23*time.Hour, false); n != 0 {
		t.Fatalf("%d were removed on their first day: the run that they are for may not be stored yet", n)
	}
	mine := filepath.Join(t.TempDir(), "S")
	if r, err := rundir.ChooseResumeContext(t.Context(), mine, rundir.Fit{Run: "S", World: 2}, &from); err != nil || r.Step != 20 {
		t.Fatalf("what stayed is no good: %+v, %v", r, err)
	}
	if n := prune(25*time.Hour, false); n != 1 || names(t, filepath.Join(theirs, "held")) != "" {
		t.Errorf("%d were removed, there are %q", n, names(t, filepath.Join(theirs, "held")))
	}
}

func TestWhatIsHeldAnewIsNotOld(t *testing.T) {
	theirs, _ := saved(t)
	from := branch(t, theirs, true)
	long := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(from.Path, long, long); err != nil {
		t.Fatal(err)
	}
	if again := branch(t, theirs, true); again.Path != from.Path {
		t.Fatalf("held twice: %s, %s", from.Path, again.Path)
	}
	if n, err := rundir.PruneHeld(theirs, nil, time.Now()); err != nil || n != 0 {
		t.Errorf("%d removed, %v", n, err)
	}
}
