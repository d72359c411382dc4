package store_test

import (
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

func handOver(run forge.Run) forge.Place {
	return forge.Place{Run: run.ID, RunVersion: run.Version, Attempt: run.Attempt + 1, Cluster: "local", HandOver: true}
}

// handedOver is a site with one run that was handed over to its cluster's own queue.
func handedOver(t *testing.T) (*store.DB, *store.Tenant, forge.Run) {
	t.Helper()
	db := storetest.Open(t)
	acme := storetest.Tenant(t, db, "acme")
	storetest.Nodes(t, db, storetest.Node("gpu-1", 4), storetest.Node("gpu-2", 4))
	run := storetest.Submit(t, acme, storetest.Spec(storetest.Gang(2, 2)))
	placed, refused := apply(t, db, forge.Plan{Place: []forge.Place{handOver(run)}})
	if len(placed) != 1 || len(refused) != 0 {
		t.Fatalf("placed %v, refused %v", placed, refused)
	}
	run, err := db.RunByID(ctx, run.ID)
	must(t, err)
	return db, acme, run
}

func newest(t *testing.T, db *store.DB, run forge.Run) (forge.Run, forge.Attempt) {
	t.Helper()
	r, err := db.RunByID(ctx, run.ID)
	must(t, err)
	all, err := db.AttemptsOf(ctx, run.ID)
	must(t, err)
	return r, all[len(all)-1]
}

func TestARunThatIsHandedOver(t *testing.T) {
	shares := []forge.Share{{Node: "gpu-1", Slots: []int{0, 1}}, {Node: "gpu-2", Slots: []int{2, 3}}}
	t.Run("waits on with an open attempt that holds nothing, and is to be launched", func(t *testing.T) {
		db, _, run := handedOver(t)
		run, a := newest(t, db, run)
		if run.State != forge.RunPending || run.Attempt != 1 || !a.Queued() || a.RunDir == "" {
			t.Errorf("run %+v, attempt %+v", run, a)
		}
		wantInt(t, db, `SELECT count(*) FROM allocations`, 0)
		wantInt(t, db, `SELECT count(*) FROM outbox WHERE kind = 'launch'`, 1)
		wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'run.handed_over'`, 1)
	})
	t.Run("is refused what any placement is refused, and nodes of the plan", func(t *testing.T) {
		db, acme, _ := handedOver(t)
		run, held := storetest.Submit(t, acme, storetest.Spec(storetest.Gang(2, 2))), storetest.Submit(t, acme, storetest.Spec())
		must(t, db.HoldRun(ctx, held.ID, forge.Hold{By: "ana"}))
		with := func(change func(*forge.Place)) forge.Place { p := handOver(run); change(&p); return p }
		for name, c := range map[string]struct {
			place  forge.Place
			broken bool
		}{
			"an old version":          {with(func(p *forge.Place) { p.RunVersion-- }), false},
			"an attempt out of turn":  {with(func(p *forge.Place) { p.Attempt = 2 }), false},
			"a run on hold":           {handOver(held), false},
			"nodes":                   {with(func(p *forge.Place) { p.Shares = shares }), true},
			"a cluster without nodes": {with(func(p *forge.Place) { p.Cluster = "nowhere" }), true},
		} {
			placed, refused := apply(t, db, forge.Plan{Place: []forge.Place{c.place}})
			if len(placed) != 0 || len(refused) != 1 || refused[0].Broken != c.broken || refused[0].Retry == c.broken {
				t.Errorf("%s: placed %v, refused %+v", name, placed, refused)
			}
		}
		must(t, db.PauseCluster(ctx, "local", "tests"))
		if placed, refused := apply(t, db, forge.Plan{Place: []forge.Place{handOver(run)}}); len(placed) != 0 || len(refused) != 1 || !refused[0].Retry {
			t.Errorf("on a paused cluster: placed %v, refused %+v", placed, refused)
		}
	})
	t.Run("is told of its job and of its nodes once each", func(t *testing.T) {
		db, acme, run := handedOver(t)
		job := forge.BatchJob{ID: "123", Name: "forge-x.1", State: "PENDING", Reason: "Priority", Partition: "gpu", EstimatedStart: time.Unix(5000, 0).UTC()}
		must(t, db.AttemptBatch(ctx, run.ID, 1, job, nil))
		before, err := db.World(ctx)
		must(t, err)
		again := job
		again.EstimatedStart = again.EstimatedStart.Add(30 * time.Second)
		must(t, db.AttemptBatch(ctx, run.ID, 1, again, nil))
		if after, err := db.World(ctx); err != nil || after.Revision != before.Revision {
			t.Errorf("what was known was written again: revision %d after %d, %v", after.Revision, before.Revision, err)
		}
		r, a := newest(t, db, run)
		if r.State != forge.RunPending || a.Batch == nil || *a.Batch != job {
			t.Errorf("run %s, job %+v", r.State, a.Batch)
		}
		job.State, job.Reason = "RUNNING", ""
		must(t, db.AttemptBatch(ctx, run.ID, 1, job, shares))
		must(t, db.AttemptBatch(ctx, run.ID, 1, job, shares))
		r, a = newest(t, db, run)
		if r.State != forge.RunProvisioning || a.Queued() || len(a.Placement) != 2 || a.Batch.State != "RUNNING" {
			t.Errorf("run %s, attempt %+v", r.State, a)
		}
		wantInt(t, db, `SELECT count(*) FROM allocations`, 0)
		wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'run.queued'`, 1)
		wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'run.allocated'`, 1)
		found, _, err := acme.Runs(ctx, store.RunFilter{Batch: "123"})
		if must(t, err); len(found) != 1 || found[0].ID != run.ID {
			t.Errorf("job 123 is of %v", found)
		}
		if found, _, err := storetest.Tenant(t, db, "other").Runs(ctx, store.RunFilter{Batch: "123"}); err != nil || len(found) != 0 {
			t.Errorf("another tenant finds %v, %v", found, err)
		}
	})
	t.Run("may start, and end, before anybody saw that it was allocated", func(t *testing.T) {
		db, _, run := handedOver(t)
		must(t, db.AttemptRunning(ctx, run.ID, 1, time.Now(), nil))
		if r, _ := newest(t, db, run); r.State != forge.RunRunning {
			t.Errorf("run is %s", r.State)
		}
		db, _, run = handedOver(t)
		must(t, db.AttemptExited(ctx, store.Exit{Run: run.ID, Attempt: 1}))
		r, _, err := db.AttemptEnded(ctx, store.End{Run: run.ID, Attempt: 1, Reason: forge.EndCompleted, Next: forge.RunCompleted})
		if must(t, err); r.State != forge.RunCompleted {
			t.Errorf("run is %s", r.State)
		}
	})
	t.Run("is taken back when it is held, and goes there again after its release", func(t *testing.T) {
		db, acme, run := handedOver(t)
		_, err := acme.HoldRun(ctx, string(run.ID), "not today")
		must(t, err)
		if _, a := newest(t, db, run); a.Intent != forge.IntentCheckpointDrain {
			t.Errorf("intent %q", a.Intent)
		}
		wantInt(t, db, `SELECT count(*) FROM outbox WHERE kind = 'signal'`, 1)
		must(t, db.AttemptExited(ctx, store.Exit{Run: run.ID, Attempt: 1}))
		r, _, err := db.AttemptEnded(ctx, store.End{Run: run.ID, Attempt: 1, Reason: forge.EndWithdrawn, Next: forge.RunPending})
		if must(t, err); r.State != forge.RunPending || r.Hold == nil || r.Hold.Reason != "not today" {
			t.Errorf("%+v", r)
		}
		r, err = acme.ReleaseRun(ctx, string(run.ID))
		must(t, err)
		if placed, refused := apply(t, db, forge.Plan{Place: []forge.Place{handOver(r)}}); len(placed) != 1 {
			t.Errorf("refused %+v", refused)
		}
	})
	t.Run("whose attempt is superseded is told nothing", func(t *testing.T) {
		db, _, run := handedOver(t)
		must(t, db.AttemptExited(ctx, store.Exit{Run: run.ID, Attempt: 1}))
		wantKind(t, db.AttemptBatch(ctx, run.ID, 1, forge.BatchJob{ID: "1"}, shares), forge.KindConflict)
	})
}

func TestWhereThePlanChoseTheNodesItsSlotsStand(t *testing.T) {
	s := running(t)
	_, before := s.reload(t)
	must(t, s.db.AttemptBatch(ctx, s.run.ID, 1, forge.BatchJob{ID: "7", State: "RUNNING"}, []forge.Share{{Node: "elsewhere", Slots: []int{9}}}))
	_, a := s.reload(t)
	if a.Batch == nil || a.Batch.ID != "7" || len(a.Placement) != len(before.Placement) || a.Placement[0].Node != before.Placement[0].Node {
		t.Errorf("placed %+v, was %+v", a, before)
	}
}

func TestARunKnowsAfterARestartThatItAsksForWordsOfABatchSystem(t *testing.T) {
	db := storetest.Open(t)
	acme := storetest.Tenant(t, db, "acme")
	words := &forge.BatchOptions{Partition: "gpu", Raw: []string{"--exclusive"}}
	asks := storetest.Submit(t, acme, storetest.Spec(func(s *forge.RunSpec) { s.Batch = words }))
	plain := storetest.Submit(t, acme, storetest.Spec(func(s *forge.RunSpec) { s.Batch = &forge.BatchOptions{} }))
	w, err := db.World(ctx)
	must(t, err)
	for _, r := range w.Runs {
		if r.ID == asks.ID && (r.Spec.Batch.Empty() || r.Spec.Batch.Partition != "gpu") || r.ID == plain.ID && !r.Spec.Batch.Empty() {
			t.Errorf("run %d asks for %+v", r.Number, r.Spec.Batch)
		}
	}
}
