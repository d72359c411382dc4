package slurm_test

import (
	"os"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
	"github.com/forge-ml/forge-ml/slurm"
)

// TestWhatTheConfigurationNoLongerAllowsIsRefused needs no Slurm: none is asked, and the tools are nowhere.
func TestWhatTheConfigurationNoLongerAllowsIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*forge.Launch)
		says   string
	}{
		"a partition that a reload took out": {func(l *forge.Launch) { l.Spec.Batch = &forge.BatchOptions{Partition: "old"} }, `batch.partition: "old" is not one of cluster hpc; it has gpu`},
		"an option of sbatch":                {func(l *forge.Launch) { l.Spec.Batch = &forge.BatchOptions{Raw: []string{"--comment=x"}} }, "batch.raw: "},
		"a runtime that lost its image":      {func(l *forge.Launch) { l.Spec.Runtime = &forge.Runtime{Kind: forge.RuntimePyxis} }, "runtime.image: "},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, &slurmtest.Cluster{Bin: t.TempDir()}, 1, 1, hold, func(o *slurm.Options) { o.With.Partitions = []slurm.Partition{{Name: "gpu"}} })
			c.change(&b.l)
			b.submit()
			o := b.look()
			if reason, why := b.judge(o); o.State != forge.ObservAbsent || !o.Released || reason != forge.EndRefused || !strings.HasPrefix(why, c.says) {
				t.Errorf("%s (%s), %+v", reason, why, o)
			}
			if f := b.Find(t.Context(), b.l.Key, b.l.RunDir); f.State != forge.LookupFound || f.ID != b.id {
				t.Errorf("after a restart: %+v", f)
			}
			b.l.Spec.Batch, b.l.Spec.Runtime = nil, nil
			if again, err := b.Submit(t.Context(), b.l); err != nil || again != b.id {
				t.Errorf("the same attempt a second time, allowed by now: %q, %v", again, err)
			}
			if o := b.look(); o.State != forge.ObservAbsent {
				t.Errorf("what was refused stays refused: %+v", o)
			}
		})
	}
	t.Run("not one that was handed over before", func(t *testing.T) {
		b := newBench(t, &slurmtest.Cluster{Bin: t.TempDir()}, 1, 1, hold, func(o *slurm.Options) { o.With.Partitions = []slurm.Partition{{Name: "gpu"}} })
		sbatch(t, b.o.Tools.Bin, "echo 42")
		b.l.Spec.Batch = &forge.BatchOptions{Partition: "gpu"}
		id, err := b.Submit(t.Context(), b.l)
		if err != nil {
			t.Fatal(err)
		}
		b.id = id
		b.Change(slurm.With{Partitions: []slurm.Partition{{Name: "new"}}})
		if again, err := b.Submit(t.Context(), b.l); err != nil || again != id {
			t.Errorf("%q, %v", again, err)
		}
		if o := b.look(); o.State == forge.ObservAbsent {
			t.Errorf("a job that may run was declared absent: %+v", o)
		}
	})
}

// sbatch puts a program in the place of Slurm's.
func sbatch(t *testing.T, bin, does string) {
	t.Helper()
	if err := os.WriteFile(bin+"/sbatch", []byte("#!/bin/sh\n"+does+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}
