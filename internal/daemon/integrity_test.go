package daemon

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
)

// spoil overwrites the second half of a database file.
func spoil(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte{0x5a}, int(st.Size()/2)), st.Size()/2); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedDatabaseIsNotServed(t *testing.T) {
	for _, tc := range []struct {
		name  string
		plant func(t *testing.T, db string)
		says  string
	}{
		{"overwritten", spoil, "damaged"},
		{"emptied", func(t *testing.T, db string) {
			if err := os.Truncate(db, 0); err != nil {
				t.Fatal(err)
			}
		}, "it is empty"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, file := backedUp(t)
			db := filepath.Join(dir, dbFile)
			tc.plant(t, db)
			_, err := New(t.Context(), Options{Config: Config{StateDir: dir, Listen: ListenConfig{Socket: filepath.Join(dir, "s"), TCP: TCPOff}}, Log: zerolog.Nop(), Clusters: []Cluster{}})
			if !Damaged(err) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), db) {
				t.Fatalf("got %v", err)
			}
			for _, w := range []string{"forged restore", file} {
				if !strings.Contains(forge.HintOf(err), w) {
					t.Errorf("the hint %q does not name %q", forge.HintOf(err), w)
				}
			}
		})
	}
}

func TestDamageThatIsFoundWhileServingStopsPlanningAndTurnsReadyzRed(t *testing.T) {
	r := start(t, 2)
	first := r.submit(t, script(1))
	r.launched(t, first.ID, 1)
	path := filepath.Join(r.live().cfg.StateDir, dbFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	spoil(t, path)
	r.checkWhole(t.Context(), 1)
	if err := os.WriteFile(path, whole, 0o600); err != nil { // so that the rest of the test has a database to look at
		t.Fatal(err)
	}
	why := strings.Join(site{r.Daemon}.Ready(t.Context()), "\n")
	if !strings.Contains(why, "damaged") || !strings.Contains(why, path) {
		t.Fatalf("readyz says %q", why)
	}
	came(t, r.databaseWhole(), "fail", "damaged")
	second := r.submit(t, script(1))
	if at, _ := r.planStep(t.Context(), time.Now()); !at.IsZero() {
		t.Errorf("it will plan again at %s", at)
	}
	if got, err := r.db.RunByID(t.Context(), second.ID); err != nil || got.Attempt != 0 {
		t.Errorf("it was placed on top of damage: %+v, %v", got, err)
	}
}
