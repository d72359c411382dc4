package store_test

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
	"github.com/forge-ml/forge-ml/store/storetest"
)

// addFixture is what whoever adds a migration runs.
const addFixture = "make build-test && go run ./contrib/schema-fixture"

// left is NNNN.json beside NNNN.db.gz: what a forged of that schema left behind (see contrib/schema-fixture).
type left struct {
	Schema int
	Keys   []struct {
		User, Role, Secret string
		Revoked            bool
	}
	Runs []struct {
		Number    int64
		State     forge.RunState
		Attempt   int
		SavedStep int64 `json:"saved_step"`
		Model     string
		Params    string
	}
	Models  int64 `json:"model_versions"`
	Data    int64 `json:"dataset_versions"`
	LastSeq int64 `json:"last_event_seq"`
}

// fixtures are the databases of each schema that a forged ever served.
func fixtures(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("testdata/schema/*.db.gz")
	if err != nil || len(all) < 2 {
		t.Fatalf("got %v, %v; want a database for each schema that landed", all, err)
	}
	return all
}

func unpackFixture(t *testing.T, packed string) (path string, l left) {
	t.Helper()
	f, err := os.Open(packed)
	must(t, err)
	defer func() { _ = f.Close() }()
	zip, err := gzip.NewReader(f)
	must(t, err)
	data, err := io.ReadAll(zip)
	must(t, err)
	path = filepath.Join(t.TempDir(), "forge.db")
	must(t, os.WriteFile(path, data, 0o600))
	about, err := os.ReadFile(strings.TrimSuffix(packed, ".db.gz") + ".json")
	must(t, err)
	must(t, json.Unmarshal(about, &l))
	return path, l
}

func TestForwardMigrations(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a database of every version")
	}
	_, newest, err := store.Migrations()
	must(t, err)
	want, err := store.Fresh(ctx)
	must(t, err)
	for _, packed := range fixtures(t) {
		_, l := unpackFixture(t, packed)
		// Over each schema in between: a program of that version may have been the one that went on.
		for via := l.Schema; via < newest || via == l.Schema; via++ {
			if testing.Short() && via > l.Schema {
				break // by way of each schema they are more than a hundred
			}
			t.Run(fmt.Sprintf("a database of schema %d by way of %d has kept everything", l.Schema, via), func(t *testing.T) {
				path, l := unpackFixture(t, packed)
				must(t, store.MigrateTo(ctx, path, via))
				db := storetest.OpenAt(t, path, store.Options{})
				keptEverything(t, db, l)
				must(t, db.Check(ctx))
				got, err := db.Schema(ctx)
				must(t, err)
				if !slices.Equal(got, want) {
					t.Errorf("its tables are not those of a new database:\n%s\nnew:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			})
		}
	}
}

func keptEverything(t *testing.T, db *store.DB, l left) {
	t.Helper()
	var operator forge.Principal
	for _, k := range l.Keys {
		p, err := db.Authenticate(ctx, k.Secret)
		if k.Revoked {
			wantKind(t, err, forge.KindUnauthorized)
			continue
		}
		must(t, err)
		if p.User != k.User || string(p.Role) != k.Role {
			t.Errorf("the key of %s (%s) is now that of %s (%s)", k.User, k.Role, p.User, p.Role)
		}
		if p.Role == forge.RoleOperator {
			operator = p
		}
		if role, err := db.Text(ctx, `SELECT role FROM users WHERE name = '`+k.User+`'`); err != nil || role != k.Role {
			t.Errorf("user %s has role %q (%v), want that of the strongest key, %s", k.User, role, err, k.Role)
		}
	}
	for _, r := range l.Runs {
		got, err := db.For(operator).Run(ctx, fmt.Sprint(r.Number))
		must(t, err)
		params, err := json.Marshal(got.Spec.Params)
		must(t, err)
		if got.State != r.State || got.Attempt != r.Attempt || got.SavedStep != r.SavedStep || got.Model != r.Model || string(params) != r.Params {
			t.Errorf("run %d is %+v with %s, was %+v", r.Number, got, params, r)
		}
	}
	for query, want := range map[string]int64{
		`SELECT count(*) FROM runs`:             int64(len(l.Runs)),
		`SELECT count(*) FROM model_versions`:   l.Models,
		`SELECT count(*) FROM dataset_versions`: l.Data,
		`SELECT count(*) FROM events`:           l.LastSeq,
		`SELECT max(seq) FROM events`:           l.LastSeq,
		`SELECT count(*) FROM outbox`:           1,
		`SELECT count(*) FROM claims`:           1,
		`SELECT count(*) FROM evals`:            1,
	} {
		if got, err := db.Int(ctx, query); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", query, got, err, want)
		}
	}
	events, err := db.For(operator).Events(ctx, store.EventFilter{}, 10_000)
	must(t, err)
	if int64(len(events)) != l.LastSeq {
		t.Errorf("%d events are shown, want %d", len(events), l.LastSeq)
	}
	// And it goes on: a write that touches the old rows.
	if _, err := db.For(operator).ReleaseRun(ctx, "5"); err != nil {
		t.Errorf("the held run cannot be released: %v", err)
	}
}

func TestAMigrationThatHasLandedNeverChanges(t *testing.T) {
	files, newest, err := store.Migrations()
	must(t, err)
	pinned, err := os.ReadFile("testdata/schema/digests")
	must(t, err)
	digests := map[string]string{}
	for line := range strings.Lines(string(pinned)) {
		digest, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			t.Fatalf("digests: %q", line)
		}
		digests[name] = digest
	}
	for name, script := range files {
		switch got := fmt.Sprintf("%x", sha256.Sum256([]byte(script))); digests[name] {
		case "":
			t.Errorf("%s is new: leave a database of its schema to later programs, and pin its digest: %s", name, addFixture)
		case got:
		default:
			t.Errorf("%s is not as it landed; databases that have it will never get the change: undo it, and add a migration", name)
		}
		delete(digests, name)
	}
	for name := range digests {
		t.Errorf("%s has landed and is gone", name)
	}
	if _, err := os.Stat(fmt.Sprintf("testdata/schema/%04d.db.gz", newest)); err != nil {
		t.Errorf("there is no database of schema %d: %s", newest, addFixture)
	}
}
