package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"

	forge "github.com/forge-ml/forge-ml"
)

// ErrDamaged is in the chain of every error that says that the database file is not whole. Nothing may be
// written on top of it: the way out is a backup, and what can still be read may be needed until then.
var ErrDamaged = errors.New("the database is damaged")

const (
	headerSize   = 100
	sqliteMagic  = "SQLite format 3\x00"
	maxFaults    = 5 // of SQLite's list; the first ones say what happened, the rest repeat it
	inUseSuffix  = "-inuse"
	walSuffix    = "-wal"
	minPageBytes = 512
)

// Damaged is an error about the database file at path.
func Damaged(path, format string, args ...any) *forge.Error {
	return (&forge.Error{Kind: forge.KindUnavailable, Op: "store.open", Err: fmt.Errorf("%w: %s: %s", ErrDamaged, path, fmt.Sprintf(format, args...))}).
		WithHint("keep the file, and restore the newest backup into an empty directory: forged restore FILE --state-dir DIR")
}

// damage gives what SQLite says of a broken file its name, and leaves every other error alone.
func damage(path string, err error) error {
	var se sqlite3.Error
	if errors.As(err, &se) && (se.Code == sqlite3.ErrCorrupt || se.Code == sqlite3.ErrNotADB) && !errors.Is(err, ErrDamaged) {
		return Damaged(path, "%v", se)
	}
	return err
}

// checkFile looks at the file without SQLite, before anything may write to it: is there a header, are all
// the pages there that it counts, is the log there that an unclean stop must have left. SQLite would take an
// empty file for a new database and a missing log for an empty one.
func checkFile(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := checkLog(path); err != nil {
		return err
	}
	if st.Size() == 0 {
		return nil
	}
	head := make([]byte, headerSize)
	if _, err := io.ReadFull(f, head); err != nil {
		return Damaged(path, "it has %d bytes, less than the header of a database", st.Size())
	}
	if string(head[:len(sqliteMagic)]) != sqliteMagic {
		return Damaged(path, "it does not begin with the header of a database")
	}
	page := int64(binary.BigEndian.Uint16(head[16:]))
	if page == 1 { // 65536 does not fit into two bytes
		page = 1 << 16
	}
	if page < minPageBytes || page&(page-1) != 0 {
		return Damaged(path, "its header names a page size of %d bytes", page)
	}
	// While a log is there the pages at the end may still lie in it.
	if _, err := os.Stat(path + walSuffix); err == nil {
		return nil
	}
	pages := int64(binary.BigEndian.Uint32(head[28:]))
	if current := [4]byte(head[24:28]) == [4]byte(head[92:96]); current && st.Size() < pages*page {
		return Damaged(path, "it was cut off: %d bytes are there, its header counts %d", st.Size(), pages*page)
	}
	return nil
}

// checkLog compares the write-ahead log with the note that the first commit leaves beside the database and
// a clean stop takes away. With the note and without a log, the newest commits were deleted with the log, and
// nothing inside the database would show it.
func checkLog(path string) error {
	if _, err := os.Stat(path + inUseSuffix); err != nil {
		return nil
	}
	_, err := os.Stat(path + walSuffix)
	if !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return Damaged(path, "its write-ahead log (%s%s) is gone although forged was not stopped cleanly; the newest changes were in it", filepath.Base(path), walSuffix).
		WithHint("put the log back, or restore the newest backup: forged restore FILE --state-dir DIR. If another program opened the database meanwhile (sqlite3 folds the log in), nothing is missing: rm %s%s", path, inUseSuffix)
}

// noteInUse leaves the note of checkLog; once the first commit is durable, the log is, too.
func (db *DB) noteInUse() {
	if db.noted.Swap(true) {
		return
	}
	f, err := os.OpenFile(db.path+inUseSuffix, os.O_WRONLY|os.O_CREATE, databaseMode)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		db.log.Warn().Err(err).Msg("a lost write-ahead log would not be noticed")
	}
}

// clearInUse takes the note away, durably, before SQLite folds in and deletes the log: the other way
// round a power loss between the two would look like a deleted log.
func (db *DB) clearInUse() error {
	err := os.Remove(db.path + inUseSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(db.path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Check reads every page and every reference of the open database on a connection of its own, without
// keeping the writer waiting. ErrDamaged is in the chain when something is broken. It takes as long as reading the file.
func (db *DB) Check(ctx context.Context) error {
	pool, err := openPlain(dsn(db.path, url.Values{"mode": {"ro"}, "_query_only": {"1"}}))
	if err != nil {
		return classify("store.check", err)
	}
	defer func() { _ = pool.Close() }()
	return check(ctx, pool, db.path, "quick_check")
}

// Size is how many bytes the database file has, its log not counted.
func (db *DB) Size() (file, log int64) {
	return sizeOf(db.path), sizeOf(db.path + walSuffix)
}

func sizeOf(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// check runs SQLite's own checks: pragma is quick_check or integrity_check, which also compares every index.
func check(ctx context.Context, q querier, path, pragma string) error {
	faults, err := texts(ctx, q, fmt.Sprintf("PRAGMA %s(%d)", pragma, maxFaults))
	if err != nil {
		return classify("store.check", damage(path, err))
	}
	if len(faults) != 1 || faults[0] != "ok" {
		return Damaged(path, "%s", strings.Join(faults, "; "))
	}
	faults, err = texts(ctx, q, fmt.Sprintf(`SELECT "table" || ' row ' || coalesce(rowid, '?') || ' refers to a row of ' || parent || ' that is not there'
		FROM pragma_foreign_key_check LIMIT %d`, maxFaults))
	if err != nil {
		return classify("store.check", damage(path, err))
	}
	if len(faults) > 0 {
		return Damaged(path, "%s", strings.Join(faults, "; "))
	}
	return nil
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func texts(ctx context.Context, q querier, query string) ([]string, error) {
	rows, err := q.QueryContext(ctx, query)
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

func openPlain(dsn string) (*sql.DB, error) {
	pool, err := sql.Open("sqlite3", dsn)
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(1)
	return pool, nil
}

// newestEvents is how many events are asked for the latest time: what a clock that went back has written since must not
// hide the ones of before at once.
const newestEvents = 1000

// NewestEvent is the latest time among the newest events; zero when there are none. One in the future says that the clock went back.
func (db *DB) NewestEvent(ctx context.Context) (time.Time, error) {
	var at int64
	err := db.sqlRead.QueryRowContext(ctx, `SELECT coalesce(max(time), 0) FROM (SELECT time FROM events ORDER BY seq DESC LIMIT ?)`, newestEvents).Scan(&at)
	return stamp(at).time(), classify("event.newest", err)
}
