//go:build !linux || !cgo

package nvml

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

func errUnavailable() error {
	return forge.Errorf(forge.KindUnavailable, "nvml.open", "built without NVML").
		WithHint("forged finds GPUs only when it is built on Linux with CGO_ENABLED=1")
}

// Open answers KindUnavailable: this build has no NVML.
func Open() (Reader, error) { return nil, errUnavailable() }

// Prober looks for GPUs in a child process; this build has no NVML to look with.
type Prober struct {
	Self        string
	Timeout     time.Duration
	LibraryPath string
	FakeState   string
}

// Inventory answers KindUnavailable: this build has no NVML.
func (*Prober) Inventory(context.Context) (Report, error) { return Report{}, errUnavailable() }

// Watcher watches nothing: this build has no NVML.
type Watcher struct{}

// NewWatcher prepares nothing.
func NewWatcher(WatchOptions) *Watcher { return &Watcher{} }

// Run says once that there is nothing to see, and waits.
func (*Watcher) Run(ctx context.Context, tell func(News)) {
	tell(News{Look: &forge.GPULook{At: time.Now(), State: StateError, Detail: errUnavailable().Error()}})
	<-ctx.Done()
}

// Now answers KindUnavailable: this build has no NVML.
func (*Watcher) Now(context.Context) (forge.GPULook, error) { return forge.GPULook{}, errUnavailable() }

// Inventory answers KindUnavailable: this build has no NVML.
func Inventory(context.Context, string, time.Duration) (Report, error) {
	return Report{}, errUnavailable()
}

// watchMain has nothing to tell of: this build has no NVML.
func watchMain([]string, io.Reader, io.Writer) int {
	fmt.Fprintln(os.Stderr, errUnavailable())
	return 69
}
