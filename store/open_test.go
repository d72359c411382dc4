package store_test

import (
	"os"
	"path/filepath"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

func TestOpen(t *testing.T) {
	t.Run("the file and its companions are for the owner only", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "odd ?#% name")
		must(t, os.Mkdir(dir, 0o700))
		path := filepath.Join(dir, "forge.db")
		must(t, os.WriteFile(path, nil, 0o644))
		db := storetest.OpenAt(t, path, store.Options{})
		storetest.Tenant(t, db, "acme")
		files, err := os.ReadDir(dir)
		must(t, err)
		if len(files) < 2 {
			t.Fatalf("got %d files, want the database and its WAL", len(files))
		}
		for _, f := range files {
			info, err := f.Info()
			must(t, err)
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %o, want 600", f.Name(), info.Mode().Perm())
			}
		}
	})
	t.Run("the pragmas are what durability rests on", func(t *testing.T) {
		db := storetest.OpenAt(t, filepath.Join(t.TempDir(), "forge.db"), store.Options{})
		if mode, err := db.Text(ctx, `PRAGMA journal_mode`); err != nil || mode != "wal" {
			t.Fatalf("journal_mode %q, %v; want wal", mode, err)
		}
		for pragma, want := range map[string]string{"synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000"} {
			if got := db.WriterPragma(t, pragma); got != want {
				t.Errorf("%s is %s on the writer, want %s", pragma, got, want)
			}
		}
	})
	t.Run("readers cannot write", func(t *testing.T) {
		db := storetest.Open(t)
		if _, err := db.Int(ctx, `INSERT INTO clusters (name) VALUES ('x') RETURNING 1`); err == nil {
			t.Fatal("a reader's connection wrote")
		}
	})
	t.Run("a second open finds everything and migrates nothing again", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "forge.db")
		db := storetest.OpenAt(t, path, store.Options{})
		acme := storetest.Tenant(t, db, "acme")
		run := storetest.Submit(t, acme, storetest.Spec())
		must(t, db.Close())
		db = storetest.OpenAt(t, path, store.Options{})
		got, err := db.RunByID(ctx, run.ID)
		must(t, err)
		if got.Number != run.Number || got.Spec.Params["lora.r"] != 16.0 {
			t.Fatalf("got %+v, want %+v", got, run)
		}
	})
	t.Run("a database that a newer program migrated is refused untouched", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "forge.db")
		db := storetest.OpenAt(t, path, store.Options{})
		must(t, db.Raw(ctx, `INSERT INTO schema_migrations (version, name, applied_at) VALUES (9999, 'tomorrow', 0)`))
		must(t, db.Close())
		_, err := store.Open(ctx, path, store.Options{})
		wantKind(t, err, forge.KindPrecondition)
		if forge.HintOf(err) == "" {
			t.Fatalf("%v: no hint says what to do", err)
		}
	})
	t.Run("a database of another build with the same version is refused", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "forge.db")
		db := storetest.OpenAt(t, path, store.Options{})
		must(t, db.Raw(ctx, `UPDATE schema_migrations SET name = 'other'`))
		must(t, db.Close())
		_, err := store.Open(ctx, path, store.Options{})
		wantKind(t, err, forge.KindPrecondition)
	})
	t.Run("a directory that is not there is unavailable, and says which", func(t *testing.T) {
		_, err := store.Open(ctx, filepath.Join(t.TempDir(), "absent", "forge.db"), store.Options{})
		wantKind(t, err, forge.KindUnavailable)
	})
	t.Run("a file that is no database is an error, not a new database", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "forge.db")
		must(t, os.WriteFile(path, []byte("this is a text file and certainly no database at all, whatever its name says"), 0o600))
		if _, err := store.Open(ctx, path, store.Options{}); err == nil {
			t.Fatal("opened a text file")
		}
	})
}
