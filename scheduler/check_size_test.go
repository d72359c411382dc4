package scheduler_test

import (
	"fmt"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

// crowded is nodes of eight GPUs, each full with runs of one, and for each node a gang of a higher class that needs all of it.
func crowded(nodes int) forge.Snapshot {
	s := forge.Snapshot{Revision: 7, Now: epoch}
	for i := range nodes {
		n := forge.Node{Name: forge.NodeName(fmt.Sprintf("n%04d", i)), Cluster: "main", CPUs: 64, MemoryMiB: 1 << 20, State: forge.NodeReady}
		for slot := range 8 {
			n.GPUs = append(n.GPUs, forge.GPU{Slot: slot, Kind: forge.GPUDevice, Type: "H100", MemoryMiB: 81920})
			s.Active = append(s.Active, forge.ActiveAttempt{Run: forge.RunID(fmt.Sprintf("a%04d-%d", i, slot)), Number: 1, Tenant: "t", State: forge.AttemptRunning, Priority: 15,
				Cluster: "main", Gang: forge.Gang{Nodes: 1, GPUsPerNode: 1, CPUsPerGPU: 1, MemoryMiBPerGPU: 64}, StartedAt: epoch.Add(-time.Hour), SubmittedAt: epoch.Add(-2 * time.Hour),
				Placement: []forge.Share{{Node: n.Name, Slots: []int{slot}, CPUs: 1, MemoryMiB: 64}}})
		}
		s.Nodes = append(s.Nodes, n)
		s.Pending = append(s.Pending, forge.PendingRun{ID: forge.RunID(fmt.Sprintf("w%04d", i)), Tenant: "t", Priority: 60, SubmittedAt: epoch.Add(-time.Minute),
			Gang: forge.Gang{Nodes: 1, GPUsPerNode: 8, CPUsPerGPU: 1, MemoryMiBPerGPU: 64}})
	}
	return s
}

// A daemon with thousands of runs stood still for minutes while a plan that stopped most of them was judged.
func TestAPlanThatStopsThousandsIsJudgedInProportionToItsSize(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: seconds of planning")
	}
	for _, name := range []string{"default", "fair"} {
		t.Run(name, func(t *testing.T) {
			policy := preset(name)
			looks := func(nodes int) int {
				s := crowded(nodes)
				plan := scheduler.Plan(s, policy)
				if len(plan.Preempt) != 8*nodes {
					t.Fatalf("of %d runs %d are stopped", 8*nodes, len(plan.Preempt))
				}
				if err := scheduler.CheckPlan(s, policy, plan); err != nil {
					t.Fatal(err)
				}
				return scheduler.Looks(s, policy, plan)
			}
			some, more := looks(50), looks(400)
			if t.Logf("%d looks for 400 stops, %d for 3,200", some, more); some == 0 || more > 10*some {
				t.Errorf("a plan eight times as large takes %d looks instead of %d", more, some)
			}
		})
	}
}
