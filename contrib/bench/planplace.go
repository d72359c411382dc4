package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

const (
	placeNodes      = 1000
	armadaPlacement = 30_400 // members a second of one gang onto 1,000 nodes × 32 slots, Armada's own benchmark on two such cores
	kueueDecide     = 177    // ms, Kueue's own benchmark: one gang of 200 that must preempt on 1,000 full nodes
)

// placements is how many members of gangs get their slots in a second. Armada's case: what fills 1,000 nodes of 32 slots; and 8,000 ranks on
// 1,000 nodes of 8 GPUs under three labels. The snapshot is read within the time.
func placements(_ context.Context, e env) ([]figure, error) {
	policy, err := scheduler.Preset("default")
	if err != nil {
		return nil, err
	}
	rate := func(s forge.Snapshot, ranks int) (float64, error) {
		var rates []float64
		for range planRounds {
			runtime.GC()
			began := time.Now()
			plan := scheduler.Plan(s, policy)
			took := time.Since(began)
			slots := 0
			for _, p := range plan.Place {
				for _, sh := range p.Shares {
					slots += len(sh.Slots)
				}
			}
			if slots != ranks {
				return 0, fmt.Errorf("%d of %d ranks were given a slot", slots, ranks)
			}
			rates = append(rates, float64(ranks)/took.Seconds())
		}
		return median(rates), nil
	}
	many := placeWorld(32)
	for i := range 32 {
		many.Pending = append(many.Pending, placeRun(i, forge.Gang{Nodes: placeNodes, GPUsPerNode: 1}, nil))
	}
	a, err := rate(many, 32_000)
	if err != nil {
		return nil, err
	}
	one := placeWorld(32)
	one.Pending = append(one.Pending, placeRun(0, forge.Gang{Nodes: placeNodes, GPUsPerNode: 32}, nil))
	b, err := rate(one, 32_000)
	if err != nil {
		return nil, err
	}
	labelled := placeWorld(8)
	labelled.Pending = append(labelled.Pending, placeRun(0, forge.Gang{Nodes: placeNodes, GPUsPerNode: 8, CPUsPerGPU: 8, MemoryMiBPerGPU: 1 << 16},
		&forge.Constraints{Labels: map[string]string{"zone": "a", "fabric": "ib", "pool": "train"}}))
	c, err := rate(labelled, 8000)
	if err != nil {
		return nil, err
	}
	fmt.Printf("  32 gangs of 1,000: %.0f/s; one gang of 32,000: %.0f/s; 8,000 ranks under three labels: %.0f/s\n", a, b, c)
	return []figure{atLeast("placements", min(a, b, c), "members/s", "armada", armadaPlacement, 60_000.0/armadaPlacement)}, nil
}

func placeWorld(slots int) forge.Snapshot {
	s := forge.Snapshot{Now: worldNow}
	for i := range placeNodes {
		n := forge.Node{Name: forge.NodeName(fmt.Sprintf("n%04d", i)), Cluster: worldCluster, CPUs: 256, MemoryMiB: 4 << 20, State: forge.NodeReady,
			Labels: map[string]string{"zone": "a", "fabric": "ib", "pool": "train", "rack": fmt.Sprint("r", i/32), "switch": fmt.Sprint("s", i/8)}}
		for k := range slots {
			n.GPUs = append(n.GPUs, forge.GPU{Slot: k, Kind: forge.GPUDevice, Type: "H100", MemoryMiB: 81920})
		}
		s.Nodes = append(s.Nodes, n)
	}
	return s
}

func placeRun(i int, g forge.Gang, where *forge.Constraints) forge.PendingRun {
	return forge.PendingRun{ID: forge.RunID(fmt.Sprintf("01K%023d", i)), Tenant: "t", User: "ana", SubmittedAt: worldNow.Add(-time.Hour + time.Duration(i)*time.Millisecond), Gang: g, Where: where,
		Work: forge.Work{Left: time.Hour, Known: true}}
}

// preemptDecide is one decision for a gang of 200 GPUs that comes to 1,000 nodes which are full of runs that it may stop.
func preemptDecide(_ context.Context, e env) ([]figure, error) {
	policy, err := scheduler.Preset("default")
	if err != nil {
		return nil, err
	}
	var took []float64
	for round := range 2 * planRounds {
		s := placeWorld(8)
		for i := range s.Nodes {
			size := []int{8, 4, 2, 1}[i%4]
			for k := range 8 / size {
				a := forge.ActiveAttempt{Run: forge.RunID(fmt.Sprintf("01J%010d%03d", i, k)), Number: 1, Tenant: "t", User: "bo", State: forge.AttemptRunning, Cluster: worldCluster,
					Gang: forge.Gang{Nodes: 1, GPUsPerNode: size}, SubmittedAt: worldNow.Add(-3 * time.Hour), PlacedAt: worldNow.Add(-2 * time.Hour), StartedAt: worldNow.Add(-2 * time.Hour),
					SavedAt: worldNow.Add(-time.Duration(i*7919%3600) * time.Second), Work: forge.Work{Left: time.Duration(20+i%50) * time.Hour, AsOf: worldNow, Known: i%2 == 0, Rank: forge.GPUTimeOf(24*time.Hour, 8)}}
				var slots []int
				for j := range size {
					slots = append(slots, k*size+j)
				}
				a.Placement = []forge.Share{{Node: s.Nodes[i].Name, Slots: slots}}
				s.Active = append(s.Active, a)
			}
		}
		pl := scheduler.NewPlanner(policy)
		pl.Load(s)
		pl.Plan(worldNow)
		r := placeRun(round, forge.Gang{Nodes: 25, GPUsPerNode: 8}, nil)
		r.Priority = 50
		runtime.GC()
		began := time.Now()
		pl.Change(scheduler.Change{Pending: &r})
		plan := pl.Plan(worldNow)
		took = append(took, ms(time.Since(began)))
		if len(plan.Preempt) == 0 {
			return nil, fmt.Errorf("nothing was stopped for the gang: %v", plan.Hold)
		}
		if e.verbose {
			fmt.Printf("  %d are stopped, %.2f ms\n", len(plan.Preempt), took[len(took)-1])
		}
	}
	return []figure{atMost("preempt_decide", median(took), "ms", "kueue", kueueDecide, 50.0/kueueDecide)}, nil
}
