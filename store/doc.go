// Package store keeps what must survive: datasets, runs, attempts, who holds which GPU, metrics,
// models, events. It is SQLite (WAL) through bun, and the only SQL of the program. The tables are
// the only durable truth; the daemon's in-memory world is a fold of what this package tells it.
//
// # One writer
//
//	callers ──write(fn)──► queue ──► writer goroutine ──► BEGIN
//	                                                      SAVEPOINT  fn₁  RELEASE
//	                                                      SAVEPOINT  fn₂  ROLLBACK TO   (only its own work)
//	                                                      …          up to 256 that wait
//	                                                      COMMIT     one fsync for all (synchronous=FULL)
//	                                       OnCommit(deltas in order) ──► acknowledge fn₁ … fnₙ
//
// SQLite has one writer anyway; making it one goroutine turns lock contention into a queue and
// one fsync per change into one per group. A closure that fails, panics, or whose context ended
// before its turn is undone alone. A failure of the disk (full, I/O) undoes the whole group and
// each caller hears KindUnavailable: nothing was done. Closures use the writer's own context:
// a caller's cancellation would interrupt SQLite in the middle and undo its neighbours.
// No closure waits for anything but SQLite.
//
// Readers are a pool of read-only connections; WAL gives each transaction a stable view and
// neither side waits for the other.
//
// # Deltas
//
// Every changed noun becomes a forge.Delta with its full new value, collected per closure, dropped
// with it, and handed to Options.OnCommit in commit order, before the callers are acknowledged: who
// has been told "done" finds it in the world. OnCommit runs on the writer's goroutine and must
// not call back into the store. Values in deltas are built from the very rows that were written, so that World (a
// fresh read) folded with deltas equals a later fresh read; a property test holds it so. Runs
// and attempts share the maps of their specs with a cache: whoever gets one must not change them.
//
// # What the schema itself refuses
//
// Two open attempts of a run (invariant 2), a slot held twice (3), two versions of a model in
// production, a terminal run that moves, an attempt that goes back (7), an event that changes,
// a version that does not grow. Code checks first, to say it better; the constraints are there for
// the day when the code is wrong.
//
// # Tenants
//
// Request handlers get a Tenant (DB.For) and nothing else; each of its statements carries
// tenant = ?. Another tenant's id answers exactly as one that does not exist. Methods of DB
// are for the daemon's own loops.
//
// # Driver
//
// github.com/mattn/go-sqlite3, chosen by measuring (bench_driver_test.go); forged has cgo anyway. Its errors are
// turned into forge.Kind by their codes, in error.go alone, never by their text.
package store
