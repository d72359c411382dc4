package store_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

// gpuNode is a node with GPUs that are known one by one: GPU-0, GPU-1, ...
func gpuNode(name forge.NodeName, count int) forge.Node {
	n := storetest.Node(name, 0)
	for i := range count {
		n.GPUs = append(n.GPUs, forge.GPU{Slot: i, Kind: forge.GPUDevice, Type: "A100", UUID: fmt.Sprintf("GPU-%d", i), PCI: fmt.Sprint(i)})
	}
	return n
}

func opsOf(db *store.DB) *store.Tenant {
	return db.For(forge.Principal{User: "ops", Role: forge.RoleOperator})
}

func nodeNow(t *testing.T, db *store.DB) forge.Node {
	t.Helper()
	w, err := db.World(ctx)
	must(t, err)
	return w.Nodes[0]
}

func sick(uuid, rule string, act forge.HoldAct) store.HealthNews {
	return store.HealthNews{Events: []forge.NodeEvent{{Kind: forge.NodeEventFound, UUID: uuid, Rule: rule, Words: "XID 48: double bit error", XID: 48}},
		Holds: []forge.NodeHold{{UUID: uuid, Rule: rule, Act: act, Reason: "XID 48: double bit error"}}}
}

func TestNothingIsPlacedOnAHeldGPU(t *testing.T) {
	db := storetest.Open(t)
	storetest.Nodes(t, db, gpuNode("gpu-1", 2))
	acme := storetest.Tenant(t, db, "acme")
	r := storetest.Submit(t, acme, storetest.Spec())
	has := storetest.Place(t, db, storetest.Submit(t, acme, storetest.Spec()), "gpu-1", 0)
	fresh, err := db.RecordHealth(ctx, storetest.Cluster, "gpu-1", sick("GPU-0", "xid_48", forge.HoldGPU))
	must(t, err)
	if len(fresh) != 1 {
		t.Errorf("%+v", fresh)
	}
	if fresh, err := db.RecordHealth(ctx, storetest.Cluster, "gpu-1", sick("GPU-0", "xid_48", forge.HoldGPU)); err != nil || len(fresh) != 0 {
		t.Errorf("the same again: %+v, %v", fresh, err)
	}
	wantInt(t, db, `SELECT count(*) FROM allocations`, 1) // what is allocated stays so
	wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'node.held'`, 1)
	wantInt(t, db, `SELECT count(*) FROM node_events WHERE kind = 'held'`, 1)
	storetest.Finish(t, db, has, forge.EndGPUFault, forge.RunPending)
	placed, refused, err := db.Apply(ctx, forge.Plan{Place: []forge.Place{storetest.Placement(r, "gpu-1", 0)}}, store.ApplyOptions{})
	if err != nil || len(placed) != 0 || len(refused) != 1 || !strings.Contains(refused[0].Why, "xid_48") {
		t.Errorf("%+v, %+v, %v", placed, refused, err)
	}
	storetest.Nodes(t, db, gpuNode("gpu-1", 2)) // that the driver calls it well changes nothing
	if n := nodeNow(t, db); n.GPUs[0].Sick == "" || n.GPUs[1].Sick != "" || n.State != forge.NodeReady {
		t.Errorf("%+v", n)
	}
	done, err := db.LetBack(ctx, storetest.Cluster, "gpu-1", "GPU-0", "xid_48", "it was reset")
	if err != nil || !done {
		t.Fatal(done, err)
	}
	if done, err := db.LetBack(ctx, storetest.Cluster, "gpu-1", "GPU-0", "xid_48", "it was reset"); err != nil || done {
		t.Error("what is not held is let back", done, err)
	}
	wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'node.returned' AND reason = 'xid_48'`, 1)
	storetest.Place(t, db, r, "gpu-1", 0)
}

func TestAnOperatorsDrainOfAGPUStaysBesideARules(t *testing.T) {
	db := storetest.Open(t)
	storetest.Nodes(t, db, gpuNode("gpu-1", 2))
	ops := opsOf(db)
	_, err := ops.DrainGPU(ctx, storetest.Cluster, "gpu-1", "1", "a fan is loud")
	must(t, err)
	if _, err := ops.DrainGPU(ctx, storetest.Cluster, "gpu-1", "GPU-1", "again"); forge.KindOf(err) != forge.KindPrecondition {
		t.Errorf("a second drain: %v", err)
	}
	if _, err := ops.DrainGPU(ctx, storetest.Cluster, "gpu-1", "7", "x"); forge.KindOf(err) != forge.KindNotFound {
		t.Errorf("a slot that is not there: %v", err)
	}
	_, err = db.RecordHealth(ctx, storetest.Cluster, "gpu-1", sick("GPU-1", "xid_63", forge.HoldDrain))
	must(t, err)
	_, err = db.LetBack(ctx, storetest.Cluster, "gpu-1", "GPU-1", "xid_63", "over")
	must(t, err)
	if n := nodeNow(t, db); n.GPUs[1].Sick != "drained by ops: a fan is loud" {
		t.Errorf("%+v", n.GPUs[1])
	}
	if _, err := db.LetBack(ctx, storetest.Cluster, "gpu-1", "GPU-1", "", "x"); err == nil {
		t.Error("a person's drain was let back")
	}
	_, err = db.RecordHealth(ctx, storetest.Cluster, "gpu-1", sick("GPU-1", "xid_63", forge.HoldDrain))
	must(t, err)
	n, err := ops.UndrainGPU(ctx, storetest.Cluster, "gpu-1", "1")
	if err != nil || n.GPUs[1].Sick != "" || len(n.Holds) != 0 {
		t.Errorf("an operator lets go of both: %+v, %v", n, err)
	}
	if _, err := ops.UndrainGPU(ctx, storetest.Cluster, "gpu-1", "1"); forge.KindOf(err) != forge.KindPrecondition {
		t.Errorf("nothing is held: %v", err)
	}
}

func TestAGPUThatVanishesKeepsItsSlotAndWhatItHolds(t *testing.T) {
	db := storetest.Open(t)
	storetest.Nodes(t, db, gpuNode("gpu-1", 2))
	acme := storetest.Tenant(t, db, "acme")
	a := storetest.Place(t, db, storetest.Submit(t, acme, storetest.Spec()), "gpu-1", 0)
	one := gpuNode("gpu-1", 2)
	one.GPUs = []forge.GPU{one.GPUs[1]}
	one.GPUs[0].Slot = 0 // as a driver numbers them that has lost the first
	storetest.Nodes(t, db, one)
	n := nodeNow(t, db)
	if len(n.GPUs) != 2 || n.GPUs[0].UUID != "GPU-0" || !n.GPUs[0].Missing() || n.GPUs[1].UUID != "GPU-1" || n.GPUs[1].Sick != "" {
		t.Fatalf("%+v", n.GPUs)
	}
	wantInt(t, db, `SELECT count(*) FROM allocations WHERE slot = 0`, 1)
	ops := opsOf(db)
	if _, err := ops.UndrainGPU(ctx, storetest.Cluster, "gpu-1", "GPU-0"); forge.KindOf(err) != forge.KindPrecondition || !strings.Contains(err.Error(), "run 1") {
		t.Errorf("one that an attempt has is forgotten: %v", err)
	}
	storetest.Nodes(t, db, gpuNode("gpu-1", 2))
	if n := nodeNow(t, db); n.GPUs[0].UUID != "GPU-0" || n.GPUs[0].Sick != "" {
		t.Errorf("back: %+v", n.GPUs)
	}
	storetest.Nodes(t, db, one)
	storetest.Finish(t, db, a, forge.EndNodeLost, forge.RunFailed)
	n, err := ops.UndrainGPU(ctx, storetest.Cluster, "gpu-1", "0")
	if err != nil || len(n.GPUs) != 1 || n.GPUs[0].Slot != 1 {
		t.Errorf("forgotten: %+v, %v", n.GPUs, err)
	}
	storetest.Nodes(t, db, one)
	if n := nodeNow(t, db); len(n.GPUs) != 1 {
		t.Errorf("it comes again by itself: %+v", n.GPUs)
	}
	var kinds []string
	events, err := ops.NodeEvents(ctx, storetest.Cluster, "gpu-1", store.NodeEventFilter{})
	must(t, err)
	for _, e := range events {
		kinds = append(kinds, string(e.Kind))
	}
	if got := strings.Join(kinds, " "); got != "missing back missing forgotten" {
		t.Errorf("events: %s", got)
	}
}

// What forged did not hold it never lets back, and what nodes are is what a list of holds says.
func TestHoldsAgreeWithAList(t *testing.T) {
	rounds := 5
	if testing.Short() {
		rounds = 1
	}
	for seed := range uint64(rounds) {
		rng := rand.New(rand.NewPCG(seed, 7))
		path := filepath.Join(t.TempDir(), "forge.db")
		db := storetest.OpenAt(t, path, store.Options{Log: zerolog.Nop()})
		storetest.Nodes(t, db, gpuNode("gpu-1", 4))
		ops := opsOf(db)
		type key struct{ uuid, rule string }
		list := map[key]forge.HoldAct{}
		rules := []string{"xid_48", "xid_63", "temperature"}
		for step := range 40 {
			uuid := fmt.Sprintf("GPU-%d", rng.IntN(4))
			rule := rules[rng.IntN(len(rules))]
			acts := []forge.HoldAct{forge.HoldDrain, forge.HoldGPU, forge.HoldNode}
			switch rng.IntN(7) {
			case 0, 1:
				act := acts[rng.IntN(3)]
				fresh, err := db.RecordHealth(ctx, storetest.Cluster, "gpu-1", sick(uuid, rule, act))
				must(t, err)
				old, had := list[key{uuid, rule}]
				if had != (len(fresh) == 0) {
					t.Fatalf("seed %d step %d: fresh %v, had %v", seed, step, fresh, had)
				}
				if !had || act.Weight() > old.Weight() {
					list[key{uuid, rule}] = act
				}
			case 2, 3:
				done, err := db.LetBack(ctx, storetest.Cluster, "gpu-1", uuid, rule, "well")
				must(t, err)
				if _, had := list[key{uuid, rule}]; had != done {
					t.Fatalf("seed %d step %d: let back %v, held %v", seed, step, done, had)
				}
				delete(list, key{uuid, rule})
			case 4:
				_, err := ops.DrainGPU(ctx, storetest.Cluster, "gpu-1", uuid, "op")
				if _, had := list[key{uuid, ""}]; had != (err != nil) {
					t.Fatalf("seed %d step %d: %v", seed, step, err)
				}
				list[key{uuid, ""}] = forge.HoldDrain
			case 5:
				_, err := ops.UndrainGPU(ctx, storetest.Cluster, "gpu-1", uuid)
				had := false
				for k, act := range list {
					if k.uuid == uuid && act != forge.HoldNode {
						had = true
						delete(list, k)
					}
				}
				if had != (err == nil) {
					t.Fatalf("seed %d step %d: %v", seed, step, err)
				}
			case 6:
				if rng.IntN(2) == 0 {
					_, err := ops.UndrainNode(ctx, storetest.Cluster, "gpu-1")
					had := false
					for k, act := range list {
						if act == forge.HoldNode {
							had = true
							delete(list, k)
						}
					}
					if had != (err == nil) {
						t.Fatalf("seed %d step %d: %v", seed, step, err)
					}
					break
				}
				said := gpuNode("gpu-1", 4)
				said.GPUs[3].Sick = []string{"", "lost"}[rng.IntN(2)]
				must(t, db.RecordNodes(ctx, storetest.Cluster, []forge.Node{said}, time.Now()))
			}
			n := nodeNow(t, db)
			whole := slices.Contains(slices.Collect(maps.Values(list)), forge.HoldNode)
			if (n.State == forge.NodeDrained) != whole || len(n.Holds) != len(list) {
				t.Fatalf("seed %d step %d: node %s, holds %+v; the list has %+v", seed, step, n.State, n.Holds, list)
			}
			for _, g := range n.GPUs {
				held := false
				for k, act := range list {
					held = held || k.uuid == g.UUID && act != forge.HoldNode
				}
				if sick := g.Sick != "" && g.Sick != "lost"; sick != held && g.Sick != "lost" {
					t.Fatalf("seed %d step %d: GPU %s is %q; the list has %+v", seed, step, g.UUID, g.Sick, list)
				}
			}
		}
	}
}

func TestTheHistoryOfANodeIsBoundedAndSaysWhoseRunItWasOnlyToWhomItMay(t *testing.T) {
	db := storetest.Open(t)
	storetest.Nodes(t, db, gpuNode("gpu-1", 2))
	acme := storetest.Tenant(t, db, "acme")
	other := storetest.Tenant(t, db, "other")
	storetest.Place(t, db, storetest.Submit(t, acme, storetest.Spec()), "gpu-1", 1)
	_, err := db.RecordHealth(ctx, storetest.Cluster, "gpu-1", sick("GPU-1", "xid_48", forge.HoldGPU))
	must(t, err)
	number := func(who *store.Tenant) int64 {
		t.Helper()
		events, err := who.NodeEvents(ctx, storetest.Cluster, "gpu-1", store.NodeEventFilter{})
		must(t, err)
		if len(events) != 2 {
			t.Fatalf("%+v", events)
		}
		if (events[0].Run == "") != (events[0].Number == 0) || (events[0].Run == "") != (events[0].Attempt == 0) {
			t.Errorf("%+v", events[0])
		}
		return events[0].Number
	}
	if number(acme) != 1 || number(other) != 0 || number(opsOf(db)) != 1 {
		t.Errorf("own %d, another's %d, operator's %d", number(acme), number(other), number(opsOf(db)))
	}
	var many store.HealthNews
	for i := range 5200 {
		many.Events = append(many.Events, forge.NodeEvent{Kind: forge.NodeEventFound, UUID: "GPU-0", Rule: "xid_31", XID: 31, Count: 2, Words: strings.Repeat("x", 600), At: time.Now().Add(time.Duration(i))})
	}
	_, err = db.RecordHealth(ctx, storetest.Cluster, "gpu-1", many)
	must(t, err)
	if n, err := db.Int(ctx, `SELECT count(*) FROM node_events`); err != nil || n < 5000 || n > 5064 {
		t.Errorf("%d lines are kept, %v", n, err)
	}
	wantInt(t, db, `SELECT max(length(words)) FROM node_events`, 500)
	counts, err := db.XIDCounts(ctx, storetest.Cluster, "gpu-1", time.Now().Add(-time.Hour))
	must(t, err)
	if len(counts) != 1 || counts[0].Count < 10000 || counts[0].XID != 31 {
		t.Errorf("%+v", counts)
	}
}

func TestFailuresOfANodeAreCountedAgainstWhatRanOnIt(t *testing.T) {
	db := storetest.Open(t)
	storetest.Nodes(t, db, gpuNode("gpu-1", 2))
	acme := storetest.Tenant(t, db, "acme")
	a := storetest.Place(t, db, storetest.Submit(t, acme, storetest.Spec()), "gpu-1", 0)
	storetest.Running(t, db, a)
	now := time.Now()
	uses, err := db.NodeUses(ctx, storetest.Cluster, now.Add(-time.Hour), now.Add(2*time.Hour))
	must(t, err)
	if u := uses["gpu-1"]; u.GPUHours < 1.9 || u.GPUHours > 2.1 || u.Failures != 0 || u.Lost != 0 {
		t.Errorf("%+v", u)
	}
	must(t, db.AttemptExited(ctx, store.Exit{Run: a.Run, Attempt: a.Number, At: now.Add(3 * time.Hour)}))
	_, _, err = db.AttemptEnded(ctx, store.End{Run: a.Run, Attempt: a.Number, Reason: forge.EndGPUFault, Next: forge.RunPending, At: now.Add(3 * time.Hour),
		Blamed: []store.Blame{{Node: "gpu-1", Certain: true}}, OutboxID: storetest.Row(t, db, a, store.OutboxFinish)})
	must(t, err)
	uses, err = db.NodeUses(ctx, storetest.Cluster, now.Add(-time.Hour), now.Add(4*time.Hour))
	must(t, err)
	if u := uses["gpu-1"]; u.GPUHours < 2.9 || u.GPUHours > 3.1 || u.Failures != 1 || u.Lost != u.GPUHours {
		t.Errorf("%+v", u)
	}
}
