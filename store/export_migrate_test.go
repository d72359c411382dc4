package store

import (
	"context"
	"fmt"
	"time"
)

// MigrateTo brings the database at path to a version that is not the newest, as an older program did.
func MigrateTo(ctx context.Context, path string, version int) error {
	pool, err := openPlain("file:" + path)
	if err != nil {
		return err
	}
	defer func() { _ = pool.Close() }()
	conn, err := pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	all, err := loadMigrations(migrationFiles)
	if err != nil {
		return err
	}
	return migrate(ctx, conn, all[:version], time.Unix(1, 0))
}

// Migrations are the names of all files, in order.
func Migrations() (names map[string]string, newest int, err error) {
	all, err := loadMigrations(migrationFiles)
	names = map[string]string{}
	for _, m := range all {
		names[fmt.Sprintf("%04d_%s.sql", m.version, m.name)] = m.script
		newest = m.version
	}
	return names, newest, err
}

// Schema is the schema of the open database, Fresh what this program makes of an empty file.
func (db *DB) Schema(ctx context.Context) ([]string, error) { return schemaOf(ctx, db.sqlRead) }

func Fresh(ctx context.Context) ([]string, error) {
	all, err := loadMigrations(migrationFiles)
	if err != nil {
		return nil, err
	}
	return freshSchema(ctx, all)
}

// Unguarded runs a statement on a closed database with nothing held against it.
func Unguarded(path, statement string) error {
	pool, err := openPlain("file:" + path + "?_foreign_keys=0")
	if err != nil {
		return err
	}
	defer func() { _ = pool.Close() }()
	_, err = pool.Exec(statement)
	return err
}
