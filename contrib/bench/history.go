package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

const (
	historicalRuns = 1_000_000
	waitingRuns    = 100_000
)

// history fills an empty database: a million runs that have ended and a hundred thousand that wait.
//
//go:embed history.sql
var historySQL string

// historyOf puts the big database in the place of a site's. It takes a minute or two to make and is
// kept in the user's cache by the digest of the schema and of what fills it; the keys in it are those
// of the site that it is given to.
func historyOf(ctx context.Context, s *forgedtest.Site) error {
	state := filepath.Join(s.State(), "forge.db")
	var schema strings.Builder
	var keys [][]any
	if err := seed(ctx, s, func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, `SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name`)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var text string
			if err := rows.Scan(&text); err != nil {
				return err
			}
			schema.WriteString(text)
		}
		return rows.Err()
	}); err != nil {
		return err
	}
	if err := seed(ctx, s, func(db *sql.DB) error {
		var hash, prefix string
		err := db.QueryRowContext(ctx, `SELECT hash, prefix FROM api_keys`).Scan(&hash, &prefix)
		keys = append(keys, []any{hash, prefix})
		return err
	}); err != nil {
		return err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(schema.String() + historySQL + fmt.Sprint(historicalRuns, waitingRuns)))
	made := filepath.Join(cache, "forge-ml", "bench", hex.EncodeToString(sum[:8])+".db")
	if _, err := os.Stat(made); errors.Is(err, fs.ErrNotExist) {
		if err := makeHistory(ctx, s, made); err != nil {
			return err
		}
	}
	if err := copyFile(made, state); err != nil {
		return err
	}
	return seed(ctx, s, func(db *sql.DB) error {
		_, err := db.ExecContext(ctx, `UPDATE api_keys SET hash = ?, prefix = ?`, keys[0]...)
		return err
	})
}

func makeHistory(ctx context.Context, s *forgedtest.Site, made string) error {
	began := time.Now()
	fmt.Fprintf(os.Stderr, "bench: making %d runs in %s\n", historicalRuns+waitingRuns, made)
	if err := os.MkdirAll(filepath.Dir(made), 0o700); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(filepath.Dir(made), "*"))
	if err != nil {
		return err
	}
	for _, f := range old { // of schemas before; each is gigabytes
		_ = os.Remove(f)
	}
	if err := seed(ctx, s, func(db *sql.DB) error {
		for _, pragma := range []string{"PRAGMA synchronous = OFF", "PRAGMA cache_size = -400000", "PRAGMA foreign_keys = OFF"} {
			if _, err := db.ExecContext(ctx, pragma); err != nil {
				return err
			}
		}
		text := strings.NewReplacer(":historical", fmt.Sprint(historicalRuns), ":waiting", fmt.Sprint(waitingRuns)).Replace(historySQL)
		if _, err := db.ExecContext(ctx, text); err != nil {
			return err
		}
		var broken int
		if err := db.QueryRowContext(ctx, `SELECT count(*) FROM pragma_foreign_key_check`).Scan(&broken); err != nil || broken > 0 {
			return errors.Join(err, fmt.Errorf("%d rows break foreign keys", broken))
		}
		_, err := db.ExecContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`)
		return err
	}); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "bench: made in %s\n", time.Since(began).Round(time.Second))
	if err := copyFile(filepath.Join(s.State(), "forge.db"), made+".part"); err != nil {
		return err
	}
	return os.Rename(made+".part", made)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(err, out.Close())
	}
	return out.Close()
}
