package slurm_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
	"github.com/forge-ml/forge-ml/slurm"
)

// bench is an executor on a cluster, and one attempt of a gang.
type bench struct {
	*slurm.Executor
	t  testing.TB
	c  *slurmtest.Cluster
	o  slurm.Options
	l  forge.Launch
	at rundir.Attempt
	id forge.ExternalID
}

var runs atomic.Int64

// patience bounds every wait: a loaded machine must not fail a test.
const patience = 30 * time.Second

func newBench(t testing.TB, c *slurmtest.Cluster, nodes, gpus int, act executortest.Act, change ...func(o *slurm.Options)) *bench {
	t.Helper()
	b := &bench{t: t, c: c, o: optionsFor(t, c, change...)}
	b.Executor = newExecutor(t, b.o)
	run := forge.RunID(fmt.Sprintf("01TESTSLURM%015d", runs.Add(1)))
	b.at = rundir.At(filepath.Join(b.o.RunRoot, string(run)), 1)
	b.l = forge.Launch{
		Key: forge.AttemptKey(run, 1), Run: run, Number: 7, Attempt: 1, RunDir: b.at.RunDir,
		Spec: forge.RunSpec{
			Recipe: "script", Launch: forge.LaunchRank, Entry: forge.Entry{Command: executortest.Command(self(t), executortest.Program{Ranks: []executortest.Act{act}})},
			Gang: forge.Gang{Nodes: nodes, GPUsPerNode: gpus, CPUsPerGPU: 1}, Grace: forge.Duration(20 * time.Second),
		},
		Config: forge.RankConfig{RunID: run, RunNumber: 7, Attempt: 1, Recipe: "script", CheckpointDir: b.at.CheckpointDir(), OutputDir: b.at.OutputDir()},
	}
	return b
}

// name of the job.
func (b *bench) name() string { return slurm.JobName(b.o.Cluster, b.l.Run, 1) }

func (b *bench) submit() *bench {
	b.t.Helper()
	id, err := b.Submit(b.t.Context(), b.l)
	if err != nil {
		b.t.Fatal(err)
	}
	b.id = id
	b.t.Cleanup(b.end)
	return b
}

// end leaves nothing running, and no shim that writes into a directory which is removed next.
func (b *bench) end() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = b.Signal(ctx, b.id, forge.SignalKill)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		o, err := b.Poll(ctx, []forge.ExternalID{b.id})
		if err != nil {
			b.t.Errorf("the attempt did not end within %s", patience)
			return
		}
		if o[0].Released {
			return
		}
	}
}

func (b *bench) look() forge.Observation {
	b.t.Helper()
	o, err := b.Poll(b.t.Context(), []forge.ExternalID{b.id})
	if err != nil || len(o) != 1 {
		b.t.Fatalf("%+v, %v", o, err)
	}
	return o[0]
}

func (b *bench) until(what string, holds func(o forge.Observation) bool) forge.Observation {
	b.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		o := b.look()
		if holds(o) {
			return o
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%s: not within %s; last seen %+v, batch %+v\n%s", what, patience, o, o.Batch, b.c.Logs())
		}
	}
}

func (b *bench) state(want forge.ObservState) forge.Observation {
	b.t.Helper()
	return b.until(string(want), func(o forge.Observation) bool { return o.State == want })
}

func (b *bench) released() forge.Observation {
	b.t.Helper()
	return b.until("released", func(o forge.Observation) bool { return o.Released })
}

// started waits until every rank has said so.
func (b *bench) started() forge.Observation {
	b.t.Helper()
	return b.until("running", func(o forge.Observation) bool {
		for r := range b.l.Spec.Gang.GPUs() {
			if !strings.Contains(b.text(fmt.Sprintf("stdout.%d", r)), "start\n") {
				return false
			}
		}
		return o.State == forge.ObservRunning
	})
}

func (b *bench) text(stream string) string {
	b.t.Helper()
	c, err := b.Read(b.t.Context(), b.id, stream, 0, 1<<20)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(c.Data)
}

// starts counts how often the program was started over the whole gang.
func (b *bench) starts() int {
	n := 0
	for r := range b.l.Spec.Gang.GPUs() {
		n += strings.Count(b.text(fmt.Sprintf("stdout.%d", r)), "start\n")
	}
	return n
}

func (b *bench) judge(o forge.Observation) (forge.EndReason, string) {
	return forge.Judge(forge.Evidence{State: o.State, Cause: o.Cause, Detail: o.Detail, Exits: o.Exits, Ranks: b.l.Spec.Gang.GPUs(), Status: o.Status, ByUID: o.ByUID, OutputOK: true})
}

// jobs lists the jobs of the attempt's name that are not over.
func (b *bench) jobs() []string {
	b.t.Helper()
	return strings.Fields(b.c.Must(b.t, "squeue", "-h", "-o", "%i", "--name="+b.name()))
}

func (b *bench) eventually(what string, holds func() bool) {
	b.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			b.t.Fatalf("not within %s: %s", patience, what)
		}
		b.look()
	}
}
