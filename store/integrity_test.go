package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

// filled makes a database of some size and closes it cleanly.
func filled(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "forge.db")
	db, err := store.Open(ctx, path, store.Options{})
	must(t, err)
	acme := storetest.Tenant(t, db, "acme")
	for range 200 {
		storetest.Submit(t, acme, storetest.Spec())
	}
	must(t, db.Close())
	return path
}

// crashed copies what a kill -9 leaves: the files of an open database.
func crashed(t *testing.T) string {
	t.Helper()
	from := filepath.Join(t.TempDir(), "forge.db")
	db := storetest.OpenAt(t, from, store.Options{})
	acme := storetest.Tenant(t, db, "acme")
	for range 20 {
		storetest.Submit(t, acme, storetest.Spec())
	}
	to := filepath.Join(t.TempDir(), "forge.db")
	all, err := filepath.Glob(from + "*")
	must(t, err)
	for _, f := range all {
		data, err := os.ReadFile(f)
		must(t, err)
		must(t, os.WriteFile(to+strings.TrimPrefix(f, from), data, 0o600))
	}
	return to
}

func overwrite(t *testing.T, path string, at int64, with []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(with, at)
	must(t, errors.Join(err, f.Close()))
}

func TestDamageIsRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a database for each damage")
	}
	for _, tc := range []struct {
		name  string
		plant func(t *testing.T) string
		says  string
	}{
		{"a header of garbage", func(t *testing.T) string {
			path := filled(t)
			overwrite(t, path, 0, bytes.Repeat([]byte("garbage "), 16))
			return path
		}, "does not begin with the header"},
		{"a file that was cut off", func(t *testing.T) string {
			path := filled(t)
			st, err := os.Stat(path)
			must(t, err)
			must(t, os.Truncate(path, st.Size()/2))
			return path
		}, "cut off"},
		{"a file shorter than a header", func(t *testing.T) string {
			path := filled(t)
			must(t, os.Truncate(path, 20))
			return path
		}, "20 bytes"},
		{"a write-ahead log that was deleted after a crash", func(t *testing.T) string {
			path := crashed(t)
			must(t, os.Remove(path+"-wal"))
			must(t, os.Remove(path+"-shm"))
			return path
		}, "forge.db-wal) is gone"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := tc.plant(t)
			before, err := os.ReadFile(path)
			must(t, err)
			_, err = store.Open(ctx, path, store.Options{})
			if !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), path) {
				t.Fatalf("got %v; want damage that says %q", err, tc.says)
			}
			if !strings.Contains(forge.HintOf(err), "forged restore") {
				t.Errorf("the hint %q does not name the way out", forge.HintOf(err))
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the damaged file was written to (%v)", err)
			}
		})
	}
	t.Run("pages in the middle that were overwritten", func(t *testing.T) {
		path := filled(t)
		st, err := os.Stat(path)
		must(t, err)
		for at := st.Size() / 2 &^ 4095; at < st.Size()/2+16*4096; at += 4096 {
			overwrite(t, path, at, bytes.Repeat([]byte{0x5a}, 4096))
		}
		db, err := store.Open(ctx, path, store.Options{})
		if err == nil {
			t.Cleanup(func() { _ = db.Close() })
			err = db.Check(ctx)
		}
		if !errors.Is(err, store.ErrDamaged) {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("a row that refers to nothing", func(t *testing.T) {
		path := filled(t)
		must(t, store.Unguarded(path, `DELETE FROM tenants`))
		db := storetest.OpenAt(t, path, store.Options{})
		if err := db.Check(ctx); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), "refers to a row of tenants") {
			t.Fatalf("got %v", err)
		}
	})
}

func TestASoundDatabaseIsNotRefused(t *testing.T) {
	t.Run("after a clean stop", func(t *testing.T) {
		path := filled(t)
		if _, err := os.Stat(path + "-inuse"); err == nil {
			t.Error("a clean stop left the note of an unclean one")
		}
		must(t, storetest.OpenAt(t, path, store.Options{}).Check(ctx))
	})
	t.Run("after a crash, with its log", func(t *testing.T) {
		path := crashed(t)
		db := storetest.OpenAt(t, path, store.Options{})
		must(t, db.Check(ctx))
		if n, err := db.Int(ctx, `SELECT count(*) FROM runs`); err != nil || n != 20 {
			t.Errorf("%d runs, %v", n, err)
		}
	})
	for _, lost := range []string{"", "-shm"} {
		t.Run("after a crash and a backup of what it left, without "+lost, func(t *testing.T) {
			path := crashed(t)
			if lost != "" {
				must(t, os.Remove(path+lost))
			}
			must(t, store.Backup(ctx, path, filepath.Join(t.TempDir(), "copy.db"), nil))
			db := storetest.OpenAt(t, path, store.Options{})
			if n, err := db.Int(ctx, `SELECT count(*) FROM runs`); err != nil || n != 20 {
				t.Errorf("%d runs, %v", n, err)
			}
		})
	}
}
