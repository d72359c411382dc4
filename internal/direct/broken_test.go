package direct_test

import (
	"os"
	"syscall"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/direct"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// What a disk or a rank has spoilt must not hold GPUs for ever.
func TestBrokenRecordsOfADeadShimAreAsGoodAsNone(t *testing.T) {
	for name, path := range map[string]func(rundir.Attempt) string{
		"exit.json": func(a rundir.Attempt) string { return a.ExitPath(0) },
		"live.json": func(a rundir.Attempt) string { return a.LivePath(0) },
		"lock":      func(a rundir.Attempt) string { return a.LockPath(0) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 1, []executortest.Act{{Hold: true}})
			b.submit()
			if err := b.live(1).Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			b.released(b.Executor)
			if err := os.WriteFile(path(b.at), []byte("\x00\x00\x00\x00"), 0o600); err != nil {
				t.Fatal(err)
			}
			next := newExecutor(t, func(o *direct.Options) { o.RunRoot = b.root }) // a forged that knows nothing
			if o := b.released(next); o.State != forge.ObservLost {
				t.Errorf("%+v", o)
			}
		})
	}
}
