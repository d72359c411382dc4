package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

func repeat(p forge.Principal, op, key, digest string) forge.Principal {
	p.Once = forge.Once{Op: op, Key: key, Digest: digest}
	return p
}

// wish is one request with an Idempotency-Key, and how often its effect is in the tables.
type wish struct {
	op, key string
	do      func(*store.Tenant) (ref string, err error)
	effects string // counts them; 1 is right
}

// wishes are one of each write that a tenant's user may ask for, named so that their effects can be counted.
func wishes(round int) []wish {
	name := func(kind string) string { return fmt.Sprintf("%s-%d", kind, round) }
	list := []wish{
		{op: "submit-run", do: func(t *store.Tenant) (string, error) {
			r, err := t.SubmitRun(ctx, store.NewRun{Spec: storetest.Spec(func(s *forge.RunSpec) { s.Name = name("run") })})
			return string(r.ID), err
		}, effects: `SELECT count(*) FROM runs WHERE name = '` + name("run") + `'`},
		{op: "add-dataset", do: func(t *store.Tenant) (string, error) {
			v, _, err := t.AddDataset(ctx, datasetVersion(name("data"), name("data")))
			return string(v.ID), err
		}, effects: `SELECT count(*) FROM dataset_versions v JOIN datasets d ON d.id = v.dataset WHERE d.name = '` + name("data") + `'`},
		{op: "register-model", do: func(t *store.Tenant) (string, error) {
			v, err := t.AddModelVersion(ctx, modelVersion(name("model"), "same"))
			return string(v.ID), err
		}, effects: `SELECT count(*) FROM model_versions v JOIN models m ON m.id = v.model WHERE m.name = '` + name("model") + `'`},
		{op: "create-key", do: func(t *store.Tenant) (string, error) {
			k, _, err := t.CreateKey(ctx, store.NewKey{User: "max", Name: name("key")})
			return string(k.ID), err
		}, effects: `SELECT count(*) FROM api_keys WHERE name = '` + name("key") + `'`},
		{op: "create-user", do: func(t *store.Tenant) (string, error) {
			u, err := t.CreateUser(ctx, forge.User{Name: name("user")})
			return string(u.ID), err
		}, effects: `SELECT count(*) FROM events WHERE type = 'user.created' AND json_extract(data, '$.name') = '` + name("user") + `'`},
		{op: "create-tenant", do: func(t *store.Tenant) (string, error) {
			n, err := t.CreateTenant(ctx, name("tenant"))
			return string(n.ID), err
		}, effects: `SELECT count(*) FROM events WHERE tenant IS NULL AND type = 'tenant.created' AND json_extract(data, '$.name') = '` + name("tenant") + `'`},
		{op: "hold-run", do: func(t *store.Tenant) (string, error) {
			r, err := t.HoldRun(ctx, fmt.Sprint(round+1), "")
			return string(r.ID), err
		}, effects: `SELECT count(*) FROM events WHERE type = 'run.held' AND number = ` + fmt.Sprint(round+1)},
		{op: "cancel-run", do: func(t *store.Tenant) (string, error) {
			r, err := t.RequestCancel(ctx, fmt.Sprint(rounds+round+1), forge.CancelTerm)
			return string(r.ID), err
		}, effects: `SELECT count(*) FROM events WHERE type = 'run.cancel_requested' AND number = ` + fmt.Sprint(rounds+round+1)},
	}
	for i := range list {
		list[i].key = fmt.Sprintf("k%d", round) // the same for all: operations do not share keys
	}
	return list
}

const rounds = 4

// onceSite is a site that has the runs that are cancelled and held later.
func onceSite(t *testing.T, path string) (*store.DB, forge.Principal) {
	t.Helper()
	db := storetest.OpenAt(t, path, store.Options{})
	tenant, err := db.CreateTenant(ctx, "acme")
	must(t, err)
	storetest.User(t, db, tenant.ID, "max", forge.RoleMember)
	root := storetest.User(t, db, tenant.ID, "root", forge.RoleOperator)
	for range 2 * rounds {
		storetest.Submit(t, db.For(root), storetest.Spec())
	}
	return db, root
}

// grant carries out wishes from several goroutines at once, each at least once, in an order of its own.
func grant(db *store.DB, p forge.Principal, list []wish, seen *sync.Map) error {
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for g := range errs {
		wg.Go(func() {
			for _, i := range rand.Perm(len(list)) {
				w := list[i]
				ref, err := w.do(db.For(repeat(p, w.op, w.key, "d")))
				if err != nil {
					errs[g] = errors.Join(errs[g], fmt.Errorf("%s: %w", w.op, err))
					continue
				}
				if was, ok := seen.LoadOrStore(w.op+w.key, ref); ok && was != ref {
					errs[g] = errors.Join(errs[g], fmt.Errorf("%s answered with %s, then with %s", w.op, was, ref))
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// TestARequestWithAKeyIsCarriedOutOnce lets a child make wishes until it is killed with SIGKILL somewhere in the middle, then
// repeats them all, from many sides at once: each effect is there once, and all answers name the same thing.
func TestARequestWithAKeyIsCarriedOutOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forge.db")
	db, root := onceSite(t, path)
	must(t, db.Close())
	for round := range rounds {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOnceChild$")
		child.Env = append(os.Environ(), "FORGE_TEST_ONCE="+path, fmt.Sprintf("FORGE_TEST_ROUND=%d", round))
		out, err := child.StdoutPipe()
		must(t, err)
		must(t, child.Start())
		_, err = out.Read(make([]byte, 1)) // it has begun
		must(t, err)
		wait := time.NewTimer(time.Duration(rand.IntN(12_000)) * time.Microsecond)
		<-wait.C
		must(t, child.Process.Kill())
		_ = child.Wait()

		db, err := store.Open(ctx, path, store.Options{})
		must(t, err)
		var seen sync.Map
		list := wishes(round)
		must(t, grant(db, root, list, &seen))
		must(t, grant(db, root, list, &seen))
		for _, w := range list {
			if n, err := db.Int(ctx, w.effects); err != nil || n != 1 {
				t.Errorf("round %d: %s took effect %d times, %v", round, w.op, n, err)
			}
			ref, err := db.For(repeat(root, w.op, w.key, "d")).Earlier(ctx)
			if was, _ := seen.Load(w.op + w.key); err != nil || ref != was {
				t.Errorf("%s is remembered as %q, was answered with %q, %v", w.op, ref, was, err)
			}
		}
		must(t, db.Close())
	}
}

// TestOnceChild is the child of the test above; alone it has nothing to do.
func TestOnceChild(t *testing.T) {
	path := os.Getenv("FORGE_TEST_ONCE")
	if path == "" {
		return
	}
	var round int
	_, err := fmt.Sscan(os.Getenv("FORGE_TEST_ROUND"), &round)
	must(t, err)
	db, err := store.Open(ctx, path, store.Options{})
	must(t, err)
	tenant, err := db.TenantByName(ctx, "acme")
	must(t, err)
	users, _, err := db.For(forge.Principal{Tenant: tenant.ID, Role: forge.RoleOperator}).Users(ctx, store.Listing{Name: "root"})
	must(t, err)
	fmt.Print("x")
	var seen sync.Map
	p := forge.Principal{Tenant: tenant.ID, Home: tenant.ID, User: "root", UserID: users[0].ID, Role: forge.RoleOperator}
	for {
		_ = grant(db, p, wishes(round), &seen)
	}
}

func TestOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forge.db")
	db, root := onceSite(t, path)
	submit := func(p forge.Principal) (forge.Run, error) {
		return db.For(p).SubmitRun(ctx, store.NewRun{Spec: storetest.Spec()})
	}
	made, err := submit(repeat(root, "submit-run", "k", "one"))
	must(t, err)
	t.Run("the same key with another request is a conflict", func(t *testing.T) {
		other := repeat(root, "submit-run", "k", "two")
		_, err := submit(other)
		wantKind(t, err, forge.KindConflict)
		_, err = db.For(other).Earlier(ctx)
		wantKind(t, err, forge.KindConflict)
	})
	t.Run("another user, tenant or operation has keys of its own", func(t *testing.T) {
		lab := storetest.Principal(t, db, "lab")
		max := storetest.User(t, db, root.Tenant, "max", forge.RoleMember)
		for _, p := range []forge.Principal{repeat(lab, "submit-run", "k", "one"), repeat(max, "submit-run", "k", "one"), repeat(root, "retry-run", "k", "one")} {
			if ref, err := db.For(p).Earlier(ctx); err != nil || ref != "" {
				t.Fatalf("%s sees %q, %v", p.User, ref, err)
			}
			r, err := submit(p)
			must(t, err)
			if r.ID == made.ID {
				t.Fatalf("%s of %s got the run of another", p.User, p.Tenant)
			}
		}
	})
	t.Run("a repeated creation of a key has no secret, and the key is the first one", func(t *testing.T) {
		p := repeat(root, "create-key", "k", "d")
		k, secret, err := db.For(p).CreateKey(ctx, store.NewKey{User: "root"})
		must(t, err)
		again, none, err := db.For(p).CreateKey(ctx, store.NewKey{User: "root"})
		must(t, err)
		if secret == "" || none != "" || again.ID != k.ID {
			t.Fatalf("got %q and %q, %s and %s", secret, none, k.ID, again.ID)
		}
		_, _, err = db.For(repeat(root, "rotate-key", "r", "d")).RotateKey(ctx, string(k.ID), 0)
		must(t, err)
		_, none, err = db.For(repeat(root, "rotate-key", "r", "d")).RotateKey(ctx, string(k.ID), 0) // it has ended: carried out again this would fail
		must(t, err)
		if none != "" {
			t.Fatal("a repeated rotation shows a secret")
		}
	})
	t.Run("what failed is not remembered, and nothing of it is left", func(t *testing.T) {
		must(t, db.Raw(ctx, `CREATE TRIGGER broken BEFORE INSERT ON idempotency WHEN NEW.key = 'b' BEGIN SELECT RAISE(ABORT, 'a test'); END`))
		before, err := db.Int(ctx, `SELECT count(*) FROM runs`)
		must(t, err)
		if _, err = submit(repeat(root, "submit-run", "b", "d")); err == nil {
			t.Fatal("it went through")
		}
		wantInt(t, db, `SELECT count(*) FROM runs`, before)
	})
	t.Run("after seven days a key is forgotten, a few with each new one", func(t *testing.T) {
		old := time.Now().Add(-8 * 24 * time.Hour).UnixNano()
		for i := range 20 {
			must(t, db.Raw(ctx, fmt.Sprintf(`INSERT INTO idempotency (tenant, user_id, op, key, request, ref, created_at) VALUES ('%s', 'u', 'o', 'old%d', 'd', 'r', %d)`, root.Tenant, i, old)))
		}
		for i := range 3 {
			_, err := submit(repeat(root, "submit-run", fmt.Sprintf("new%d", i), "d"))
			must(t, err)
		}
		wantInt(t, db, `SELECT count(*) FROM idempotency WHERE key LIKE 'old%'`, 0)
		if ref, err := db.For(repeat(root, "submit-run", "k", "one")).Earlier(ctx); err != nil || ref != string(made.ID) {
			t.Fatalf("got %q, %v", ref, err)
		}
	})
}

// Two who ask for different things of one run at once come one after the other, in some order, and the trail has what each did.
func TestWhoRaceForOneRunEndInALegalOrder(t *testing.T) {
	db := storetest.Open(t)
	acme := storetest.Tenant(t, db, "acme")
	for range 60 {
		run := storetest.Submit(t, acme, storetest.Spec())
		id := string(run.ID)
		asks := []func(context.Context) error{
			func(ctx context.Context) error { return first(acme.RequestCancel(ctx, id, forge.CancelTerm)) },
			func(ctx context.Context) error { return first(acme.HoldRun(ctx, id, "wait")) },
			func(ctx context.Context) error { return first(acme.ReleaseRun(ctx, id)) },
			func(ctx context.Context) error { return first(acme.HoldRun(ctx, id, "wait")) },
			func(ctx context.Context) error {
				return first(acme.SubmitRun(ctx, store.NewRun{Spec: run.Spec, Parent: run.ID}))
			},
		}
		errs := make([]error, len(asks))
		var wg sync.WaitGroup
		for i, ask := range asks {
			wg.Go(func() { errs[i] = ask(ctx) })
		}
		wg.Wait()
		for i, err := range errs {
			if err != nil && forge.KindOf(err) != forge.KindPrecondition {
				t.Fatalf("request %d: %v", i, err)
			}
		}
		events, err := acme.Events(ctx, store.EventFilter{Run: run.ID}, 0)
		must(t, err)
		held, cancelled, n := false, false, map[forge.EventType]int{}
		for _, e := range events {
			n[e.Type]++
			switch {
			case cancelled && e.Type != forge.EventRunEnded:
				t.Fatalf("%s after the cancellation", e.Type)
			case e.Type == forge.EventRunHeld && held, e.Type == forge.EventRunReleased && !held:
				t.Fatalf("%s when held is %v", e.Type, held)
			}
			switch e.Type {
			case forge.EventRunHeld:
				held = true
			case forge.EventRunReleased:
				held = false
			case forge.EventRunCancelAsked:
				cancelled = true
			}
		}
		ok := func(i int) int {
			if errs[i] == nil {
				return 1
			}
			return 0
		}
		got, err := acme.Run(ctx, id)
		must(t, err)
		if n[forge.EventRunHeld] != ok(1)+ok(3) || n[forge.EventRunReleased] != ok(2) || n[forge.EventRunEnded] != 1 ||
			n[forge.EventRunCancelAsked] != 1 || got.State != forge.RunCancelled {
			t.Fatalf("answers %v, events %v, the run is %s", errs, n, got.State)
		}
	}
}
