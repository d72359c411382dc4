package scheduler_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

func TestOrder(t *testing.T) {
	s := story(t, `
run d gang=1x1
run b gang=1x1 prio=90 age=1s
run a gang=1x1 hold=later
run c gang=1x1 age=2h`)
	p := fair
	want := []forge.RunID{"b", "c", "a", "d"}
	t.Run("is priority, then age, then id, runs on hold included", func(t *testing.T) {
		if got := scheduler.Order(s, p); !slices.Equal(got, want) {
			t.Errorf("got %v", got)
		}
	})
}

func TestExplain(t *testing.T) {
	s := story(t, `
node main/n1 gpus=4xA100
node main/n2 gpus=2xA100
node side/m1 gpus=5xH100 suspect=yes
active x main on=n2:0 ends=1h
run a gang=1x3 avoid=n1
run d gang=1x5
run b gang=2x2
run c gang=1x1 hold=later`)
	p := fair
	for run, want := range map[forge.RunID]struct {
		code forge.HoldCode
		text string
	}{
		"a":     {"", "starts now on n1 of cluster main; it failed on n1 before, and no other nodes could hold it"},
		"d":     {"", "starts now on m1 of cluster side; runs failed on m1 lately, and no other nodes could hold it"},
		"b":     {forge.HoldCapacity, "needs 2 GPUs on each of 2 nodes; most free now: 1 on n1, 1 on n2"},
		"c":     {forge.HoldUser, "held by ada: later"},
		"ghost": {"", "does not wait"},
	} {
		got := scheduler.Explain(s, p, run)
		if got.Code != want.code || !strings.HasPrefix(got.Text, want.text) {
			t.Errorf("%s: %s %q", run, got.Code, got.Text)
		}
		if run != "ghost" && !slices.Equal(got.Runs, []forge.RunID{run}) {
			t.Errorf("%s: runs %v", run, got.Runs)
		}
	}
}

func TestReasonsNameNoOtherTenantsRun(t *testing.T) {
	s := story(t, `
node main/n1 gpus=4xA100
active secret-active main on=n1:0 ends=1h
run secret-head gang=1x4 prio=60
run mine gang=1x1`)
	for _, h := range scheduler.Plan(s, fair).Hold {
		if strings.Contains(h.Text, "secret") {
			t.Errorf("%q", h.Text)
		}
	}
}

func TestStrictOrder(t *testing.T) {
	s := story(t, `
node main/n1 gpus=4xA100
node side/m1 gpus=4xA100
active x main on=n1:0 ends=1h
run head gang=1x4 prio=60 cluster=main
run short gang=1x1 limit=1m cluster=main
run aside gang=1x1 cluster=side`)
	plan := scheduler.Plan(s, scheduler.Policy{})
	t.Run("nothing overtakes a run that waits", func(t *testing.T) {
		if placed(plan, "short") != nil || !strings.Contains(tell(plan), "strictly in order") {
			t.Errorf("got\n%s", tell(plan))
		}
	})
	t.Run("a cluster that nobody waits for goes on", func(t *testing.T) {
		if placed(plan, "aside") == nil {
			t.Errorf("got\n%s", tell(plan))
		}
	})
	t.Run("only so many kinds of run are tried behind one", func(t *testing.T) {
		s := story(t, `
node main/n1 gpus=4xA100
active x main on=n1:0 ends=1h
run head gang=1x4 prio=60
run wide gang=1x3 limit=50m mem=255G
run twin gang=1x3 limit=50m mem=255G
run short gang=1x1 limit=1m prio=40`)
		if plan := scheduler.Plan(s, scheduler.Policy{MaxBackfillTries: 2}); placed(plan, "short") == nil {
			t.Errorf("got\n%s", tell(plan))
		}
		if plan := scheduler.Plan(s, scheduler.Policy{MaxBackfillTries: 0}); placed(plan, "short") != nil {
			t.Errorf("got\n%s", tell(plan))
		}
	})
}

func TestBackfillMargin(t *testing.T) {
	s := story(t, `
node main/n1 gpus=4xA100
active x main on=n1:0 ends=1h
run head gang=1x4 prio=60
run tight gang=1x1 limit=59m30s`)
	if p := scheduler.Plan(s, fair); placed(p, "tight") != nil {
		t.Error("a run starts whose grace reaches into the reservation")
	}
	if p := scheduler.Plan(s, scheduler.Policy{MaxBackfillTries: 10, BackfillMargin: 30 * time.Second}); placed(p, "tight") == nil {
		t.Error("a run that is gone in time waits")
	}
}

func TestPolicyValidate(t *testing.T) {
	if err := scheduler.DefaultPolicy().Validate(); err != nil {
		t.Error(err)
	}
	if err := (scheduler.Policy{}).Validate(); err != nil {
		t.Error(err)
	}
	for field, p := range map[string]scheduler.Policy{
		"max_backfill_tries": {MaxBackfillTries: -1},
		"backfill_margin":    {BackfillMargin: -time.Second},
		"preempt_gap":        {PreemptGap: 101},
		"restart_cost":       {RestartCost: -time.Second},
	} {
		var fe *forge.Error
		if err := p.Validate(); !errors.As(err, &fe) || fe.Field != field || fe.Kind != forge.KindInvalid {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestFits(t *testing.T) {
	nodes := story(t, `
node main/n1 gpus=4xA100 cpus=8 mem=64G sick=0
node main/n2 gpus=4xA100 cpus=8 mem=64G state=drained
node main/n3 gpus=2xH100 cpus=64 mem=64G
node side/m1 gpus=8xcpu cpus=8 mem=16G`).Nodes
	gang := func(n, g, cpus int, gib int64) forge.Gang {
		return forge.Gang{Nodes: n, GPUsPerNode: g, CPUsPerGPU: cpus, MemoryMiBPerGPU: gib << 10}
	}
	for _, c := range []struct {
		name    string
		gang    forge.Gang
		cluster forge.ClusterName
		ok      bool
		largest string
	}{
		{"sick GPUs and drained nodes count: they come back", gang(2, 4, 1, 0), "", true, ""},
		{"types do not add up", gang(3, 2, 1, 0), "", false, "the largest that fits is 2 nodes with 4 GPUs each (at 1 CPU per GPU), in cluster main"},
		{"clusters do not add up", gang(3, 1, 0, 0), "", false, "2 nodes with 4 GPUs each, in cluster main"},
		{"only the cluster that was asked for", gang(2, 4, 1, 0), "side", false, "1 node with 8 CPU slots (at 1 CPU per GPU), in cluster side"},
		{"CPUs limit", gang(1, 4, 4, 0), "main", false, "2 nodes with 2 GPUs each (at 4 CPUs per GPU)"},
		{"memory limits", gang(1, 4, 0, 20), "main", false, "2 nodes with 3 GPUs each (at 20G of memory per GPU)"},
		{"not even one GPU", gang(1, 1, 100, 0), "main", false, "no node can hold even 1 GPU with that; the largest node, n1, has 4 GPUs, 8 CPUs and 64G of memory"},
		{"a cluster that is not there", gang(1, 1, 1, 0), "moon", false, "cluster moon has no GPUs"},
		{"a gang of nothing", gang(0, 0, 0, 0), "", false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			ok, largest := scheduler.Fits(nodes, c.gang, c.cluster)
			if ok != c.ok || !strings.Contains(largest, c.largest) {
				t.Errorf("got %v, %q", ok, largest)
			}
		})
	}
	if ok, largest := scheduler.Fits(nil, gang(1, 1, 1, 1), ""); ok || largest != "there are no nodes with GPUs" {
		t.Errorf("got %v, %q", ok, largest)
	}
}

// crowd is a full cluster of 100 x 8 and a deep queue.
func crowd(pending, shapes int) forge.Snapshot {
	s := forge.Snapshot{Revision: 1, Now: epoch}
	for i := range 100 {
		n := forge.Node{Cluster: "main", Name: forge.NodeName(fmt.Sprintf("n%03d", i)), CPUs: 64, MemoryMiB: 512 << 10, State: forge.NodeReady}
		slots := make([]int, 8)
		for slot := range slots {
			slots[slot] = slot
			n.GPUs = append(n.GPUs, forge.GPU{Slot: slot, Kind: forge.GPUDevice, Type: "H100"})
		}
		s.Nodes = append(s.Nodes, n)
		s.Active = append(s.Active, forge.ActiveAttempt{Run: forge.RunID(fmt.Sprintf("active-%03d", i)), Number: 1, Cluster: "main", Priority: 50,
			EndsBy: epoch.Add(time.Duration(i+1) * time.Minute), Placement: []forge.Share{{Node: n.Name, Slots: slots, CPUs: 8}}})
	}
	for i := range pending {
		s.Pending = append(s.Pending, forge.PendingRun{ID: forge.RunID(fmt.Sprintf("run-%06d", i)), Priority: 50 + i%7, SubmittedAt: epoch.Add(-time.Duration(i*7919%pending) * time.Second),
			Gang: forge.Gang{Nodes: 1 + i%2, GPUsPerNode: 1 + i%4, CPUsPerGPU: 1 + i%shapes}, TimeLimit: time.Duration(i%500) * time.Minute})
	}
	return s
}

func TestADeepQueueCostsOneLookPerShape(t *testing.T) {
	s := crowd(10_000, 4)
	plan := scheduler.Plan(s, fair)
	if len(plan.Hold) > 40 {
		t.Errorf("%d reasons for a handful of shapes", len(plan.Hold))
	}
	if n := testing.AllocsPerRun(3, func() { scheduler.Plan(s, fair) }); n > 5_000 {
		t.Errorf("%.0f allocations for 10,000 runs: something is made per run", n)
	}
}

func BenchmarkPlan(b *testing.B) {
	for _, c := range []struct{ pending, shapes int }{{10_000, 4}, {100_000, 4}, {10_000, 2000}} {
		b.Run(fmt.Sprintf("pending=%d/shapes=%d/full", c.pending, c.shapes), func(b *testing.B) {
			s := crowd(c.pending, c.shapes)
			b.ReportAllocs()
			for b.Loop() {
				scheduler.Plan(s, fair)
			}
		})
	}
	b.Run("pending=10000/empty", func(b *testing.B) {
		s := crowd(10_000, 4)
		s.Active = nil
		for b.Loop() {
			scheduler.Plan(s, fair)
		}
	})
}

func BenchmarkCheckPlan(b *testing.B) {
	s := crowd(10_000, 4)
	plan := scheduler.Plan(s, fair)
	for b.Loop() {
		if err := scheduler.CheckPlan(s, fair, plan); err != nil {
			b.Fatal(err)
		}
	}
}
