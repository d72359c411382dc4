package store

import (
	"context"
	"slices"
	"time"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

const (
	actorForged       = "forged"
	defaultEventLimit = 500
	maxEventLimit     = 10_000
)

type eventRow struct {
	bun.BaseModel `bun:"table:events,alias:e"`

	Seq     int64           `bun:"seq,pk,autoincrement"`
	Time    stamp           `bun:"time"`
	Tenant  forge.TenantID  `bun:"tenant,nullzero"`
	Actor   string          `bun:"actor"`
	Type    forge.EventType `bun:"type"`
	Run     forge.RunID     `bun:"run,nullzero"`
	Number  int64           `bun:"number"`
	Attempt int             `bun:"attempt"`
	Reason  string          `bun:"reason"`
	Message string          `bun:"message"`
	Data    string          `bun:"data"`
}

func (r eventRow) forge() (forge.Event, error) {
	e := forge.Event{Seq: r.Seq, Time: r.Time.time(), Tenant: r.Tenant, Actor: r.Actor, Type: r.Type, Run: r.Run,
		Number: r.Number, Attempt: r.Attempt, Reason: r.Reason, Message: r.Message}
	return e, decode(r.Data, &e.Data)
}

// event appends an audit line. Time and actor are filled in where they are not given.
func (t *tx) event(e forge.Event) error {
	if e.Time.IsZero() {
		e.Time = t.now
	}
	if e.Actor == "" {
		e.Actor = actorForged
	}
	// What is told to the world is what a read of the row would give.
	e.Actor, e.Reason, e.Message = clean(e.Actor), clean(e.Reason), clean(e.Message)
	data, err := encode(len(e.Data), e.Data)
	if err != nil {
		return forge.Errorf(forge.KindInternal, "event.add", "data of event %s: %w", e.Type, err)
	}
	res, err := t.Conn.Conn.ExecContext(t.ctx, `INSERT INTO events (time, tenant, actor, type, run, number, attempt, reason, message, data)
		VALUES (?, nullif(?, ''), ?, ?, nullif(?, ''), ?, ?, ?, ?, ?)`, int64(stampOf(e.Time)), string(e.Tenant), e.Actor, string(e.Type),
		string(e.Run), e.Number, e.Attempt, e.Reason, e.Message, data)
	if err != nil {
		return err
	}
	if e.Seq, err = res.LastInsertId(); err != nil {
		return err
	}
	e.Time = stampOf(e.Time).time()
	t.emit(forge.Delta{Event: &e})
	return nil
}

// runEvent appends an audit line about a run.
func (t *tx) runEvent(r *runRow, e forge.Event) error {
	e.Tenant, e.Run, e.Number = r.Tenant, r.ID, r.Number
	return t.event(e)
}

// AddEvent appends an audit line that no other change writes by itself. Seq is given by the store.
// KindPrecondition when the tenant or run that it names does not exist.
func (db *DB) AddEvent(ctx context.Context, e forge.Event) error {
	return db.write(ctx, "event.add", func(t *tx) error { return t.event(e) })
}

// EventFilter narrows the trail; the zero value is all that the principal may see.
type EventFilter struct {
	After int64 // only greater seqs
	Run   forge.RunID
	Types []forge.EventType // any of these; empty: every type
	Actor string
	Since time.Time // at or after
}

// Events returns at most limit events with Seq > f.After, oldest first. Operators also see what concerns the site
// and no tenant, but not among the events of a run.
func (t *Tenant) Events(ctx context.Context, f EventFilter, limit int) ([]forge.Event, error) {
	if limit <= 0 {
		limit = defaultEventLimit
	}
	var rows []eventRow
	q := t.db.read.NewSelect().Model(&rows).Where("e.seq > ?", f.After).Order("e.seq").Limit(int64(min(limit, maxEventLimit)))
	switch {
	case f.Run != "":
		q = q.Where("e.run = ?", clean(string(f.Run))).Where("e.tenant = ?", t.p.Tenant)
	case t.p.Role == forge.RoleOperator:
		q = q.Where("(e.tenant = ? OR e.tenant IS NULL)", t.p.Tenant)
	default:
		q = q.Where("e.tenant = ?", t.p.Tenant)
	}
	if len(f.Types) > 0 {
		q = q.Where("e.type IN (?)", bun.List(f.Types))
	}
	if f.Actor != "" {
		q = q.Where("e.actor = ?", clean(f.Actor))
	}
	if !f.Since.IsZero() {
		q = q.Where("e.time >= ?", stampOf(f.Since))
	}
	if err := q.Scan(ctx); err != nil {
		return nil, classify("event.list", err)
	}
	events := make([]forge.Event, 0, len(rows))
	for _, r := range rows {
		e, err := r.forge()
		if err != nil {
			return nil, classify("event.list", err)
		}
		events = append(events, e)
	}
	return events, nil
}

// Sees says of an event in memory what Events asks of the tables: whether it is the principal's to see and in
// the filter. A test holds the two to each other; a tenant must not see more of an event because it is
// fresh.
func (t *Tenant) Sees(f EventFilter, e *forge.Event) bool {
	switch {
	case e.Seq <= f.After, t.p.Tenant == "":
		return false
	case f.Run != "":
		if e.Run != f.Run || e.Tenant != t.p.Tenant {
			return false
		}
	case e.Tenant == "":
		if t.p.Role != forge.RoleOperator {
			return false
		}
	case e.Tenant != t.p.Tenant:
		return false
	}
	return (len(f.Types) == 0 || slices.Contains(f.Types, e.Type)) && (f.Actor == "" || e.Actor == f.Actor) &&
		(f.Since.IsZero() || !e.Time.Before(f.Since))
}
