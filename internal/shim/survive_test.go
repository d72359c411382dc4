package shim_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

func isAlive(pid int) bool {
	p, err := rundir.Identify(pid)
	if err != nil {
		return false
	}
	ok, err := p.Alive()
	return ok && err == nil
}

func TestRanksDieWithTheirShim(t *testing.T) {
	a := prepared(t, program(t, executortest.Act{Hold: true, OnTerm: executortest.TermIgnored}), nil, 2)
	cmd := startNodes(t, a, 0)[0]
	var live rundir.Live
	eventually(t, "live", func() bool { l, err := rundir.ReadLive(a, 0); live = l; return err == nil })
	if len(live.Ranks) != 2 || live.PID != cmd.Process.Pid || live.StartedAt.IsZero() {
		t.Errorf("live.json %+v", live)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for _, r := range live.Ranks { // nobody but the kernel ends them here
		eventually(t, "rank dead", func() bool { return !isAlive(r.PID) })
	}
	if _, err := rundir.ReadExit(a, 0); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a killed shim left a last word: %v", err)
	}
	if st, err := rundir.ProbeLock(a.LockPath(0)); err != nil || !st.Dead() {
		t.Errorf("lock %+v, %v", st, err)
	}
}

func TestLeftoversAreEndedBeforeTheLastWord(t *testing.T) {
	a := prepared(t, []string{self(t), "orphan"}, nil, 1)
	_, x := runShim(t, a)
	pid, err := strconv.Atoi(strings.TrimSpace(stdout(t, a, 0)))
	if err != nil {
		t.Fatal(err)
	}
	if isAlive(pid) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		t.Error("a process that left its session and its environment outlived the attempt")
	}
	if x.Leftovers != 1 {
		t.Errorf("leftovers %d, want 1", x.Leftovers)
	}
}

func TestRankRecordsSurviveTheShim(t *testing.T) {
	a := prepared(t, program(t, executortest.Act{Hold: true}, executortest.Act{Exit: 0}), nil, 2)
	cmd := startNodes(t, a, 0)[0]
	eventually(t, "record of rank 1", func() bool { _, err := rundir.ReadRankExit(a, 1); return err == nil })
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if x, err := rundir.ReadRankExit(a, 1); err != nil || x.Code != 0 || x.Rank != 1 {
		t.Errorf("%+v, %v", x, err)
	}
}

func TestOutputThatIsNeeded(t *testing.T) {
	a := prepared(t, program(t, executortest.Act{Exit: 0}), func(l *rundir.LaunchFile) { l.Options.NeedOutput = true }, 1)
	_, x := runShim(t, a)
	if x.Cause != forge.StopRankExit || !strings.Contains(x.Detail, "output/ is empty") {
		t.Errorf("%+v", x)
	}
	if _, err := rundir.ReadOutput(a); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("output.json: %v", err)
	}
}

func TestTornCheckpointIsSkippedAndSaid(t *testing.T) {
	a := prepared(t, []string{self(t), "print"}, nil, 1)
	run := forge.RunID(filepath.Base(a.RunDir))
	for _, step := range []int64{4, 8} {
		if err := (executortest.Save{Run: run, Attempt: 2, Step: step, World: 1, Files: map[string]string{"w": "abc"}}).Write(a.CheckpointDir()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(a.CheckpointDir(), "checkpoint-8", "w"), []byte("abX"), 0o640); err != nil {
		t.Fatal(err)
	}
	runShim(t, a)
	r, err := rundir.ReadResume(a)
	if err != nil || r.Step != 4 || len(r.Skipped) != 1 || r.Skipped[0].Step != 8 {
		t.Errorf("%+v, %v", r, err)
	}
	if want := "FORGE_RESUME_FROM=" + a.CheckpointDir() + "/checkpoint-4\n"; !strings.Contains(stdout(t, a, 0), want) {
		t.Errorf("the rank was not told %s", want)
	}
}

func TestRunDirectoryThatThisUserMayNotWrite(t *testing.T) {
	a := prepared(t, program(t, executortest.Act{Exit: 0}), nil, 1)
	parent := filepath.Dir(a.RunDir)
	program := copySelf(t, parent)
	for _, dir := range []string{parent, a.RunDir, filepath.Dir(a.Dir()), a.Dir(), filepath.Dir(a.NodeDir(0))} {
		if err := os.Chmod(dir, 0o555); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(dir, 0o755)
	}
	cmd := shimCommand(t, a, 0)
	cmd.Path = program
	if os.Getuid() == 0 { // whom no mode keeps out
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "permission denied") {
		t.Errorf("%v\n%s", err, out)
	}
	if got := stdout(t, a, 0); got != "" {
		t.Errorf("a rank started: %q", got)
	}
}
