//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3" // to plant a newer schema

	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// wontServe expects `forged serve` to end by itself, politely.
func wontServe(t *testing.T, ctx context.Context, s *forgedtest.Site, code int, words ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	_, err := forged(t, ctx, s, "serve", "--state-dir", s.State())
	refused(t, err, code, words...)
	for _, bad := range []string{"panic", "goroutine", "SQLITE", "sqlite3."} {
		if strings.Contains(err.Error(), bad) {
			t.Errorf("it speaks of its insides (%s): %v", bad, err)
		}
	}
}

func TestADamagedDatabaseIsRefusedAndTheNewestBackupBringsTheSiteBack(t *testing.T) {
	ctx, s := open(t)
	run := submit(t, ctx, s, "--set", "steps=3")
	until(t, ctx, s, run, "ended", ended)
	file := filepath.Join(s.Dir, "b.tar.gz")
	_, err := forged(t, ctx, s, "backup", "--state-dir", s.State(), "--out", file)
	must(t, err)
	must(t, s.Stop(ctx))
	db := filepath.Join(s.State(), "forge.db")
	good := read(t, db)
	plant := func(change func(b []byte) []byte) { must(t, os.WriteFile(db, change([]byte(good)), 0o600)) }

	plant(func(b []byte) []byte { return append(bytes.Repeat([]byte("?"), 4096), b[4096:]...) })
	wontServe(t, ctx, s, exitForgedDamaged, "damaged", db, "forged restore", file)
	plant(func(b []byte) []byte { return b[:len(b)/2] })
	wontServe(t, ctx, s, exitForgedDamaged, "damaged", "cut off", file)
	plant(func([]byte) []byte { return nil })
	wontServe(t, ctx, s, exitForgedDamaged, "damaged", "empty", file)
	plant(func(b []byte) []byte {
		half := len(b) / 2 &^ 4095
		return append(append(b[:half:half], bytes.Repeat([]byte{0x5a}, 16*4096)...), b[half+16*4096:]...)
	})
	wontServe(t, ctx, s, exitForgedDamaged, "damaged", file)

	plant(func(b []byte) []byte { return b })
	must(t, s.Start(ctx))
	submit(t, ctx, s, "--set", "steps=1")
	s.Kill()
	must(t, os.Remove(db+"-wal"))
	wontServe(t, ctx, s, exitForgedDamaged, "damaged", "write-ahead log", "-inuse", file)

	must(t, os.Rename(s.State(), s.State()+".old"))
	_, err = forged(t, ctx, s, "restore", "--state-dir", s.State(), file)
	must(t, err)
	must(t, os.Rename(filepath.Join(s.State()+".old", "runs"), filepath.Join(s.State(), "runs")))
	must(t, s.Start(ctx))
	if r := show(t, ctx, s, run); !ended(r) {
		t.Errorf("run %s is %s", run, r.State)
	}
	sound(t, ctx, s)
}

func TestADatabaseOfANewerForgedIsRefusedUntouched(t *testing.T) {
	ctx, s := open(t)
	must(t, s.Stop(ctx))
	path := filepath.Join(s.State(), "forge.db")
	db, err := sql.Open("sqlite3", path)
	must(t, err)
	_, err = db.ExecContext(ctx, `INSERT INTO schema_migrations (version, name, applied_at) VALUES (9999, 'tomorrow', 0)`)
	must(t, err)
	must(t, db.Close())
	before := sha256.Sum256([]byte(read(t, path)))
	wontServe(t, ctx, s, exitForgedInvalid, "schema version 9999 (tomorrow)", "knows versions up to", "start the newer forged", "restore a backup")
	if after := sha256.Sum256([]byte(read(t, path))); after != before {
		t.Error("the database was changed")
	}
	if left, err := filepath.Glob(path + "-*"); err != nil || len(left) > 0 {
		t.Errorf("left beside it: %v, %v", left, err)
	}
	_, err = forged(t, ctx, s, "backup", "--state-dir", s.State(), "--out", filepath.Join(s.Dir, "b.tar.gz"))
	refused(t, err, exitForgedInvalid, "schema version 9999")
}
