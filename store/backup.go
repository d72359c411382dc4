package store

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// progressEvery is how often a copy says how far it is.
const progressEvery = 200 * time.Millisecond

// Backup copies the database at path, as of one moment, into a new file at dest (mode 0600): whole transactions
// only, whether a daemon writes to it or not. It reads from a snapshot of the write-ahead log, so that the
// writer waits for nothing; the log grows meanwhile. What it copied is checked page by page: a copy of a damaged
// database would be found out on the day that it is needed. progress, which may be nil, gets bytes done and expected.
func Backup(ctx context.Context, path, dest string, progress func(done, total int64)) error {
	const op = "store.backup"
	if err := checkFile(path); err != nil {
		return classify(op, err)
	}
	if !exists(path) {
		return unavailable(op, fmt.Sprintf("there is no database at %s", path), fs.ErrNotExist)
	}
	log, index := exists(path+walSuffix), exists(path+"-shm")
	q := url.Values{"mode": {"ro"}}
	if !log || !index {
		// Nobody has it open, and a read-only connection could not make the log's index.
		q = url.Values{"mode": {"rw"}}
	}
	pool, err := openPlain(dsn(path, q))
	if err != nil {
		return classify(op, err)
	}
	defer func() {
		_ = pool.Close()
		if log && !exists(path+walSuffix) { // closing it folded the log in: it is not lost
			_ = os.Remove(path + inUseSuffix)
		}
	}()
	var total int64
	if err := pool.QueryRowContext(ctx, `SELECT page_count * page_size FROM pragma_page_count, pragma_page_size`).Scan(&total); err != nil {
		return classify(op, damage(path, err))
	}
	stop := watchSize(dest, total, progress)
	_, err = pool.ExecContext(ctx, `VACUUM INTO ?`, dest)
	stop()
	if err == nil {
		err = os.Chmod(dest, databaseMode)
	}
	if err != nil {
		_ = os.Remove(dest)
		return classify(op, damage(path, err))
	}
	copied, err := openCopy(dest)
	if err != nil {
		return classify(op, err)
	}
	defer func() { _ = copied.Close() }()
	if err := check(ctx, copied, path, "integrity_check"); err != nil {
		_ = os.Remove(dest)
		return err
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// watchSize reports how large a file has become until it is stopped.
func watchSize(path string, total int64, progress func(done, total int64)) (stop func()) {
	if progress == nil {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				progress(total, total)
				return
			case <-tick.C:
				progress(min(sizeOf(path), total), total)
			}
		}
	}()
	return func() { close(done); <-ended }
}

// openCopy opens a database that nobody writes to and that has no log: nothing beside it is made or read.
func openCopy(path string) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return openPlain(dsn(abs, url.Values{"mode": {"ro"}, "immutable": {"1"}, "_query_only": {"1"}}))
}

// Contents is what a copy of the database holds.
type Contents struct {
	SchemaVersion int              `json:"schema_version"`
	SchemaName    string           `json:"schema_name"`
	LastEventSeq  int64            `json:"last_event_seq"`
	Counts        map[string]int64 `json:"counts"` // rows by table
}

// countedTables are those that people ask about.
var countedTables = []string{"tenants", "users", "api_keys", "datasets", "dataset_versions", "models", "model_versions", "runs", "attempts", "events"}

// Inspect checks a copy that Backup made, with every page, index and reference, and says what it holds. ErrDamaged is in
// the chain when it is not whole; KindPrecondition when a newer program made it, or its tables are
// not those of the schema version that it names.
func Inspect(ctx context.Context, path string) (Contents, error) {
	const op = "store.inspect"
	c := Contents{Counts: map[string]int64{}}
	if err := checkFile(path); err != nil {
		return c, classify(op, err)
	}
	pool, err := openCopy(path)
	if err != nil {
		return c, classify(op, err)
	}
	defer func() { _ = pool.Close() }()
	if err := check(ctx, pool, path, "integrity_check"); err != nil {
		return c, err
	}
	if err := pool.QueryRowContext(ctx, `SELECT version, name FROM schema_migrations ORDER BY version DESC LIMIT 1`).Scan(&c.SchemaVersion, &c.SchemaName); err != nil {
		return c, Damaged(path, "it does not say which schema it has")
	}
	if err := CheckSchemaVersion(c.SchemaVersion, c.SchemaName); err != nil {
		return c, err
	}
	if err := sameSchema(ctx, pool, c.SchemaVersion); err != nil {
		return c, err
	}
	if err := pool.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0) FROM events`).Scan(&c.LastEventSeq); err != nil {
		return c, classify(op, damage(path, err))
	}
	for _, table := range countedTables {
		var n int64
		if err := pool.QueryRowContext(ctx, `SELECT count(*) FROM `+table).Scan(&n); err != nil {
			return c, classify(op, damage(path, err))
		}
		c.Counts[table] = n
	}
	return c, nil
}

// CheckSchemaVersion refuses a schema that a newer program has made. KindPrecondition.
func CheckSchemaVersion(version int, name string) error {
	all, err := loadMigrations(migrationFiles)
	if err != nil {
		return classify("store.schema", err)
	}
	return knownSchema(all, version, name)
}

// sameSchema holds the tables of a database against those that the migrations up to its version make: a file with other
// triggers or without one of the constraints would be taken for sound until it is written to.
func sameSchema(ctx context.Context, q querier, version int) error {
	all, err := loadMigrations(migrationFiles)
	if err != nil {
		return classify("store.schema", err)
	}
	want, err := freshSchema(ctx, all[:version])
	if err != nil {
		return err
	}
	got, err := schemaOf(ctx, q)
	if err != nil {
		return classify("store.schema", err)
	}
	if slices.Equal(got, want) {
		return nil
	}
	for _, s := range got {
		if !slices.Contains(want, s) {
			return forge.Errorf(forge.KindPrecondition, "store.schema", "schema version %d of the database is not that of this program; it has: %.200s", version, s).
				WithHint("the database was made or changed by another program; use the forged that wrote it")
		}
	}
	return forge.Errorf(forge.KindPrecondition, "store.schema", "schema version %d of the database lacks something that this program's has", version).
		WithHint("the database was made or changed by another program; use the forged that wrote it")
}

// freshSchema is what the migrations make out of nothing.
func freshSchema(ctx context.Context, all []migration) ([]string, error) {
	pool, err := openPlain(":memory:")
	if err != nil {
		return nil, classify("store.schema", err)
	}
	defer func() { _ = pool.Close() }()
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, classify("store.schema", err)
	}
	defer func() { _ = conn.Close() }()
	if err := migrate(ctx, conn, all, time.Unix(0, 0)); err != nil {
		return nil, err
	}
	schema, err := schemaOf(ctx, conn)
	return schema, classify("store.schema", err)
}

// schemaOf lists every table, index and trigger as it was written, in a fixed order.
func schemaOf(ctx context.Context, q querier) ([]string, error) {
	return texts(ctx, q, `SELECT type || ' ' || name || ' on ' || tbl_name || ': ' || coalesce(sql, '') FROM sqlite_schema
		WHERE name NOT LIKE 'sqlite_stat%' ORDER BY type, name`)
}

// Restored is what a restore records in the copy of the database that it puts into place.
type Restored struct {
	TakenAt time.Time
	From    string // name of the backup's file
	Actor   string
	Why     forge.Why
}

// Restore makes a copy of the database fit to be served again, in one write: brought to this program's schema, with every run
// that had not ended on hold, and an event that says so. What such a run did since the backup is not known here: it may
// have ended, been stopped by its owner, or be at work now. It answers how many runs are held.
func Restore(ctx context.Context, path string, r Restored, opt Options) (held int, err error) {
	const op = "backup.restore"
	db, err := Open(ctx, path, opt)
	if err != nil {
		return 0, err
	}
	err = db.write(ctx, op, func(t *tx) error {
		held = 0
		var live []runRow
		if err := selectRuns(t.NewSelect(), &live).Where("r.state IN ('pending', 'provisioning', 'running')").Order("r.id").Scan(t.ctx); err != nil {
			return err
		}
		taken := r.TakenAt.UTC().Format(time.RFC3339)
		for i := range live {
			row := &live[i]
			if row.HoldBy != "" {
				continue // its own reason stays; releasing it is a decision of somebody all the same
			}
			reason := fmt.Sprintf("restored from a backup of %s; once nothing of it is wanted elsewhere: forgectl run release %d", taken, row.Number)
			// Another actor than forged itself: these holds say nothing about a cluster's health (see HeldSince).
			if err := t.holdRun(row, forge.Hold{By: r.Actor, Reason: reason}); err != nil {
				return err
			}
			held++
		}
		return t.event(forge.Event{Actor: r.Actor, Type: forge.EventBackupRestored, Reason: string(r.Why),
			Message: fmt.Sprintf("The database was restored from a backup of %s; %d runs that had not ended are on hold", taken, held),
			Data:    map[string]any{"backup": filepath.Base(r.From), "taken_at": taken, "held": held}})
	})
	if cerr := db.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return 0, classify(op, err)
	}
	if _, err := os.Stat(path + walSuffix); err == nil {
		return 0, &forge.Error{Kind: forge.KindInternal, Op: op, Err: fmt.Errorf("%s%s was left behind: %w", path, walSuffix, fs.ErrExist)}
	}
	return held, nil
}

// SourceUse is the snapshot of a working directory, and the runs that have not ended and need it.
type SourceUse struct {
	Tenant  forge.TenantID
	SHA256  string
	Numbers []int64
}

// Sources lists, of a copy that Backup made, what runs that have not ended need of the snapshots that lie beside the database.
func Sources(ctx context.Context, path string) ([]SourceUse, error) {
	const op = "store.sources"
	pool, err := openCopy(path)
	if err != nil {
		return nil, classify(op, err)
	}
	defer func() { _ = pool.Close() }()
	rows, err := pool.QueryContext(ctx, `SELECT r.tenant, r.number, json_extract(s.spec, '$.source.sha256') AS digest FROM runs AS r JOIN run_specs AS s ON s.run = r.id
		WHERE r.state IN ('pending', 'provisioning', 'running') AND digest <> '' ORDER BY r.tenant, digest, r.number`)
	if err != nil {
		return nil, classify(op, damage(path, err))
	}
	defer func() { _ = rows.Close() }()
	var out []SourceUse
	for rows.Next() {
		var u SourceUse
		var number int64
		if err := rows.Scan(&u.Tenant, &number, &u.SHA256); err != nil {
			return nil, classify(op, err)
		}
		if n := len(out); n == 0 || out[n-1].Tenant != u.Tenant || out[n-1].SHA256 != u.SHA256 {
			out = append(out, u)
		}
		out[len(out)-1].Numbers = append(out[len(out)-1].Numbers, number)
	}
	return out, classify(op, rows.Err())
}
