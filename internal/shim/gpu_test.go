package shim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// fakeLibrary is built once for all tests; each links it into a directory of its own, with a driver of its own behind it.
var fakeLibrary = sync.OnceValues(func() (string, error) {
	var err error
	if fakeDir, err = os.MkdirTemp("", "nvml"); err == nil {
		_, err = forgedtest.NewFakeGPUs(context.Background(), "../..", fakeDir, 0)
	}
	return fakeDir, err
})

var fakeDir string // TestMain removes it

func fakeGPUs(t *testing.T, n int) *forgedtest.FakeGPUs {
	t.Helper()
	lib, err := fakeLibrary()
	if err != nil {
		t.Fatal(err)
	}
	f, err := forgedtest.WithLibrary(lib, t.TempDir(), n)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// onGPUs puts the ranks of an attempt on GPUs of the fake driver, its slots 2 and up: the first ones are somebody else's.
func onGPUs(f *forgedtest.FakeGPUs, patience time.Duration) func(l *rundir.LaunchFile) {
	return func(l *rundir.LaunchFile) {
		for i := range l.Devices {
			l.Devices[i] = forge.GPU{Slot: i + 2, Kind: forge.GPUDevice, UUID: f.UUID("", i+2), Type: "H100"}
		}
		l.Spec.Gang = forge.Gang{Nodes: 1, GPUsPerNode: len(l.Devices)}
		l.Options.GPU = &rundir.GPUWatch{SampleEvery: 200 * time.Millisecond, LibraryPath: f.Dir, Rules: forge.HealthRules{Patience: patience}}
	}
}

// startShim starts a shim and waits until its ranks run and, unless it never will, its GPUs are seen.
func startShim(t *testing.T, a rundir.Attempt, want forge.NVMLState) *exec.Cmd {
	t.Helper()
	cmd := shimCommand(t, a, 0)
	cmd.Stderr = &bytes.Buffer{}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	eventually(t, "ranks start", func() bool { return strings.Contains(stdout(t, a, 0), "start") })
	if want != "" {
		eventually(t, "a look that is "+string(want), func() bool { return gpusSeen(t, a).State == want })
	}
	return cmd
}

func gpusSeen(t *testing.T, a rundir.Attempt) (l forge.GPULook) {
	t.Helper()
	data, err := os.ReadFile(a.GPUsPath(0))
	if err == nil {
		if err := json.Unmarshal(data, &l); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func lastWord(t *testing.T, a rundir.Attempt, cmd *exec.Cmd) rundir.Exit {
	t.Helper()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, cmd.Stderr)
	}
	x, err := rundir.ReadExit(a, 0)
	if err != nil {
		t.Fatalf("%v\n%s", err, cmd.Stderr)
	}
	return x
}

func TestAGPUOffTheBusEndsItsRanksWithinASecond(t *testing.T) {
	f := fakeGPUs(t, 4)
	a := prepared(t, program(t, executortest.Act{Hold: true, OnTerm: executortest.TermIgnored}), onGPUs(f, time.Minute), 2)
	cmd := startShim(t, a, forge.NVMLOK)
	if l := gpusSeen(t, a); len(l.GPUs) != 2 || l.GPUs[0].UUID != f.UUID("", 2) {
		t.Errorf("seen: %+v", l)
	}
	began := time.Now()
	if err := f.XID("", 3, 79); err != nil {
		t.Fatal(err)
	}
	x := lastWord(t, a, cmd)
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s", took)
	}
	want := "on GPU 3 (" + f.UUID("", 3) + ")"
	if x.Cause != forge.StopGPUFault || !strings.HasPrefix(x.Detail, "XID 79 (") || !strings.Contains(x.Detail, want) || x.Leftovers != 0 || len(x.Ranks) != 2 {
		t.Errorf("%+v", x)
	}
	for _, r := range x.Ranks {
		if r.Signal != int(syscall.SIGKILL) || !r.ByShim {
			t.Errorf("%+v", r)
		}
	}
	if x.GPUFault == nil || x.GPUFault.XID != 79 || x.GPUFault.Run != forge.RunElsewhere || len(x.GPUEvents) != 1 || x.GPUEvents[0].XID != 79 {
		t.Errorf("%+v, %+v", x.GPUFault, x.GPUEvents)
	}
	if c, err := (&rundir.Files{}).Read(t.Context(), a, "gpu_events.0", 0, 1<<16); err != nil || strings.Count(string(c.Data), `"xid":79`) != 1 {
		t.Errorf("%s, %v", c.Data, err)
	}
}

func TestAFaultOfTheProgramsOwnOnItsGPU(t *testing.T) {
	t.Run("it ends by itself, and is told what its GPU had said", func(t *testing.T) {
		f := fakeGPUs(t, 4)
		gate := filepath.Join(t.TempDir(), "gate")
		if err := syscall.Mkfifo(gate, 0o600); err != nil {
			t.Fatal(err)
		}
		a := prepared(t, []string{"/bin/sh", "-c", "echo start; read x <" + gate + "; echo 'RuntimeError: CUDA error: an illegal memory access was encountered' >&2; exit 1"}, onGPUs(f, time.Minute), 1)
		cmd := startShim(t, a, forge.NVMLOK)
		if err := f.XID("", 2, 31); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the event is recorded", func() bool { st, err := os.Stat(a.GPUEventsPath(0)); return err == nil && st.Size() > 0 })
		if err := os.WriteFile(gate, []byte("go\n"), 0); err != nil {
			t.Fatal(err)
		}
		x := lastWord(t, a, cmd)
		if x.Cause != forge.StopRankExit || !strings.HasPrefix(x.Detail, "rank 0 exited 1, after XID 31 (") || x.GPUFault == nil || x.GPUFault.Run != forge.RunFails {
			t.Errorf("%+v", x)
		}
		if x.Pattern == nil || x.Pattern.Name != "illegal_access" || x.Pattern.Rank != 0 || !strings.Contains(x.Pattern.Line, "illegal memory access") {
			t.Errorf("%+v", x.Pattern)
		}
	})
	t.Run("it is ended after the patience", func(t *testing.T) {
		f := fakeGPUs(t, 4)
		a := prepared(t, program(t, executortest.Act{Hold: true}), onGPUs(f, 300*time.Millisecond), 1)
		cmd := startShim(t, a, forge.NVMLOK)
		if err := f.XID("", 2, 31); err != nil {
			t.Fatal(err)
		}
		x := lastWord(t, a, cmd)
		if x.Cause != forge.StopGPUError || !strings.Contains(x.Detail, "did not end by themselves") || len(x.Ranks) != 1 || x.Ranks[0].Signal != int(syscall.SIGTERM) || !x.Ranks[0].ByShim {
			t.Errorf("%+v", x)
		}
	})
}

func TestWhatIsNoFaultOfTheRanksGPUsEndsNothing(t *testing.T) {
	hold := executortest.Act{Hold: true, OnTerm: executortest.TermSaves}
	stop := func(t *testing.T, a rundir.Attempt, cmd *exec.Cmd) rundir.Exit {
		t.Helper()
		if err := rundir.WriteJSON(a.StopPath(), rundir.Stop{Signal: forge.SignalCheckpoint}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		x := lastWord(t, a, cmd)
		if x.Cause != forge.StopIntent || x.Ranks[0].Code != forge.ExitCheckpointed || x.GPUFault != nil || x.Leftovers != 0 {
			t.Errorf("%+v\n%s", x, cmd.Stderr)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("the end took %s", took)
		}
		return x
	}
	t.Run("an XID of another GPU of the host, and a storm of those that mean nothing", func(t *testing.T) {
		f := fakeGPUs(t, 4)
		a := prepared(t, program(t, hold), onGPUs(f, time.Millisecond), 1)
		cmd := startShim(t, a, forge.NVMLOK)
		if err := f.XID("", 0, 79); err != nil {
			t.Fatal(err)
		}
		if err := f.Set("", "storm", "2,92,10000"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the storm is recorded", func() bool { st, err := os.Stat(a.GPUEventsPath(0)); return err == nil && st.Size() > 0 })
		x := stop(t, a, cmd)
		if len(x.GPUEvents) == 0 || len(x.GPUEvents) > 20 || x.GPUEvents[0].XID != 92 {
			t.Errorf("%+v", x.GPUEvents)
		}
		if st, err := os.Stat(a.GPUEventsPath(0)); err != nil || st.Size() > 64<<10 {
			t.Errorf("%v, %v", st, err)
		}
	})
	t.Run("a host without a driver", func(t *testing.T) {
		f := fakeGPUs(t, 4)
		a := prepared(t, program(t, hold), func(l *rundir.LaunchFile) {
			onGPUs(f, 0)(l)
			l.Options.GPU.LibraryPath = t.TempDir()
		}, 1)
		cmd := startShim(t, a, forge.NVMLNoDriver)
		if l := gpusSeen(t, a); l.Detail == "" {
			t.Errorf("it does not say why: %+v", l)
		}
		stop(t, a, cmd)
	})
	t.Run("a driver that hangs", func(t *testing.T) {
		f := fakeGPUs(t, 4)
		if err := f.Set("", "hang.nvmlInit_v2", "1"); err != nil {
			t.Fatal(err)
		}
		a := prepared(t, program(t, hold), onGPUs(f, 0), 1)
		stop(t, a, startShim(t, a, ""))
	})
	t.Run("the process that asks, killed again and again", func(t *testing.T) {
		f := fakeGPUs(t, 4)
		a := prepared(t, program(t, hold), onGPUs(f, 0), 1)
		cmd := startShim(t, a, forge.NVMLOK)
		killed := map[int]bool{}
		eventually(t, "three are killed", func() bool {
			if pid := asking(cmd.Process.Pid); pid > 0 {
				killed[pid] = true
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			return len(killed) >= 3
		})
		stop(t, a, cmd)
	})
}

// asking is the child of a shim that asks the driver; 0: there is none now.
func asking(shim int) int {
	children, err := rundir.Children(shim)
	if err != nil {
		return 0
	}
	for _, pid := range children {
		if cmdline, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline"); bytes.Contains(cmdline, []byte("nvml\x00watch")) {
			return pid
		}
	}
	return 0
}
