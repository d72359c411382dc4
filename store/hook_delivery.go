package store

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

// HookAtWork is a hook with what the daemon's loop needs beside it.
type HookAtWork struct {
	forge.Hook
	TenantName string // empty: the site's
	Cursor     int64  // seq of the last event that was looked at
}

// HooksAtWork are all hooks that are neither removed nor paused, of everybody.
func (db *DB) HooksAtWork(ctx context.Context) ([]HookAtWork, error) {
	const op = "hook.work"
	var rows []hookRow
	err := selectHooks(db.read.NewSelect(), &rows).ColumnExpr("coalesce(t.name, '') AS tenant_name").Join("LEFT JOIN tenants AS t ON t.id = h.tenant").
		Where("h.paused_at = 0").Order("h.id").Scan(ctx)
	if err != nil {
		return nil, classify(op, err)
	}
	all, err := nouns(rows, func(r *hookRow) (HookAtWork, error) {
		h, err := r.forge()
		return HookAtWork{Hook: h, TenantName: r.TenantName, Cursor: r.Cursor}, err
	})
	return all, classify(op, err)
}

// EventsAfter reads the trail of everybody: at most limit events after a seq, oldest first. For the daemon's own loops.
func (db *DB) EventsAfter(ctx context.Context, seq int64, limit int) ([]forge.Event, error) {
	var rows []eventRow
	if err := db.read.NewSelect().Model(&rows).Where("e.seq > ?", seq).Order("e.seq").Limit(int64(limit)).Scan(ctx); err != nil {
		return nil, classify("event.after", err)
	}
	all, err := nouns(rows, func(r *eventRow) (forge.Event, error) { return r.forge() })
	return all, classify("event.after", err)
}

// Heard is how far a hook has looked, and what of it goes to it.
type Heard struct {
	Hook   forge.HookID
	Cursor int64
	Of     []forge.Event
}

// MakeDeliveries moves the cursors of hooks and, in the same transaction, makes the deliveries of what they heard: an event is neither lost nor made
// twice, wherever forged is killed. What is no hook any more, or has looked further, is left alone.
func (db *DB) MakeDeliveries(ctx context.Context, heard []Heard) error {
	return db.write(ctx, "hook.heard", func(t *tx) error {
		for _, h := range heard {
			n, err := t.exec(`UPDATE hooks SET cursor = ? WHERE id = ? AND cursor < ? AND removed_at = 0`, h.Cursor, string(h.Hook), h.Cursor)
			if err != nil {
				return err
			}
			if n == 0 {
				continue
			}
			for _, e := range h.Of {
				if _, err := t.exec(`INSERT OR IGNORE INTO hook_deliveries (id, hook, seq, type, state, made_at) VALUES (?, ?, ?, ?, 'waiting', ?)`,
					t.id(), string(h.Hook), e.Seq, string(e.Type), int64(stampOf(t.now))); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

type deliveryRow struct {
	bun.BaseModel `bun:"table:hook_deliveries,alias:d"`

	ID      string              `bun:"id,pk"`
	Hook    forge.HookID        `bun:"hook"`
	Seq     int64               `bun:"seq"`
	Type    forge.EventType     `bun:"type"`
	State   forge.DeliveryState `bun:"state"`
	Tries   int                 `bun:"tries"`
	MadeAt  stamp               `bun:"made_at"`
	FirstAt stamp               `bun:"first_at"`
	TriedAt stamp               `bun:"tried_at"`
	NextAt  stamp               `bun:"next_at"`
	Status  int                 `bun:"status"`
	TookMS  int64               `bun:"took_ms"`
	Error   string              `bun:"error"`
	Output  string              `bun:"output"`
}

func (r *deliveryRow) forge() (forge.HookDelivery, error) {
	d := forge.HookDelivery{ID: r.ID, Event: r.Seq, Type: r.Type, State: r.State, Tries: r.Tries, MadeAt: r.MadeAt.time(), TriedAt: r.TriedAt.pointer(),
		Status: r.Status, TookMS: r.TookMS, Error: r.Error, Output: r.Output}
	if r.State == forge.DeliveryWaiting {
		d.NextAt = r.NextAt.pointer()
	}
	return d, nil
}

func (r *deliveryRow) place(string) []any { return []any{r.ID} }

// NextDelivery is the delivery of a hook that is to be made now. They are made in the order of the events; one that has failed for holdBack or
// longer does not keep those behind it any more, and is tried again beside them. Nil: none is due, and none will be before wake, which is zero
// where none waits.
func (db *DB) NextDelivery(ctx context.Context, hook forge.HookID, now time.Time, holdBack time.Duration) (d *forge.HookDelivery, e forge.Event, wake time.Time, err error) {
	const op = "hook.next"
	set := stampOf(now.Add(-holdBack)) // tried first before this: set aside
	waiting := func(row *deliveryRow) *bun.SelectQuery {
		return db.read.NewSelect().Model(row).Where("d.hook = ? AND d.state = 'waiting'", hook).Limit(1)
	}
	var head, aside deliveryRow
	if err := waiting(&head).Where("(d.first_at = 0 OR d.first_at > ?)", set).Order("d.seq").Scan(ctx); err != nil && !absent(err) {
		return nil, e, wake, classify(op, err)
	}
	if err := waiting(&aside).Where("d.first_at BETWEEN 1 AND ?", set).Order("d.next_at", "d.seq").Scan(ctx); err != nil && !absent(err) {
		return nil, e, wake, classify(op, err)
	}
	row := &head
	switch due := stampOf(now); {
	case head.ID != "" && head.NextAt <= due:
	case aside.ID != "" && aside.NextAt <= due:
		row = &aside
	case head.ID == "" && aside.ID == "":
		return nil, e, time.Time{}, nil
	case head.ID == "":
		return nil, e, aside.NextAt.time(), nil
	default: // those behind the head may go once it is set aside
		wake := min(head.NextAt, head.FirstAt+stamp(holdBack))
		if aside.ID != "" {
			wake = min(wake, aside.NextAt)
		}
		return nil, e, wake.time(), nil
	}
	var event eventRow
	if err := db.read.NewSelect().Model(&event).Where("e.seq = ?", row.Seq).Scan(ctx); err != nil {
		return nil, e, wake, classify(op, err)
	}
	if e, err = event.forge(); err != nil {
		return nil, e, wake, classify(op, err)
	}
	found, err := row.forge()
	return &found, e, now, err
}

// Tried is how a try came out.
type Tried struct {
	At     time.Time
	Took   time.Duration
	Status int
	Error  string // empty: it was taken
	Output string
	NextAt time.Time // zero, with an error: it is given up
}

// DeliveryTried writes down how a try came out. Of one that is given up the trail says so. A delivery that is gone is no error.
func (db *DB) DeliveryTried(ctx context.Context, id string, r Tried) error {
	return db.write(ctx, "hook.tried", func(t *tx) error {
		row := &deliveryRow{}
		err := t.NewSelect().Model(row).Where("d.id = ?", id).Where("d.state = 'waiting'").Scan(t.ctx)
		if absent(err) {
			return nil
		}
		if err != nil {
			return err
		}
		row.tried(r)
		row.FirstAt = cmp.Or(row.FirstAt, row.TriedAt)
		if _, err := t.NewUpdate().Model(row).WherePK().Exec(t.ctx); err != nil {
			return err
		}
		if err := t.hookTried(row); err != nil || row.State != forge.DeliveryFailed {
			return err
		}
		return t.hookFailed(row.Hook, 1, fmt.Sprintf("event %d (%s) was given up after %d tries: %s", row.Seq, row.Type, row.Tries, row.Error))
	})
}

func (r *deliveryRow) tried(o Tried) {
	r.Tries, r.TriedAt, r.NextAt, r.Status, r.TookMS = r.Tries+1, stampOf(o.At), stampOf(o.NextAt), o.Status, o.Took.Milliseconds()
	r.Error, r.Output = bounded(o.Error, hookErrorBytes), bounded(o.Output, hookOutBytes)
	switch {
	case o.Error == "":
		r.State = forge.DeliveryDone
	case o.NextAt.IsZero():
		r.State = forge.DeliveryFailed
	}
}

// bounded cuts what others wrote, at the front of what does not fit.
func bounded(s string, most int) string {
	if s = clean(s); len(s) > most {
		s = clean(s[:most])
	}
	return s
}

// hookTried keeps beside the hook how its newest try came out.
func (t *tx) hookTried(row *deliveryRow) error {
	var err error
	if row.State == forge.DeliveryDone {
		_, err = t.exec(`UPDATE hooks SET last_ok_at = ?, failing_since = 0, last_error = '' WHERE id = ?`, int64(row.TriedAt), string(row.Hook))
	} else {
		_, err = t.exec(`UPDATE hooks SET failing_since = CASE failing_since WHEN 0 THEN ? ELSE failing_since END, last_error = ? WHERE id = ?`,
			int64(row.TriedAt), row.Error, string(row.Hook))
	}
	return err
}

func (t *tx) hookFailed(hook forge.HookID, n int64, why string) error {
	row := &hookRow{}
	if err := t.NewSelect().Model(row).Where("h.id = ?", hook).Scan(t.ctx); err != nil {
		return err
	}
	return t.event(forge.Event{Tenant: row.Tenant, Type: forge.EventHookFailed, Reason: string(forge.WhyFault), Message: "hook " + row.Name + ": " + why,
		Data: map[string]any{"hook": row.Name, "kind": string(row.Kind), "deliveries": n}})
}

// GiveUpDeliveries ends what has waited since before then, of hooks that are not paused, with one event for each hook; and forgets what ended before
// forget. It says how many it gave up.
func (db *DB) GiveUpDeliveries(ctx context.Context, then, forget time.Time) (n int64, err error) {
	const op = "hook.give_up"
	var old, ended bool
	if err := db.sqlRead.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM hook_deliveries WHERE state = 'waiting' AND made_at < ?),
		EXISTS (SELECT 1 FROM hook_deliveries WHERE state <> 'waiting' AND made_at < ?)`, int64(stampOf(then)), int64(stampOf(forget))).Scan(&old, &ended); err != nil || !old && !ended {
		return 0, classify(op, err)
	}
	err = db.write(ctx, op, func(t *tx) error {
		if _, err := t.exec(`DELETE FROM hook_deliveries WHERE state <> 'waiting' AND made_at < ?`, int64(stampOf(forget))); err != nil {
			return err
		}
		var hooks []struct {
			ID    forge.HookID
			Error string
			N     int64
		}
		if err := t.NewRaw(`SELECT h.id, h.last_error AS error, count(*) AS n FROM hook_deliveries d JOIN hooks h ON h.id = d.hook
			WHERE d.state = 'waiting' AND d.made_at < ? AND h.paused_at = 0 GROUP BY h.id ORDER BY h.id`, stampOf(then)).Scan(t.ctx, &hooks); err != nil {
			return err
		}
		n = 0
		for _, h := range hooks {
			if _, err := t.exec(`UPDATE hook_deliveries SET state = 'failed', error = CASE error WHEN '' THEN 'those before it were not taken in time' ELSE error END
				WHERE hook = ? AND state = 'waiting' AND made_at < ?`, string(h.ID), int64(stampOf(then))); err != nil {
				return err
			}
			if err := t.hookFailed(h.ID, h.N, fmt.Sprintf("%d events were given up, which nobody took in time; the last try: %s", h.N, cmp.Or(h.Error, "none was made"))); err != nil {
				return err
			}
			n += h.N
		}
		return nil
	})
	return n, err
}

// HookBacklog counts the deliveries that are still to be made, of everybody.
func (db *DB) HookBacklog(ctx context.Context) (n int64, err error) {
	err = db.sqlRead.QueryRowContext(ctx, `SELECT count(*) FROM hook_deliveries WHERE state = 'waiting'`).Scan(&n)
	return n, classify("hook.backlog", err)
}

// FailingHooks are the names of hooks of which nothing was taken since before then, the site's and everybody's: for operators alone.
func (db *DB) FailingHooks(ctx context.Context, then time.Time) ([]forge.Hook, error) {
	var rows []hookRow
	err := selectHooks(db.read.NewSelect(), &rows).Where("h.paused_at = 0 AND h.failing_since BETWEEN 1 AND ?", stampOf(then)).Order("h.id").Scan(ctx)
	if err != nil {
		return nil, classify("hook.failing", err)
	}
	return nouns(rows, (*hookRow).forge)
}

// HookDeliveries lists what was sent to a hook and what waits, newest first. KindNotFound; KindForbidden.
func (t *Tenant) HookDeliveries(ctx context.Context, hook string, site bool, l Listing, state forge.DeliveryState) ([]forge.HookDelivery, string, error) {
	const op = "hook.deliveries"
	h, err := t.hookRow(ctx, t.db.read, op, hook, site)
	if err != nil {
		return nil, "", err
	}
	var rows []deliveryRow
	q := t.db.read.NewSelect().Model(&rows).Where("d.hook = ?", h.ID)
	if state != "" {
		q = q.Where("d.state = ?", state)
	}
	next, err := pageOf(ctx, t, op, l, []order{{name: "id", columns: []string{"d.id"}, desc: true}}, q, &rows, string(h.ID), string(state))
	if err != nil {
		return nil, "", err
	}
	all, err := nouns(rows, (*deliveryRow).forge)
	return all, next, err
}

// HookDelivery finds a delivery by its id. KindNotFound, also where its hook is not the principal's to see.
func (t *Tenant) HookDelivery(ctx context.Context, id string) (forge.HookDelivery, error) {
	const op = "hook.delivery"
	row := &deliveryRow{}
	err := t.db.read.NewSelect().Model(row).Where("d.id = ?", clean(id)).Scan(ctx)
	if err == nil {
		_, err = t.RemovedHook(ctx, string(row.Hook))
	}
	switch {
	case absent(err), forge.KindOf(err) == forge.KindNotFound:
		return forge.HookDelivery{}, notFound(op, "there is no such delivery")
	case err != nil:
		return forge.HookDelivery{}, classify(op, err)
	}
	return row.forge()
}

// NewDeliveryID makes the id of a test before it is sent, so that the receiver and the table know it by the same one.
func (db *DB) NewDeliveryID(ctx context.Context) (id string, err error) {
	err = db.write(ctx, "hook.test_id", func(t *tx) error { id = t.id(); return nil })
	return id, err
}

// HookTested writes down how a test came out; whoever repeats its request is answered by that.
func (t *Tenant) HookTested(ctx context.Context, hook string, site bool, id string, r Tried) (forge.HookDelivery, error) {
	const op = "hook.test"
	h, err := t.hookRow(ctx, t.db.read, op, hook, site)
	if err != nil {
		return forge.HookDelivery{}, err
	}
	row := &deliveryRow{ID: id, Hook: h.ID, Type: forge.EventHookTest, MadeAt: stampOf(r.At), FirstAt: stampOf(r.At)}
	row.tried(r)
	err = t.db.write(ctx, op, func(tx *tx) error {
		return tx.once(t.p, func() (string, error) {
			_, err := tx.NewInsert().Model(row).Exec(tx.ctx)
			return row.ID, err
		}, func(ref string) error {
			row = &deliveryRow{}
			return tx.NewSelect().Model(row).Where("d.id = ?", ref).Scan(tx.ctx)
		})
	})
	if err != nil {
		return forge.HookDelivery{}, err
	}
	return row.forge()
}
