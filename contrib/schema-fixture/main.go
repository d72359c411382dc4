// Command schema-fixture makes the database that a forged of this tree leaves behind, for the test that later programs can
// bring it forward: it lives through a site's day with the real forged and forgectl, copies the database as of
// one moment, and writes store/testdata/schema/NNNN.db.gz, beside it NNNN.json with what must be found in it, and
// the digest of each migration. Run it once, in the commit that adds a migration:
//
//	make build-test && go run ./contrib/schema-fixture
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "github.com/mattn/go-sqlite3" // the driver of the copy

	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

const dayLimit = 2 * time.Minute

// fixture is NNNN.json.
type fixture struct {
	Schema  int    `json:"schema"`
	Name    string `json:"name"`
	Keys    []key  `json:"keys"` // of a site that is gone
	Runs    []run  `json:"runs"`
	Models  int    `json:"model_versions"`
	Data    int    `json:"dataset_versions"`
	LastSeq int64  `json:"last_event_seq"`
}

type key struct {
	User    string `json:"user"`
	Role    string `json:"role"`
	Secret  string `json:"secret"`
	Revoked bool   `json:"revoked,omitempty"`
}

type run struct {
	Number    int64  `json:"number"`
	State     string `json:"state"`
	Attempt   int    `json:"attempt"`
	SavedStep int64  `json:"saved_step"`
	Model     string `json:"model,omitempty"`
	Params    string `json:"params"`
}

func main() {
	bin := flag.String("bin", "bin", "directory of forged, forgectl and proberank")
	out := flag.String("out", "store/testdata/schema", "where the fixture goes")
	migrations := flag.String("migrations", "store/migrations", "the migrations whose digests are pinned; empty: none")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), dayLimit)
	defer cancel()
	if err := do(ctx, *bin, *out, *migrations); err != nil {
		fmt.Fprintln(os.Stderr, "schema-fixture:", err)
		os.Exit(1)
	}
}

func do(ctx context.Context, bin, out, migrations string) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	s, err := forgedtest.New(ctx, forgedtest.Options{Bin: bin, CPUSlots: 2, WithProbe: true, PollEvery: 50 * time.Millisecond})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	if err := s.Start(ctx); err != nil {
		return err
	}
	f := fixture{Keys: []key{{User: "admin", Role: "operator", Secret: s.Key}}}
	if err := day(ctx, s, &f); err != nil {
		return err
	}
	db := filepath.Join(s.Dir, "copy.db")
	if err := copyOf(ctx, filepath.Join(s.State(), "forge.db"), db, &f); err != nil {
		return err
	}
	if err := write(out, db, f); err != nil {
		return err
	}
	if migrations == "" {
		return nil
	}
	return pin(migrations, filepath.Join(out, "digests"))
}

// day is what people do with a site, as far as it fills tables.
func day(ctx context.Context, s *forgedtest.Site, f *fixture) error {
	data := filepath.Join(s.Dir, "d.jsonl")
	if err := os.WriteFile(data, []byte(`{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}`+"\n"), 0o644); err != nil {
		return err
	}
	for _, k := range []key{{User: "ana", Role: "member"}, {User: "kim", Role: "member", Revoked: true}, {User: "olga", Role: "operator"}} {
		var made struct{ ID, Secret string }
		if err := s.CtlJSON(ctx, &made, "key", "create", k.User, "--role", k.Role); err != nil {
			return err
		}
		k.Secret = made.Secret
		if k.Revoked {
			if _, err := s.Ctl(ctx, "key", "revoke", made.ID); err != nil {
				return err
			}
		}
		f.Keys = append(f.Keys, k)
	}
	for _, step := range [][]string{
		{"dataset", "add", "d", data, "--license", "MIT"},
		{"dataset", "add", "mix", data, "--parent", "d@1"},
		{"run", "submit", "probe", "--set", "steps=40", "--set", "step_ms=1", "--register", "bot"},
		{"run", "submit", "probe", "--set", "steps=9", "--set", "fail_at=3"},
		{"run", "submit", "probe", "--set", "steps=4", "--after", "1"},
	} {
		if _, err := s.Ctl(ctx, step...); err != nil {
			return err
		}
	}
	for _, n := range []string{"1", "2", "3"} {
		if err := until(ctx, s, n, func(state string, _ int64) bool { return state == "completed" || state == "failed" }); err != nil {
			return err
		}
	}
	for _, step := range [][]string{
		{"run", "submit", "probe", "--gpus-per-node", "2", "--set", "steps=100000", "--set", "step_ms=20"}, // at work when the copy is made
		{"run", "submit", "probe", "--set", "steps=2"},
		{"run", "submit", "probe", "--set", "steps=2"},
		{"run", "hold", "5", "--reason", "the data is late"},
		{"run", "cancel", "6"},
		{"model", "alias", "set", "bot@1", "champion"},
	} {
		if _, err := s.Ctl(ctx, step...); err != nil {
			return err
		}
	}
	return until(ctx, s, "4", func(_ string, saved int64) bool { return saved > 0 })
}

func until(ctx context.Context, s *forgedtest.Site, n string, ok func(state string, saved int64) bool) error {
	for {
		var r struct {
			State     string `json:"state"`
			SavedStep int64  `json:"saved_step"`
		}
		if err := s.CtlJSON(ctx, &r, "run", "show", n); err != nil {
			return err
		}
		if ok(r.State, r.SavedStep) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("run %s: %w", n, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// unused fills the tables that no command fills yet, so that a migration that rebuilds one of them is tried on rows.
var unused = []string{
	`INSERT INTO pipelines (id, tenant, name, user_name, submitted_at) SELECT 'p-1', tenant, 'chain', user_name, submitted_at FROM runs LIMIT 1`,
	`INSERT INTO pipeline_steps (run, pipeline, position, step) SELECT id, 'p-1', 0, 'sft' FROM runs LIMIT 1`,
	`INSERT INTO evals (id, tenant, model_version, suite, scores, created_by, created_at)
		SELECT 'eval-1', tenant, id, 'default', '{"accuracy":0.5}', 'ana', 1 FROM model_versions LIMIT 1`,
	`INSERT INTO outbox (kind, run, attempt, intent, created_at, tries) SELECT 'signal', run, number, 'checkpoint_user', 1, 3
		FROM attempts WHERE state = 'running' LIMIT 1`,
	`INSERT OR IGNORE INTO node_drains (cluster, node, by_user, reason, at, outside) SELECT cluster, name, 'olga', 'new disks', 1, 1 FROM nodes LIMIT 1`,
	`INSERT OR IGNORE INTO node_failures (cluster, node, run, attempt, reason, certain, at)
		SELECT cluster, 'gpu-1', run, number, 'node_lost', 0, 1 FROM attempts WHERE state = 'ended' LIMIT 1`,
	`INSERT INTO eval_results (id, run, tenant, model, model_id, suite, suite_sha256, limited, facts, created_at)
		SELECT r.id, r.id, r.tenant, 'chat@1', 'v-1', 'default-offline', '00', 0, '{"dtype":"float32"}', 1 FROM runs AS r WHERE r.state = 'completed' LIMIT 1`,
	`INSERT INTO eval_scores (eval, place, task, filter, metric, value, stderr, n, higher, aggregation)
		SELECT id, 0, 'forge_reading', 'none', 'acc', 0.5, 0.1, 30, 1, 'mean' FROM eval_results`,
	`INSERT OR IGNORE INTO dataset_scans (version, report) SELECT seq, '{"scanner":"1"}' FROM dataset_versions LIMIT 1`,
	`INSERT INTO dataset_rows (version, part, first, prints) SELECT seq, 0, x'0000000000000001', x'0000000000000001' FROM dataset_versions WHERE indexed = 0 LIMIT 1`,
	`INSERT OR IGNORE INTO run_models (run, role, model) SELECT r.id, 'start', v.id FROM runs AS r, model_versions AS v LIMIT 1`,
	`INSERT INTO eval_samples (eval, task, filter, n, bytes, data) SELECT id, 'forge_reading', 'none', 1, 3, x'1f8b' FROM eval_results`,
	`INSERT INTO eval_columns (eval, task, filter, n, docs, asked, clusters, lines, blocks) SELECT id, 'forge_reading', 'none', 1, zeroblob(8), zeroblob(16), zeroblob(8), zeroblob(4), zeroblob(8) FROM eval_results`,
	`INSERT INTO schedules (id, tenant, name, cron, tz, what, baseline, overlap, catch_up, on_regression, user_id, user_name, role, created_at, decided)
		SELECT 's-1', tenant, 'nightly', '0 3 * * *', 'Europe/Berlin', '{"recipe":"probe"}', '', 'skip', 'once', 'event', id, name, 'member', 1, 1 FROM users LIMIT 1`,
	`INSERT INTO schedule_firings (schedule, due, decided_at, state, words, missed, by_user, model, model_id, baseline, baseline_eval)
		SELECT id, 1, 1, 'skipped', 'the run before goes on', 0, '', '', '', '', '' FROM schedules`,
	`INSERT INTO hooks (id, tenant, name, kind, target, events, created_at, created_by, cursor) SELECT 'h-1', id, 'chat', 'webhook', 'https://hooks.example.org/x', '["stage"]', 1, 'ana', 1 FROM tenants LIMIT 1`,
	`INSERT INTO hook_deliveries (id, hook, seq, type, state, made_at) SELECT 'hd-1', id, 1, 'model.stage_changed', 'waiting', 1 FROM hooks`,
	`INSERT INTO gpu_drains (cluster, node, uuid, rule, hold, by_user, reason, at) SELECT cluster, name, 'GPU-1', 'xid_48', 'cordon_gpu', 'forged', 'two bits', 1 FROM nodes LIMIT 1`,
	`INSERT INTO node_events (cluster, node, at, kind, uuid, rule, xid, words) SELECT cluster, name, 1, 'finding', 'GPU-1', 'xid_48', 48, 'two bits' FROM nodes LIMIT 1`,
	`INSERT INTO gpu_samples (uuid, level, at, util) VALUES ('GPU-1', 1, 60000, 50)`,
	`INSERT INTO eval_column_scores (eval, task, filter, metric, scores) SELECT eval, task, filter, 'acc', zeroblob(8) FROM eval_columns`,
}

// oneRow are tables of which a row is made from their columns alone; names of columns differ between versions.
var oneRow = map[string]map[string]string{
	"idempotency": {"tenant": "(SELECT id FROM tenants LIMIT 1)", "user_id": "(SELECT id FROM users LIMIT 1)", "op": "'run.submit'", "key": "'k-1'",
		"request": "'00'", "ref": "(SELECT id FROM runs LIMIT 1)", "created_at": "1"},
	"claims": {"cluster": "(SELECT cluster FROM nodes LIMIT 1)", "node": "(SELECT name FROM nodes LIMIT 1)", "slot": "0",
		"for_run": "(SELECT id FROM runs WHERE state = 'pending' LIMIT 1)", "from_run": "(SELECT id FROM runs WHERE state = 'running' LIMIT 1)", "created_at": "1"},
}

func copyOf(ctx context.Context, from, to string, f *fixture) error {
	live, err := sql.Open("sqlite3", "file:"+from+"?mode=ro&_busy_timeout=5000")
	if err != nil {
		return err
	}
	defer func() { _ = live.Close() }()
	if _, err := live.ExecContext(ctx, `VACUUM INTO ?`, to); err != nil {
		return err
	}
	db, err := sql.Open("sqlite3", "file:"+to+"?_foreign_keys=1")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	statements := unused
	for table, values := range oneRow {
		names, err := column(ctx, db, `SELECT name FROM pragma_table_info('`+table+`')`)
		if err != nil {
			return err
		}
		var exprs []string
		for _, n := range names {
			if values[n] == "" {
				return fmt.Errorf("no value for %s.%s: add one to oneRow", table, n)
			}
			exprs = append(exprs, values[n])
		}
		statements = append(statements, fmt.Sprintf(`INSERT OR IGNORE INTO %s (%s) SELECT %s`, table, strings.Join(names, ", "), strings.Join(exprs, ", ")))
	}
	for _, st := range statements {
		if _, err := db.ExecContext(ctx, st); err != nil {
			return fmt.Errorf("%s: %w", st, err)
		}
	}
	tables, err := column(ctx, db, `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`)
	if err != nil {
		return err
	}
	for _, t := range tables {
		var n int
		if err := db.QueryRowContext(ctx, `SELECT count(*) FROM `+t).Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("table %s is empty: a migration that loses its rows would go unnoticed; let day fill it, or unused", t)
		}
	}
	return f.read(ctx, db)
}

func column(ctx context.Context, db *sql.DB, query string) ([]string, error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}

// read notes what the copy holds.
func (f *fixture) read(ctx context.Context, db *sql.DB) error {
	if err := db.QueryRowContext(ctx, `SELECT version, name FROM schema_migrations ORDER BY version DESC LIMIT 1`).Scan(&f.Schema, &f.Name); err != nil {
		return err
	}
	if err := db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM model_versions), (SELECT count(*) FROM dataset_versions), (SELECT max(seq) FROM events)`).
		Scan(&f.Models, &f.Data, &f.LastSeq); err != nil {
		return err
	}
	rows, err := db.QueryContext(ctx, `SELECT number, state, attempt, saved_step, model, params FROM runs JOIN run_specs ON run = id ORDER BY number`)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var r run
		if err := rows.Scan(&r.Number, &r.State, &r.Attempt, &r.SavedStep, &r.Model, &r.Params); err != nil {
			return err
		}
		f.Runs = append(f.Runs, r)
	}
	return rows.Err()
}

func write(out, db string, f fixture) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	data, err := os.ReadFile(db)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	zip, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := zip.Write(data); err != nil {
		return err
	}
	if err := zip.Close(); err != nil {
		return err
	}
	about, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	base := filepath.Join(out, fmt.Sprintf("%04d", f.Schema))
	if err := os.WriteFile(base+".db.gz", packed.Bytes(), 0o644); err != nil {
		return err
	}
	fmt.Printf("%s.db.gz  %d bytes, schema version %d (%s)\n", base, packed.Len(), f.Schema, f.Name)
	return os.WriteFile(base+".json", append(about, '\n'), 0o644)
}

// pin writes the digest of each migration: from now on it has landed.
func pin(migrations, to string) error {
	files, err := filepath.Glob(filepath.Join(migrations, "*.sql"))
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(text), filepath.Base(f))
	}
	return os.WriteFile(to, []byte(b.String()), 0o644)
}
