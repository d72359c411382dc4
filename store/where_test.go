package store_test

import (
	"reflect"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

func TestWhereARunMayGoIsKnownAfterARestartAndInListings(t *testing.T) {
	db := storetest.Open(t)
	acme := storetest.Tenant(t, db, "acme")
	where := &forge.Constraints{GPUTypes: []string{"h100"}, GPUMemoryMiB: 80 << 10, Labels: map[string]string{"rack": "r1"}, Exclude: []forge.NodeName{"n1"}, Within: "rack"}
	narrow := storetest.Submit(t, acme, storetest.Spec(func(s *forge.RunSpec) { s.Where, s.Pinned = where, true }))
	anywhere := storetest.Submit(t, acme, storetest.Spec(func(s *forge.RunSpec) { s.Where = &forge.Constraints{} }))
	w, err := db.World(ctx)
	must(t, err)
	listed, _, err := acme.Runs(ctx, store.RunFilter{})
	must(t, err)
	for _, runs := range [][]forge.Run{w.Runs, listed} {
		if len(runs) != 2 {
			t.Fatalf("got %d runs", len(runs))
		}
		for _, r := range runs {
			if r.ID == narrow.ID && (!reflect.DeepEqual(r.Spec.Where, where) || !r.Spec.Pinned) {
				t.Errorf("run %d may go to %+v, pinned %v", r.Number, r.Spec.Where, r.Spec.Pinned)
			}
			if r.ID == anywhere.ID && (r.Spec.Where != nil || r.Spec.Pinned) {
				t.Errorf("run %d may go to %+v, pinned %v", r.Number, r.Spec.Where, r.Spec.Pinned)
			}
		}
	}
	if whole, err := acme.Run(ctx, string(narrow.ID)); err != nil || !reflect.DeepEqual(whole.Spec.Where, where) || !whole.Spec.Pinned {
		t.Errorf("the run itself: %+v, %v", whole.Spec.Where, err)
	}
}

func TestIslandsOfGPUsAreKept(t *testing.T) {
	db := storetest.Open(t)
	n := storetest.Node("gpu-1", 4)
	islands := func(want ...int) {
		t.Helper()
		for i := range n.GPUs {
			n.GPUs[i].Island = want[i]
		}
		must(t, db.RecordNodes(ctx, "local", []forge.Node{n}, time.Now()))
		w, err := db.World(ctx)
		must(t, err)
		for i, g := range w.Nodes[0].GPUs {
			if g.Island != want[i] {
				t.Errorf("slot %d is in island %d, want %d", i, g.Island, want[i])
			}
		}
	}
	islands(1, 1, 2, 2)
	islands(1, 1, 1, 0) // a link is down: news by itself
}
