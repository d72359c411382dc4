package direct_test

import (
	"context"
	"io"
	"os"
	"syscall"
	"testing"

	"github.com/rs/zerolog"

	"github.com/forge-ml/forge-ml/internal/direct"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
	"github.com/forge-ml/forge-ml/internal/shim"
	"github.com/forge-ml/forge-ml/nvml"
)

// TestMain makes the test binary the other programs too: `forged shim`, the rank programs, and a
// forged that submits and waits to be killed.
//
// These processes leave by syscall.Exit: under -race os.Exit waits a second for reports that are on stderr already.
func TestMain(m *testing.M) {
	if code, mine := executortest.RankMain(); mine {
		syscall.Exit(code)
	}
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "shim":
			syscall.Exit(shim.Main(context.Background(), os.Args[2:]))
		case "nvml": // the child that asks a driver
			syscall.Exit(nvml.ChildMain(os.Args[2:], os.Stdout))
		case "die": // a forged that cannot even become a shim
			syscall.Exit(9)
		case "ask":
			syscall.Exit(askStranger(os.Args[2]))
		case "late": // a shim that has not come to its lock yet
			_, _ = io.Copy(io.Discard, os.Stdin)
			syscall.Exit(0)
		case "daemon":
			syscall.Exit(daemon(os.Args[2]))
		}
	}
	os.Exit(m.Run())
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func newExecutor(t *testing.T, change ...func(o *direct.Options)) *direct.Executor {
	t.Helper()
	root, err := os.MkdirTemp("", "fd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	o := direct.Options{
		Cluster: "here", NodeName: "this-host", RunRoot: root, CPUSlots: 2, Log: zerolog.Nop(),
	}
	for _, c := range change {
		c(&o)
	}
	e, err := direct.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func alive(pid int) bool {
	p, err := rundir.Identify(pid)
	if err != nil {
		return false
	}
	ok, err := p.Alive()
	return ok && err == nil
}

func TestExecutorContract(t *testing.T) {
	executortest.Run(t, executortest.Harness{New: func(t *testing.T) executortest.Subject {
		var root string
		e := newExecutor(t, func(o *direct.Options) { root = o.RunRoot })
		return executortest.Subject{
			Executor: e, Files: e, RunRoot: root, Cluster: "here", Node: "this-host", Alive: alive,
			Command: func(p executortest.Program) []string { return executortest.Command(self(t), p) },
		}
	}})
}
