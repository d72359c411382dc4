package store_test

import (
	"context"
	"path/filepath"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

// commits are the deltas of each commit of a store, as they come.
type commits struct {
	all [][]forge.Delta
	at  func(n int)
}

func watched(t *testing.T) (*store.DB, *commits) {
	c := &commits{}
	path := filepath.Join(t.TempDir(), "forge.db")
	storetest.Fresh(t, path)
	return storetest.OpenAt(t, path, store.Options{OnCommit: func(d []forge.Delta) {
		c.all = append(c.all, d)
		if c.at != nil {
			c.at(len(c.all))
		}
	}}), c
}

func TestNobodyWaitsForTheWholeOfALongPlan(t *testing.T) {
	db, seen := watched(t)
	const runs = 3 * store.BatchWeight / crowdSlots * crowdSlots
	running, waiting := crowd(t, db, runs)
	seen.all = nil
	other := make(chan error, 1)
	seen.at = func(n int) {
		if n == 1 { // while the plan is under way
			go func() { other <- db.Raw(ctx, `UPDATE clusters SET paused_reason = ''`) }()
			waitFor(t, "the other write is queued", func() bool { return db.Queued() > 0 })
		}
	}
	before := db.Stats()
	_, refused := apply(t, db, stopAll(running, waiting, 0, runs))
	must(t, <-other)
	if len(refused) > 0 {
		t.Fatalf("refused %+v", refused[0])
	}
	after := db.Stats()
	parts := int(after.Commits - before.Commits)
	if parts < 2*runs/store.BatchWeight { // a stop and a claim each
		t.Errorf("a plan of %d stops and claims took %d commits", 2*runs, parts)
	}
	claimed := map[forge.RunID]int{}
	for i, deltas := range seen.all {
		decided, of := 0, map[forge.RunID]int{}
		for _, d := range deltas {
			if d.Attempt != nil {
				decided++
			}
			if d.Claim != nil {
				decided++
				of[d.Claim.Claim.For]++
			}
		}
		if decided > store.BatchWeight {
			t.Errorf("commit %d has %d stops and claims", i+1, decided)
		}
		for run, n := range of {
			if n != crowdSlots || claimed[run] > 0 {
				t.Errorf("commit %d has %d of %d claims of run %s, another had %d", i+1, n, crowdSlots, run, claimed[run])
			}
			claimed[run] = n
		}
	}
	if len(claimed) != runs/crowdSlots {
		t.Errorf("claims of %d runs, want %d", len(claimed), runs/crowdSlots)
	}
}

func TestWhatWasCommittedOfAPlanIsReturnedWithTheError(t *testing.T) {
	db, seen := watched(t)
	acme := storetest.Tenant(t, db, "acme")
	storetest.Nodes(t, db, storetest.Node("gpu-1", 2*store.BatchWeight))
	var plan forge.Plan
	for i := range 2 {
		slots := make([]int, store.BatchWeight)
		for s := range slots {
			slots[s] = i*store.BatchWeight + s
		}
		run := storetest.Submit(t, acme, storetest.Spec(storetest.Gang(1, len(slots)), func(s *forge.RunSpec) { s.Gang.CPUsPerGPU, s.Gang.MemoryMiBPerGPU = 0, 0 }))
		plan.Place = append(plan.Place, storetest.Placement(run, "gpu-1", slots...))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seen.at = func(int) { cancel() }
	placed, refused, err := db.Apply(ctx, plan, store.ApplyOptions{})
	if err == nil || len(placed) != 1 || placed[0].Run != plan.Place[0].Run || len(refused) != 0 {
		t.Fatalf("placed %d, refused %v, %v", len(placed), refused, err)
	}
	wantInt(t, db, `SELECT count(*) FROM attempts`, 1)
}
