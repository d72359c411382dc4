package daemon

import (
	"context"
	"sync"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/crash"
	"github.com/forge-ml/forge-ml/store"
)

// The outbox is what was decided and is not yet done. Its rows are written in the transaction
// of the decision, and stay until they are done: a crash between the two loses nothing.
const (
	outboxEvery   = 2 * time.Second // rows that could not be done are tried again
	outboxMaxGap  = 100 * time.Millisecond
	execTimeout   = 30 * time.Second // of one call to an executor
	worldPatience = time.Second      // from a commit to its deltas

	// Rows mostly wait for commits that they share, so that many at once cost little. What may take long, hashing what a run left, has workers
	// of its own, and a batch system is not asked by more at once than it can stand.
	startWorkers  = 64
	finishWorkers = 32
	batchWorkers  = 16
)

func (d *Daemon) outboxLoop(ctx context.Context) {
	tick := time.NewTicker(outboxEvery)
	defer tick.Stop()
	w := newOutboxWork(d)
	for {
		began := time.Now()
		w.step(ctx)
		// Each end of an attempt asks for a look, and each look reads all rows: with thousands of them that takes at most one part of
		// planShare of the time.
		gap := min((planShare-1)*time.Since(began), outboxMaxGap)
		select {
		case <-ctx.Done():
			w.wg.Wait()
			return
		case <-time.After(gap):
		}
		select {
		case <-ctx.Done():
			w.wg.Wait()
			return
		case <-d.kickOutbox:
		case <-tick.C:
		}
	}
}

type outboxWork struct {
	d             *Daemon
	start, finish lane
	wg            sync.WaitGroup
	mu            sync.Mutex
	busy          map[int64]bool
}

func newOutboxWork(d *Daemon) *outboxWork {
	return &outboxWork{d: d, start: lane{most: startWorkers}, finish: lane{most: finishWorkers}, busy: map[int64]bool{}}
}

// lane is rows in the order in which they came, and how many are worked on at once.
type lane struct {
	most, working int
	rows          []store.OutboxRow
}

// step hands out every row that nobody works on. Rows of different attempts go side by side; the
// slow hashing of one finished run keeps no launch waiting.
func (w *outboxWork) step(ctx context.Context) {
	rows, err := w.d.db.Outbox(ctx)
	if err != nil {
		if ctx.Err() == nil {
			w.d.log.Error().Err(err).Msg("outbox not read")
		}
		return
	}
	w.d.unhanded.keep(rows)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, row := range rows {
		if w.busy[row.ID] {
			continue
		}
		w.busy[row.ID] = true
		l := &w.start
		if row.Kind == store.OutboxFinish {
			l = &w.finish
		}
		l.rows = append(l.rows, row)
		if l.working < l.most {
			l.working++
			w.wg.Go(func() { w.serve(ctx, l) })
		}
	}
}

// serve works until its lane is empty.
func (w *outboxWork) serve(ctx context.Context, l *lane) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(l.rows) > 0 && ctx.Err() == nil {
		row := l.rows[0]
		l.rows = l.rows[1:]
		w.mu.Unlock()
		w.do(ctx, row)
		w.mu.Lock()
		delete(w.busy, row.ID)
	}
	l.working--
}

func (w *outboxWork) do(ctx context.Context, row store.OutboxRow) {
	err := w.d.work(ctx, row)
	if err == nil || ctx.Err() != nil {
		return
	}
	a, _ := w.d.world.attempt(row.Run)
	log := w.d.attemptLog(forge.Attempt{Run: row.Run, Number: row.Attempt, Cluster: a.Cluster})
	e := log.Warn()
	if forge.KindOf(err) == forge.KindConflict { // it moved on while we looked
		e = log.Debug()
	}
	e.Err(err).Str("kind", string(row.Kind)).Msg("outbox row not done; it stays")
	w.d.unhanded.failed(row, err)
	_ = w.d.db.OutboxTried(ctx, row.ID)
}

// work does one row. An error leaves the row for the next step.
func (d *Daemon) work(ctx context.Context, row store.OutboxRow) error {
	a, ok, err := d.attemptOf(ctx, row)
	if err != nil || !ok {
		return err
	}
	if a.Number > row.Attempt { // superseded: nothing is left to do
		return d.db.OutboxDone(ctx, row.ID)
	}
	c, ok := d.live().clusters[a.Cluster]
	if !ok {
		return forge.Errorf(forge.KindUnavailable, "outbox", "cluster %q is not configured any more; its attempts stay as they are", a.Cluster)
	}
	switch row.Kind {
	case store.OutboxLaunch:
		return d.launch(ctx, c, a, row)
	case store.OutboxSignal:
		return d.signal(ctx, c, a, row)
	case store.OutboxFinish:
		return d.finish(ctx, c, a, row)
	case store.OutboxPriority:
		return d.renice(ctx, c, a, row)
	}
	return forge.Errorf(forge.KindInternal, "outbox", "row %d has unknown kind %q", row.ID, row.Kind)
}

// attemptOf is the attempt of a row as the world knows it. The row comes from the tables, where a commit
// shows before its deltas reach the world: a row that the world does not know yet is waited for. To
// take it for one of an attempt that is past would lose a launch, and with it a run and its GPUs, for
// good. Rows of an attempt that is past leave the tables in the transaction that ends it: one that is there no more asks for nothing, and
// ok is false. (To wait for it all the same would be a second for each of the thousands that one plan asks to stop and that end by themselves.)
func (d *Daemon) attemptOf(ctx context.Context, row store.OutboxRow) (a forge.Attempt, ok bool, err error) {
	deadline := time.Now().Add(worldPatience)
	for gap := time.Millisecond; ; gap *= 2 {
		a, known := d.world.attempt(row.Run)
		if known && (a.Number > row.Attempt || a.Number == row.Attempt && (row.Kind != store.OutboxFinish || !a.State.Open())) {
			return a, true, nil
		}
		if there, err := d.db.OutboxHas(ctx, row.ID); err != nil || !there {
			return a, false, err
		}
		if time.Now().After(deadline) {
			return a, false, forge.Errorf(forge.KindConflict, "outbox", "attempt %d is past, or not known yet", row.Attempt)
		}
		select {
		case <-time.After(gap):
		case <-ctx.Done():
			return a, false, ctx.Err()
		}
	}
}

// signal passes on what the row's transaction recorded as our intent.
func (d *Daemon) signal(ctx context.Context, c *Cluster, a forge.Attempt, row store.OutboxRow) error {
	if !a.State.Open() {
		return d.db.OutboxDone(ctx, row.ID)
	}
	if a.ExternalID == "" {
		return nil // launch.go sees the intent before it submits; if it has submitted, the id is about to come, and launch.go asks for this row again
	}
	kind := forge.SignalCheckpoint
	switch row.Intent {
	case forge.IntentCheckpointLimit:
		kind = forge.SignalLimit
	case forge.IntentCancel:
		kind = forge.SignalCancel
	case forge.IntentKill:
		kind = forge.SignalKill
	}
	cctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	crash.At("signal.before")
	if err := c.Executor.Signal(cctx, a.ExternalID, kind); err != nil {
		return err
	}
	crash.At("signal.after")
	return d.db.OutboxDone(ctx, row.ID)
}
