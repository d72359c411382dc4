package shim_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

const nobody = 65534

// TestRecordsOutlastAFilesystemThatTakesNothing runs shims as an ordinary user: root may write where others may not.
func TestRecordsOutlastAFilesystemThatTakesNothing(t *testing.T) {
	saves := executortest.Act{Hold: true, OnTerm: executortest.TermSaves}
	if os.Getuid() != 0 {
		t.Fatal("needs root, to become another user and to mount a small filesystem")
	}
	// begin starts a shim as nobody in an attempt that is nobody's, and returns what it says.
	begin := func(t *testing.T, a rundir.Attempt) (log func() string) {
		t.Helper()
		dir := filepath.Dir(a.RunDir)
		giveTo(t, dir, nobody)
		cmd, _ := srunShim(t, a, planted(0, 1, "0"), nil)
		where, err := os.MkdirTemp("/tmp", "fsn") // the test's own is closed to others
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(where) })
		if err := os.Chmod(where, 0o755); err != nil {
			t.Fatal(err)
		}
		said, err := os.Create(filepath.Join(where, "log"))
		if err != nil {
			t.Fatal(err)
		}
		cmd.Path, cmd.Stderr = copySelf(t, where), said
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); said.Close() })
		return func() string { b, _ := os.ReadFile(said.Name()); return string(b) }
	}
	stopRanks := func(t *testing.T, a rundir.Attempt) {
		t.Helper()
		live, err := rundir.ReadLive(a, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(live.Ranks[0].PID, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	lastWord := func(t *testing.T, a rundir.Attempt, log func() string) {
		t.Helper()
		eventually(t, "last word", func() bool { _, err := rundir.ReadExit(a, 0); return err == nil })
		if x, err := rundir.ReadExit(a, 0); err != nil || len(x.Ranks) != 1 || x.Ranks[0].Code != forge.ExitCheckpointed {
			t.Errorf("%+v, %v\n%s", x, err, log())
		}
	}
	t.Run("that cannot be written to when the ranks have ended", func(t *testing.T) {
		a := handedOver(t, 1, 1, executortest.Command("/proc/self/exe", executortest.Program{Ranks: []executortest.Act{saves}}), nil)
		log := begin(t, a)
		eventually(t, "live", func() bool {
			_, err := rundir.ReadLive(a, 0)
			return err == nil && strings.Contains(stdout(t, a, 0), "start")
		})
		if err := os.Chmod(a.NodeDir(0), 0o500); err != nil {
			t.Fatal(err)
		}
		stopRanks(t, a)
		eventually(t, "it tries again", func() bool { return strings.Contains(log(), "exit.json not written, trying again") })
		if err := os.Chmod(a.NodeDir(0), 0o750); err != nil {
			t.Fatal(err)
		}
		lastWord(t, a, log)
	})
	t.Run("that is full when the shim comes, and again when the ranks have ended", func(t *testing.T) {
		small, err := os.MkdirTemp("/tmp", "fsm")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(small) })
		if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=256k,mode=0755"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(small, syscall.MNT_DETACH) })
		t.Setenv("TMPDIR", small)
		a := handedOver(t, 1, 1, executortest.Command("/proc/self/exe", executortest.Program{Ranks: []executortest.Act{saves}}), nil)
		t.Setenv("TMPDIR", "")
		ballast := filepath.Join(small, "ballast")
		fill(t, ballast)
		log := begin(t, a)
		eventually(t, "it tries again", func() bool { return strings.Contains(log(), "the attempt cannot be claimed, trying again") })
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		eventually(t, "live", func() bool {
			_, err := rundir.ReadLive(a, 0)
			return err == nil && strings.Contains(stdout(t, a, 0), "start")
		})
		fill(t, ballast)
		live, err := rundir.ReadLive(a, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(live.Ranks[0].PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it tries again", func() bool { return strings.Contains(log(), "exit.json not written, trying again") })
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		eventually(t, "last word", func() bool { _, err := rundir.ReadExit(a, 0); return err == nil })
		if x, err := rundir.ReadExit(a, 0); err != nil || len(x.Ranks) != 1 || x.Ranks[0].Signal != int(syscall.SIGKILL) {
			t.Errorf("%+v, %v\n%s", x, err, log())
		}
	})
	t.Run("that is somebody else's: nothing starts, and it says so", func(t *testing.T) {
		a := handedOver(t, 1, 1, program(t, executortest.Act{}), nil)
		if err := os.Chmod(a.Dir(), 0o500); err != nil {
			t.Fatal(err)
		}
		said := begin(t, a)
		eventually(t, "it says so", func() bool {
			return strings.Contains(said(), "the attempt cannot be claimed") && strings.Contains(said(), "permission denied")
		})
		if out := stdout(t, a, 0); out != "" {
			t.Errorf("a rank started: %q", out)
		}
	})
}

// fill takes every byte that a filesystem has left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 64 << 10; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
