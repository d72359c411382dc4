package store_test

import (
	"fmt"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

func apply(t *testing.T, db *store.DB, plan forge.Plan) ([]forge.Attempt, []forge.Refusal) {
	t.Helper()
	placed, refused, err := db.Apply(ctx, plan, store.ApplyOptions{RunDir: func(id forge.RunID, _ forge.ClusterName) string { return "/runs/" + string(id) }})
	must(t, err)
	return placed, refused
}

func TestApplyCommitsWhatHolds(t *testing.T) {
	db := storetest.Open(t)
	acme := storetest.Tenant(t, db, "acme")
	storetest.Nodes(t, db, storetest.Node("gpu-1", 4), storetest.Node("gpu-2", 2))
	submit := func(opts ...func(*forge.RunSpec)) forge.Run {
		return storetest.Submit(t, acme, storetest.Spec(append([]func(*forge.RunSpec){storetest.Gang(1, 2)}, opts...)...))
	}
	good, also := submit(), submit()
	cancelled, held, changed, twice := submit(), submit(), submit(), submit()
	_, err := acme.RequestCancel(ctx, string(cancelled.ID), forge.CancelTerm)
	must(t, err)
	must(t, db.HoldRun(ctx, held.ID, forge.Hold{By: "ana", Reason: "later"}))
	must(t, db.HoldRun(ctx, changed.ID, forge.Hold{}))
	must(t, db.ReleaseRun(ctx, changed.ID, "ana"))

	placed, refused := apply(t, db, forge.Plan{Place: []forge.Place{
		storetest.Placement(good, "gpu-1", 0, 1),
		storetest.Placement(cancelled, "gpu-1", 2, 3),
		storetest.Placement(held, "gpu-1", 2, 3),
		storetest.Placement(changed, "gpu-1", 2, 3),
		storetest.Placement(twice, "gpu-1", 1, 2), // slot 1 is good's
		storetest.Placement(also, "gpu-2", 0, 1),
	}})
	if len(placed) != 2 || placed[0].Run != good.ID || placed[1].Run != also.ID {
		t.Fatalf("placed %+v, want the two that hold", placed)
	}
	want := []forge.Refusal{{Run: cancelled.ID, Retry: true}, {Run: held.ID, Retry: true}, {Run: changed.ID, Retry: true}, {Run: twice.ID, Broken: true}}
	for i, r := range refused {
		if i >= len(want) || r.Run != want[i].Run || r.Retry != want[i].Retry || r.Broken != want[i].Broken || r.Why == "" {
			t.Fatalf("refused %+v, want %+v", refused, want)
		}
	}
	if len(refused) != len(want) {
		t.Fatalf("refused %+v, want %+v", refused, want)
	}
	t.Run("what was placed is whole: attempt, slots, run, launch, event", func(t *testing.T) {
		run, err := db.RunByID(ctx, good.ID)
		must(t, err)
		if run.State != forge.RunProvisioning || run.Attempt != 1 || placed[0].State != forge.AttemptPlaced || placed[0].RunDir != "/runs/"+string(run.ID) {
			t.Fatalf("got run %+v, attempt %+v", run, placed[0])
		}
		wantInt(t, db, `SELECT count(*) FROM allocations`, 4)
		wantInt(t, db, `SELECT count(*) FROM outbox WHERE kind = 'launch'`, 2)
		wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'run.placed'`, 2)
	})
	t.Run("of what was refused nothing is left", func(t *testing.T) {
		for _, run := range []forge.Run{held, changed, twice} {
			got, err := db.RunByID(ctx, run.ID)
			must(t, err)
			if got.State != forge.RunPending || got.Attempt != 0 {
				t.Errorf("run %d is %s with attempt %d", got.Number, got.State, got.Attempt)
			}
		}
		wantInt(t, db, `SELECT count(*) FROM attempts`, 2)
	})
}

func TestApplyRefuses(t *testing.T) {
	db := storetest.Open(t)
	acme := storetest.Tenant(t, db, "acme")
	sick := storetest.Node("sick", 2)
	sick.GPUs[1].Sick = "fell off the bus"
	small := storetest.Node("small", 2)
	small.CPUs, small.MemoryMiB = 1, 100
	drained := storetest.Node("drained", 2)
	drained.State = forge.NodeDrained
	storetest.Nodes(t, db, storetest.Node("gpu-1", 4), sick, small, drained)
	run := storetest.Submit(t, acme, storetest.Spec(storetest.Gang(1, 2)))
	with := func(change func(*forge.Place), node forge.NodeName, slots ...int) forge.Place {
		p := storetest.Placement(run, node, slots...)
		if change != nil {
			change(&p)
		}
		return p
	}
	cases := []struct {
		name   string
		place  forge.Place
		broken bool
	}{
		{"a drained node", with(nil, "drained", 0, 1), false},
		{"a sick slot", with(nil, "sick", 0, 1), false},
		{"a slot that the node does not have", with(nil, "gpu-1", 3, 4), false},
		{"more CPUs than the node has", with(nil, "small", 0, 1), false},
		{"more memory than the node has", with(func(p *forge.Place) { p.Shares[0].CPUs = 0 }, "small", 0, 1), false},
		{"an old version of the run", with(func(p *forge.Place) { p.RunVersion-- }, "gpu-1", 0, 1), false},
		{"an attempt number out of turn", with(func(p *forge.Place) { p.Attempt = 2 }, "gpu-1", 0, 1), false},
		{"a node that does not exist", with(nil, "gpu-9", 0, 1), true},
		{"a part of the gang", with(nil, "gpu-1", 0), true},
		{"a gang without a node", with(func(p *forge.Place) { p.Shares = nil }, "gpu-1", 0, 1), true},
		{"a slot named twice", with(nil, "gpu-1", 0, 0), true},
		{"a run that does not exist", with(func(p *forge.Place) { p.Run = "01ABSENT" }, "gpu-1", 0, 1), true},
		{"a cluster that does not exist", with(func(p *forge.Place) { p.Cluster = "nowhere" }, "gpu-1", 0, 1), true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			placed, refused := apply(t, db, forge.Plan{Place: []forge.Place{c.place}})
			if len(placed) != 0 || len(refused) != 1 || refused[0].Broken != c.broken || refused[0].Retry == c.broken || refused[0].Why == "" {
				t.Fatalf("placed %v, refused %+v", placed, refused)
			}
		})
	}
	t.Run("a paused cluster, until it is resumed", func(t *testing.T) {
		must(t, db.PauseCluster(ctx, storetest.Cluster, "five runs held"))
		must(t, db.PauseCluster(ctx, storetest.Cluster, "again"))
		if w, err := db.World(ctx); err != nil || fmt.Sprint(w.Paused) != "[{local five runs held}]" {
			t.Fatalf("got %v, %v", w.Paused, err)
		}
		if placed, refused := apply(t, db, forge.Plan{Place: []forge.Place{with(nil, "gpu-1", 0, 1)}}); len(placed) != 0 || !refused[0].Retry {
			t.Fatalf("placed %v, refused %v", placed, refused)
		}
		must(t, db.ResumeCluster(ctx, storetest.Cluster, "root"))
		if placed, refused := apply(t, db, forge.Plan{Place: []forge.Place{with(nil, "gpu-1", 0, 1)}}); len(placed) != 1 {
			t.Fatalf("refused %v", refused)
		}
	})
	t.Run("CPUs that open attempts use are not free, in this plan or an earlier one", func(t *testing.T) {
		node := storetest.Node("gpu-1", 4)
		node.CPUs = 3
		storetest.Nodes(t, db, node)
		next := storetest.Submit(t, acme, storetest.Spec(storetest.Gang(1, 2)))
		placed, refused := apply(t, db, forge.Plan{Place: []forge.Place{storetest.Placement(next, "gpu-1", 2, 3)}})
		if len(placed) != 0 || !refused[0].Retry {
			t.Fatalf("placed %v, refused %v", placed, refused)
		}
	})
}

func TestPreemption(t *testing.T) {
	s := running(t, storetest.Priority(10))
	urgent := storetest.Submit(t, s.acme, storetest.Spec(storetest.Gang(1, 2), storetest.Priority(90)))
	lesser := storetest.Submit(t, s.acme, storetest.Spec(storetest.Gang(1, 2), storetest.Priority(50)))
	preempt := func(run forge.Run) []forge.Refusal {
		_, refused := apply(t, s.db, forge.Plan{Preempt: []forge.Preempt{{Run: s.run.ID, Attempt: 1, For: run.ID, Claims: claimed(s, run)}}})
		return refused
	}
	t.Run("the victim is asked to save, its GPUs are claimed, and the signal is in the outbox", func(t *testing.T) {
		if refused := preempt(lesser); len(refused) != 0 {
			t.Fatalf("refused %+v", refused)
		}
		if _, a := s.reload(t); a.Intent != forge.IntentCheckpointPreempt {
			t.Fatalf("intent is %q", a.Intent)
		}
		rows, err := s.db.Outbox(ctx)
		must(t, err)
		if len(rows) != 1 || rows[0].Kind != store.OutboxSignal || rows[0].Intent != forge.IntentCheckpointPreempt {
			t.Fatalf("got outbox %+v", rows)
		}
	})
	t.Run("a run of higher priority takes the claims over, none of lower does", func(t *testing.T) {
		if refused := preempt(urgent); len(refused) != 0 {
			t.Fatalf("refused %+v", refused)
		}
		if refused := preempt(lesser); len(refused) != 1 || !refused[0].Retry || refused[0].Run != lesser.ID {
			t.Fatalf("refused %+v", refused)
		}
		wantInt(t, s.db, fmt.Sprintf(`SELECT count(*) FROM claims WHERE for_run = '%s'`, urgent.ID), 2)
	})
	t.Run("claims outlive the victim, and only their run may have the slots", func(t *testing.T) {
		storetest.Finish(t, s.db, s.a, forge.EndCheckpointedPreempt, forge.RunPending)
		wantInt(t, s.db, `SELECT count(*) FROM claims`, 2)
		placed, refused := apply(t, s.db, forge.Plan{Place: []forge.Place{storetest.Placement(lesser, "gpu-1", 0, 1)}})
		if len(placed) != 0 || !refused[0].Retry {
			t.Fatalf("placed %v, refused %v", placed, refused)
		}
		storetest.Place(t, s.db, urgent, "gpu-1", 0, 1)
		wantInt(t, s.db, `SELECT count(*) FROM claims`, 0)
	})
	for name, end := range map[string]func(*testing.T, scene, forge.Run){
		"a claim ends when its run is cancelled": func(t *testing.T, s scene, run forge.Run) {
			_, err := s.acme.RequestCancel(ctx, string(run.ID), forge.CancelTerm)
			must(t, err)
		},
		"a claim ends when its run is held": func(t *testing.T, s scene, run forge.Run) {
			must(t, s.db.HoldRun(ctx, run.ID, forge.Hold{By: "ana"}))
		},
		"a claim ends when its node takes no new work": func(t *testing.T, s scene, run forge.Run) {
			n := storetest.Node("gpu-1", 4)
			n.State, n.Reason = forge.NodeDrained, "maintenance"
			storetest.Nodes(t, s.db, n)
		},
		"all claims of a gang end when one of its GPUs becomes sick": func(t *testing.T, s scene, run forge.Run) {
			n := storetest.Node("gpu-1", 4)
			n.GPUs[1].Sick = "Xid 79"
			storetest.Nodes(t, s.db, n)
		},
		"all claims of a gang end when one of its GPUs is gone": func(t *testing.T, s scene, run forge.Run) {
			storetest.Nodes(t, s.db, storetest.Node("gpu-1", 1))
		},
		"all claims of a gang end when a run of a higher class takes one of them": func(t *testing.T, s scene, run forge.Run) {
			topmost := storetest.Submit(t, s.acme, storetest.Spec(storetest.Priority(95)))
			_, refused := apply(t, s.db, forge.Plan{Preempt: []forge.Preempt{{Run: s.run.ID, Attempt: 1, For: topmost.ID, Claims: claimed(s, topmost)[:1]}}})
			if len(refused) != 0 {
				t.Fatalf("refused %+v", refused)
			}
			wantInt(t, s.db, fmt.Sprintf(`SELECT count(*) FROM claims WHERE for_run = '%s'`, run.ID), 0)
			_, err := s.acme.RequestCancel(ctx, string(topmost.ID), forge.CancelTerm)
			must(t, err)
		},
		"a claim ends when its node is lost": func(t *testing.T, s scene, run forge.Run) {
			storetest.Nodes(t, s.db, storetest.Node("gpu-2", 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := running(t, storetest.Priority(10))
			urgent := storetest.Submit(t, s.acme, storetest.Spec(storetest.Gang(1, 2), storetest.Priority(90)))
			apply(t, s.db, forge.Plan{Preempt: []forge.Preempt{{Run: s.run.ID, Attempt: 1, For: urgent.ID, Claims: claimed(s, urgent)}}})
			wantInt(t, s.db, `SELECT count(*) FROM claims`, 2)
			end(t, s, urgent)
			wantInt(t, s.db, `SELECT count(*) FROM claims`, 0)
		})
	}
}

// claimed is what a run of two GPUs needs of those that the scene's run holds.
func claimed(s scene, run forge.Run) []forge.Claim {
	return []forge.Claim{{Cluster: "local", Node: "gpu-1", Slot: 0, For: run.ID, From: s.run.ID}, {Cluster: "local", Node: "gpu-1", Slot: 1, For: run.ID, From: s.run.ID}}
}

func TestPreemptionsForOneRunHoldTogetherOrNotAtAll(t *testing.T) {
	s := running(t, storetest.Priority(10))
	urgent := storetest.Submit(t, s.acme, storetest.Spec(storetest.Gang(1, 3), storetest.Priority(90)))
	with := func(second forge.Preempt) forge.Plan {
		return forge.Plan{Preempt: []forge.Preempt{{Run: s.run.ID, Attempt: 1, For: urgent.ID, Claims: claimed(s, urgent)}, second}}
	}
	t.Run("what is stale in one of them leaves everybody running", func(t *testing.T) {
		_, refused := apply(t, s.db, with(forge.Preempt{Run: s.run.ID, Attempt: 7, For: urgent.ID}))
		if _, a := s.reload(t); a.Intent != forge.IntentNone || len(refused) != 1 || !refused[0].Retry {
			t.Fatalf("intent %q, refused %+v", a.Intent, refused)
		}
		wantInt(t, s.db, `SELECT count(*) FROM claims`, 0)
	})
	t.Run("a GPU that was free and is so no more is not claimed", func(t *testing.T) {
		other := storetest.Submit(t, s.acme, storetest.Spec())
		storetest.Place(t, s.db, other, "gpu-1", 2)
		_, refused := apply(t, s.db, forge.Plan{Preempt: []forge.Preempt{{Run: s.run.ID, Attempt: 1, For: urgent.ID,
			Claims: append(claimed(s, urgent), forge.Claim{Cluster: "local", Node: "gpu-1", Slot: 2})}}})
		if _, a := s.reload(t); a.Intent != forge.IntentNone || len(refused) != 1 || !refused[0].Retry {
			t.Fatalf("intent %q, refused %+v", a.Intent, refused)
		}
	})
	t.Run("a run that was to be stopped for another is not stopped for this one", func(t *testing.T) {
		equal := storetest.Submit(t, s.acme, storetest.Spec(storetest.Gang(1, 2), storetest.Priority(10)))
		_, refused := apply(t, s.db, forge.Plan{Preempt: []forge.Preempt{{Run: s.run.ID, Attempt: 1, For: equal.ID, Leaves: true, Claims: claimed(s, equal)}}})
		if len(refused) != 1 || !refused[0].Retry {
			t.Fatalf("refused %+v", refused)
		}
	})
	t.Run("a GPU that is free is claimed with the rest, and new claims stand in place of the old", func(t *testing.T) {
		for range 2 {
			_, refused := apply(t, s.db, forge.Plan{Preempt: []forge.Preempt{{Run: s.run.ID, Attempt: 1, For: urgent.ID,
				Claims: append(claimed(s, urgent), forge.Claim{Cluster: "local", Node: "gpu-1", Slot: 3})}}})
			if len(refused) != 0 {
				t.Fatalf("refused %+v", refused)
			}
			wantInt(t, s.db, `SELECT count(*) FROM claims WHERE from_run <> ''`, 2)
			wantInt(t, s.db, `SELECT count(*) FROM claims`, 3)
		}
		wantInt(t, s.db, `SELECT count(*) FROM events WHERE type = 'run.preempt_asked'`, 1)
		wantInt(t, s.db, fmt.Sprintf(`SELECT count(*) FROM events WHERE type = 'run.claimed' AND run = '%s'`, urgent.ID), 2)
	})
	t.Run("the event of the preempted run says what it saved and names no other run", func(t *testing.T) {
		must(t, s.db.RecordProgress(ctx, store.Progress{Run: s.run.ID, Attempt: 1, Saves: []forge.Checkpoint{{Attempt: 1, Step: 12, SavedAt: time.Unix(1_000, 0)}}}))
		if _, a := s.reload(t); !a.SavedAt.Equal(time.Unix(1_000, 0)) {
			t.Errorf("saved at %s", a.SavedAt)
		}
		storetest.Finish(t, s.db, s.a, forge.EndCheckpointedPreempt, forge.RunPending)
		wantInt(t, s.db, `SELECT count(*) FROM events WHERE type = 'run.preempted' AND reason = 'preempted'
			AND message = 'run 1 was preempted by a run ahead of it; saved at step 12, goes on later'`, 1)
		w, err := s.db.World(ctx)
		must(t, err)
		if len(w.Preempted) != 1 || w.Preempted[0].Run != s.run.ID || w.Preempted[0].Times != 1 || w.Preempted[0].Last.IsZero() {
			t.Errorf("got %+v", w.Preempted)
		}
	})
}

func TestAPlanReadsOnlyTheNodesThatItNames(t *testing.T) {
	db := storetest.Open(t)
	acme := storetest.Tenant(t, db, "acme")
	storetest.Nodes(t, db, storetest.Node("gpu-1", 4), storetest.Node("gpu-2", 4), storetest.Node("gpu-3", 4))
	a := storetest.Submit(t, acme, storetest.Spec(storetest.Gang(1, 2)))
	b := storetest.Submit(t, acme, storetest.Spec(storetest.Gang(1, 2)))
	must(t, db.Raw(ctx, `UPDATE nodes SET labels = '{' WHERE name = 'gpu-2'`)) // whoever reads it fails

	placed, refused := apply(t, db, forge.Plan{Place: []forge.Place{storetest.Placement(a, "gpu-1", 0, 1), storetest.Placement(b, "gpu-3", 2, 3)}})
	if len(placed) != 2 || len(refused) != 0 {
		t.Fatalf("placed %+v, refused %+v", placed, refused)
	}
	must(t, db.AttemptLaunching(ctx, a.ID, 1))
	must(t, db.AttemptExited(ctx, store.Exit{Run: a.ID, Attempt: 1}))
	_, _, err := db.AttemptEnded(ctx, store.End{Run: a.ID, Attempt: 1, Reason: forge.EndNodeLost, Next: forge.RunPending, Blamed: []store.Blame{{Node: "gpu-1"}}})
	must(t, err)
}
