package shim_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
	"github.com/forge-ml/forge-ml/internal/shim"
	"github.com/forge-ml/forge-ml/nvml"
)

// TestMain makes the test binary three programs: the tests, `forged shim`, and the rank programs.
//
// These processes leave by syscall.Exit: under -race os.Exit waits a second for reports that are on stderr already.
func TestMain(m *testing.M) {
	if code, mine := executortest.RankMain(); mine {
		syscall.Exit(code)
	}
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "nvml":
			syscall.Exit(nvml.ChildMain(os.Args[2:], os.Stdout))
		case "shim":
			syscall.Exit(shim.Main(context.Background(), os.Args[2:]))
		case "orphan": // leaves a process with nothing of ours about it: no session, no environment
			child := exec.Command("/proc/self/exe", "idle")
			child.Env, child.SysProcAttr = []string{}, &syscall.SysProcAttr{Setsid: true}
			if err := child.Start(); err != nil {
				syscall.Exit(1)
			}
			fmt.Println(child.Process.Pid)
			syscall.Exit(0)
		case "idle":
			<-time.After(time.Minute)
			syscall.Exit(0)
		case "chatter": // prints 24 MiB, and says when it has
			line := append(bytes.Repeat([]byte("x"), 1023), '\n')
			fmt.Println("the first line")
			for i := range 24 << 10 {
				if _, err := os.Stdout.Write(line); err != nil {
					syscall.Exit(9)
				}
				if i%1024 == 0 {
					<-time.After(40 * time.Millisecond)
				}
			}
			fmt.Println("the last line")
			syscall.Exit(0)
		case "meet":
			syscall.Exit(meet())
		case "print":
			fmt.Println(strings.Join(os.Environ(), "\n"))
			names := []string{}
			ifaces, _ := net.Interfaces()
			for _, i := range ifaces {
				names = append(names, i.Name+":"+strconv.FormatBool(i.Flags&net.FlagUp != 0))
			}
			fmt.Println("interfaces", names)
			l, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("MASTER_PORT"))
			fmt.Println("listen", err)
			if err == nil {
				l.Close()
			}
			caps, _ := os.ReadFile("/proc/self/status")
			for line := range strings.Lines(string(caps)) {
				if strings.HasPrefix(line, "CapEff") {
					fmt.Print(line)
				}
			}
			syscall.Exit(0)
		}
	}
	code := m.Run()
	_ = os.RemoveAll(fakeDir)
	os.Exit(code)
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// prepared is an attempt ready for its shims, of as many nodes as there are numbers of ranks.
func prepared(t *testing.T, command []string, change func(l *rundir.LaunchFile), ranks ...int) rundir.Attempt {
	t.Helper()
	root, err := os.MkdirTemp("", "fs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	run := forge.RunID(fmt.Sprintf("RUN%d%s", os.Getpid(), filepath.Base(root)))
	l := rundir.LaunchFile{Launch: forge.Launch{
		Key: forge.AttemptKey(run, 2), Run: run, Number: 5, Attempt: 2, RunDir: filepath.Join(root, string(run)),
		Spec: forge.RunSpec{Launch: forge.LaunchRank, Entry: forge.Entry{Command: command}, Grace: forge.Duration(20 * time.Second)},
	}}
	for node, n := range ranks {
		share := forge.Share{Node: forge.NodeName(fmt.Sprintf("n%d", node))}
		for i := range n {
			share.Slots = append(share.Slots, i)
			l.Devices = append(l.Devices, forge.GPU{Slot: i, Kind: forge.GPUCPUSlot, Type: "cpu"})
		}
		l.Placement = append(l.Placement, share)
	}
	if change != nil {
		change(&l)
	}
	if err := rundir.Prepare(l); err != nil {
		t.Fatal(err)
	}
	return rundir.At(l.RunDir, l.Attempt)
}

func shimCommand(t *testing.T, a rundir.Attempt, node int) *exec.Cmd {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(stop)
	cmd := exec.CommandContext(ctx, self(t), "shim", "--run-dir", a.RunDir, "--attempt", strconv.Itoa(a.Number), "--node", strconv.Itoa(node))
	cmd.Env = []string{"HOME=/home/of-the-account", "FORGED_SECRET=leak"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// runShim runs a shim to its end and returns its exit code and last word.
func runShim(t *testing.T, a rundir.Attempt) (int, rundir.Exit) {
	t.Helper()
	cmd := shimCommand(t, a, 0)
	var log bytes.Buffer
	cmd.Stderr = &log
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	x, err := rundir.ReadExit(a, 0)
	if err != nil {
		t.Fatalf("no last word: %v\n%s", err, &log)
	}
	return cmd.ProcessState.ExitCode(), x
}

func program(t *testing.T, acts ...executortest.Act) []string {
	return executortest.Command(self(t), executortest.Program{Ranks: acts})
}

func stdout(t *testing.T, a rundir.Attempt, rank int) string {
	t.Helper()
	data, err := os.ReadFile(a.StdoutPath(rank))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(data)
}

// eventually waits for something that another process does.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 30s", what)
		}
	}
}

func TestRanksNeverStart(t *testing.T) {
	exit0 := executortest.Act{Exit: 0}
	for _, c := range []struct {
		name   string
		arm    func(t *testing.T, a rundir.Attempt)
		change func(l *rundir.LaunchFile)
		code   int
		cause  forge.StopCause
		words  string
	}{
		{name: "when the claim was revoked before a superseded attempt came back", code: 86, cause: forge.StopRevoked, words: "revoked",
			arm: func(t *testing.T, a rundir.Attempt) {
				if won, err := rundir.Revoke(a, time.Now()); !won || err != nil {
					t.Fatal(won, err)
				}
			}},
		{name: "when the fence is ahead", code: 86, cause: forge.StopSuperseded, words: "attempt 3 holds the fence",
			arm: func(t *testing.T, a rundir.Attempt) {
				if err := rundir.RaiseFence(a.RunDir, 3); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "when there is no fence", cause: forge.StopLaunch, words: "fence",
			arm: func(t *testing.T, a rundir.Attempt) {
				if err := os.Remove(rundir.FencePath(a.RunDir)); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "when a stop was asked for before", cause: forge.StopIntent, words: "cancel",
			arm: func(t *testing.T, a rundir.Attempt) {
				if err := rundir.WriteJSON(a.StopPath(), rundir.Stop{Signal: forge.SignalCancel}); err != nil {
					t.Fatal(err)
				}
			}},
		{name: "when an input is gone", cause: forge.StopInputs, words: "/no/such/base/w.bin changed since registration",
			change: func(l *rundir.LaunchFile) {
				l.Inputs = []forge.Manifest{{Root: "/no/such/base", Files: []forge.File{{Path: "w.bin", Size: 1}}}}
			}},
		{name: "when the interpreter is not there", cause: forge.StopNodeEnv, words: "/no/such/python",
			change: func(l *rundir.LaunchFile) {
				l.Spec.Entry = forge.Entry{Module: "forge_train"}
				l.Options.Python = "/no/such/python"
			}},
		{name: "when the command is not in the PATH", cause: forge.StopNodeEnv, words: "not found in PATH=/nowhere",
			change: func(l *rundir.LaunchFile) {
				l.Spec.Entry = forge.Entry{Command: []string{"sleep", "9"}}
				l.Options.Env = map[string]string{"PATH": "/nowhere"}
			}},
		{name: "when the program is of no format that runs here", cause: forge.StopNodeEnv, words: "exec format error",
			change: func(l *rundir.LaunchFile) {
				path := filepath.Join(filepath.Dir(l.RunDir), "data")
				_ = os.WriteFile(path, []byte("\x00\x01 not a program"), 0o700)
				l.Spec.Entry = forge.Entry{Command: []string{path}}
			}},
		{name: "when no port is free", cause: forge.StopLaunch, words: "no port is free",
			change: func(l *rundir.LaunchFile) { l.Options.PortMin, l.Options.PortMax = 1<<16, 1<<16 }},
		{name: "when the launch is broken", cause: forge.StopLaunch, words: "launch.json",
			arm: func(t *testing.T, a rundir.Attempt) {
				if err := os.WriteFile(a.LaunchPath(), []byte("{"), 0o640); err != nil {
					t.Fatal(err)
				}
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := prepared(t, program(t, exit0), c.change, 1)
			if c.arm != nil {
				c.arm(t, a)
			}
			code, x := runShim(t, a)
			if code != c.code || x.Cause != c.cause || !strings.Contains(x.Detail, c.words) || len(x.Ranks) != 0 || x.ByUID != -1 {
				t.Errorf("exit %d, last word %+v; want exit %d, cause %s, %q", code, x, c.code, c.cause, c.words)
			}
			if out := stdout(t, a, 0); out != "" {
				t.Errorf("a rank started: %q", out)
			}
			if st, err := rundir.ProbeLock(a.LockPath(0)); err != nil || !st.Dead() {
				t.Errorf("lock %+v, %v; want free, with the shim's mark", st, err)
			}
		})
	}
}

func TestAnAttemptStartsOnce(t *testing.T) {
	a := prepared(t, program(t, executortest.Act{Exit: 0}), nil, 1)
	if code, x := runShim(t, a); code != 0 || x.Cause != forge.StopRankExit || len(x.Ranks) != 1 {
		t.Fatalf("exit %d, %+v", code, x)
	}
	if code, _ := runShim(t, a); code != 3 {
		t.Errorf("second shim: exit %d, want 3", code)
	}
	if got := strings.Count(stdout(t, a, 0), "start"); got != 1 {
		t.Errorf("the rank started %d times", got)
	}
}

func TestEnvironmentOfARank(t *testing.T) {
	a := prepared(t, []string{self(t), "print"}, func(l *rundir.LaunchFile) {
		l.Options.PortMin, l.Options.PortMax = 23450, 23999
	}, 1)
	if err := (executortest.Save{Run: forge.RunID(filepath.Base(a.RunDir)), Attempt: 2, Step: 4, World: 1, Files: map[string]string{"w": "x"}}).Write(a.CheckpointDir()); err != nil {
		t.Fatal(err)
	}
	if code, x := runShim(t, a); code != 0 {
		t.Fatalf("exit %d, %+v", code, x)
	}
	out := stdout(t, a, 0)
	m, err := rundir.ReadMaster(a)
	if err != nil || m.Port < 23450 || m.Port > 23999 {
		t.Errorf("master %+v, %v", m, err)
	}
	for _, want := range []string{
		"HOME=/home/of-the-account\n", "MASTER_ADDR=127.0.0.1\n", fmt.Sprintf("MASTER_PORT=%d\n", m.Port), "listen <nil>\n",
		"FORGE_RESUME_FROM=" + a.CheckpointDir() + "/checkpoint-4\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the rank does not see %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "leak") {
		t.Errorf("the shim's own environment leaked:\n%s", out)
	}
	if r, err := rundir.ReadResume(a); err != nil || r.Step != 4 {
		t.Errorf("resume.json %+v, %v", r, err)
	}
}

func TestNetworkNoneLeavesOnlyLoopback(t *testing.T) {
	for _, c := range []struct {
		name string
		uid  uint32
	}{{"as the user of the tests", uint32(os.Getuid())}, {"as an ordinary user, by a user namespace", 65534}} {
		t.Run(c.name, func(t *testing.T) {
			a := prepared(t, []string{"/proc/self/exe", "print"}, func(l *rundir.LaunchFile) { l.Options.Network = rundir.NetworkNone }, 2)
			cmd := shimCommand(t, a, 0)
			if int(c.uid) != os.Getuid() && os.Getuid() == 0 { // a user who is not root is one already
				program := copySelf(t, filepath.Dir(a.RunDir))
				giveTo(t, filepath.Dir(a.RunDir), int(c.uid))
				cmd.Path = program
				cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.uid, Gid: c.uid}
			}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			x, err := rundir.ReadExit(a, 0)
			if err != nil || len(x.Ranks) != 2 {
				t.Fatalf("%+v, %v\n%s", x, err, out)
			}
			for r := range 2 {
				said := stdout(t, a, r)
				if !strings.Contains(said, "interfaces [lo:true]\n") {
					t.Errorf("rank %d: %s", r, said)
				}
				if (c.uid != 0 || os.Getuid() != 0) && !strings.Contains(said, "CapEff:\t0000000000000000") {
					t.Errorf("rank %d kept rights: %s", r, said)
				}
			}
		})
	}
	t.Run("is refused over several nodes", func(t *testing.T) {
		a := prepared(t, program(t, executortest.Act{}), func(l *rundir.LaunchFile) { l.Options.Network = rundir.NetworkNone }, 1, 1)
		if _, x := runShim(t, a); x.Cause != forge.StopNodeEnv || !strings.Contains(x.Detail, "network: host") {
			t.Errorf("%+v", x)
		}
	})
}

// copySelf puts the test binary where another user can run it.
func copySelf(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "program")
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func giveTo(t *testing.T, dir string, uid int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, uid, uid))
	})
	if err != nil {
		t.Fatal(err)
	}
}
