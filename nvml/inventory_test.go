//go:build linux && cgo

package nvml_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/nvml"
)

// TestMain makes this binary answer as forged does: the parent under test starts it again as
// `self nvml inventory`, and what then runs is the real cgo path.
//
// These processes leave by syscall.Exit: under -race os.Exit waits a second for reports that are on stderr already.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "nvml" {
		syscall.Exit(nvml.ChildMain(os.Args[2:], os.Stdout))
	}
	code := m.Run()
	if fakesRoot != "" {
		_ = os.RemoveAll(fakesRoot)
	}
	os.Exit(code)
}

var (
	fakes   = map[string]string{}
	fakesMu sync.Mutex
)

// fakeLibrary builds contrib/fake-nvml, once per set of options, and returns its directory.
func fakeLibrary(t *testing.T, options ...string) string {
	t.Helper()
	fakesMu.Lock()
	defer fakesMu.Unlock()
	key := strings.Join(options, " ")
	if dir, ok := fakes[key]; ok {
		return dir
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Fatalf("this test compiles a fake NVML library and needs gcc (Debian: apt install gcc libc6-dev): %v", err)
	}
	dir := filepath.Join(fakesDir(t), strconv.Itoa(len(fakes)))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "../contrib/fake-nvml/build", append([]string{dir}, options...)...).CombinedOutput(); err != nil {
		t.Fatalf("contrib/fake-nvml/build: %v\n%s", err, out)
	}
	fakes[key] = dir
	return dir
}

var fakesRoot string

// fakesDir outlives the test that asks first; TestMain removes it.
func fakesDir(t *testing.T) string {
	if fakesRoot == "" {
		dir, err := os.MkdirTemp("", "fnvml")
		if err != nil {
			t.Fatal(err)
		}
		fakesRoot = dir
	}
	return fakesRoot
}

func writeState(t *testing.T, path string, lines ...string) {
	t.Helper()
	tmp := path + ".new"
	if err := os.WriteFile(tmp, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

// prober is set up to see the fake in a state.
func prober(t *testing.T, library string, state ...string) *nvml.Prober {
	t.Helper()
	file := filepath.Join(t.TempDir(), "state.txt")
	writeState(t, file, state...)
	return &nvml.Prober{Self: os.Args[0], Timeout: time.Minute, LibraryPath: library, FakeState: file}
}

func look(t *testing.T, p *nvml.Prober) nvml.Report {
	t.Helper()
	r, err := p.Inventory(t.Context())
	if err != nil {
		t.Fatalf("Inventory: %v", err)
	}
	if r.GPUs == nil {
		t.Error("the report's GPUs are null in JSON, want a list")
	}
	return r
}

func wantState(t *testing.T, r nvml.Report, s nvml.State, words ...string) {
	t.Helper()
	if r.State != s {
		t.Errorf("state is %q (%s), want %q", r.State, r.Detail, s)
	}
	for _, w := range words {
		if !strings.Contains(r.Detail, w) {
			t.Errorf("the detail %q does not say %q", r.Detail, w)
		}
	}
}

func eightGPUs() []string {
	state := []string{"count 8", "driver 570.86.15"}
	for i := range 8 {
		state = append(state, fmt.Sprintf("gpu.%d.uuid GPU-%d", i, i))
	}
	return state
}

func TestInventoryListsWhatIsThere(t *testing.T) {
	fake := fakeLibrary(t)

	t.Run("eight GPUs with type, memory and identity, and the driver's version", func(t *testing.T) {
		r := look(t, prober(t, fake, eightGPUs()...))
		wantState(t, r, nvml.StateOK)
		if r.Driver != "570.86.15" || len(r.GPUs) != 8 || r.Detail != "" {
			t.Fatalf("got %+v", r)
		}
		for i, g := range r.GPUs {
			want := forge.GPU{Slot: i, Kind: forge.GPUDevice, UUID: fmt.Sprintf("GPU-%d", i), Type: "H100 80GB HBM3", MemoryMiB: 81559, PCI: fmt.Sprintf("00000000:%02X:00.0", i+1)}
			if g != want {
				t.Errorf("slot %d: got %+v, want %+v", i, g, want)
			}
		}
	})

	t.Run("slots follow the PCI address and not the driver's index", func(t *testing.T) {
		r := look(t, prober(t, fake, "count 3", "gpu.0.uuid a", "gpu.1.uuid b", "gpu.2.uuid c",
			"gpu.0.pci 0001:02:00", "gpu.1.pci 0:e3:00", "gpu.2.pci 0:0a:1f"))
		if got, want := uuids(r), []string{"c", "b", "a"}; !slices.Equal(got, want) {
			t.Errorf("by slot: %v, want %v", got, want)
		}
	})

	t.Run("a lost GPU, which has no address, keeps the place of its index among those that do", func(t *testing.T) {
		r := look(t, prober(t, fake, "count 3", "gpu.0.uuid a", "gpu.2.uuid c", "gpu.1.lost 1",
			"gpu.0.pci 0:e3:00", "gpu.2.pci 0:0a:00"))
		if got, want := uuids(r), []string{"c", "", "a"}; !slices.Equal(got, want) {
			t.Errorf("by slot: %v, want %v", got, want)
		}
	})

	t.Run("a type is the same under drivers that put the vendor before it and those that do not", func(t *testing.T) {
		r := look(t, prober(t, fake, "count 4", "gpu.0.name NVIDIA A100-SXM4-80GB", "gpu.1.name A100-SXM4-80GB",
			"gpu.2.name Tesla V100-SXM2-32GB", "gpu.2.mem.total 34089730048", "gpu.3.name NVIDIA  RTX A6000 "))
		var types []string
		for _, g := range r.GPUs {
			types = append(types, g.Type)
		}
		if want := []string{"A100-SXM4-80GB", "A100-SXM4-80GB", "Tesla V100-SXM2-32GB", "RTX A6000"}; !slices.Equal(types, want) {
			t.Errorf("types %q, want %q", types, want)
		}
		if got := r.GPUs[2].MemoryMiB; got != 32510 {
			t.Errorf("memory %d MiB, want 32510", got)
		}
	})

	t.Run("a driver without GPUs is ok and empty", func(t *testing.T) {
		r := look(t, prober(t, fake, "count 0"))
		wantState(t, r, nvml.StateOK)
		if len(r.GPUs) != 0 {
			t.Errorf("got %+v", r.GPUs)
		}
	})

	t.Run("a machine without the library has no driver, and that is no error", func(t *testing.T) {
		r := look(t, prober(t, t.TempDir()))
		if systemHasNVML(t) { // a GPU machine: the loader's own directories cannot be hidden from a child
			if r.State == nvml.StateNoDriver {
				t.Errorf("this machine has an NVML library and the report says %+v", r)
			}
			return
		}
		wantState(t, r, nvml.StateNoDriver, "libnvidia-ml.so.1")
		if len(r.GPUs) != 0 {
			t.Errorf("got %+v", r.GPUs)
		}
	})

	t.Run("shared memory without a figure of its own is no fault", func(t *testing.T) {
		r := look(t, prober(t, fake, "count 1", "fail.nvmlDeviceGetMemoryInfo 3", "fail.nvmlDeviceGetMemoryInfo_v2 3"))
		wantState(t, r, nvml.StateOK)
		if r.GPUs[0].Sick != "" || r.GPUs[0].MemoryMiB != 0 {
			t.Errorf("got %+v", r.GPUs[0])
		}
	})
}

func systemHasNVML(t *testing.T) bool {
	t.Helper()
	for _, pattern := range []string{"/usr/lib/*/libnvidia-ml.so.1", "/usr/lib*/libnvidia-ml.so.1", "/lib/*/libnvidia-ml.so.1"} {
		if found, err := filepath.Glob(pattern); err != nil {
			t.Fatal(err)
		} else if len(found) > 0 {
			return true
		}
	}
	return false
}

func uuids(r nvml.Report) []string {
	var ids []string
	for _, g := range r.GPUs {
		ids = append(ids, g.UUID)
	}
	return ids
}

func TestASickGPUDoesNotHideTheOthers(t *testing.T) {
	fake := fakeLibrary(t)
	cases := []struct {
		name, state, says string
		uuid              string // what is still known
	}{
		{"a lost one", "gpu.2.lost 1", "lost", ""},
		{"one that wants a reset", "gpu.2.fail.nvmlDeviceGetHandleByIndex_v2 16", "reset", ""},
		{"one that is lost between two questions", "gpu.2.fail.nvmlDeviceGetName 15", "lost", "GPU-2"},
		{"one that answers with an unknown error", "gpu.2.fail.nvmlDeviceGetMemoryInfo_v2 999\ngpu.2.fail.nvmlDeviceGetMemoryInfo 999", "nvmlDeviceGetMemoryInfo: Unknown Error (999)", "GPU-2"},
		{"one in MIG mode without an instance", "gpu.2.mig 1", "no MIG instance", "GPU-2"},
		{"one without an identity", "gpu.2.uuid", "UUID", ""},
	}
	for _, c := range cases {
		t.Run(c.name+" is reported on its slot while the others answer", func(t *testing.T) {
			r := look(t, prober(t, fake, append([]string{c.state}, eightGPUs()...)...))
			wantState(t, r, nvml.StateOK)
			if len(r.GPUs) != 8 {
				t.Fatalf("%d GPUs, want 8", len(r.GPUs))
			}
			for i, g := range r.GPUs {
				switch {
				case g.Slot != i:
					t.Errorf("slot %d says that it is %d", i, g.Slot)
				case i != 2 && (g.Sick != "" || g.UUID != fmt.Sprintf("GPU-%d", i)):
					t.Errorf("slot %d: got %+v", i, g)
				case i == 2 && (!strings.Contains(g.Sick, c.says) || g.UUID != c.uuid || g.Type == ""):
					t.Errorf("slot 2: got %+v, want it sick with %q and the UUID %q", g, c.says, c.uuid)
				}
			}
		})
	}

	t.Run("a GPU whose MIG mode is off is well", func(t *testing.T) {
		if r := look(t, prober(t, fake, "count 1", "gpu.0.mig 0")); r.GPUs[0].Sick != "" {
			t.Errorf("got %+v", r.GPUs[0])
		}
	})
}

func TestADriverThatDoesNotDo(t *testing.T) {
	fake := fakeLibrary(t)
	for state, says := range map[string]string{
		"init 9":                              "nvmlInit: Driver Not Loaded (9)",
		"init 18":                             "Driver/library version mismatch",
		"fail.nvmlSystemGetDriverVersion 999": "nvmlSystemGetDriverVersion: Unknown Error (999)",
		"fail.nvmlDeviceGetCount_v2 4":        "nvmlDeviceGetCount: Insufficient Permissions (4)",
		"crash.nvmlDeviceGetCount_v2 1":       "", // Go turns a signal in C into exit code 2
	} {
		t.Run("state "+state+" is an error report", func(t *testing.T) {
			r := look(t, prober(t, fake, append([]string{state}, eightGPUs()...)...))
			wantState(t, r, nvml.StateError, says)
			if len(r.GPUs) != 0 || r.Detail == "" {
				t.Errorf("got %+v", r)
			}
		})
	}

	for _, symbol := range []string{"nvmlInit_v2", "nvmlErrorString", "nvmlDeviceGetCount_v2", "nvmlDeviceGetUUID"} {
		t.Run("a library without "+symbol+" is named as too old instead of ending the process", func(t *testing.T) {
			r := look(t, prober(t, without(t, fake, symbol), eightGPUs()...))
			wantState(t, r, nvml.StateError, symbol, "too old")
		})
	}

	t.Run("a library that was built without the newer functions does", func(t *testing.T) {
		old := fakeLibrary(t, "-DOMIT_nvmlDeviceGetMemoryInfo_v2", "-DOMIT_nvmlDeviceGetMigMode")
		r := look(t, prober(t, old, eightGPUs()...))
		wantState(t, r, nvml.StateOK)
		if len(r.GPUs) != 8 || r.GPUs[7].MemoryMiB != 81559 || r.GPUs[7].Sick != "" {
			t.Errorf("got %+v", r)
		}
	})

	t.Run("a file that is no library is an error in the loader's words, not a missing driver", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "libnvidia-ml.so.1"), []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		wantState(t, look(t, prober(t, dir)), nvml.StateError, "does not load", "libnvidia-ml.so.1")
	})
}

func TestAHungDriver(t *testing.T) {
	fake := fakeLibrary(t)
	for _, fn := range []string{"hang.nvmlInit_v2", "gpu.5.hang.nvmlDeviceGetUUID"} {
		t.Run(fn+" is reported after the timeout and the child is killed", func(t *testing.T) {
			p := prober(t, fake, append([]string{fn + " 1"}, eightGPUs()...)...)
			p.Timeout = 500 * time.Millisecond
			start := time.Now()
			r := look(t, p)
			wantState(t, r, nvml.StateHung, "500ms", "was killed")
			if took := time.Since(start); took < p.Timeout || took > 10*time.Second {
				t.Errorf("took %s, want a little over %s", took, p.Timeout)
			}
			if left := childrenWith(t, "FAKENVML_STATE="+p.FakeState); len(left) > 0 {
				t.Errorf("children left behind: %v", left)
			}

			writeState(t, p.FakeState, eightGPUs()...)
			p.Timeout = time.Minute
			if r := look(t, p); r.State != nvml.StateOK || len(r.GPUs) != 8 {
				t.Errorf("after the driver came back: %+v", r)
			}
		})
	}

	t.Run("a context that ends kills the child and is the error", func(t *testing.T) {
		p := prober(t, fake, "hang.nvmlInit_v2 1")
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if _, err := p.Inventory(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's error", err)
		}
		if left := childrenWith(t, "FAKENVML_STATE="+p.FakeState); len(left) > 0 {
			t.Errorf("children left behind: %v", left)
		}
	})
}

func TestAChildThatCannotBeKilled(t *testing.T) {
	p := prober(t, fakeLibrary(t), eightGPUs()...)
	gone := nvml.PretendStuck(p, 4711)
	wantState(t, look(t, p), nvml.StateHung, "4711", "cannot be killed")
	wantState(t, look(t, p), nvml.StateHung, "4711")
	close(gone)
	if r := look(t, p); r.State != nvml.StateOK || len(r.GPUs) != 8 {
		t.Errorf("after it was gone: %+v", r)
	}
}

// childrenWith finds processes by a string in their environment.
func childrenWith(t *testing.T, marker string) (pids []int) {
	t.Helper()
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range environs {
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), marker) && syscall.Kill(pid, 0) == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
