package slurm_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
	"github.com/forge-ml/forge-ml/internal/shim"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
	"github.com/forge-ml/forge-ml/slurm"
)

// TestMain makes the test binary the other programs too: `forged shim`, which srun starts, and the rank programs.
//
// These processes leave by syscall.Exit: under -race os.Exit waits a second for reports that are on stderr already.
func TestMain(m *testing.M) {
	if code, mine := executortest.RankMain(); mine {
		syscall.Exit(code)
	}
	if len(os.Args) > 1 && os.Args[1] == "shim" {
		syscall.Exit(shim.Main(context.Background(), os.Args[2:]))
	}
	os.Exit(m.Run())
}

func self(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// optionsFor are those of an executor over an empty run root.
func optionsFor(t testing.TB, c *slurmtest.Cluster, change ...func(o *slurm.Options)) slurm.Options {
	t.Helper()
	root, err := os.MkdirTemp("", "fs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	o := slurm.Options{
		Cluster: "hpc", Tools: slurm.Tools{Bin: c.Bin, Conf: c.Conf}, RunRoot: root, Shim: self(t), Binding: slurm.BindEager,
		PollEvery: 300 * time.Millisecond, NodesEvery: time.Second, Log: zerolog.Nop(),
	}
	if os.Getenv("FORGE_TEST_LOG") != "" {
		o.Log = zerolog.New(os.Stderr).With().Timestamp().Logger()
	}
	for _, ch := range change {
		ch(&o)
	}
	return o
}

func newExecutor(t testing.TB, o slurm.Options) *slurm.Executor {
	t.Helper()
	e, err := slurm.New(o)
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
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	// One node, large enough that no test of the suite waits for another.
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 1, GPUs: 64, CPUs: 128})
	var next sync.Mutex
	n := 0
	executortest.Run(t, executortest.Harness{New: func(t *testing.T) executortest.Subject {
		next.Lock()
		n++
		name := fmt.Sprintf("hpc%d", n)
		next.Unlock()
		o := optionsFor(t, c, func(o *slurm.Options) { o.Cluster = forge.ClusterName(name) })
		e := newExecutor(t, o)
		return executortest.Subject{
			Executor: e, Files: e, RunRoot: o.RunRoot, Cluster: o.Cluster, Node: "n1", Queues: true, Alive: alive,
			Command: func(p executortest.Program) []string { return executortest.Command(self(t), p) },
		}
	}})
}
