package store_test

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

func operator(db *store.DB) *store.Tenant {
	return db.For(forge.Principal{Role: forge.RoleOperator, User: "root"})
}

func TestWhatATenantIsEntitledTo(t *testing.T) {
	db := storetest.Open(t)
	acme := storetest.Principal(t, db, "acme")
	root := operator(db)
	t.Run("a fresh one has weight 1 and no bounds", func(t *testing.T) {
		got, err := root.Tenant(ctx, "acme")
		must(t, err)
		if got.Weight != 1 || got.Quota != (forge.Quota{}) {
			t.Fatalf("got %+v", got)
		}
	})
	t.Run("what is given changes, with who and what in both trails; what is not given stays", func(t *testing.T) {
		got, err := root.UpdateTenant(ctx, "acme", store.TenantChange{Weight: new(2.0), GPUs: new(16), MaxGPUs: new(32), MaxRunning: new(10), MaxQueued: new(1000), EvalGPUs: new(4)})
		must(t, err)
		want := forge.Quota{GPUs: 16, MaxGPUs: 32, MaxRunning: 10, MaxQueued: 1000, EvalGPUs: 4}
		if got.Weight != 2 || got.Quota != want {
			t.Fatalf("got %+v", got)
		}
		got, err = root.UpdateTenant(ctx, string(got.ID), store.TenantChange{MaxRunning: new(0)})
		must(t, err)
		if want.MaxRunning = 0; got.Weight != 2 || got.Quota != want {
			t.Fatalf("got %+v", got)
		}
		if again, err := db.For(acme).Tenant(ctx, "acme"); err != nil || again.Quota != want {
			t.Fatalf("read again: %+v, %v", again, err)
		}
		wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'tenant.changed' AND actor LIKE 'root%' AND message LIKE '%weight 2, was 1; gpus 16; max_gpus 32%'`, 2)
		wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'tenant.changed' AND tenant IS NOT NULL`, 2)
	})
	t.Run("nothing new writes nothing", func(t *testing.T) {
		_, err := root.UpdateTenant(ctx, "acme", store.TenantChange{Weight: new(2.0)})
		must(t, err)
		wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'tenant.changed'`, 4)
	})
	for field, c := range map[string]store.TenantChange{
		"weight": {Weight: new(0.0)}, "weight ": {Weight: new(-1.0)}, "weight  ": {Weight: new(math.NaN())}, "weight   ": {Weight: new(math.Inf(1))},
		"gpus": {GPUs: new(-1)}, "gpus ": {GPUs: new(33)}, "max_gpus": {MaxGPUs: new(-5)}, "max_running": {MaxRunning: new(-1)},
		"max_queued": {MaxQueued: new(forge.MaxQuota + 1)}, "eval_gpus": {EvalGPUs: new(-2)},
	} {
		t.Run("a value without a meaning is refused with its field: "+field, func(t *testing.T) {
			_, err := root.UpdateTenant(ctx, "acme", c)
			wantKind(t, err, forge.KindInvalid)
			var fe *forge.Error
			if !errors.As(err, &fe) || fe.Field != strings.TrimSpace(field) || !strings.Contains(err.Error(), "want ") {
				t.Fatalf("field %q: %v", fe.Field, err)
			}
		})
	}
	t.Run("another tenant is not there", func(t *testing.T) {
		rival := db.For(storetest.Principal(t, db, "rival"))
		_, theirs := rival.UpdateTenant(ctx, "acme", store.TenantChange{Weight: new(9.0)})
		_, nobodys := rival.UpdateTenant(ctx, "nobody", store.TenantChange{Weight: new(9.0)})
		if forge.KindOf(theirs) != forge.KindNotFound || strings.ReplaceAll(theirs.Error(), "acme", "nobody") != nobodys.Error() {
			t.Fatalf("%v and %v", theirs, nobodys)
		}
	})
	t.Run("users have bounds of their own", func(t *testing.T) {
		admin := db.For(storetest.User(t, db, acme.Tenant, "boss", forge.RoleAdmin))
		u, err := admin.UpdateUser(ctx, "ana", store.UserChange{MaxGPUs: new(8), MaxRunning: new(2), MaxQueued: new(3)})
		must(t, err)
		if u.Quota != (forge.Quota{MaxGPUs: 8, MaxRunning: 2, MaxQueued: 3}) {
			t.Fatalf("got %+v", u.Quota)
		}
		w, err := db.World(ctx)
		must(t, err)
		if len(w.Users) != 1 || w.Users[0].User != "ana" || w.Users[0].Tenant != acme.Tenant || w.Users[0].Quota != u.Quota {
			t.Fatalf("the world has %+v", w.Users)
		}
		_, err = admin.UpdateUser(ctx, "ana", store.UserChange{MaxGPUs: new(-1)})
		wantKind(t, err, forge.KindInvalid)
		wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'user.changed' AND message LIKE '%max_gpus 8; max_running 2; max_queued 3%'`, 1)
	})
}

func TestNoMoreRunsWaitThanMay(t *testing.T) {
	submit := func(t *store.Tenant) error {
		_, err := t.SubmitRun(ctx, store.NewRun{Spec: storetest.Spec()})
		return err
	}
	refused := func(t *testing.T, err error, says, hint string) {
		t.Helper()
		wantKind(t, err, forge.KindPrecondition)
		if !strings.Contains(err.Error(), says) || !strings.Contains(forge.HintOf(err), hint) {
			t.Fatalf("%v (%s)", err, forge.HintOf(err))
		}
	}
	t.Run("of a tenant; the refusal says how many, and who can raise it", func(t *testing.T) {
		db := storetest.Open(t)
		acme, other := storetest.Tenant(t, db, "acme"), storetest.Tenant(t, db, "other")
		_, err := operator(db).UpdateTenant(ctx, "acme", store.TenantChange{MaxQueued: new(2)})
		must(t, err)
		must(t, submit(acme))
		must(t, submit(acme))
		refused(t, submit(acme), "2 runs of tenant acme wait, and no more than 2 may", "forgectl tenant edit acme --max-queued")
		must(t, submit(other)) // has no such bound
		wantInt(t, db, `SELECT last_run FROM tenants WHERE name = 'acme'`, 2)

		// What does not wait any more makes room; what comes back from its GPUs is never refused.
		storetest.Nodes(t, db, storetest.Node("gpu-1", 2))
		first, err := acme.Run(ctx, "1")
		must(t, err)
		a := storetest.Place(t, db, first, "gpu-1", 0)
		must(t, submit(acme))
		storetest.Running(t, db, a)
		if got := storetest.Finish(t, db, a, forge.EndNodeLost, forge.RunPending); got.State != forge.RunPending {
			t.Fatalf("it is %s", got.State)
		}
		refused(t, submit(acme), "no more than 2 may", "")
	})
	t.Run("of a user", func(t *testing.T) {
		db := storetest.Open(t)
		p := storetest.Principal(t, db, "acme")
		ana, bob := db.For(p), db.For(storetest.User(t, db, p.Tenant, "bob", forge.RoleAdmin))
		_, err := bob.UpdateUser(ctx, "ana", store.UserChange{MaxQueued: new(1)})
		must(t, err)
		must(t, submit(ana))
		refused(t, submit(ana), "1 runs of user ana wait", "forgectl user edit ana --max-queued")
		must(t, submit(bob))
	})
	t.Run("a retry of a held run takes its place", func(t *testing.T) {
		db := storetest.Open(t)
		acme := storetest.Tenant(t, db, "acme")
		_, err := operator(db).UpdateTenant(ctx, "acme", store.TenantChange{MaxQueued: new(1)})
		must(t, err)
		run := storetest.Submit(t, acme, storetest.Spec())
		_, err = acme.HoldRun(ctx, "1", "")
		must(t, err)
		refused(t, submit(acme), "no more than 1 may", "")
		_, err = acme.SubmitRun(ctx, store.NewRun{Spec: storetest.Spec(), Parent: run.ID})
		must(t, err)
	})
	t.Run("many at once cannot all be the last", func(t *testing.T) {
		db := storetest.Open(t)
		acme := storetest.Tenant(t, db, "acme")
		_, err := operator(db).UpdateTenant(ctx, "acme", store.TenantChange{MaxQueued: new(7)})
		must(t, err)
		var in atomic.Int64
		var wg sync.WaitGroup
		for range 40 {
			wg.Go(func() {
				if submit(acme) == nil {
					in.Add(1)
				}
			})
		}
		wg.Wait()
		if in.Load() != 7 {
			t.Fatalf("%d got in", in.Load())
		}
	})
}

func TestUseIsKeptInTheWriteThatFreesTheGPUs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forge.db")
	var clock atomic.Int64
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	clock.Store(start.UnixNano())
	var told *forge.TenantAccount
	db := storetest.OpenAt(t, path, store.Options{Now: func() time.Time { return time.Unix(0, clock.Load()) }, OnCommit: func(all []forge.Delta) {
		for _, d := range all {
			if d.Tenant != nil {
				told = d.Tenant
			}
		}
	}})
	const halfLife = 24 * time.Hour
	db.SetHalfLife(halfLife)
	acme := storetest.Tenant(t, db, "acme")
	storetest.Nodes(t, db, storetest.Node("gpu-1", 4))
	var want forge.Usage
	for i, hours := range []int{3, 1, 40} {
		run := storetest.Submit(t, acme, storetest.Spec(storetest.Gang(1, 2)))
		a := storetest.Place(t, db, run, "gpu-1", 0, 1)
		from := time.Unix(0, clock.Load())
		storetest.Running(t, db, a)
		clock.Add(int64(time.Duration(hours) * time.Hour))
		must(t, db.AttemptExited(ctx, store.Exit{Run: run.ID, Attempt: a.Number, At: time.Unix(0, clock.Load())}))
		want = want.Add(forge.GPUUse{GPUs: 2, From: from, To: time.Unix(0, clock.Load())}, halfLife)
		if told == nil || math.Abs(told.Used.MS-want.MS) > 1 {
			t.Fatalf("after %d attempts the world is told %+v, want %v", i+1, told, want)
		}
	}
	w, err := db.World(ctx)
	must(t, err)
	if len(w.Tenants) != 1 || fmt.Sprint(w.Tenants[0]) != fmt.Sprint(*told) {
		t.Fatalf("a restart reads %+v, the world was told %+v", w.Tenants, *told)
	}
}

func TestThePriorityOfARunThatWaits(t *testing.T) {
	t.Run("changes with an event, and what was asked for at submit stays in its spec's row", func(t *testing.T) {
		db := storetest.Open(t)
		acme := storetest.Tenant(t, db, "acme")
		run := storetest.Submit(t, acme, storetest.Spec(storetest.Priority(50)))
		got, err := acme.SetPriority(ctx, "1", 70)
		must(t, err)
		if got.Spec.Priority != 70 || got.Version <= run.Version {
			t.Fatalf("got %+v", got)
		}
		list, _, err := acme.Runs(ctx, store.RunFilter{})
		must(t, err)
		again, err := acme.Run(ctx, "1")
		must(t, err)
		if list[0].Spec.Priority != 70 || again.Spec.Priority != 70 {
			t.Fatalf("listed with %d, shown with %d", list[0].Spec.Priority, again.Spec.Priority)
		}
		wantInt(t, db, `SELECT count(*) FROM run_specs WHERE spec LIKE '%"priority":50%'`, 1)
		wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'run.priority_changed' AND actor = 'ana' AND message = 'run 1 has priority 70, was 50'`, 1)
		wantInt(t, db, `SELECT count(*) FROM outbox`, 0)
		_, err = acme.SetPriority(ctx, "1", 70) // nothing new
		must(t, err)
		wantInt(t, db, `SELECT count(*) FROM events WHERE type = 'run.priority_changed'`, 1)
	})
	t.Run("of one that runs or has ended stays, and the refusal says what to do", func(t *testing.T) {
		s := running(t)
		_, err := s.acme.SetPriority(ctx, "1", 70)
		refusedHold(t, err, "forgectl run why 1")
		_, err = s.acme.SetPriority(ctx, "1", 101)
		wantKind(t, err, forge.KindInvalid)
	})
	t.Run("is told to the cluster's own queue, where that has the run", func(t *testing.T) {
		db := storetest.Open(t)
		acme := storetest.Tenant(t, db, "acme")
		storetest.Nodes(t, db, storetest.Node("gpu-1", 2))
		run := storetest.Submit(t, acme, storetest.Spec())
		if placed, refused := apply(t, db, forge.Plan{Place: []forge.Place{{Run: run.ID, RunVersion: run.Version, Attempt: 1, Cluster: storetest.Cluster, HandOver: true}}}); len(placed) != 1 {
			t.Fatalf("refused: %v", refused)
		}
		_, err := acme.SetPriority(ctx, "1", 20)
		must(t, err)
		wantInt(t, db, `SELECT count(*) FROM outbox WHERE kind = 'priority' AND attempt = 1`, 1)
	})
}
