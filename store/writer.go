package store

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	sqlite3 "github.com/mattn/go-sqlite3"
	"github.com/oklog/ulid/v2"
	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/crash"
)

// job is one caller's closure on its way through the writer.
type job struct {
	ctx    context.Context
	op     string
	fn     func(*tx) error
	deltas []forge.Delta
	err    error
	done   chan struct{}
}

// writer owns the only connection that writes.
type writer struct {
	db   *DB
	conn bun.Conn
	ids  ids

	mu     sync.RWMutex // held shared while a job is queued, so that stop cannot strand one
	closed bool
	queue  chan *job
	plans  chan *job // batches of plans, which go first: until they are written GPUs stand still
	ended  chan struct{}

	commits, closures atomic.Int64
	spent             atomic.Int64 // nanoseconds in COMMIT
	failing           atomic.Bool
}

func newWriter(db *DB, conn bun.Conn) *writer {
	return &writer{db: db, conn: conn, queue: make(chan *job, maxGroup), plans: make(chan *job), ended: make(chan struct{}), ids: newIDs()}
}

func (w *writer) prepare(ctx context.Context, now time.Time) error {
	// Savepoints keep what they may have to undo in a side journal; in memory, not in /tmp.
	for _, pragma := range []string{"PRAGMA temp_store = MEMORY", fmt.Sprintf("PRAGMA journal_size_limit = %d", walLimit)} {
		if _, err := w.conn.Conn.ExecContext(ctx, pragma); err != nil {
			return err
		}
	}
	all, err := loadMigrations(migrationFiles)
	if err != nil {
		return err
	}
	if err := checkBeforeMigration(ctx, w.conn.Conn, w.db.path, all); err != nil {
		return err
	}
	return migrate(ctx, w.conn.Conn, all, now)
}

// write runs fn in the next group. Nil means: committed and on the disk. The closure must do all
// its statements through the tx and must be done with it when it returns.
func (db *DB) write(ctx context.Context, op string, fn func(*tx) error) error {
	return db.writeIn(ctx, db.writer.queue, op, fn)
}

func (db *DB) writeIn(ctx context.Context, queue chan<- *job, op string, fn func(*tx) error) error {
	j := &job{ctx: ctx, op: op, done: make(chan struct{}), fn: func(t *tx) error {
		if err := fn(t); err != nil {
			return err
		}
		crash.At(op + ".before_commit")
		return nil
	}}
	if err := db.writer.enqueue(queue, j); err != nil {
		return classify(op, err)
	}
	// Not also on ctx: the caller would not know whether its change is in. A group takes milliseconds.
	<-j.done
	if j.err == nil {
		crash.At(op + ".after_commit")
	}
	return classify(op, j.err)
}

func (w *writer) enqueue(queue chan<- *job, j *job) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return forge.Errorf(forge.KindUnavailable, j.op, closedText)
	}
	select {
	case queue <- j:
		return nil
	case <-j.ctx.Done():
		return j.ctx.Err()
	}
}

func (w *writer) stop() {
	w.mu.Lock()
	w.closed = true
	close(w.queue) // nobody is about to send to plans either: that takes mu
	w.mu.Unlock()
	<-w.ended
}

func (w *writer) loop() {
	defer close(w.ended)
	group := make([]*job, 0, maxGroup)
	for {
		if group = w.gather(group[:0]); len(group) == 0 {
			return
		}
		w.run(group)
		for i, j := range group {
			close(j.done)
			group[i] = nil
		}
	}
}

// gather waits for the first of a group and takes all that wait with it; none once the store is closed. Writers that the last commit woke are
// often runnable and not yet queued; yielding to them costs microseconds and saves them an fsync of their own. Beside a batch of a plan only
// some are taken, so that its next batch is not kept waiting by hundreds.
func (w *writer) gather(group []*job) []*job {
	most := maxGroup
	plan := func(j *job) { group, most = append(group, j), min(most, len(group)+1+besidePlan) }
	select {
	case j := <-w.plans:
		plan(j)
	case j, ok := <-w.queue:
		if !ok {
			return nil
		}
		group = append(group, j)
	}
	for {
		before := len(group)
		runtime.Gosched()
		select {
		case j := <-w.plans:
			plan(j)
		default:
		}
		for len(group) < most {
			select {
			case j, ok := <-w.queue:
				if !ok {
					return group
				}
				group = append(group, j)
				continue
			default:
			}
			break
		}
		if len(group) == before || len(group) >= most {
			return group
		}
	}
}

// run takes one group through one transaction and leaves each job's err.
func (w *writer) run(group []*job) {
	// A savepoint is opened in the statement that closes the one before, and one that was rolled
	// back is still open: half the calls into SQLite that a pair for each closure would be.
	if err := w.exec("BEGIN IMMEDIATE; SAVEPOINT closure"); err != nil {
		fail(group, err)
		return
	}
	ran, deltas := 0, []forge.Delta(nil)
	for _, j := range group {
		if j.err = j.ctx.Err(); j.err != nil {
			continue // its caller gave up before its turn
		}
		broken := w.runOne(j)
		if broken != nil {
			w.rollback()
			w.failing.Store(true)
			fail(group, broken)
			return
		}
		ran++
		if j.err == nil {
			deltas = append(deltas, j.deltas...)
		}
	}
	began := time.Now()
	if err := w.commit(len(deltas) > 0); err != nil {
		w.rollback()
		w.failing.Store(true)
		fail(group, err)
		return
	}
	w.spent.Add(int64(time.Since(began)))
	if len(deltas) > 0 {
		w.failing.Store(false)
	}
	w.db.noteInUse()
	w.commits.Add(1)
	w.closures.Add(int64(ran))
	if len(deltas) > 0 {
		w.db.onCommit(deltas)
	}
}

// runOne runs a closure inside the open savepoint and leaves a fresh one open. It returns an error only when the shared transaction
// cannot go on; what is the closure's own stays in j.err.
func (w *writer) runOne(j *job) (broken error) {
	t := &tx{Conn: w.conn, ctx: context.Background(), w: w, now: w.db.now().UTC()}
	j.err = w.guard(j, t)
	if j.err != nil {
		if breaksGroup(j.err) || w.aborted() {
			return j.err
		}
		return w.exec("ROLLBACK TO closure")
	}
	j.deltas = t.deltas
	return w.exec("RELEASE closure; SAVEPOINT closure")
}

// guard turns a panic in a closure into its error: one caller's bug must not stop all writes.
func (w *writer) guard(j *job, t *tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			w.db.log.Error().Str("op", j.op).Any("panic", p).Bytes("stack", debug.Stack()).Msg("a write panicked and was undone")
			err = forge.Errorf(forge.KindInternal, j.op, "panic: %v", p)
		}
	}()
	return j.fn(t)
}

func (w *writer) commit(changed bool) error {
	if !changed {
		return w.exec("RELEASE closure; COMMIT")
	}
	return w.exec("RELEASE closure; UPDATE site SET revision = revision + 1; COMMIT")
}

func (w *writer) exec(stmt string) error {
	_, err := w.conn.Conn.ExecContext(context.Background(), stmt)
	return err
}

// aborted says that SQLite has already rolled the whole transaction back by itself.
func (w *writer) aborted() bool {
	auto := false
	err := w.conn.Raw(func(c any) error {
		auto = c.(*sqlite3.SQLiteConn).AutoCommit()
		return nil
	})
	return auto || err != nil
}

func (w *writer) rollback() {
	if w.aborted() {
		return
	}
	if err := w.exec("ROLLBACK"); err != nil {
		w.db.log.Error().Err(err).Msg("rollback failed")
	}
}

// fail gives every closure of a group the reason why none of it was kept. Whatever broke the
// group is not the fault of most of its members: they may try again.
func fail(group []*job, err error) {
	for _, j := range group {
		if j.err != nil && !breaksGroup(j.err) {
			continue // it had failed by itself before; its own reason says more
		}
		j.err = classify(j.op, err)
		if forge.KindOf(j.err) != forge.KindUnavailable {
			j.err = unavailable(j.op, "the write was undone together with others of its commit", err)
		}
	}
}

// tx is what a closure works with: the writer's connection inside its savepoint.
type tx struct {
	bun.Conn
	ctx    context.Context // never the caller's: see doc.go
	w      *writer
	now    time.Time // one time for all that the closure writes
	deltas []forge.Delta
}

func (t *tx) emit(d forge.Delta) { t.deltas = append(t.deltas, d) }

// sub runs fn in a savepoint of its own inside the closure: when it fails its work and its deltas
// are undone and the closure may go on.
func (t *tx) sub(fn func() error) error {
	mark := len(t.deltas)
	if err := t.w.exec("SAVEPOINT part"); err != nil {
		return err
	}
	err := fn()
	if err != nil {
		t.deltas = t.deltas[:mark]
		if breaksGroup(err) {
			return err
		}
		if rerr := t.w.exec("ROLLBACK TO part"); rerr != nil {
			return rerr
		}
	}
	if rerr := t.w.exec("RELEASE part"); rerr != nil {
		return rerr
	}
	return err
}

// exec runs one statement with bound values and returns how many rows it changed.
func (t *tx) exec(query string, args ...any) (int64, error) {
	res, err := t.Conn.Conn.ExecContext(t.ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// one reads a single row with bound values; sql.ErrNoRows when there is none.
func (t *tx) one(query string, args []any, dest ...any) error {
	return t.Conn.Conn.QueryRowContext(t.ctx, query, args...).Scan(dest...)
}

// snapshot runs fn in one read transaction: all that it reads is of one moment.
func (db *DB) snapshot(ctx context.Context, op string, fn func(bun.Tx) error) error {
	return classify(op, db.read.RunInTx(ctx, &sql.TxOptions{ReadOnly: true}, func(_ context.Context, t bun.Tx) error { return fn(t) }))
}

// ids makes ULIDs that only grow, also when the clock goes back. The writer's goroutine alone
// uses it, so that ids sort by commit order.
type ids struct {
	entropy *ulid.MonotonicEntropy
	last    uint64
}

func newIDs() ids { return ids{entropy: ulid.Monotonic(randomSource{}, 0)} }

func (g *ids) next(now time.Time) string {
	g.last = max(g.last, ulid.Timestamp(now))
	id, err := ulid.New(g.last, g.entropy)
	for err != nil { // the monotonic part overflowed inside this millisecond: take the next
		g.last++
		id, err = ulid.New(g.last, g.entropy)
	}
	return id.String()
}

// randomSource feeds ULIDs; they are names, not secrets, so the runtime's seeded generator does.
type randomSource struct{}

func (randomSource) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(rand.Uint32())
	}
	return len(p), nil
}
