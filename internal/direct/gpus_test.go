package direct_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/direct"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// driver is what a driver would say; a test changes it while the executor asks.
type driver struct {
	mu    sync.Mutex
	look  forge.GPULook
	err   error
	asked int
}

func (d *driver) set(f func(d *driver)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(d)
}

func (d *driver) holders(context.Context, []string) (forge.GPULook, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	return d.look, d.err
}

func holding(pids ...int) forge.GPULook {
	g := forge.GPUReading{UUID: "GPU-a", Told: true}
	for _, p := range pids {
		g.Processes = append(g.Processes, forge.GPUProcess{PID: p, Kind: "compute"})
	}
	return forge.GPULook{State: forge.NVMLOK, GPUs: []forge.GPUReading{g}}
}

// gpuBench is one attempt of one rank on the GPU "GPU-a".
func gpuBench(t *testing.T, d *driver, act executortest.Act, patience time.Duration) *bench {
	b := newBench(t, 1, []executortest.Act{act}, func(o *direct.Options) { o.Holders, o.GPUPatience = d.holders, patience })
	b.l.Devices[0] = forge.GPU{Slot: 0, Kind: forge.GPUDevice, UUID: "GPU-a", Type: "H100"}
	b.submit()
	t.Cleanup(func() { d.set(func(d *driver) { d.look, d.err = holding(), nil }) }) // else it is not over when the test is
	return b
}

// stranger is a living process of another user, where the tests may start one; else one that is ours without being forge's.
func stranger(t *testing.T, env ...string) *exec.Cmd {
	cmd := exec.Command("sleep", "600")
	cmd.Env = env
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func TestAGPUIsFreeWhenTheDriverShowsItEmpty(t *testing.T) {
	d := &driver{look: forge.GPULook{State: forge.NVMLHung, Detail: "no line for 20 s"}}
	b := gpuBench(t, d, executortest.Act{}, time.Hour)
	waits := func(words string) {
		t.Helper()
		b.until(b.Executor, words, func(o forge.Observation) bool {
			if o.Released {
				t.Fatalf("released while %s", words)
			}
			return o.State == forge.ObservExited && strings.Contains(o.Held, words)
		})
	}
	waits("NVML is hung: no line for 20 s")
	d.set(func(d *driver) { d.look, d.err = forge.GPULook{}, errors.New("the child died") })
	waits("the child died")
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	d.set(func(d *driver) { d.look, d.err = holding(ended.Process.Pid), nil })
	waits("which has ended")
	d.set(func(d *driver) { d.look = holding() })
	b.released(b.Executor)
}

func TestMemoryThatNoProcessHasKeepsAnAttemptForAWhileOnly(t *testing.T) {
	d := &driver{look: holding()}
	used := int64(4096)
	d.look.GPUs[0].MemoryUsedMiB = &used
	b := gpuBench(t, d, executortest.Act{}, 10*time.Millisecond)
	b.until(b.Executor, "held", func(o forge.Observation) bool { return strings.Contains(o.Held, "4096 MiB are in use") })
	b.released(b.Executor)
}

func TestADriverThatSaysNothingKeepsAnAttemptForAWhileOnly(t *testing.T) {
	for name, silence := range map[string]func(d *driver){
		"it hangs":             func(d *driver) { d.look = forge.GPULook{State: forge.NVMLHung, Detail: "no line for 20 s"} },
		"nobody can ask":       func(d *driver) { d.err = errors.New("the child died") },
		"one GPU hangs, alone": func(d *driver) { d.look = holding(); d.look.GPUs[0].Problem = "hung: nvmlX" },
	} {
		t.Run(name, func(t *testing.T) {
			d := &driver{}
			silence(d)
			b := gpuBench(t, d, executortest.Act{}, 10*time.Millisecond)
			b.until(b.Executor, "held", func(o forge.Observation) bool { return o.Held != "" })
			b.released(b.Executor)
		})
	}
}

func TestWhatIsLeftOfAnAttemptIsEndedAndAStrangerIsNot(t *testing.T) {
	d := &driver{look: holding()}
	b := gpuBench(t, d, executortest.Act{Hold: true}, time.Hour)
	shim := b.live(1).PID
	marker := rundir.Marker{Run: b.l.Run, Attempt: 1, Node: 0}.Env()
	left := exec.Command("sleep", "600") // as if it had left the shim's tree
	left.Env = marker
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = left.Wait(); close(ended) }()
	t.Cleanup(func() { _ = left.Process.Kill(); <-ended })
	env := []string{"PATH=/bin"}
	if os.Getuid() == 0 {
		env = marker // that another user writes what we would makes nobody ours
	}
	other := stranger(t, env...)
	d.set(func(d *driver) { d.look = holding(left.Process.Pid, other.Process.Pid) })
	if err := syscall.Kill(shim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.until(b.Executor, "the leftover is ended", func(forge.Observation) bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
	d.set(func(d *driver) { d.look = holding(other.Process.Pid) })
	b.released(b.Executor)
	if !alive(other.Process.Pid) {
		t.Error("a process that is not forge's was ended")
	}
	d.set(func(d *driver) { d.look = holding() })
}

func TestAnAttemptWithoutGPUsAsksNoDriver(t *testing.T) {
	d := &driver{err: errors.New("blind")}
	b := newBench(t, 1, nil, func(o *direct.Options) { o.Holders = d.holders })
	b.submit()
	b.released(b.Executor)
	d.set(func(d *driver) {
		if d.asked > 0 {
			t.Errorf("asked %d times", d.asked)
		}
	})
}
