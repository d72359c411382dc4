package daemon

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lockedBy has the state directory locked in the name of a process.
func lockedBy(t *testing.T, pid int) (dir string, let func()) {
	t.Helper()
	dir = t.TempDir()
	f, err := os.Create(filepath.Join(dir, lockFile))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := f.WriteString(strconv.Itoa(pid)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	return dir, func() { _ = f.Close() }
}

func TestALockThatOutlivesItsForgedByAMomentIsWaitedFor(t *testing.T) {
	gone := exec.Command("/bin/true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	dir, let := lockedBy(t, gone.Process.Pid)
	time.AfterFunc(5*lockAgain, let)
	l, err := lockState(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.release(); err != nil {
		t.Error(err)
	}
}

func TestALockOfAForgedThatLivesIsRefusedAtOnce(t *testing.T) {
	dir, _ := lockedBy(t, os.Getpid())
	began := time.Now()
	_, err := lockState(dir)
	if err == nil || !strings.Contains(err.Error(), "another forged (pid "+strconv.Itoa(os.Getpid())+")") || time.Since(began) >= lockPatience {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}
