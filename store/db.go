package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	_ "github.com/mattn/go-sqlite3" // registers "sqlite3"
	"github.com/rs/zerolog"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"

	forge "github.com/forge-ml/forge-ml"
)

// Options are what a DB needs from outside. The zero value is usable.
type Options struct {
	Log zerolog.Logger
	// Now is the clock for every time that the store itself sets; time.Now when nil.
	Now func() time.Time
	// OnCommit gets the deltas of each commit, in order, on the writer's goroutine, before the callers
	// are acknowledged. It must be quick and must not call the store.
	OnCommit func([]forge.Delta)
}

// The pragmas and bounds, and what they are for.
const (
	busyTimeout  = 5 * time.Second  // only a backup or a shell ever holds the lock besides us
	walLimit     = 64 << 20         // bytes that the WAL file keeps after a checkpoint
	readerIdle   = time.Minute      // idle readers are closed, their page caches with them
	minReaders   = 4                // also on one core: a slow listing must not hold up authentication
	seenEvery    = 15 * time.Second // a node that changed nothing is written this often, not at each poll
	maxGroup     = 256              // closures of one commit
	besidePlan   = 64               // closures of a commit behind a batch of a plan
	closedText   = "the store is closed"
	databaseMode = 0o600
)

// DB is the open store. Its methods are safe for concurrent use.
type DB struct {
	log      zerolog.Logger
	now      func() time.Time
	onCommit func([]forge.Delta)

	read   *bun.DB // read-only pool
	writer *writer
	keys   keyCache
	usage  usage
	specs  specCache
	family family

	prices   atomic.Pointer[forge.Prices]
	halfLife atomic.Int64 // of what tenants used, in nanoseconds

	path  string
	noted atomic.Bool // the database is marked as in use: see integrity.go

	sqlWrite, sqlRead *sql.DB
	closeOnce         sync.Once
	closeErr          error
}

// Open opens the database file, making it (mode 0600) where it does not exist, and migrates it.
// KindPrecondition when a newer program has migrated it; KindUnavailable when the file
// cannot be opened or written, with ErrDamaged in the chain when it is not whole.
func Open(ctx context.Context, path string, opt Options) (*DB, error) {
	const op = "store.open"
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, classify(op, err)
	}
	if err := checkFile(abs); err != nil {
		return nil, classify(op, err)
	}
	if err := ensureFile(abs); err != nil {
		return nil, unavailable(op, fmt.Sprintf("the database file %s cannot be used: %v", abs, err), err).
			WithHint("check that the state directory exists and belongs to the user that runs forged")
	}
	db := &DB{path: abs, log: opt.Log, now: opt.Now, onCommit: opt.OnCommit}
	db.SetHalfLife(forge.DefaultHalfLife)
	if db.now == nil {
		db.now = time.Now
	}
	if db.onCommit == nil {
		db.onCommit = func([]forge.Delta) {}
	}
	if err := db.open(ctx, abs); err != nil {
		return nil, classify(op, damage(abs, errors.Join(err, db.closePools())))
	}
	return db, nil
}

func (db *DB) open(ctx context.Context, abs string) error {
	var err error
	if db.sqlWrite, err = sql.Open("sqlite3", dsn(abs, url.Values{
		"_journal_mode": {"WAL"}, "_synchronous": {"FULL"}, "_foreign_keys": {"1"}, "_stmt_cache_size": {"64"},
	})); err != nil {
		return err
	}
	db.sqlWrite.SetMaxOpenConns(1)
	conn, err := bun.NewDB(db.sqlWrite, sqlitedialect.New()).Conn(ctx)
	if err != nil {
		return err
	}
	w := newWriter(db, conn)
	if err := w.prepare(ctx, db.now()); err != nil {
		return errors.Join(err, conn.Close())
	}
	// Readers come after the first write: a read-only connection cannot make the WAL's index.
	if db.sqlRead, err = sql.Open("sqlite3", dsn(abs, url.Values{"mode": {"ro"}, "_query_only": {"1"}})); err != nil {
		return errors.Join(err, conn.Close())
	}
	readers := max(minReaders, 2*runtime.NumCPU())
	db.sqlRead.SetMaxOpenConns(readers)
	db.sqlRead.SetMaxIdleConns(readers)
	db.sqlRead.SetConnMaxIdleTime(readerIdle)
	db.read = bun.NewDB(db.sqlRead, sqlitedialect.New())
	db.writer = w
	go w.loop()
	return nil
}

// Close finishes what was queued, refuses what comes later with KindUnavailable, and closes
// the file. Closing twice is fine.
func (db *DB) Close() error {
	db.closeOnce.Do(func() {
		db.flushUsage()
		db.writer.stop()
		db.closeErr = errors.Join(db.clearInUse(), db.writer.conn.Close(), db.closePools())
	})
	return db.closeErr
}

func (db *DB) closePools() error {
	var errs []error
	for _, p := range []*sql.DB{db.sqlRead, db.sqlWrite} { // the writer last: it folds the WAL into the file
		if p != nil {
			errs = append(errs, p.Close())
		}
	}
	return errors.Join(errs...)
}

// Stats counts what the writer did since Open.
type Stats struct {
	Commits  int64         // transactions committed
	Closures int64         // callers' closures in them
	Spent    time.Duration // in committing them
	Failing  bool          // the last write that changed something could not be committed
}

// Stats returns the writer's counters; Closures per commit is how well writes group.
func (db *DB) Stats() Stats {
	return Stats{Commits: db.writer.commits.Load(), Closures: db.writer.closures.Load(),
		Spent: time.Duration(db.writer.spent.Load()), Failing: db.writer.failing.Load()}
}

// dsn makes the URI of the file; the path is escaped because ? and # may stand in it.
func dsn(abs string, q url.Values) string {
	q.Set("_busy_timeout", fmt.Sprint(busyTimeout.Milliseconds()))
	return (&url.URL{Scheme: "file", Path: abs, RawQuery: q.Encode()}).String()
}

// ensureFile makes the file before SQLite does: SQLite would make it by the umask, and gives
// the -wal and -shm files the mode of the main one.
func ensureFile(abs string) error {
	f, err := os.OpenFile(abs, os.O_RDWR|os.O_CREATE, databaseMode)
	if err != nil {
		return err
	}
	if err := f.Chmod(databaseMode); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}
