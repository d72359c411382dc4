package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

// TestNobodyWhoOvertakesDelaysTheHead compares, on clusters that are small enough to try every choice of nodes at every minute, when the first run
// that waits can start with and without those behind it that start now. Runs that keep their limit are gone by then, and their margin with them.
func TestNobodyWhoOvertakesDelaysTheHead(t *testing.T) {
	overtaken := 0
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "world")*0x9E3779B97F4A7C15, 5))
		s := forge.Snapshot{Now: epoch}
		p := preset("fair")
		inOrder := rng.IntN(3) == 0
		if inOrder { // where runs are stopped in order only those that cannot be stopped must not delay anybody
			p.PreemptInOrder, p.PreemptGap = true, 0
		} else {
			p.PreemptGap = 0
		}
		for i := range 1 + rng.IntN(3) {
			n := forge.Node{Cluster: "main", Name: forge.NodeName(fmt.Sprint("n", i)), CPUs: 4, MemoryMiB: 1 << 20, State: forge.NodeReady}
			slots := 1 + rng.IntN(4)
			for slot := range slots {
				n.GPUs = append(n.GPUs, forge.GPU{Slot: slot, Kind: forge.GPUDevice, Type: "A100"})
			}
			s.Nodes = append(s.Nodes, n)
			for slot := 0; slot < slots; {
				k := min(1+rng.IntN(2), slots-slot)
				if rng.IntN(3) > 0 {
					a := forge.ActiveAttempt{Run: forge.RunID(fmt.Sprint("on-", i, "-", slot)), Number: 1, Cluster: "main", State: forge.AttemptRunning, Pinned: true, Gang: forge.Gang{Nodes: 1, GPUsPerNode: k},
						EndsBy: epoch.Add(time.Duration(1+rng.IntN(20)) * time.Minute)}
					sh := forge.Share{Node: n.Name, CPUs: rng.IntN(2)}
					for j := range k {
						sh.Slots = append(sh.Slots, slot+j)
					}
					a.Placement = []forge.Share{sh}
					s.Active = append(s.Active, a)
				}
				slot += k
			}
		}
		for i := range 2 + rng.IntN(5) {
			s.Pending = append(s.Pending, forge.PendingRun{ID: forge.RunID(fmt.Sprint("run-", i)), Priority: 10 * rng.IntN(4), SubmittedAt: epoch.Add(-time.Duration(rng.IntN(60)) * time.Minute), Pinned: inOrder,
				Gang: forge.Gang{Nodes: 1 + rng.IntN(2), GPUsPerNode: 1 + rng.IntN(3), CPUsPerGPU: rng.IntN(2)}, TimeLimit: time.Duration(1+rng.IntN(25)) * time.Minute})
		}
		plan := scheduler.Plan(s, p)
		byID := map[forge.RunID]forge.PendingRun{}
		for _, r := range s.Pending {
			byID[r.ID] = r
		}
		starts := map[forge.RunID]forge.Place{}
		for _, pl := range plan.Place {
			starts[pl.Run] = pl
		}
		without, with := append([]forge.ActiveAttempt(nil), s.Active...), append([]forge.ActiveAttempt(nil), s.Active...)
		var head *forge.PendingRun
		for _, id := range scheduler.Order(s, p) {
			r := byID[id]
			pl, placed := starts[id]
			a := forge.ActiveAttempt{Run: id, Placement: pl.Shares, EndsBy: s.Now.Add(r.TimeLimit)}
			switch {
			case placed && head == nil:
				without, with = append(without, a), append(with, a)
			case placed:
				with = append(with, a)
				overtaken++
			case head == nil && everStarts(s, r):
				head = &r
			}
		}
		if head == nil {
			return
		}
		if a, b := bruteStart(s, *head, without), bruteStart(s, *head, with); b > a {
			t.Fatalf("%s could start after %d minutes, and with those who overtake it after %d\n%s\n%s", head.ID, a, b, tell(plan), describe(s))
		}
	})
	if overtaken == 0 {
		t.Error("nobody overtook anybody: the property was not tested")
	}
}

func everStarts(s forge.Snapshot, r forge.PendingRun) bool { return bruteStart(s, r, nil) == 0 }

// bruteStart tries every set of nodes at every minute.
func bruteStart(s forge.Snapshot, r forge.PendingRun, there []forge.ActiveAttempt) int {
	for minute := range 60 {
		at := s.Now.Add(time.Duration(minute) * time.Minute)
		for choice := range 1 << len(s.Nodes) {
			nodes, ok := 0, true
			for i, n := range s.Nodes {
				if choice&(1<<i) == 0 {
					continue
				}
				nodes++
				slots, cpus := len(n.GPUs), n.CPUs
				for _, a := range there {
					for _, sh := range a.Placement {
						if sh.Node == n.Name && a.EndsBy.After(at) {
							slots, cpus = slots-len(sh.Slots), cpus-sh.CPUs
						}
					}
				}
				ok = ok && slots >= r.Gang.GPUsPerNode && cpus >= r.Gang.CPUsPerNode()
			}
			if ok && nodes == r.Gang.Nodes {
				return minute
			}
		}
	}
	return 60
}
