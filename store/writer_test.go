package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

const newTenant = `INSERT INTO tenants (id, name, created_at) VALUES ('%[1]s', '%[1]s', 0)`

func TestWriterUndoesOnlyWhatFailed(t *testing.T) {
	const writers, each = 64, 12
	path := filepath.Join(t.TempDir(), "forge.db")
	db := storetest.OpenAt(t, path, store.Options{Log: zerolog.Nop()})
	must(t, db.Raw(ctx, fmt.Sprintf(newTenant, "taken")))
	var wg sync.WaitGroup
	errs := make([][each]error, writers)
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				statements := []string{fmt.Sprintf(newTenant, fmt.Sprintf("w%d-%d", w, i))}
				if w%3 == 0 {
					statements = append(statements, fmt.Sprintf(newTenant, "taken"))
				}
				errs[w][i] = db.Raw(ctx, statements...)
			}
		})
	}
	wg.Wait()
	must(t, db.Close())
	db = storetest.OpenAt(t, path, store.Options{Log: zerolog.Nop()})
	for w := range writers {
		for i := range each {
			want := int64(1)
			if w%3 == 0 {
				wantKind(t, errs[w][i], forge.KindConflict)
				want = 0
			} else if errs[w][i] != nil {
				t.Fatalf("writer %d, write %d did nothing wrong and got %v", w, i, errs[w][i])
			}
			wantInt(t, db, fmt.Sprintf(`SELECT count(*) FROM tenants WHERE name = 'w%d-%d'`, w, i), want)
		}
	}
}

func TestWriterGroups(t *testing.T) {
	t.Run("all that wait share one commit", func(t *testing.T) {
		db := storetest.Open(t)
		before := db.Stats()
		release := stall(t, db)
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				if err := db.Raw(ctx, fmt.Sprintf(newTenant, fmt.Sprint("t", i))); err != nil {
					t.Error(err)
				}
			})
		}
		waitFor(t, "64 closures queued", func() bool { return db.Queued() == 64 })
		release()
		wg.Wait()
		after := db.Stats()
		if commits, closures := after.Commits-before.Commits, after.Closures-before.Closures; commits != 2 || closures != 65 {
			t.Fatalf("got %d commits for %d closures, want 2 for 65", commits, closures)
		}
	})
	t.Run("a closure whose caller gave up before its turn is not run", func(t *testing.T) {
		db := storetest.Open(t)
		release := stall(t, db)
		gone, cancel := context.WithCancel(ctx)
		result := make(chan error)
		go func() { result <- db.Raw(gone, fmt.Sprintf(newTenant, "late")) }()
		waitFor(t, "the closure queued", func() bool { return db.Queued() == 1 })
		cancel()
		release()
		err := <-result
		wantKind(t, err, forge.KindUnavailable)
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want the context's own error inside", err)
		}
		wantInt(t, db, `SELECT count(*) FROM tenants`, 0)
	})
	t.Run("a closure that panics is undone alone and the writer goes on", func(t *testing.T) {
		db := storetest.Open(t)
		release := stall(t, db)
		bad, good := make(chan error), make(chan error)
		go func() {
			bad <- db.Closure(ctx, func(exec func(string) error) error {
				if err := exec(fmt.Sprintf(newTenant, "half")); err != nil {
					return err
				}
				panic("a bug")
			})
		}()
		waitFor(t, "the bad closure queued", func() bool { return db.Queued() == 1 })
		go func() { good <- db.Raw(ctx, fmt.Sprintf(newTenant, "whole")) }()
		waitFor(t, "both closures queued", func() bool { return db.Queued() == 2 })
		release()
		wantKind(t, <-bad, forge.KindInternal)
		must(t, <-good)
		if got, err := db.Text(ctx, `SELECT group_concat(name) FROM tenants`); err != nil || got != "whole" {
			t.Fatalf("got tenants %q, %v; want whole", got, err)
		}
	})
	t.Run("after Close a write is refused politely", func(t *testing.T) {
		db := storetest.Open(t)
		must(t, db.Close())
		_, err := db.CreateTenant(ctx, "late")
		wantKind(t, err, forge.KindUnavailable)
	})
}

func TestDeltasFollowTheCommits(t *testing.T) {
	var mu sync.Mutex
	var seen []forge.Delta
	db := storetest.OpenAt(t, filepath.Join(t.TempDir(), "forge.db"), store.Options{OnCommit: func(d []forge.Delta) {
		mu.Lock()
		seen = append(seen, d...)
		mu.Unlock()
	}})
	acme := storetest.Tenant(t, db, "acme")
	t.Run("who is told done finds it in the world already, in the order of the commits", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for range 10 {
					run, err := acme.SubmitRun(ctx, store.NewRun{Spec: storetest.Spec()})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					found := false
					for _, d := range seen {
						found = found || d.Run != nil && d.Run.ID == run.ID
					}
					mu.Unlock()
					if !found {
						t.Errorf("run %d was acknowledged before its delta was delivered", run.Number)
					}
				}
			})
		}
		wg.Wait()
		mu.Lock()
		defer mu.Unlock()
		var number, seq int64
		for _, d := range seen {
			if d.Run != nil {
				if d.Run.Number != number+1 {
					t.Fatalf("run %d delivered after run %d", d.Run.Number, number)
				}
				number = d.Run.Number
			}
			if d.Event != nil {
				if seq != 0 && d.Event.Seq != seq+1 {
					t.Fatalf("event %d delivered after event %d", d.Event.Seq, seq)
				}
				seq = d.Event.Seq
			}
		}
	})
	t.Run("a closure that fails delivers nothing", func(t *testing.T) {
		mu.Lock()
		before := len(seen)
		mu.Unlock()
		first := storetest.Spec(storetest.After("01ABSENT"))
		_, err := acme.SubmitRun(ctx, store.NewRun{Spec: first})
		wantKind(t, err, forge.KindInvalid)
		mu.Lock()
		defer mu.Unlock()
		if len(seen) != before {
			t.Fatalf("%d deltas were delivered for a change that was undone", len(seen)-before)
		}
	})
	t.Run("run numbers have no gap where a submission failed", func(t *testing.T) {
		run := storetest.Submit(t, acme, storetest.Spec())
		if run.Number != 161 {
			t.Fatalf("got number %d, want 161", run.Number)
		}
	})
}

func TestDiskFull(t *testing.T) {
	db := storetest.Open(t)
	acme := storetest.Tenant(t, db, "acme")
	pages, err := db.Int(ctx, `PRAGMA page_count`)
	must(t, err)
	must(t, db.Raw(ctx, fmt.Sprintf(`PRAGMA max_page_count = %d`, pages+1)))
	release := stall(t, db)
	small, big := make(chan error), make(chan error)
	go func() { small <- db.Raw(ctx, fmt.Sprintf(newTenant, "small")) }()
	waitFor(t, "the small write queued", func() bool { return db.Queued() == 1 })
	go func() {
		spec := storetest.Spec()
		spec.Name = strings.Repeat("x", 1<<20)
		_, err := acme.SubmitRun(ctx, store.NewRun{Spec: spec})
		big <- err
	}()
	waitFor(t, "the big write queued", func() bool { return db.Queued() == 2 })
	release()
	errBig, errSmall := <-big, <-small
	wantKind(t, errBig, forge.KindUnavailable)
	wantKind(t, errSmall, forge.KindUnavailable)
	if strings.Contains(errSmall.Error(), "sqlite") || forge.HintOf(errBig) == "" {
		t.Fatalf("got %q with hint %q: want words for people and what to do", errSmall, forge.HintOf(errBig))
	}
	wantInt(t, db, `SELECT count(*) FROM tenants`, 1)
	wantInt(t, db, `SELECT count(*) FROM runs`, 0)

	must(t, db.Raw(ctx, `PRAGMA max_page_count = 1073741823`))
	must(t, db.Raw(ctx, fmt.Sprintf(newTenant, "small")))
	if run := storetest.Submit(t, acme, storetest.Spec()); run.Number != 1 {
		t.Fatalf("got run number %d, want 1: the failed submission was undone", run.Number)
	}
}
