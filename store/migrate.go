package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

type migration struct {
	version int
	name    string
	script  string
}

// loadMigrations reads NNNN_name.sql in order. Versions are 1, 2, 3 … without gaps: a gap is a
// file that did not make it into the build.
func loadMigrations(files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "migrations/*.sql") // sorted
	if err != nil {
		return nil, err
	}
	var all []migration
	for i, file := range names {
		num, name, ok := strings.Cut(strings.TrimSuffix(path.Base(file), ".sql"), "_")
		version, err := strconv.Atoi(num)
		if !ok || err != nil || version != i+1 {
			return nil, fmt.Errorf("migration %s: want %04d_NAME.sql", file, i+1)
		}
		script, err := fs.ReadFile(files, file)
		if err != nil {
			return nil, err
		}
		all = append(all, migration{version: version, name: name, script: string(script)})
	}
	if len(all) == 0 {
		return nil, errors.New("no migrations in this build")
	}
	return all, nil
}

// migrate brings the schema to the newest version that this program knows, each step in its own
// transaction. A database that a newer program has migrated is refused before anything
// is touched: writing by old rules into new tables is how audit trails get lost.
func migrate(ctx context.Context, conn *sql.Conn, all []migration, now time.Time) error {
	const op = "store.migrate"
	if _, err := conn.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS schema_migrations (
		version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT`); err != nil {
		return classify(op, err)
	}
	var version int
	var name string
	err := conn.QueryRowContext(ctx, `SELECT version, name FROM schema_migrations ORDER BY version DESC LIMIT 1`).Scan(&version, &name)
	if err != nil && !absent(err) {
		return classify(op, err)
	}
	if err := knownSchema(all, version, name); err != nil {
		return err
	}
	for _, m := range all[version:] {
		if err := applyMigration(ctx, conn, m, now); err != nil {
			return classify(op, fmt.Errorf("migration %04d_%s: %w", m.version, m.name, err))
		}
	}
	return nil
}

// knownSchema refuses a schema that this program does not know, by its number or by its name.
func knownSchema(all []migration, version int, name string) error {
	const op = "store.migrate"
	newest := all[len(all)-1]
	if version > newest.version {
		return forge.Errorf(forge.KindPrecondition, op,
			"the database has schema version %d (%s); this program knows versions up to %d", version, name, newest.version).
			WithHint("start the newer forged that last used this state directory, or restore a backup made before the upgrade")
	}
	if version > 0 && all[version-1].name != name {
		return forge.Errorf(forge.KindPrecondition, op,
			"schema version %d of the database is called %q; in this program it is %q", version, name, all[version-1].name).
			WithHint("the database was made by another build of forged; use that one")
	}
	return nil
}

// checkBeforeMigration reads a whole database before its tables are changed for the first time by this program: a
// change on top of damage would take away the older program's chance to read what is left.
func checkBeforeMigration(ctx context.Context, conn *sql.Conn, path string, all []migration) error {
	var version int
	err := conn.QueryRowContext(ctx, `SELECT coalesce(max(version), 0) FROM schema_migrations`).Scan(&version)
	if err != nil || version == 0 || version >= len(all) {
		return nil // no such table yet, nothing to do, or refused in words by what follows
	}
	return check(ctx, conn, path, "quick_check")
}

func applyMigration(ctx context.Context, conn *sql.Conn, m migration, now time.Time) error {
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := runScript(ctx, conn, m.script, now)
	if err == nil {
		_, err = conn.ExecContext(ctx, `INSERT INTO schema_migrations (version, name, applied_at) VALUES (?, ?, ?)`,
			m.version, m.name, int64(stampOf(now)))
	}
	if err == nil {
		_, err = conn.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		// The first error is what matters; the rollback of a transaction that is gone says nothing new.
		_, _ = conn.ExecContext(ctx, "ROLLBACK")
	}
	return err
}

// stepMark begins the line of a script where a step of the program is carried out, for what SQL cannot do.
const stepMark = "\n--:step "

var steps = map[string]func(context.Context, *sql.Conn, time.Time) error{"begin_histories": beginHistories}

func runScript(ctx context.Context, conn *sql.Conn, script string, now time.Time) error {
	for {
		part, rest, more := strings.Cut(script, stepMark)
		if _, err := conn.ExecContext(ctx, part); err != nil || !more {
			return err
		}
		name, rest, _ := strings.Cut(rest, "\n")
		step := steps[strings.TrimSpace(name)]
		if step == nil {
			return fmt.Errorf("there is no step %q", name)
		}
		if err := step(ctx, conn, now); err != nil {
			return err
		}
		script = rest
	}
}
