package store_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

const crowdSlots = 20 // of each node of a crowd

// crowd fills a store: so many runs of one slot run on nodes of crowdSlots, and one gang of as many waits for each node.
func crowd(t testing.TB, db *store.DB, runs int) (running, waiting []forge.Run) {
	t.Helper()
	acme := storetest.Tenant(t, db, "acme")
	nodes := runs / crowdSlots
	var all []forge.Node
	for i := range nodes {
		all = append(all, storetest.Node(crowdNode(i), crowdSlots))
	}
	storetest.Nodes(t, db, all...)
	running, waiting = make([]forge.Run, runs), make([]forge.Run, nodes)
	side := func(n int, do func(int)) {
		var wg sync.WaitGroup
		for w := range 64 {
			wg.Go(func() {
				for i := w; i < n; i += 64 {
					do(i)
				}
			})
		}
		wg.Wait()
	}
	side(runs, func(i int) { running[i] = storetest.Submit(t, acme, storetest.Spec(storetest.Priority(10))) })
	side(nodes, func(i int) {
		waiting[i] = storetest.Submit(t, acme, storetest.Spec(storetest.Priority(60), storetest.Gang(1, crowdSlots)))
	})
	for from := 0; from < runs; from += 200 {
		var plan forge.Plan
		for i := from; i < min(from+200, runs); i++ {
			plan.Place = append(plan.Place, storetest.Placement(running[i], crowdNode(i/crowdSlots), i%crowdSlots))
		}
		if _, refused, err := db.Apply(ctx, plan, store.ApplyOptions{}); err != nil || len(refused) > 0 {
			t.Fatal(refused, err)
		}
	}
	side(runs, func(i int) {
		if err := db.AttemptRunning(ctx, running[i].ID, 1, time.Now(), nil); err != nil {
			t.Error(err)
		}
	})
	return running, waiting
}

func crowdNode(i int) forge.NodeName { return forge.NodeName(fmt.Sprintf("n%04d", i)) }

// stopAll is the plan in which the first so many runs of a crowd give way.
func stopAll(running, waiting []forge.Run, from, n int) forge.Plan {
	var plan forge.Plan
	for i := from; i < from+n; i++ {
		node := i / crowdSlots
		plan.Preempt = append(plan.Preempt, forge.Preempt{Run: running[i].ID, Attempt: 1, For: waiting[node].ID,
			Claims: []forge.Claim{{Cluster: storetest.Cluster, Node: crowdNode(node), Slot: i % crowdSlots, For: waiting[node].ID, From: running[i].ID}}})
	}
	return plan
}

// BenchmarkStops is what a plan that stops so many of 20,000 runs costs for each.
func BenchmarkStops(b *testing.B) {
	const runs = 20_000
	db := storetest.Open(b)
	running, waiting := crowd(b, db, runs)
	from := 0
	for _, n := range []int{1_000, 3_000, 6_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			if from+n > runs {
				b.Fatal("run it with -benchtime 1x")
			}
			for b.Loop() {
				_, refused, err := db.Apply(ctx, stopAll(running, waiting, from, n), store.ApplyOptions{})
				if err != nil || len(refused) > 0 {
					b.Fatal(len(refused), err)
				}
				from += n
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n), "µs/stop")
		})
	}
}
