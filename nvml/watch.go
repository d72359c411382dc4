package nvml

import (
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
)

// WatchOptions is what a Watcher looks at, and how.
type WatchOptions struct {
	Self        string        // the binary whose main calls ChildMain; "": /proc/self/exe
	Every       time.Duration // between looks; 0: DefaultEvery
	UUIDs       []string      // nil: every GPU of the machine
	LibraryPath string        // LD_LIBRARY_PATH of the child, for drivers in an unusual place
	FakeState   string        // FAKENVML_STATE of the child, for contrib/fake-nvml; "": state.txt beside the library
	Child       func(pid int) // told of each child that is started, by whoever collects all children of this process; nil: nobody does
	Log         zerolog.Logger
}

// DefaultEvery is how often a Watcher looks.
const DefaultEvery = 5 * time.Second

// News is what a Watcher tells: a look, or what the driver said by itself. One of them is set.
type News struct {
	Look   *forge.GPULook
	Events []forge.GPUEvent
}
