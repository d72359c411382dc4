package store

import (
	"context"
	"fmt"
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

// Raw runs statements in one closure of the writer, past all checks of the Go code.
func (db *DB) Raw(ctx context.Context, statements ...string) error {
	return db.Closure(ctx, func(exec func(string) error) error {
		for _, s := range statements {
			if err := exec(s); err != nil {
				return err
			}
		}
		return nil
	})
}

// Closure runs fn as a closure of the writer.
func (db *DB) Closure(ctx context.Context, fn func(exec func(string) error) error) error {
	return db.write(ctx, "test", func(t *tx) error {
		return fn(func(s string) error {
			_, err := t.exec(s)
			return err
		})
	})
}

// Queued is how many closures wait for the writer.
func (db *DB) Queued() int { return len(db.writer.queue) }

// Int reads one number.
func (db *DB) Int(ctx context.Context, query string) (int64, error) {
	var n int64
	err := db.sqlRead.QueryRowContext(ctx, query).Scan(&n)
	return n, err
}

// Text reads one text.
func (db *DB) Text(ctx context.Context, query string) (string, error) {
	var s string
	err := db.sqlRead.QueryRowContext(ctx, query).Scan(&s)
	return s, err
}

// WriterPragma reads a pragma of the writer's own connection.
func (db *DB) WriterPragma(t testing.TB, name string) string {
	t.Helper()
	var v string
	if err := db.write(context.Background(), "test", func(t *tx) error { return t.one("PRAGMA "+name, nil, &v) }); err != nil {
		t.Fatal(err)
	}
	return v
}

// StoreMetrics upserts one metric row, past the check that the attempt is the newest.
func (db *DB) StoreMetrics(ctx context.Context, run forge.RunID, attempt int, step int64, values string) error {
	return db.write(ctx, "test", func(t *tx) error {
		_, err := t.exec(putRows.texts[len(rowsAtOnce)-1], string(run), step, attempt, 0, values)
		return err
	})
}

// RollupID names a bucket of one key.
func RollupID(span, step int64, key string) string { return fmt.Sprintf("%d/%d/%s", span, step, key) }

// Rollups reads every bucket of a run.
func (db *DB) Rollups(ctx context.Context, run forge.RunID) (map[string]forge.MetricBucket, error) {
	rows, err := db.sqlRead.QueryContext(ctx, `SELECT span, step, key, min, max, last FROM metric_rollups WHERE run = ?`, string(run))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[string]forge.MetricBucket{}
	for rows.Next() {
		var key string
		var b forge.MetricBucket
		if err := rows.Scan(&b.Span, &b.Step, &key, &b.Min, &b.Max, &b.Last); err != nil {
			return nil, err
		}
		all[RollupID(b.Span, b.Step, key)] = b
	}
	return all, rows.Err()
}

// MetricRows reads attempt and values of every row of a run, as fmt prints them, by step.
func (db *DB) MetricRows(ctx context.Context, run forge.RunID) (map[int64]string, error) {
	all := map[int64]string{}
	return all, db.write(ctx, "test", func(t *tx) error {
		rows, err := t.pointsBetween(run, 0, 1<<62)
		for _, p := range rows {
			all[p.step] = fmt.Sprint(p.attempt, p.values)
		}
		return err
	})
}

// FlushUsage writes now what waits to be written of when keys were used.
func (db *DB) FlushUsage() { db.flushUsage() }

// BatchWeight bounds what one transaction of a plan writes.
const BatchWeight = batchWeight
