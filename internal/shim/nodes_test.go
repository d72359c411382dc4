package shim_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// startNodes starts a shim per node; the cleanup ends what a failed test leaves.
func startNodes(t *testing.T, a rundir.Attempt, nodes ...int) []*exec.Cmd {
	t.Helper()
	var cmds []*exec.Cmd
	for _, n := range nodes {
		cmd := shimCommand(t, a, n)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		cmds = append(cmds, cmd)
	}
	return cmds
}

func bothWords(t *testing.T, a rundir.Attempt) [2]rundir.Exit {
	t.Helper()
	var out [2]rundir.Exit
	for n := range out {
		eventually(t, "last word of both nodes", func() bool {
			x, err := rundir.ReadExit(a, n)
			out[n] = x
			return err == nil
		})
	}
	return out
}

func TestGangOverTwoNodes(t *testing.T) {
	hold := executortest.Act{Hold: true}
	t.Run("shares one rendezvous and one output", func(t *testing.T) {
		a := prepared(t, program(t, executortest.Act{Output: true}), nil, 1, 2)
		startNodes(t, a, 1, 0) // the order must not matter
		x := bothWords(t, a)
		if len(x[0].Ranks) != 1 || len(x[1].Ranks) != 2 || x[1].Ranks[0].Rank != 1 || x[1].Ranks[1].Rank != 2 || x[1].Ranks[0].Node != "n1" {
			t.Errorf("%+v", x)
		}
		if m, err := rundir.ReadMaster(a); err != nil || m.Addr != "n0" {
			t.Errorf("master %+v, %v", m, err)
		}
		if m, err := rundir.ReadOutput(a); err != nil || len(m.Files) != 1 {
			t.Errorf("output %+v, %v", m, err)
		}
	})
	t.Run("ends whole when a rank on one node fails", func(t *testing.T) {
		a := prepared(t, program(t, hold, executortest.Act{Exit: 3}), nil, 1, 1)
		startNodes(t, a, 0, 1)
		x := bothWords(t, a)
		if x[1].Ranks[0].Code != 3 || x[1].Ranks[0].ByShim || x[0].Ranks[0].Code == 0 || !x[0].Ranks[0].ByShim {
			t.Errorf("%+v", x)
		}
		if !strings.Contains(x[0].Detail, "node 1 ended: rank 1 exited 3") {
			t.Errorf("node 0 says %q", x[0].Detail)
		}
	})
	t.Run("ends whole when the shim of one node dies", func(t *testing.T) {
		a := prepared(t, program(t, hold), nil, 1, 1)
		cmds := startNodes(t, a, 0, 1)
		eventually(t, "both live", func() bool {
			_, e0 := rundir.ReadLive(a, 0)
			_, e1 := rundir.ReadLive(a, 1)
			return e0 == nil && e1 == nil
		})
		if err := cmds[1].Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = cmds[1].Wait()
		eventually(t, "node 0 ended", func() bool { _, err := rundir.ReadExit(a, 0); return err == nil })
		if x, _ := rundir.ReadExit(a, 0); !strings.Contains(x.Detail, "shim of node 1 is gone") || !x.Ranks[0].ByShim {
			t.Errorf("%+v", x)
		}
	})
	t.Run("does not start on one node when node 0 cannot", func(t *testing.T) {
		a := prepared(t, program(t, hold), func(l *rundir.LaunchFile) {
			l.Options.PortMin, l.Options.PortMax = 1<<16, 1<<16
		}, 1, 1)
		startNodes(t, a, 1, 0)
		x := bothWords(t, a)
		if x[1].Cause != forge.StopLaunch || len(x[1].Ranks) != 0 || !strings.Contains(x[1].Detail, "node 0 did not start") {
			t.Errorf("%+v", x)
		}
	})
}
