package store_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	_ "modernc.org/sqlite" // registers "sqlite"
)

// BenchmarkDriver is why the driver is mattn/go-sqlite3: grouped inserts through bun, 64 a
// transaction, durable, on each of the two. go test -bench Driver ./store
func BenchmarkDriver(b *testing.B) {
	const group = 64
	type line struct {
		bun.BaseModel `bun:"table:lines"`
		ID            int64  `bun:"id,pk"`
		Run           string `bun:"run"`
		Text          string `bun:"text"`
	}
	for _, d := range []struct{ name, driver, params string }{
		{"mattn", "sqlite3", "?_journal_mode=WAL&_synchronous=FULL"},
		{"modernc", "sqlite", "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"},
	} {
		b.Run(d.name, func(b *testing.B) {
			pool, err := sql.Open(d.driver, "file:"+filepath.Join(b.TempDir(), "d.db")+d.params)
			if err != nil {
				b.Fatal(err)
			}
			defer pool.Close()
			pool.SetMaxOpenConns(1)
			db := bun.NewDB(pool, sqlitedialect.New())
			if _, err := db.ExecContext(ctx, `CREATE TABLE lines (id INTEGER PRIMARY KEY, run TEXT NOT NULL, text TEXT NOT NULL)`); err != nil {
				b.Fatal(err)
			}
			rows := int64(0)
			for b.Loop() {
				err := db.RunInTx(ctx, nil, func(_ context.Context, t bun.Tx) error {
					for range group {
						rows++
						if _, err := t.NewInsert().Model(&line{ID: rows, Run: "01J00000000000000000000000", Text: "a line of a run's log"}).Exec(ctx); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
