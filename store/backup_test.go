package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

func TestBackup(t *testing.T) {
	t.Run("a copy made while others write has whole transactions and every earlier one", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "forge.db")
		db := storetest.OpenAt(t, path, store.Options{})
		acme := storetest.Tenant(t, db, "acme")
		for range 50 {
			storetest.Submit(t, acme, storetest.Spec())
		}
		stop := make(chan struct{})
		var writers sync.WaitGroup
		for range 4 {
			writers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						storetest.Submit(t, acme, storetest.Spec())
					}
				}
			})
		}
		for i := range 5 {
			before, err := db.Int(ctx, `SELECT count(*) FROM runs`)
			must(t, err)
			to := filepath.Join(t.TempDir(), fmt.Sprintf("copy%d.db", i))
			must(t, store.Backup(ctx, path, to, nil))
			c, err := store.Inspect(ctx, to)
			must(t, err)
			if c.Counts["runs"] < before {
				t.Errorf("%d runs in the copy, %d were there before it", c.Counts["runs"], before)
			}
			copied := storetest.OpenAt(t, to, store.Options{})
			if n, err := copied.Int(ctx, `SELECT count(*) FROM runs WHERE id NOT IN (SELECT run FROM run_specs) OR id NOT IN (SELECT run FROM events WHERE run IS NOT NULL)
				OR (SELECT max(number) FROM runs) <> (SELECT max(last_run) FROM tenants)`); err != nil || n != 0 {
				t.Errorf("%d runs of half a transaction, %v", n, err)
			}
		}
		close(stop)
		writers.Wait()
	})
	t.Run("the copy is for its owner only, and is not made over another file", func(t *testing.T) {
		path, to := filled(t), filepath.Join(t.TempDir(), "copy.db")
		must(t, store.Backup(ctx, path, to, nil))
		st, err := os.Stat(to)
		must(t, err)
		if st.Mode().Perm() != 0o600 {
			t.Errorf("mode %o", st.Mode().Perm())
		}
	})
	t.Run("a damaged database is not copied as if it were sound", func(t *testing.T) {
		path, to := filled(t), filepath.Join(t.TempDir(), "copy.db")
		must(t, store.Unguarded(path, `DELETE FROM tenants`))
		if err := store.Backup(ctx, path, to, nil); !errors.Is(err, store.ErrDamaged) {
			t.Fatalf("got %v", err)
		}
		if _, err := os.Stat(to); err == nil {
			t.Error("the useless copy was left")
		}
	})
	t.Run("a copy with a trigger of its own is not taken for ours", func(t *testing.T) {
		path := filled(t)
		must(t, store.Unguarded(path, `CREATE TRIGGER evil AFTER INSERT ON runs BEGIN DELETE FROM api_keys; END`))
		_, err := store.Inspect(ctx, path)
		wantKind(t, err, forge.KindPrecondition)
		if !strings.Contains(err.Error(), "evil") {
			t.Errorf("%v does not name it", err)
		}
	})
}

func TestRestore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "forge.db")
	db, err := store.Open(ctx, path, store.Options{})
	must(t, err)
	p := storetest.Principal(t, db, "acme")
	acme := db.For(p)
	storetest.Nodes(t, db, storetest.Node("gpu-1", 8))
	waiting := storetest.Submit(t, acme, storetest.Spec())
	busy := storetest.Submit(t, acme, storetest.Spec(storetest.Gang(1, 2)))
	storetest.Place(t, db, busy, "gpu-1", 0, 1)
	mine := storetest.Submit(t, acme, storetest.Spec())
	_, err = acme.HoldRun(ctx, fmt.Sprint(mine.Number), "the data is late")
	must(t, err)
	gone := storetest.Submit(t, acme, storetest.Spec())
	_, err = acme.RequestCancel(ctx, fmt.Sprint(gone.Number), forge.CancelTerm)
	must(t, err)
	must(t, db.Close())

	held, err := store.Restore(ctx, path, store.Restored{TakenAt: time.Date(2026, 11, 25, 20, 0, 0, 0, time.UTC), From: "b.tar.gz", Actor: "forged restore", Why: forge.WhyRequested}, store.Options{})
	must(t, err)
	db = storetest.OpenAt(t, path, store.Options{})
	for _, tc := range []struct {
		what string
		run  forge.Run
		by   string
	}{
		{"a waiting run is held", waiting, "forged restore"},
		{"a run at work is held for the time after it", busy, "forged restore"},
		{"a run that its user holds keeps that reason", mine, p.User},
		{"a run that has ended is left alone", gone, ""},
	} {
		t.Run(tc.what, func(t *testing.T) {
			r, err := db.RunByID(ctx, tc.run.ID)
			must(t, err)
			by := ""
			if r.Hold != nil {
				by = r.Hold.By
			}
			if by != tc.by {
				t.Errorf("held by %q, want %q", by, tc.by)
			}
		})
	}
	t.Run("the audit trail says what was done", func(t *testing.T) {
		if held != 2 {
			t.Errorf("%d runs were held", held)
		}
		if n, err := db.Int(ctx, `SELECT count(*) FROM events WHERE type = 'backup.restored' AND reason = 'requested' AND tenant IS NULL`); err != nil || n != 1 {
			t.Errorf("%d events, %v", n, err)
		}
	})
	t.Run("the holds say nothing about the health of a cluster", func(t *testing.T) {
		if n, err := db.HeldSince(ctx, storetest.Cluster, time.Unix(0, 0)); err != nil || n != 0 {
			t.Errorf("%d, %v", n, err)
		}
	})
	t.Run("a lost attempt takes the next number, and no other", func(t *testing.T) {
		lost := store.LostAttempt{Run: waiting.ID, Number: 2, Cluster: storetest.Cluster}
		wantKind(t, db.AddLostAttempt(ctx, lost), forge.KindConflict)
		lost.Number = 1
		must(t, db.AddLostAttempt(ctx, lost))
		r, _, err := db.AttemptEnded(ctx, store.End{Run: waiting.ID, Attempt: 1, Reason: forge.EndSuperseded, Next: forge.RunPending})
		must(t, err)
		if r.State != forge.RunPending || r.Attempt != 1 || r.Hold == nil {
			t.Errorf("%+v", r)
		}
		wantKind(t, db.AddLostAttempt(ctx, store.LostAttempt{Run: busy.ID, Number: 2, Cluster: storetest.Cluster}), forge.KindPrecondition)
	})
}
