package direct_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/direct"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// shimSocket does what systemd does for a socket with Accept=yes: one process for each connection,
// with the connection as its standard input. args replaces what that process is called with.
func shimSocket(t *testing.T, args ...string) string {
	t.Helper()
	if args == nil {
		args = []string{"shim", rundir.StartFlag}
	}
	dir, err := os.MkdirTemp("", "fs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "shim.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			f, err := conn.File()
			_ = conn.Close()
			if err != nil {
				continue
			}
			cmd := exec.Command(self(t), args...)
			cmd.Stdin, cmd.Stderr = f, os.Stderr
			cmd.Env = []string{"HOME=/", "INVOCATION_ID=must-not-reach-a-rank"}
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			if err := cmd.Start(); err == nil {
				go func() { _ = cmd.Wait() }()
			}
			_ = f.Close()
		}
	}()
	return path
}

func throughSocket(path string) func(o *direct.Options) {
	return func(o *direct.Options) { o.With.ShimSocket = path }
}

func TestExecutorContractWithShimsStartedThroughASocket(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: the contract once more, by another way to start shims")
	}
	executortest.Run(t, executortest.Harness{New: func(t *testing.T) executortest.Subject {
		var root string
		e := newExecutor(t, throughSocket(shimSocket(t)), func(o *direct.Options) { root = o.RunRoot })
		return executortest.Subject{
			Executor: e, Files: e, RunRoot: root, Cluster: "here", Node: "this-host", Alive: alive,
			Command: func(p executortest.Program) []string { return executortest.Command(self(t), p) },
		}
	}})
}

func TestAShimStartedThroughASocketIsNoChildOfOurs(t *testing.T) {
	b := newBench(t, 1, []executortest.Act{{Hold: true}}, throughSocket(shimSocket(t)))
	b.submit()
	live := b.live(1)
	line, err := os.ReadFile("/proc/" + strconv.Itoa(live.PID) + "/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join(append([]string{"forged", "shim"}, rundir.ShimFlags(b.at, 0)...), "\x00") + "\x00"
	if string(line) != want {
		t.Errorf("it is called %q, want %q: a restarted forged finds it by these words", line, want)
	}
	env, err := os.ReadFile("/proc/" + strconv.Itoa(live.Ranks[0].PID) + "/environ")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(env), "INVOCATION_ID") {
		t.Errorf("what systemd put into the environment reached a rank: %q", env)
	}
	stdin, err := os.Readlink("/proc/" + strconv.Itoa(live.Ranks[0].PID) + "/fd/0")
	if err != nil || stdin != os.DevNull {
		t.Errorf("a rank's stdin is %s (%v): it holds the connection to forged", stdin, err)
	}
}

func TestTheEndOfAShimStartedThroughASocketWakesUs(t *testing.T) {
	b := newBench(t, 1, []executortest.Act{{Hold: true}}, throughSocket(shimSocket(t)))
	b.submit()
	live := b.live(1)
	for drained := false; !drained; {
		select {
		case <-b.Wake():
		case <-time.After(200 * time.Millisecond): // nothing more of its start
			drained = true
		}
	}
	if err := live.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-b.Wake():
	case <-time.After(10 * time.Second):
		t.Error("nobody said to look")
	}
	b.released(b.Executor)
}

// The service manager may be out of connections, or its unit broken: nobody knows then that a shim
// started, so Submit must say so, and Find make it certain.
func TestASocketThatStartsNothingIsNotAStart(t *testing.T) {
	for name, socket := range map[string]string{
		"nobody listens":                     filepath.Join(t.TempDir(), "none.sock"),
		"the process ends without an answer": shimSocket(t, "die"),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 1, nil, throughSocket(socket))
			if _, err := b.Submit(t.Context(), b.l); err == nil || forge.KindOf(err) != forge.KindUnavailable || !strings.Contains(err.Error(), "shim_socket") {
				t.Fatalf("Submit: %v", err)
			}
			if f := b.Find(t.Context(), b.l.Key, b.l.RunDir); f.State != forge.LookupAbsent {
				t.Errorf("%+v", f)
			}
		})
	}
}

func TestWhatTheSocketIsAskedForIsChecked(t *testing.T) {
	socket := shimSocket(t)
	for name, ask := range map[string]string{
		"a relative run directory":      `{"run_dir":"runs/1","attempt":1,"node":0}`,
		"a path that climbs":            `{"run_dir":"/tmp/../etc","attempt":1,"node":0}`,
		"attempt 0":                     `{"run_dir":"/tmp/x","attempt":0,"node":0}`,
		"a directory that is not there": `{"run_dir":"/tmp/forge-not-there","attempt":1,"node":0}`,
	} {
		t.Run(name, func(t *testing.T) {
			var a rundir.StartAnswer
			if err := exchange(t, socket, ask+"\n", &a); err != nil || a.Error == "" {
				t.Errorf("answered %+v, %v", a, err)
			}
		})
	}
	t.Run("a line without end", func(t *testing.T) {
		if err := exchange(t, socket, strings.Repeat("x", 64<<10), &rundir.StartAnswer{}); err == nil {
			t.Error("it was answered")
		}
	})
	t.Run("another user", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Fatal("this test asks as another user, and needs root for it")
		}
		if err := os.Chmod(filepath.Dir(socket), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(socket, 0o777); err != nil { // as if somebody had opened it to all
			t.Fatal(err)
		}
		cmd := exec.Command(self(t), "ask", socket)
		cmd.Dir = "/"
		cmd.Path = readable(t)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 7 {
			t.Errorf("a stranger was answered: %v\n%s", err, out)
		}
	})
}

// readable is a copy of this program that every user may run.
func readable(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(self(t))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "fb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "program")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(path, data, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}

// askStranger is what the program of another user does: 7 when it gets no answer.
func askStranger(socket string) int {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return 1
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_ = rundir.Send(conn, rundir.StartRequest{RunDir: "/tmp", Attempt: 1})
	var a rundir.StartAnswer
	if err := rundir.Receive(conn, &a); err != nil {
		return 7
	}
	return 0
}

func exchange(t *testing.T, socket, text string, answer any) error {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte(text)); err != nil {
		return err
	}
	return rundir.Receive(conn, answer)
}

func TestLinesAboutAnAttemptNameItsRunAndCluster(t *testing.T) {
	var out syncBuffer
	b := newBench(t, 1, nil, func(o *direct.Options) { o.Log = zerolog.New(&out) })
	b.l.Number = 17
	b.submit()
	b.released(b.Executor)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(out.String(), "shim ended"); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("no word about the end of the shim: %s", out.String())
		}
	}
	for line := range strings.Lines(out.String()) {
		for _, word := range []string{`"run":"` + string(b.l.Run) + `"`, `"run_number":17`, `"attempt":1`, `"cluster":"here"`} {
			if !strings.Contains(line, word) {
				t.Errorf("%s is not in %s", word, line)
			}
		}
	}
	log, err := os.ReadFile(b.at.LogPath(0))
	if err != nil || !strings.Contains(string(log), `"run_number":17`) || !strings.Contains(string(log), `"attempt":1`) {
		t.Errorf("the shim's own log: %s, %v", log, err)
	}
}

// syncBuffer takes a log that is written from several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
