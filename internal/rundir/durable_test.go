package rundir_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// TestMain lets the test binary be a process that tries to write as another user, or one that sleeps.
func TestMain(m *testing.M) {
	switch os.Getenv("RUNDIR_TEST") {
	case "write":
		if err := rundir.WriteJSON(os.Args[1], "new"); err != nil {
			fmt.Println(err)
			os.Exit(7)
		}
		os.Exit(0)
	case "sleep":
		<-time.After(time.Minute)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func mustWrite(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

func TestDurableWrite(t *testing.T) {
	t.Run("replaces the whole content and leaves nothing beside it", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "f.json")
		for _, v := range []string{"a long first content", "b"} {
			if err := rundir.WriteJSON(path, v); err != nil {
				t.Fatal(err)
			}
		}
		if got, _ := os.ReadFile(path); string(got) != "\"b\"\n" {
			t.Errorf("content %q", got)
		}
		if got := names(t, filepath.Dir(path)); got != "f.json" {
			t.Errorf("directory holds %s", got)
		}
		if st, _ := os.Stat(path); st.Mode().Perm() != 0o640 {
			t.Errorf("mode %o, want 640", st.Mode().Perm())
		}
	})
	t.Run("leaves the old content when the rename fails", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "f.json")
		if err := rundir.WriteJSON(path, "old"); err != nil {
			t.Fatal(err)
		}
		boom := errors.New("boom")
		defer rundir.FailRename(boom)()
		if err := rundir.WriteJSON(path, "new"); !errors.Is(err, boom) {
			t.Fatalf("error %v, want boom", err)
		}
		if got, _ := os.ReadFile(path); string(got) != "\"old\"\n" {
			t.Errorf("content %q, want the old", got)
		}
		if got := names(t, filepath.Dir(path)); got != "f.json" {
			t.Errorf("directory holds %s", got)
		}
	})
	t.Run("says so when the directory is not writable for this user", func(t *testing.T) {
		dir, err := os.MkdirTemp("", "rd") // t.TempDir's parent is closed to other users
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "f.json")
		if err := rundir.WriteJSON(path, "old"); err != nil {
			t.Fatal(err)
		}
		out, err := asNobody(t, "write", path).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 7 || !strings.Contains(string(out), "permission denied") {
			t.Errorf("as uid 65534: %v, %s", err, out)
		}
		if got, _ := os.ReadFile(path); string(got) != "\"old\"\n" {
			t.Errorf("content %q, want the old", got)
		}
	})
}

// asNobody runs this test binary as a user without rights: root may write anywhere. When the tests
// themselves run unprivileged the directory is made unwritable by its mode instead.
func asNobody(t *testing.T, what, arg string) *exec.Cmd {
	t.Helper()
	self, err := os.Open("/proc/self/exe") // the file itself may lie where nobody may not look
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { self.Close() })
	cmd := exec.CommandContext(t.Context(), "/proc/self/fd/3", arg)
	cmd.ExtraFiles = []*os.File{self}
	cmd.Env = []string{"RUNDIR_TEST=" + what}
	cmd.Dir = "/"
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	} else if err := os.Chmod(filepath.Dir(arg), 0o555); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestFence(t *testing.T) {
	dir := t.TempDir()
	if _, err := rundir.ReadFence(dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("no fence: %v", err)
	}
	for _, n := range []int{1, 3, 3} {
		if err := rundir.RaiseFence(dir, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := rundir.RaiseFence(dir, 2); !errors.Is(err, rundir.ErrFenceAhead) {
		t.Errorf("lowering the fence: %v, want ErrFenceAhead", err)
	}
	if n, err := rundir.ReadFence(dir); n != 3 || err != nil {
		t.Errorf("fence %d, %v; want 3", n, err)
	}
	mustWrite(t, rundir.FencePath(dir), "garbage\n")
	if err := rundir.RaiseFence(dir, 9); err == nil {
		t.Error("a fence that cannot be read was overwritten")
	}
}

func TestClaim(t *testing.T) {
	now := time.Now()
	t.Run("shims of one attempt share it", func(t *testing.T) {
		a := attempt(t, 1)
		for range 3 {
			if err := rundir.ClaimForShim(a, "", now); err != nil {
				t.Fatal(err)
			}
		}
		if won, err := rundir.Revoke(a, now); won || err != nil {
			t.Errorf("revoke after a shim: %v, %v", won, err)
		}
	})
	t.Run("revoked stays revoked", func(t *testing.T) {
		a := attempt(t, 1)
		for range 2 {
			if won, err := rundir.Revoke(a, now); !won || err != nil {
				t.Fatalf("revoke: %v, %v", won, err)
			}
		}
		if err := rundir.ClaimForShim(a, "", now); !errors.Is(err, rundir.ErrRevoked) {
			t.Errorf("claim after revoke: %v", err)
		}
		if got := names(t, a.Dir()); strings.Contains(got, "tmp") {
			t.Errorf("directory holds %s", got)
		}
	})
	t.Run("of several jobs of one attempt the first has it, and its shims share it", func(t *testing.T) {
		a := attempt(t, 1)
		for range 2 {
			if err := rundir.ClaimForShim(a, "71.0", now); err != nil {
				t.Fatal(err)
			}
		}
		for _, other := range []string{"71.1", "72.0", ""} {
			if err := rundir.ClaimForShim(a, other, now); !errors.Is(err, rundir.ErrClaimed) {
				t.Errorf("job %q: %v", other, err)
			}
		}
		if c, err := rundir.ReadClaim(a); err != nil || c.Holder != "71.0" {
			t.Errorf("claim %+v, %v", c, err)
		}
	})
	t.Run("a claim that does not parse is nobody's", func(t *testing.T) {
		a := attempt(t, 1)
		mustWrite(t, a.ClaimPath(), "")
		if err := rundir.ClaimForShim(a, "", now); err == nil || errors.Is(err, rundir.ErrRevoked) {
			t.Errorf("claim: %v, want an error", err)
		}
		if won, err := rundir.Revoke(a, now); won || err == nil {
			t.Errorf("revoke: %v, %v; want an error", won, err)
		}
	})
	t.Run("a shim and forged race: exactly one wins, a thousand times", func(t *testing.T) {
		if testing.Short() {
			t.Skip("not in test-fast: a thousand claims, each on the disk")
		}
		dir := t.TempDir()
		wins := map[bool]int{}
		for n := 1; n <= 1000; n++ {
			a := rundir.At(dir, n)
			if err := os.MkdirAll(a.Dir(), 0o750); err != nil {
				t.Fatal(err)
			}
			var won bool
			var claimErr, revokeErr error
			start := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() { <-start; claimErr = rundir.ClaimForShim(a, "", now) })
			wg.Go(func() { <-start; won, revokeErr = rundir.Revoke(a, now) })
			close(start)
			wg.Wait()
			claimed := claimErr == nil
			if revokeErr != nil || claimed == won || !claimed && !errors.Is(claimErr, rundir.ErrRevoked) {
				t.Fatalf("attempt %d: claimed %v (%v), revoked %v (%v)", n, claimed, claimErr, won, revokeErr)
			}
			wins[won]++
		}
		t.Logf("forged won %d, the shim %d", wins[true], wins[false])
	})
}

func attempt(t *testing.T, n int) rundir.Attempt {
	t.Helper()
	a := rundir.At(filepath.Join(t.TempDir(), "R"), n)
	if err := rundir.MakeAttemptDir(a); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestLock(t *testing.T) {
	self, err := rundir.Identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "shim.lock")
	if st, err := rundir.ProbeLock(path); err != nil || st.Held || st.Dead() {
		t.Fatalf("no lock: %+v, %v", st, err)
	}
	lock, err := rundir.AcquireLock(path, self)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := rundir.ProbeLock(path); err != nil || !st.Held || st.By != self {
		t.Errorf("held: %+v, %v", st, err)
	}
	if _, err := rundir.AcquireLock(path, self); !errors.Is(err, rundir.ErrLockHeld) {
		t.Errorf("second shim: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if st, err := rundir.ProbeLock(path); err != nil || !st.Dead() {
		t.Errorf("after its end: %+v, %v", st, err)
	}
	if _, err := rundir.AcquireLock(path, self); !errors.Is(err, rundir.ErrLockUsed) {
		t.Errorf("a shim that comes after the first has died: %v, want ErrLockUsed", err)
	}
}

func TestPrepare(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "R")
	l := rundir.LaunchFile{Launch: forge.Launch{Run: "R", Attempt: 2, RunDir: dir, Spec: forge.RunSpec{Name: "first"}}}
	if err := rundir.Prepare(l); err != nil {
		t.Fatal(err)
	}
	if n, err := rundir.ReadFence(dir); n != 2 || err != nil {
		t.Errorf("fence %d, %v", n, err)
	}
	for _, p := range []string{dir, rundir.At(dir, 2).Dir(), rundir.At(dir, 2).OutputDir()} {
		if st, err := os.Stat(p); err != nil || st.Mode().Perm() != 0o750 {
			t.Errorf("%s: %v, %v; want mode 750", p, st.Mode(), err)
		}
	}
	l.Attempt, l.Spec.Name = 3, "changed"
	if err := rundir.Prepare(l); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(rundir.SpecPath(dir)); !strings.Contains(string(data), "first") {
		t.Errorf("spec.json was written again: %s", data)
	}
	l.Attempt = 1
	if err := rundir.Prepare(l); !errors.Is(err, rundir.ErrFenceAhead) {
		t.Errorf("an old attempt: %v, want ErrFenceAhead", err)
	}
	if _, err := os.Stat(rundir.At(dir, 1).Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an old attempt left a directory: %v", err)
	}
	l.RunDir, l.Attempt = filepath.Join(t.TempDir(), "not-mounted", "R"), 1
	if err := rundir.Prepare(l); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a run root that is not there: %v", err)
	}
}

func TestRecordsAreReadWithoutTrust(t *testing.T) {
	a := attempt(t, 1)
	secret := filepath.Join(t.TempDir(), "secret")
	mustWrite(t, secret, `{"message": "secret"}`)
	if err := os.Symlink(secret, a.StatusPath()); err != nil {
		t.Fatal(err)
	}
	if st, err := rundir.ReadStatus(a); err == nil {
		t.Errorf("a link was followed: %+v", st)
	}
	os.Remove(a.StatusPath())
	if err := syscall.Mkfifo(a.StatusPath(), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := rundir.ReadStatus(a); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("a FIFO: %v", err)
	}
	os.Remove(a.StatusPath())
	mustWrite(t, a.StatusPath(), `{"message": "`+strings.Repeat("x", 2<<20)+`"}`)
	if _, err := rundir.ReadStatus(a); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("two megabytes of status: %v", err)
	}
}

func TestProcess(t *testing.T) {
	run := forge.RunID(fmt.Sprintf("RUN%d", os.Getpid()))
	mark := rundir.Marker{Run: run, Attempt: 3, Node: -1}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(mark.Env(), "RUNDIR_TEST=sleep")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := rundir.Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := p.Alive(); !ok || err != nil {
		t.Fatalf("alive: %v, %v", ok, err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; { // its environment is its own only after exec
		found, err := mark.Processes()
		if err == nil && len(found) == 1 && found[0] == p {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("marker found %+v, %v; want %+v", found, err, p)
		}
	}
	for _, other := range []rundir.Marker{{Run: run, Attempt: 33, Node: -1}, {Run: run + "X", Attempt: 3, Node: -1}, {Run: run, Attempt: 3, Node: 0}} {
		if found, err := other.Processes(); len(found) > 0 || err != nil {
			t.Errorf("%+v found %+v, %v", other, found, err)
		}
	}
	reused := p
	reused.StartTime++
	if ok, _ := reused.Alive(); ok {
		t.Error("a process with the same pid and another start time counts as the same")
	}
	if err := reused.Signal(syscall.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal to a reused pid: %v", err)
	}
	rebooted := p
	rebooted.BootID = "before"
	if ok, _ := rebooted.Alive(); ok {
		t.Error("a process of another boot counts as alive")
	}
	if n, err := rundir.NewSweep(mark).Kill(); n != 1 || err != nil {
		t.Errorf("kill: %d, %v", n, err)
	}
	// Not collected yet: a zombie keeps its pid and start time, and is dead all the same.
	for deadline := time.Now().Add(10 * time.Second); ; {
		if ok, err := p.Alive(); !ok && err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("killed, and still alive")
		}
	}
	if n, err := rundir.NewSweep(mark).Kill(); n != 0 || err != nil {
		t.Errorf("kill of a zombie: %d, %v", n, err)
	}
	_ = cmd.Wait()
}

func TestOfManyShimsOfANodeOneLeavesTheMark(t *testing.T) {
	a := attempt(t, 1)
	if err := os.MkdirAll(a.NodeDir(0), 0o750); err != nil {
		t.Fatal(err)
	}
	var made, used atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			lock, locked, err := rundir.MarkLock(a.LockPath(0), rundir.Process{PID: 1<<22 + i, StartTime: 7})
			switch {
			case err == nil && locked == nil:
				made.Add(1)
				defer lock.Close()
			case errors.Is(err, rundir.ErrLockUsed):
				used.Add(1)
			default:
				t.Errorf("%v, %v", locked, err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 || used.Load() != 15 {
		t.Errorf("%d made it, %d did not", made.Load(), used.Load())
	}
	if st, err := rundir.ProbeLock(a.LockPath(0)); err != nil || !st.Dead() || st.By.StartTime != 7 {
		t.Errorf("%+v, %v: the mark is gone with the shim", st, err)
	}
	if _, err := rundir.AcquireLock(a.LockPath(0), rundir.Process{PID: 1, StartTime: 1}); !errors.Is(err, rundir.ErrLockUsed) {
		t.Errorf("a shim that takes the lock does not see the mark: %v", err)
	}
}

// A program that writes ten gigabytes without an end of a line costs whoever reads it no more than one read.
func TestALineOfTenGigabytesIsReadPieceByPiece(t *testing.T) {
	l := rundir.LaunchFile{Launch: forge.Launch{Run: "R", Attempt: 1, RunDir: filepath.Join(t.TempDir(), "R")}}
	if err := rundir.Prepare(l); err != nil {
		t.Fatal(err)
	}
	at := rundir.At(l.RunDir, 1)
	if err := rundir.MakeDir(at.RankDir(0)); err != nil {
		t.Fatal(err)
	}
	const size = 10 << 30
	if err := os.WriteFile(at.StdoutPath(0), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(at.StdoutPath(0), size); err != nil { // sparse: it takes no room
		t.Fatal(err)
	}
	var files rundir.Files
	for _, offset := range []int64{0, size / 2, size - 10} {
		c, err := files.Read(t.Context(), at, "stdout.0", offset, size)
		if want := min(4<<20, size-offset); err != nil || int64(len(c.Data)) != want || c.Next != offset+want || c.Size != size {
			t.Errorf("from %d: %d bytes, next %d, %v", offset, len(c.Data), c.Next, err)
		}
	}
}

func TestTheArchiveOfAWorkingDirectoryIsPutOnceAndForAllAttempts(t *testing.T) {
	dir := t.TempDir()
	kept := filepath.Join(dir, "kept")
	if err := os.WriteFile(kept, []byte("archive"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := rundir.LaunchFile{Launch: forge.Launch{Run: "R", Attempt: 1, RunDir: filepath.Join(dir, "R"), SourceFile: kept, Spec: forge.RunSpec{Source: &forge.Source{SHA256: "x"}}}}
	if err := rundir.Prepare(l); err != nil {
		t.Fatal(err)
	}
	l.Attempt, l.Archive = 2, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("another")), nil }
	if err := rundir.Prepare(l); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(rundir.SourcePath(l.RunDir)); err != nil || string(b) != "archive" {
		t.Errorf("%q, %v", b, err)
	}
	l.RunDir, l.Attempt = filepath.Join(dir, "S"), 1
	if err := rundir.Prepare(l); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(rundir.SourcePath(l.RunDir)); err != nil || string(b) != "another" {
		t.Errorf("from a reader: %q, %v", b, err)
	}
	if b, err := os.ReadFile(rundir.At(l.RunDir, 1).LaunchPath()); err != nil || strings.Contains(string(b), kept) {
		t.Errorf("forged's own path is in the launch: %s, %v", b, err)
	}
}
