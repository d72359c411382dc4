//go:build linux && cgo

package direct_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/direct"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
	"github.com/forge-ml/forge-ml/nvml"
)

// TestAGPUIsFreeWhenNVMLShowsItEmpty asks the library that contrib/fake-nvml makes, through the child that forged asks.
func TestAGPUIsFreeWhenNVMLShowsItEmpty(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: the library is built for it")
	}
	gpus, err := forgedtest.NewFakeGPUs(t.Context(), "../..", t.TempDir(), 2)
	if err != nil {
		t.Fatal(err)
	}
	set := func(pairs ...string) {
		t.Helper()
		if err := gpus.Set("", pairs...); err != nil {
			t.Fatal(err)
		}
	}
	other := stranger(t, "PATH=/bin")
	on := func(pid int) string { return fmt.Sprintf("%d:%d", pid, 1<<30) }
	set("gpu.0.mem.used", "1073741824", "gpu.1.procs", on(other.Process.Pid))
	w := nvml.NewWatcher(nvml.WatchOptions{Self: self(t), Every: time.Second, LibraryPath: gpus.Dir, Log: zerolog.Nop()})
	ctx, cancel := context.WithCancel(context.Background()) // the attempt is stopped after the context of the test has ended
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx, func(nvml.News) {}) }()
	t.Cleanup(func() { cancel(); <-done })

	b := newBench(t, 1, []executortest.Act{{}}, func(o *direct.Options) {
		o.Holders = func(ctx context.Context, _ []string) (forge.GPULook, error) { return w.Now(ctx) }
	})
	b.l.Devices[0] = forge.GPU{Slot: 0, Kind: forge.GPUDevice, UUID: gpus.UUID("", 0), Type: "H100"}
	b.submit()
	b.until(b.Executor, "memory that no process has", func(o forge.Observation) bool {
		return strings.Contains(o.Held, "1024 MiB are in use, and no process has them")
	})
	set("gpu.0.procs", on(other.Process.Pid))
	b.released(b.Executor) // a stranger on it is none of the attempt
	if !alive(other.Process.Pid) {
		t.Error("a process that is not forge's was ended")
	}
	set("gpu.0.procs", "", "gpu.0.mem.used", "0")
}
