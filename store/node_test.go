package store_test

import (
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

func TestRecordNodes(t *testing.T) {
	db := storetest.Open(t)
	at := time.Unix(1_000_000, 0).UTC()
	record := func(after time.Duration, nodes ...forge.Node) (forge.Node, store.World) {
		t.Helper()
		must(t, db.RecordNodes(ctx, storetest.Cluster, nodes, at.Add(after)))
		w, err := db.World(ctx)
		must(t, err)
		return w.Nodes[0], w
	}
	n, first := record(0, storetest.Node("gpu-1", 2))
	if n.Version != 1 || len(n.GPUs) != 2 || !n.SeenAt.Equal(at) {
		t.Fatalf("got %+v", n)
	}
	t.Run("seen again soon is not even written", func(t *testing.T) {
		n, w := record(time.Second, storetest.Node("gpu-1", 2))
		if n.Version != 1 || !n.SeenAt.Equal(at) || w.Revision != first.Revision {
			t.Fatalf("got %+v", n)
		}
	})
	t.Run("seen again later is written and has the same version", func(t *testing.T) {
		if n, _ := record(time.Minute, storetest.Node("gpu-1", 2)); n.Version != 1 || !n.SeenAt.Equal(at.Add(time.Minute)) {
			t.Fatalf("got %+v", n)
		}
	})
	t.Run("a sick GPU raises the version and is no change of state", func(t *testing.T) {
		sick := storetest.Node("gpu-1", 2)
		sick.GPUs[1].Sick = "ECC"
		if n, _ := record(2*time.Minute, sick); n.Version != 2 || n.GPUs[1].Sick != "ECC" {
			t.Fatalf("got %+v", n)
		}
		wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'node.changed'`, 1)
	})
	t.Run("a node that is no longer named is unknown, once, and keeps what it holds", func(t *testing.T) {
		acme := storetest.Tenant(t, db, "acme")
		storetest.Place(t, db, storetest.Submit(t, acme, storetest.Spec()), "gpu-1", 0)
		for range 2 {
			must(t, db.RecordNodes(ctx, storetest.Cluster, nil, at.Add(3*time.Minute)))
		}
		w, err := db.World(ctx)
		must(t, err)
		if n := w.Nodes[0]; n.State != forge.NodeUnknown || n.Version != 3 || n.Reason == "" || !n.SeenAt.Equal(at.Add(2*time.Minute)) {
			t.Fatalf("got %+v", n)
		}
		wantInt(t, db, `SELECT count(*) FROM allocations`, 1)
		wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'node.changed' AND reason = 'unknown'`, 1)
	})
	t.Run("it comes back ready", func(t *testing.T) {
		if n, _ := record(4*time.Minute, storetest.Node("gpu-1", 2)); n.State != forge.NodeReady || n.Version != 4 {
			t.Fatalf("got %+v", n)
		}
	})
	t.Run("one cluster's report says nothing about another's nodes", func(t *testing.T) {
		must(t, db.RecordNodes(ctx, "other", []forge.Node{storetest.Node("gpu-1", 1)}, at))
		w, err := db.World(ctx)
		must(t, err)
		if len(w.Nodes) != 2 || w.Nodes[0].State != forge.NodeReady || w.Nodes[1].Cluster != "other" || len(w.Nodes[1].GPUs) != 1 {
			t.Fatalf("got %+v", w.Nodes)
		}
	})
}
