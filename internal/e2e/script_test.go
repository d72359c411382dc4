//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/direct"
	"github.com/forge-ml/forge-ml/internal/rundir"
	"github.com/forge-ml/forge-ml/internal/workdir"
)

// torchGang is a run of the user's own on two nodes of two slots, on this host.
type torchGang struct {
	t   *testing.T
	ctx context.Context
	x   *direct.Executor
	l   forge.Launch
}

// attempt starts one and waits until its GPUs are free.
func (g *torchGang) attempt(n int, meanwhile func(at rundir.Attempt)) (rundir.Attempt, forge.Observation) {
	g.t.Helper()
	g.l.Attempt, g.l.Key = n, forge.AttemptKey(g.l.Run, n)
	at := rundir.At(g.l.RunDir, n)
	id, err := g.x.Submit(g.ctx, g.l)
	must(g.t, err)
	g.t.Cleanup(func() { _ = g.x.Signal(context.WithoutCancel(g.ctx), id, forge.SignalKill) })
	if meanwhile != nil {
		meanwhile(at)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		o, err := g.x.Poll(g.ctx, []forge.ExternalID{id})
		must(g.t, err)
		if o[0].Released {
			return at, o[0]
		}
		select {
		case <-tick.C:
		case <-g.ctx.Done():
			g.t.Fatalf("attempt %d did not end: %+v\n%s", n, o[0], g.words(at))
		}
	}
}

func (g *torchGang) words(at rundir.Attempt) string {
	var b strings.Builder
	for rank := range 2 {
		for _, path := range []string{at.StdoutPath(rank), at.StderrPath(rank)} {
			text, _ := os.ReadFile(path)
			b.WriteString(tail(string(text), 3000))
		}
	}
	return b.String()
}

// A user's torchrun needs no word about the gang: two launchers meet, each starts two processes, all reduce together, and
// one that is killed costs what was done since the last checkpoint.
func TestAScriptUnderTorchrunOnTwoNodesResumesAfterAKill(t *testing.T) {
	python := os.Getenv("FORGE_PYTHON")
	if python == "" {
		t.Fatal("FORGE_PYTHON is not set; run these tests through make test")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	root, err := os.MkdirTemp("", "ft")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	code, err := os.ReadFile("testdata/torchrun/train.py")
	must(t, err)
	write(t, filepath.Join(root, "work", "train.py"), string(code))
	write(t, filepath.Join(root, "work", "factor.txt"), "0.5")
	var archive bytes.Buffer
	taken, err := workdir.Take(ctx, workdir.Options{Dir: filepath.Join(root, "work")}, &archive)
	must(t, err)
	kept := filepath.Join(root, "archive.tar.gz")
	must(t, os.WriteFile(kept, archive.Bytes(), 0o600))

	runs := filepath.Join(root, "runs")
	must(t, os.Mkdir(runs, 0o700))
	x, err := direct.New(direct.Options{Cluster: "local", NodeName: "here", Self: filepath.Join(binDir(t), "forged"), ShimArgs: []string{"shim"}, RunRoot: runs, CPUSlots: 4,
		With: direct.With{Env: map[string]string{"PATH": filepath.Dir(python) + ":/usr/bin:/bin"}}})
	must(t, err)
	t.Cleanup(func() { _ = x.Close() })
	g := &torchGang{t: t, ctx: ctx, x: x, l: forge.Launch{Run: "01TORCHRUN0000000000000000", RunDir: filepath.Join(runs, "01TORCHRUN0000000000000000"), SourceFile: kept,
		Placement: []forge.Share{{Node: "here", Slots: []int{0, 1}}, {Node: "here", Slots: []int{2, 3}}},
		Spec: forge.RunSpec{Recipe: "script", Launch: forge.LaunchNode, Entry: forge.Entry{Command: []string{"torchrun", "train.py"}}, Source: &taken.Source,
			Gang: forge.Gang{Nodes: 2, GPUsPerNode: 2, CPUsPerGPU: 1}, Grace: forge.Duration(10 * time.Second)}}}
	for slot := range 4 {
		g.l.Devices = append(g.l.Devices, forge.GPU{Slot: slot, Kind: forge.GPUCPUSlot, Type: "cpu"})
	}

	at, o := g.attempt(1, func(at rundir.Attempt) {
		victim := filepath.Join(at.Dir(), "victim")
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			b, err := os.ReadFile(victim)
			if pid, perr := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && perr == nil {
				must(t, syscall.Kill(pid, syscall.SIGKILL))
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("no process got to the step at which one is killed\n%s", g.words(at))
			}
		}
	})
	if len(o.Exits) != 2 || o.Exits[0].Code == 0 && o.Exits[1].Code == 0 {
		t.Errorf("the gang outlived one of its processes: %+v\n%s", o, g.words(at))
	}
	at, o = g.attempt(2, nil)
	for _, e := range o.Exits {
		if e.Code != 0 {
			t.Fatalf("%+v\n%s", o, g.words(at))
		}
	}
	said := g.words(at)
	if strings.Count(said, "resumed from 10") != 4 {
		t.Errorf("not all four processes went on from step 10:\n%s", said)
	}
	for rank := range 4 {
		if line := fmt.Sprintf("seat %d of 4 node %d local %d", rank, rank/2, rank%2); !strings.Contains(said, line) {
			t.Errorf("nobody said %q:\n%s", line, said)
		}
	}
	want := 0.0
	for step := 1; step <= 20; step++ {
		want = want*0.5 + float64(10*step)
	}
	var got float64
	b, err := os.ReadFile(filepath.Join(at.OutputDir(), "total.json"))
	must(t, err)
	must(t, json.Unmarshal(b, &got))
	if got != want {
		t.Errorf("the result is %v; undisturbed it is %v", got, want)
	}
}
