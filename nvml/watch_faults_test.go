//go:build linux && cgo

package nvml_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

func TestALostGPUIsSaidAndTheOthersGoOn(t *testing.T) {
	w, _ := watchChild(t, fakeLibrary(t), nil, eightGPUs()...)
	l := w.ask(append(eightGPUs(), "gpu.2.lost 1", "gpu.3.temp 93")...)
	if r := l.GPUs[2]; !r.Lost || !strings.Contains(r.Problem, "lost") || r.UUID != "GPU-2" || r.PCI != "00000000:03:00.0" || r.TemperatureC != nil || r.Told {
		t.Errorf("the lost one: %+v", r)
	}
	if r := l.GPUs[3]; r.Problem != "" || *r.TemperatureC != 93 {
		t.Errorf("the one after it: %+v", r)
	}
	if l = w.ask(eightGPUs()...); l.GPUs[2].Lost || l.GPUs[2].Problem != "" || *l.GPUs[2].TemperatureC != 35 {
		t.Errorf("when it is back: %+v", l.GPUs[2])
	}
}

func TestAGPUWhoseCallDoesNotReturnHangsAloneAndIsCalledNoMore(t *testing.T) {
	w, _ := watchChild(t, fakeLibrary(t), []string{"--hung-after", "1s", "--patience", "1s"}, eightGPUs()...)
	writeState(t, w.state, append(eightGPUs(), "gpu.5.hang.nvmlDeviceGetPowerUsage 1", "gpu.6.temp 66")...)
	w.tick("it hangs", func(l forge.GPULook) bool {
		if r := l.GPUs[6]; r.Problem != "" || l.State != forge.NVMLOK {
			t.Errorf("another: %+v", r)
		}
		return l.GPUs[5].HungCall != ""
	})
	before := threads(t, w.pid)
	for range 40 {
		w.tick("it still hangs", func(l forge.GPULook) bool {
			r := l.GPUs[5]
			if r.HungCall != "nvmlDeviceGetPowerUsage" || r.HungSince < 1 || !strings.Contains(r.Problem, "hung: nvmlDeviceGetPowerUsage has not returned for") || r.UUID != "GPU-5" || r.TemperatureC != nil || r.Told {
				t.Errorf("the one that hangs: %+v", r)
			}
			if r := l.GPUs[6]; r.TemperatureC == nil || *r.TemperatureC != 66 {
				t.Errorf("another: %+v", r)
			}
			return true
		})
	}
	if after := threads(t, w.pid); after > before+16 { // two a GPU are the runtime's; each further call would keep one of its own
		t.Errorf("%d threads became %d", before, after)
	}
	writeState(t, w.state, eightGPUs()...)
	w.tick("it is read again", func(l forge.GPULook) bool { return l.GPUs[5].Problem == "" && l.GPUs[5].TemperatureC != nil })
}

func threads(t *testing.T, pid int) int {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(tasks)
}

func TestALookIsNotHeldUpByAGPUThatIsLate(t *testing.T) {
	w, _ := watchChild(t, fakeLibrary(t), []string{"--patience", "300ms"}, eightGPUs()...)
	l := w.ask(append(eightGPUs(), "gpu.0.hang.nvmlDeviceGetUUID 1")...)
	if r := l.GPUs[0]; r.Problem != "" || r.UUID != "GPU-0" || r.TemperatureC != nil || r.Told {
		t.Errorf("got %+v", r)
	}
	writeState(t, w.state, eightGPUs()...)
}

func TestGPUsStandInTheOrderOfTheirAddressesAndKeepTheirNames(t *testing.T) {
	w, l := watchChild(t, fakeLibrary(t), nil, "count 3", "gpu.0.uuid a", "gpu.1.uuid b", "gpu.2.uuid c", "gpu.0.pci 0:e3:0", "gpu.1.pci 0:3b:0", "gpu.2.pci 0:0a:0")
	wantOrder(t, l, "c 2, b 1, a 0")
	l = w.ask("count 3", "gpu.0.uuid b", "gpu.1.uuid c", "gpu.2.uuid a", "gpu.0.pci 0:3b:0", "gpu.1.pci 0:0a:0", "gpu.2.pci 0:e3:0", "gpu.1.name NVIDIA A30")
	wantOrder(t, l, "c 1, b 0, a 2")
	if l.GPUs[0].Type != "A30" {
		t.Errorf("the one that is another now: %+v", l.GPUs[0])
	}
	wantOrder(t, w.ask("count 2", "gpu.0.uuid b", "gpu.1.uuid a", "gpu.0.pci 0:3b:0", "gpu.1.pci 0:e3:0"), "b 0, a 1")
	wantOrder(t, w.ask("count 3", "gpu.0.uuid b", "gpu.1.uuid a", "gpu.2.uuid c", "gpu.0.pci 0:3b:0", "gpu.2.pci 0:0a:0", "gpu.1.lost 1"), "c 2, b 0, a 1")
	wantOrder(t, w.ask("count 0"), "")
}

func wantOrder(t *testing.T, l forge.GPULook, want string) {
	t.Helper()
	var got []string
	for _, r := range l.GPUs {
		got = append(got, fmt.Sprintf("%s %d", r.UUID, r.Index))
	}
	if g := strings.Join(got, ", "); g != want || l.GPUs == nil {
		t.Errorf("got %q, want %q", g, want)
	}
}

func TestOnlyTheGPUsThatAreAskedForAreTold(t *testing.T) {
	w, l := watchChild(t, fakeLibrary(t), []string{"--uuids", "GPU-3,GPU-1,GPU-gone"}, eightGPUs()...)
	wantOrder(t, l, "GPU-1 1, GPU-3 3, GPU-gone -1")
	if r := l.GPUs[2]; !r.Lost || !strings.Contains(r.Problem, "lists no GPU") {
		t.Errorf("one that is not there: %+v", r)
	}
	writeState(t, w.state, append(eightGPUs(), "event.1 0,8,79", "event.2 3,8,48")...)
	if got := w.events(); got[0].UUID != "GPU-3" {
		t.Errorf("got %+v", got)
	}
}

func TestADriverThatFailsIsAStateAndTheChildStays(t *testing.T) {
	w, l := watchChild(t, fakeLibrary(t), nil, append(eightGPUs(), "init 9")...)
	wantLook(t, l, forge.NVMLError, "nvmlInit: Driver Not Loaded (9)")
	wantLook(t, w.ask(append(eightGPUs(), "fail.nvmlDeviceGetCount_v2 999")...), forge.NVMLError, "nvmlDeviceGetCount: Unknown Error (999)")
	if l = w.ask(eightGPUs()...); l.State != forge.NVMLOK || len(l.GPUs) != 8 {
		t.Errorf("when the driver is there: %+v", l)
	}
}

func wantLook(t *testing.T, l forge.GPULook, s forge.NVMLState, words string) {
	t.Helper()
	if l.State != s || !strings.Contains(l.Detail, words) || l.GPUs == nil || len(l.GPUs) > 0 {
		t.Errorf("got %+v, want %s in words with %q", l, s, words)
	}
}

func TestALibraryThatIsTooOldIsNamedAndOneThatIsMissingEndsTheChild(t *testing.T) {
	_, l := watchChild(t, without(t, fakeLibrary(t), "nvmlDeviceGetUUID"), nil, eightGPUs()...)
	wantLook(t, l, forge.NVMLError, "lacks nvmlDeviceGetUUID: it is too old")
	if systemHasNVML(t) {
		return
	}
	w, l := watchChild(t, t.TempDir(), nil)
	wantLook(t, l, forge.NVMLNoDriver, "libnvidia-ml.so.1")
	if _, open := <-w.lines; open {
		t.Error("it goes on")
	}
}

func TestALibraryInWhichSomethingIsLostForLongIsOpenedAnew(t *testing.T) {
	w, _ := watchChild(t, fakeLibrary(t), []string{"--again-after", "1ms"}, eightGPUs()...)
	w.ask(append(eightGPUs(), "gpu.4.lost 1")...)
	l := w.until("look of the process anew", func(forge.GPULook) bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", w.pid))
		return err == nil && bytes.Contains(b, []byte("FORGE_NVML_BEFORE"))
	})
	if r := l.GPUs[4]; len(l.GPUs) != 8 || !r.Lost || r.UUID != "GPU-4" || r.PCI != "00000000:05:00.0" {
		t.Errorf("what it knows of the lost one: %+v", l.GPUs)
	}
	writeState(t, w.state, eightGPUs()...)
	w.tick("it is back", func(l forge.GPULook) bool { return l.GPUs[4].Problem == "" && l.GPUs[4].TemperatureC != nil })
	writeState(t, w.state, append(eightGPUs(), "event.1 4,8,13")...)
	if got := w.events(); got[0].UUID != "GPU-4" {
		t.Errorf("got %+v", got)
	}
}

// Without a driver, too: go-nvml has hundreds of functions that are looked for when they are called, and at the start then.
func TestBindingAtOnceEndsTheProcessSoTheParentTakesItAway(t *testing.T) {
	cmd := exec.Command(os.Args[0], "nvml", "inventory")
	cmd.Env = []string{"LD_BIND_NOW=1", "LD_LIBRARY_PATH=" + fakeLibrary(t)}
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 127 {
		t.Errorf("go-nvml can do it now (%v, %s): the environment of children need not be cleared of it", err, out)
	}
	t.Setenv("LD_BIND_NOW", "1")
	if r := look(t, prober(t, fakeLibrary(t), eightGPUs()...)); len(r.GPUs) != 8 {
		t.Errorf("got %+v", r)
	}
}
