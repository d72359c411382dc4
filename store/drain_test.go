package store_test

import (
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

func TestADrainOutlivesWhatExecutorsSayOfTheNode(t *testing.T) {
	db := storetest.Open(t)
	at := time.Unix(1_000_000, 0).UTC()
	record := func(after time.Duration, state forge.NodeState) {
		t.Helper()
		n := storetest.Node("gpu-1", 2)
		n.State = state
		must(t, db.RecordNodes(ctx, storetest.Cluster, []forge.Node{n, storetest.Node("gpu-2", 2)}, at.Add(after)))
	}
	node := func() forge.Node {
		t.Helper()
		w, err := db.World(ctx)
		must(t, err)
		return w.Nodes[0]
	}
	record(0, forge.NodeReady)
	ops := db.For(forge.Principal{User: "ops", Role: forge.RoleOperator})

	n, err := ops.DrainNode(ctx, storetest.Cluster, "gpu-1", "a fan is loud")
	must(t, err)
	if n.State != forge.NodeDrained || n.Drain == nil || n.Drain.By != "ops" || !strings.Contains(n.Reason, "a fan is loud") || n.Version != 2 {
		t.Fatalf("got %+v", n)
	}
	record(time.Minute, forge.NodeReady)
	if n := node(); n.State != forge.NodeDrained || n.Drain == nil || n.Version != 2 {
		t.Fatalf("after the executor called it ready: %+v", n)
	}
	record(2*time.Minute, forge.NodeUnknown)
	if n := node(); n.State != forge.NodeUnknown || n.Drain == nil {
		t.Fatalf("one that does not answer is unknown all the same: %+v", n)
	}
	record(3*time.Minute, forge.NodeReady)
	must(t, db.DrainedOutside(ctx, storetest.Cluster, "gpu-1", true))
	if n := node(); !n.Drain.Outside || n.State != forge.NodeDrained {
		t.Fatalf("got %+v", n)
	}
	if _, err := ops.DrainNode(ctx, storetest.Cluster, "gpu-1", "again"); forge.KindOf(err) != forge.KindPrecondition || !strings.Contains(err.Error(), "a fan is loud") {
		t.Errorf("a second drain: %v", err)
	}
	n, err = ops.UndrainNode(ctx, storetest.Cluster, "gpu-1")
	must(t, err)
	if n.State != forge.NodeReady || n.Drain != nil || n.Reason != "" {
		t.Fatalf("undrained: %+v", n)
	}
	if _, err := ops.UndrainNode(ctx, storetest.Cluster, "gpu-1"); forge.KindOf(err) != forge.KindPrecondition {
		t.Errorf("a second undrain: %v", err)
	}
	if _, err := ops.DrainNode(ctx, storetest.Cluster, "gpu-9", "x"); forge.KindOf(err) != forge.KindNotFound {
		t.Errorf("a node that is not there: %v", err)
	}
	wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'node.drained' AND actor = 'ops'`, 1)
	wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'node.undrained'`, 1)
}

func TestNothingIsPlacedOnADrainedNode(t *testing.T) {
	db := storetest.Open(t)
	must(t, db.RecordNodes(ctx, storetest.Cluster, []forge.Node{storetest.Node("gpu-1", 2)}, time.Now()))
	acme := storetest.Tenant(t, db, "acme")
	r := storetest.Submit(t, acme, storetest.Spec())
	_, err := db.For(forge.Principal{User: "ops", Role: forge.RoleOperator}).DrainNode(ctx, storetest.Cluster, "gpu-1", "maintenance")
	must(t, err)
	placed, refused, err := db.Apply(ctx, forge.Plan{Place: []forge.Place{storetest.Placement(r, "gpu-1", 0)}}, store.ApplyOptions{})
	if err != nil || len(placed) != 0 || len(refused) != 1 || !refused[0].Retry || !strings.Contains(refused[0].Why, "drained by ops") {
		t.Errorf("a plan made before the drain: %+v, %+v, %v", placed, refused, err)
	}
}
