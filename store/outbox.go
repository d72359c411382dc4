package store

import (
	"context"
	"strings"
	"time"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

// OutboxKind says what is still to be done for an attempt.
type OutboxKind string

// The kinds of outbox rows.
const (
	OutboxLaunch OutboxKind = "launch" // hand it to its executor
	OutboxSignal OutboxKind = "signal" // tell it the intent
	OutboxFinish OutboxKind = "finish" // verify and register what it left, then end it

	OutboxPriority OutboxKind = "priority" // tell the cluster's own queue what its run is worth now
)

// OutboxRow is work that a committed decision asks for. It is written in the decision's own transaction
// and goes when the work is done: a crash between deciding and doing loses nothing.
type OutboxRow struct {
	ID        int64
	Kind      OutboxKind
	Run       forge.RunID
	Attempt   int
	Intent    forge.Intent // of a signal
	CreatedAt time.Time
	Tries     int
}

type outboxRow struct {
	bun.BaseModel `bun:"table:outbox,alias:o"`

	ID        int64        `bun:"id,pk,autoincrement"`
	Kind      OutboxKind   `bun:"kind"`
	Run       forge.RunID  `bun:"run"`
	Attempt   int          `bun:"attempt"`
	Intent    forge.Intent `bun:"intent"`
	CreatedAt stamp        `bun:"created_at"`
	Tries     int          `bun:"tries"`
}

var columnsOfOutbox = []string{"id", "kind", "run", "attempt", "intent", "created_at", "tries"}

func (r *outboxRow) columns() []any {
	return []any{&r.ID, (*string)(&r.Kind), (*string)(&r.Run), &r.Attempt, (*string)(&r.Intent), (*int64)(&r.CreatedAt), &r.Tries}
}

// Outbox lists what is to be done, oldest first. It is read for nearly every launch and end, with thousands in it.
func (db *DB) Outbox(ctx context.Context) ([]OutboxRow, error) {
	result, err := db.sqlRead.QueryContext(ctx, "SELECT "+strings.Join(columnsOfOutbox, ", ")+" FROM outbox ORDER BY id")
	if err != nil {
		return nil, classify("outbox.list", err)
	}
	rows, err := scanned(result, (*outboxRow).columns)
	if err != nil {
		return nil, classify("outbox.list", err)
	}
	return nouns(rows, func(r *outboxRow) (OutboxRow, error) {
		return OutboxRow{ID: r.ID, Kind: r.Kind, Run: r.Run, Attempt: r.Attempt, Intent: r.Intent, CreatedAt: r.CreatedAt.time(), Tries: r.Tries}, nil
	})
}

// OutboxHas says whether a row is still there.
func (db *DB) OutboxHas(ctx context.Context, id int64) (bool, error) {
	var there bool
	err := db.sqlRead.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM outbox WHERE id = ?)`, id).Scan(&there)
	return there, classify("outbox.has", err)
}

// OutboxDone removes a row whose work is done. A row that is gone or was replaced (a stronger
// signal has a new id) is no error.
func (db *DB) OutboxDone(ctx context.Context, id int64) error {
	return db.write(ctx, "outbox.done", func(t *tx) error { return t.outboxDone(id) })
}

// OutboxTried counts a try that did not succeed.
func (db *DB) OutboxTried(ctx context.Context, id int64) error {
	return db.write(ctx, "outbox.tried", func(t *tx) error {
		_, err := t.exec(`UPDATE outbox SET tries = tries + 1 WHERE id = ?`, id)
		return err
	})
}

func (t *tx) outboxDone(id int64) error {
	_, err := t.exec(`DELETE FROM outbox WHERE id = ?`, id)
	return err
}

// outbox asks for work. A row of the same kind that waits for the same attempt is replaced under a new id: whoever
// works on the old one and reports it done must not take the stronger signal with it.
func (t *tx) outbox(kind OutboxKind, run forge.RunID, attempt int, intent forge.Intent) error {
	_, err := t.exec(`INSERT OR REPLACE INTO outbox (kind, run, attempt, intent, created_at) VALUES (?, ?, ?, ?, ?)`,
		string(kind), string(run), attempt, string(intent), int64(stampOf(t.now)))
	return err
}

// dropOutbox forgets what was to be done for an attempt that is past it.
func (t *tx) dropOutbox(run forge.RunID, attempt int) error {
	_, err := t.exec(`DELETE FROM outbox WHERE run = ? AND attempt = ?`, string(run), attempt)
	return err
}
