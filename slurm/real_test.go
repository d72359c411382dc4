package slurm

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// shimFor makes a program that names its version as forged does: what the check asks of it.
func shimFor(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "fcheck") // nodes of the newer version see /tmp and not every TMPDIR
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "forged")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho 'forged version 1.2.3 (abc)'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestARealClusterIsSeenAsItIs(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	slurmtest.OnEachVersion(t, slurmtest.Options{Nodes: 4, GPUs: 2, Conf: []string{
		"PartitionName=small Nodes=n1,n2 MaxTime=60 MaxNodes=1 OverSubscribe=EXCLUSIVE State=UP"}}, func(t *testing.T, c *slurmtest.Cluster) {
		shim := shimFor(t)
		o := Options{Cluster: "hpc", Tools: Tools{Bin: c.Bin, Conf: c.Conf}, RunRoot: filepath.Join(filepath.Dir(shim), "runs"), Shim: shim, Binding: BindLate,
			Labels: map[string]string{"rack": "rack*"}, With: With{Partitions: []Partition{{Name: "main", GPUMemoryMiB: 81920}, {Name: "small"}}}}
		t.Run("nodes, drains and foreign use", func(t *testing.T) { nodesAreSeen(t, c, o) })
		t.Run("drains", func(t *testing.T) { drainsAreKept(t, c, o) })
		t.Run("limits", func(t *testing.T) { limitsHold(t, o) })
		t.Run("interrupted", func(t *testing.T) { interruptedItLeavesNothing(t, c, o) })
		t.Run("ids", func(t *testing.T) { anIDAloneEndsNobodysJob(t, c, o) })
		t.Run("check", func(t *testing.T) { itIsChecked(t, c, o) })
	})
}

func nodesOf(t *testing.T, o Options) map[string]forge.Node {
	t.Helper()
	list, err := listNodes(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]forge.Node{}
	for _, n := range list {
		out[string(n.Name)] = n
	}
	return out
}

// until waits for a condition of the cluster.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(30 * time.Second); !ok(); {
		select {
		case <-end:
			t.Fatalf("not within 30 s: %s", what)
		case <-tick.C:
		}
	}
}

func sick(n forge.Node) (out []int) {
	for _, g := range n.GPUs {
		if g.Sick == ForeignUse {
			out = append(out, g.Slot)
		}
	}
	return out
}

func nodesAreSeen(t *testing.T, c *slurmtest.Cluster, o Options) {
	all := nodesOf(t, o)
	n1 := all["n1"]
	if len(all) != 4 || n1.State != forge.NodeReady || len(n1.GPUs) != 2 || n1.GPUs[1].Slot != 1 || n1.GPUs[0].MemoryMiB != 81920 || n1.CPUs < 1 || n1.MemoryMiB < 1 {
		t.Fatalf("%d nodes, n1 is %+v", len(all), n1)
	}
	if !slices.Equal(n1.Batch.Partitions, []string{"main", "small"}) || n1.Labels["rack"] == "" {
		t.Errorf("n1: %+v %v", n1.Batch, n1.Labels)
	}
	run := forge.RunID("01JD0000000000000000000000")
	c.Must(t, "sbatch", "--output=/dev/null", "-p", "main", "-w", "n1", "--gres=gpu:1", "-J", "somebody-s", "--wrap", "sleep 300")
	until(t, "somebody's job runs", func() bool { return nodesOf(t, o)["n1"].Batch.GPUsUsed == 1 })
	c.Must(t, "sbatch", "--output=/dev/null", "-p", "main", "-w", "n1,n2", "--nodes=2", "--gres=gpu:1", "-J", JobName("hpc", run, 1), "--wrap", "sleep 300")
	until(t, "ours runs", func() bool { return nodesOf(t, o)["n2"].Batch.GPUsUsed == 1 })
	all = nodesOf(t, o)
	if b := all["n1"].Batch; b.GPUsUsed != 2 || b.Foreign != 1 || len(sick(all["n1"])) != 1 {
		t.Errorf("n1 has one of each: %+v, sick %v", b, sick(all["n1"]))
	}
	if b := all["n2"].Batch; b.Foreign != 0 || len(sick(all["n2"])) != 0 {
		t.Errorf("n2 has ours alone: %+v, sick %v", b, sick(all["n2"]))
	}
	c.Must(t, "scancel", "-u", "root")
	until(t, "all is free", func() bool { return nodesOf(t, o)["n1"].Batch.GPUsUsed == 0 })
}

func drainsAreKept(t *testing.T, c *slurmtest.Cluster, o Options) {
	if kept, err := drainNode(t.Context(), o.Tools, "n3", "a fan | is = loud"); err != nil || kept != "" {
		t.Fatalf("%q, %v", kept, err)
	}
	if n := nodesOf(t, o)["n3"]; n.State != forge.NodeDrained || !strings.Contains(n.Reason, "forge: a fan | is = loud") {
		t.Errorf("n3: %s, %q", n.State, n.Reason)
	}
	if kept, err := undrainNode(t.Context(), o.Tools, "n3"); err != nil || kept != "" {
		t.Fatalf("%q, %v", kept, err)
	}
	until(t, "n3 is ready", func() bool { return nodesOf(t, o)["n3"].State == forge.NodeReady }) // Slurm asks it first
	c.Must(t, "scontrol", "update", "nodename=n4", "state=drain", "reason=xid 79, said bob")
	for _, f := range []func() (string, error){
		func() (string, error) { return drainNode(t.Context(), o.Tools, "n4", "mine now") },
		func() (string, error) { return undrainNode(t.Context(), o.Tools, "n4") },
	} {
		if kept, err := f(); err != nil || !strings.Contains(kept, "xid 79, said bob") {
			t.Errorf("somebody else's drain: %q, %v", kept, err)
		}
	}
	if n := nodesOf(t, o)["n4"]; n.State != forge.NodeDrained || !strings.Contains(n.Reason, "xid 79, said bob") {
		t.Errorf("n4 is touched: %s, %q", n.State, n.Reason)
	}
	c.Must(t, "scontrol", "update", "nodename=n4", "state=undrain")
}

func limitsHold(t *testing.T, o Options) {
	r := &rules{}
	spec := forge.RunSpec{Gang: forge.Gang{Nodes: 2, GPUsPerNode: 1, CPUsPerGPU: 1}, Batch: &forge.BatchOptions{Partition: "small"}}
	if _, err := r.admit(t.Context(), o, spec); err == nil || !strings.Contains(err.Error(), "MaxNodes=1") {
		t.Errorf("two nodes: %v", err)
	}
	spec.Gang.Nodes = 1
	if notes, err := r.admit(t.Context(), o, spec); err != nil || !strings.Contains(strings.Join(notes, " "), "EXCLUSIVE") {
		t.Errorf("one node: %v, %v", notes, err)
	}
}

func itIsChecked(t *testing.T, c *slurmtest.Cluster, o Options) {
	found := checkCluster(t.Context(), o, CheckedBy{Version: "1.2.3", Since: time.Now().Add(-time.Hour)})
	by := map[string]Finding{}
	for _, f := range found {
		by[f.Name] = f
	}
	for name, want := range map[string]FindingStatus{
		"slurm_programs": FindingOK, "controller": FindingOK, "slurm_version": FindingOK, "partition/main": FindingOK, "partition/small": FindingOK,
		"probe_job": FindingOK, "shared_directory": FindingOK, "run_root_writable": FindingOK, "node_clocks": FindingOK, "shim": FindingOK,
		"environment_cleared": FindingOK, "flock": FindingOK, "probe_gpu": FindingOK, "python_environment": FindingWarn, "accounting": FindingOK,
	} {
		if by[name].Status != want {
			t.Errorf("%s is %q; want %s: %s", name, by[name].Status, want, by[name].Found)
		}
	}
	if !regexp.MustCompile(`started on n\d, n\d`).MatchString(by["probe_job"].Found) { // whichever are free
		t.Errorf("on two nodes: %s", by["probe_job"].Found)
	}
	nothingIsLeft(t, c, o)
	t.Run("faults are found", func(t *testing.T) {
		bad := o
		bad.Shim = filepath.Join(filepath.Dir(o.Shim), "gone")
		bad.With.Python = "/nowhere/python3"
		bad.With.Partitions = []Partition{{Name: "main", GPUType: "b900"}, {Name: "huge"}}
		by := map[string]Finding{}
		for _, f := range checkCluster(t.Context(), bad, CheckedBy{Version: "1.2.3"}) {
			by[f.Name] = f
		}
		for _, name := range []string{"partition/main", "partition/huge", "probe_job"} {
			if f := by[name]; f.Status != FindingFail || f.Means == "" {
				t.Errorf("%s: %+v", name, f)
			}
		}
		bad.With.Partitions = nil
		by = map[string]Finding{}
		for _, f := range checkCluster(t.Context(), bad, CheckedBy{Version: "1.2.3"}) {
			by[f.Name] = f
		}
		for _, name := range []string{"shim", "python_environment"} {
			if f := by[name]; f.Status != FindingFail || f.Fix == "" {
				t.Errorf("%s: %+v", name, f)
			}
		}
		nothingIsLeft(t, c, o)
	})
}

func interruptedItLeavesNothing(t *testing.T, c *slurmtest.Cluster, o Options) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		checkCluster(ctx, o, CheckedBy{Version: "1.2.3"})
	}()
	until(t, "its job is there", func() bool { return strings.Contains(c.Must(t, "squeue", "-h", "-o", "%j"), "forge-check-") })
	cancel()
	<-done
	nothingIsLeft(t, c, o)
}

func nothingIsLeft(t *testing.T, c *slurmtest.Cluster, o Options) {
	t.Helper()
	if left, _ := filepath.Glob(filepath.Join(o.RunRoot, probePrefix+"*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if out := c.Must(t, "squeue", "-h"); strings.TrimSpace(out) != "" {
		t.Errorf("jobs are left: %s", out)
	}
}

func TestTheAccountingOfARealClusterCountsWhatForgeCounts(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 2, GPUs: 2, Accounting: true})
	o := Options{Cluster: "hpc", Tools: Tools{Bin: c.Bin, Conf: c.Conf}}
	run := forge.RunID("01JD0000000000000000000000")
	since := time.Now().Add(-time.Minute)
	c.Must(t, "sbatch", "--output=/dev/null", "--nodes=2", "--ntasks-per-node=1", "--gres=gpu:2", "-J", JobName("hpc", run, 1), "--wrap", "sleep 2")
	c.Must(t, "sbatch", "--output=/dev/null", "--gres=gpu:1", "-J", "somebody-s", "--wrap", "sleep 1")
	var accounts []account
	until(t, "the accounting knows of the end", func() bool {
		var err error
		if accounts, err = accountsOf(t.Context(), o, since); err != nil {
			t.Fatal(err)
		}
		return len(accounts) == 1 && accounts[0].elapsed > 0
	})
	if a := accounts[0]; a.run != run || a.attempt != 1 || a.gpus != 4 {
		t.Errorf("%+v", a)
	}
	at := time.Now()
	h := compareHours([]forge.GPUUse{{Run: run, Attempt: 1, GPUs: 4, From: at, To: at.Add(accounts[0].elapsed)}}, accounts)
	if h.Both != 1 || h.OnlyOurs+h.OnlyTheirs != 0 || h.Ours != h.Theirs || h.Ours == 0 {
		t.Errorf("%+v", h)
	}
	conf, err := configOf(t.Context(), o.Tools)
	if err != nil || !hasAccounting(conf) || accounting(conf).Status != FindingOK {
		t.Errorf("%+v, %v", accounting(conf), err)
	}
}

// anIDAloneEndsNobodysJob: a controller that lost its last seconds gives ids again, and the job that has one now may be another run's.
func anIDAloneEndsNobodysJob(t *testing.T, c *slurmtest.Cluster, o Options) {
	name := JobName("hpc", "01JD0000000000000000000001", 1)
	id := strings.TrimSpace(c.Must(t, "sbatch", "--output=/dev/null", "--parsable", "-p", "main", "-J", name, "--wrap", "sleep 300"))
	there := func() bool {
		out, err := c.Run("squeue", "-h", "-t", "PENDING,RUNNING", "--name="+name, "-o", "%i")
		return err == nil && strings.TrimSpace(out) == id
	}
	h := NewOwn(o.Tools)
	for _, q := range []Action{{Verb: ActCancel}, {Verb: ActSignal, Signal: "KILL"}} {
		q.JobIDs, q.Name = []string{id}, JobName("hpc", "01JD0000000000000000000000", 1)
		if _, err := h.Act(t.Context(), "", q); err != nil {
			t.Fatal(err)
		}
	}
	if !there() {
		t.Fatal("it was ended by its id, under another's name")
	}
	if _, err := h.Act(t.Context(), "", Action{Verb: ActCancel, JobIDs: []string{id}, Name: "--user=root"}); forge.KindOf(err) != forge.KindInvalid {
		t.Errorf("a name that is an option: %v", err)
	}
	if _, err := h.Act(t.Context(), "", Action{Verb: ActCancel, JobIDs: []string{id}, Name: name}); err != nil {
		t.Fatal(err)
	}
	until(t, "it is ended by its id and name", func() bool { return !there() })
}
