package store

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

type scheduleRow struct {
	bun.BaseModel `bun:"table:schedules,alias:s"`

	ID           forge.ScheduleID       `bun:"id,pk"`
	Tenant       forge.TenantID         `bun:"tenant"`
	Name         string                 `bun:"name"`
	Cron         string                 `bun:"cron"`
	TZ           string                 `bun:"tz"`
	What         string                 `bun:"what"`
	Baseline     string                 `bun:"baseline"`
	Overlap      forge.OverlapPolicy    `bun:"overlap"`
	CatchUp      forge.CatchUpPolicy    `bun:"catch_up"`
	OnRegression forge.RegressionPolicy `bun:"on_regression"`
	UserID       forge.UserID           `bun:"user_id"`
	User         string                 `bun:"user_name"`
	Role         forge.Role             `bun:"role"`
	CreatedAt    stamp                  `bun:"created_at"`
	PausedAt     stamp                  `bun:"paused_at"`
	RemovedAt    stamp                  `bun:"removed_at"`
	Decided      stamp                  `bun:"decided"`
}

func (r *scheduleRow) forge() forge.Schedule {
	return forge.Schedule{ID: r.ID, Tenant: r.Tenant, Name: r.Name, Cron: r.Cron, TZ: r.TZ, What: []byte(r.What), Baseline: r.Baseline, Overlap: r.Overlap, CatchUp: r.CatchUp,
		OnRegression: r.OnRegression, User: r.User, UserID: r.UserID, Role: r.Role, CreatedAt: r.CreatedAt.time(), PausedAt: r.PausedAt.time(), Decided: r.Decided.time()}
}

func (r *scheduleRow) place(order string) []any {
	if order == "name" {
		return []any{r.Name}
	}
	return []any{r.CreatedAt, r.ID}
}

// AddSchedule makes a schedule, which is due from now on. KindConflict when the name is taken.
func (t *Tenant) AddSchedule(ctx context.Context, s forge.Schedule) (forge.Schedule, error) {
	const op = "schedule.add"
	var row *scheduleRow
	err := t.db.write(ctx, op, func(tx *tx) error {
		return tx.once(t.p, func() (string, error) {
			if err := forge.CheckName(s.Name); err != nil {
				return "", forge.Invalidf("name", "%w", err).WithOp(op)
			}
			if _, err := tx.schedule(t.p.Tenant, s.Name); err == nil {
				return "", (&forge.Error{Kind: forge.KindConflict, Op: op, Field: "name", Err: fmt.Errorf("there is a schedule %q already", s.Name)}).
					WithHint("forgectl schedule show %s; another one needs another --name", s.Name)
			} else if forge.KindOf(err) != forge.KindNotFound {
				return "", err
			}
			row = &scheduleRow{ID: forge.ScheduleID(tx.id()), Tenant: t.p.Tenant, Name: s.Name, Cron: clean(s.Cron), TZ: s.TZ, What: clean(string(s.What)), Baseline: clean(s.Baseline),
				Overlap: s.Overlap, CatchUp: s.CatchUp, OnRegression: s.OnRegression, UserID: t.p.UserID, User: clean(t.p.Actor()), Role: s.Role, CreatedAt: stampOf(tx.now), Decided: stampOf(tx.now)}
			if _, err := tx.NewInsert().Model(row).Exec(tx.ctx); err != nil {
				return "", err
			}
			return string(row.ID), tx.scheduleEvent(row, t.p, forge.EventScheduleAdded, "", fmt.Sprintf("made: %s in %s", s.Cron, s.TZ))
		}, func(ref string) (err error) { row, err = tx.scheduleByID(t.p.Tenant, ref); return err })
	})
	if err != nil {
		return forge.Schedule{}, err
	}
	return row.forge(), nil
}

func (t *tx) scheduleEvent(r *scheduleRow, p forge.Principal, typ forge.EventType, reason, what string) error {
	return t.event(forge.Event{Tenant: r.Tenant, Actor: p.Actor(), Type: typ, Reason: reason, Message: "schedule " + r.Name + " " + what,
		Data: map[string]any{"schedule": r.Name}})
}

func (t *tx) schedule(tenant forge.TenantID, name string) (*scheduleRow, error) {
	r := &scheduleRow{}
	err := t.NewSelect().Model(r).Where("s.tenant = ?", tenant).Where("s.name = ?", clean(name)).Where("s.removed_at = 0").Scan(t.ctx)
	return r, orNoSchedule(err, name)
}

// scheduleByID finds one that was taken away, too.
func (t *tx) scheduleByID(tenant forge.TenantID, id string) (*scheduleRow, error) {
	r := &scheduleRow{}
	err := t.NewSelect().Model(r).Where("s.tenant = ?", tenant).Where("s.id = ?", clean(id)).Scan(t.ctx)
	return r, orNoSchedule(err, id)
}

func orNoSchedule(err error, name string) error {
	if absent(err) {
		return notFound("schedule.show", "there is no schedule %q", name).WithHint("forgectl schedule list")
	}
	return err
}

// ScheduleChange is what to do to a schedule.
type ScheduleChange string

// The changes.
const (
	ScheduleRemove ScheduleChange = "remove"
	SchedulePause  ScheduleChange = "pause"
	ScheduleResume ScheduleChange = "resume" // due from now on: what passed meanwhile was not missed
	ScheduleClear  ScheduleChange = "clear"  // its regressions block nothing any more
)

// ChangeSchedule changes a schedule of the tenant. KindNotFound; KindPrecondition for what is so already, and for the removal of one that
// blocks a version.
func (t *Tenant) ChangeSchedule(ctx context.Context, name string, c ScheduleChange, reason string) (forge.Schedule, error) {
	op := "schedule." + string(c)
	var row *scheduleRow
	err := t.db.write(ctx, op, func(tx *tx) error {
		return tx.once(t.p, func() (string, error) {
			var err error
			if row, err = tx.schedule(t.p.Tenant, name); err != nil {
				return "", err
			}
			return string(row.ID), tx.changeSchedule(t.p, row, c, op, reason)
		}, func(ref string) (err error) { row, err = tx.scheduleByID(t.p.Tenant, ref); return err })
	})
	if err != nil {
		return forge.Schedule{}, err
	}
	return row.forge(), nil
}

func (t *tx) changeSchedule(p forge.Principal, r *scheduleRow, c ScheduleChange, op, reason string) error {
	typ, what := forge.EventScheduleChanged, ""
	switch c {
	case ScheduleRemove:
		blocked, err := t.blockedBy(r.ID)
		if err != nil {
			return err
		}
		if len(blocked) > 0 {
			return forge.Errorf(forge.KindPrecondition, op, "schedule %s blocks %s", r.Name, blocked[0]).
				WithHint("an admin lets go of it first: forgectl schedule clear %s --reason …; forgectl schedule pause %s stops it meanwhile", r.Name, r.Name)
		}
		r.RemovedAt, typ, what = stampOf(t.now), forge.EventScheduleRemoved, "removed"
	case SchedulePause:
		if r.PausedAt != 0 {
			return forge.Errorf(forge.KindPrecondition, op, "schedule %s is paused already, since %s", r.Name, r.PausedAt.time().Format(time.RFC3339))
		}
		r.PausedAt, what = stampOf(t.now), "paused"
	case ScheduleResume:
		if r.PausedAt == 0 {
			return forge.Errorf(forge.KindPrecondition, op, "schedule %s is not paused", r.Name)
		}
		r.PausedAt, r.Decided, what = 0, stampOf(t.now), "goes on"
	case ScheduleClear:
		n, err := t.exec(`UPDATE schedule_firings SET cleared = ? WHERE schedule = ? AND verdict = 'regressed' AND cleared = ''`, clean(p.Actor()), string(r.ID))
		if err != nil {
			return err
		}
		if n == 0 {
			return forge.Errorf(forge.KindPrecondition, op, "schedule %s has found no regression that is not cleared", r.Name)
		}
		what = fmt.Sprintf("cleared of %d regressions: %s", n, clean(reason))
		if n == 1 {
			what = "cleared of a regression: " + clean(reason)
		}
	}
	if _, err := t.NewUpdate().Model(r).Column("paused_at", "removed_at", "decided").WherePK().Exec(t.ctx); err != nil {
		return err
	}
	return t.scheduleEvent(r, p, typ, string(c), what)
}

// Schedules lists the tenant's schedules with their newest firings, and says where the next page begins.
func (t *Tenant) Schedules(ctx context.Context, l Listing) ([]forge.Schedule, string, error) {
	const op = "schedule.list"
	var rows []scheduleRow
	q := startsWith(t.db.read.NewSelect().Model(&rows).Where("s.tenant = ?", t.p.Tenant).Where("s.removed_at = 0"), "s.name", l.Name)
	next, err := pageOf(ctx, t, op, l, namedOrders("s"), q, &rows)
	if err != nil {
		return nil, "", err
	}
	all := make([]forge.Schedule, len(rows))
	for i := range rows {
		if all[i], err = t.withLast(ctx, rows[i].forge()); err != nil {
			return nil, "", err
		}
	}
	return all, next, nil
}

// Schedule shows a schedule of the tenant, by its name. KindNotFound.
func (t *Tenant) Schedule(ctx context.Context, name string) (forge.Schedule, error) {
	return t.oneSchedule(ctx, name, func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("s.name = ?", clean(name)).Where("s.removed_at = 0")
	})
}

// ScheduleByID shows one that was taken away, too.
func (t *Tenant) ScheduleByID(ctx context.Context, id forge.ScheduleID) (forge.Schedule, error) {
	return t.oneSchedule(ctx, string(id), func(q *bun.SelectQuery) *bun.SelectQuery { return q.Where("s.id = ?", clean(string(id))) })
}

func (t *Tenant) oneSchedule(ctx context.Context, name string, where func(*bun.SelectQuery) *bun.SelectQuery) (forge.Schedule, error) {
	r := scheduleRow{}
	err := where(t.db.read.NewSelect().Model(&r).Where("s.tenant = ?", t.p.Tenant)).Scan(ctx)
	if err = orNoSchedule(err, name); err != nil {
		return forge.Schedule{}, classify("schedule.show", err)
	}
	return t.withLast(ctx, r.forge())
}

func (t *Tenant) withLast(ctx context.Context, s forge.Schedule) (forge.Schedule, error) {
	last, err := t.Firings(ctx, s.ID, 1)
	if err != nil {
		return s, err
	}
	if len(last) > 0 {
		s.Last = &last[0]
	}
	blocks, err := t.Blocks(ctx, "", s.ID)
	for _, b := range blocks {
		s.Blocks = append(s.Blocks, b.Model)
	}
	return s, err
}

// Firings lists the newest firings of a schedule, newest first.
func (t *Tenant) Firings(ctx context.Context, id forge.ScheduleID, limit int) ([]forge.Firing, error) {
	all, err := firings(ctx, t.db, selectFirings+` WHERE s.tenant = ? AND f.schedule = ? ORDER BY f.seq DESC LIMIT ?`, string(t.p.Tenant), clean(string(id)), cmp.Or(limit, 1))
	out := make([]forge.Firing, len(all))
	for i := range all {
		out[i] = all[i].Firing
	}
	return out, classify("schedule.show", err)
}

// DueSchedules are all that may become due, of every tenant.
func (db *DB) DueSchedules(ctx context.Context) ([]forge.Schedule, error) {
	var rows []scheduleRow
	if err := db.read.NewSelect().Model(&rows).Where("s.removed_at = 0").Where("s.paused_at = 0").Order("s.id").Scan(ctx); err != nil {
		return nil, classify("schedule.due", err)
	}
	return nouns(rows, func(r *scheduleRow) (forge.Schedule, error) { return r.forge(), nil })
}

// ScheduleMaker is who made a schedule, as that user is now; an operator's user is of another tenant.
func (db *DB) ScheduleMaker(ctx context.Context, s forge.Schedule) (forge.User, error) {
	u := userRow{}
	err := db.read.NewSelect().Model(&u).Where("u.id = ?", clean(string(s.UserID))).Scan(ctx)
	return u.forge(), classify("schedule.due", err)
}

// ScheduleDecided says up to when a schedule is decided: earlier than before, where a clock was set back. What has fired does not fire again.
func (db *DB) ScheduleDecided(ctx context.Context, id forge.ScheduleID, at time.Time) error {
	return db.write(ctx, "schedule.decided", func(t *tx) error {
		_, err := t.exec(`UPDATE schedules SET decided = ? WHERE id = ?`, int64(stampOf(at)), string(id))
		return err
	})
}
