package store

import (
	"context"
	"encoding/json"
	"net/url"
	"time"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

const (
	maxHooks       = 100            // of one tenant, and of the site
	hookKeepsFor   = 24 * time.Hour // a hook that was paused for longer goes on with what is no older
	hookErrorBytes = 500
	hookOutBytes   = 4 << 10
)

type hookRow struct {
	bun.BaseModel `bun:"table:hooks,alias:h"`

	ID        forge.HookID   `bun:"id,pk"`
	Tenant    forge.TenantID `bun:"tenant,nullzero"`
	Name      string         `bun:"name"`
	Kind      forge.HookKind `bun:"kind"`
	Target    string         `bun:"target"`
	Events    string         `bun:"events"`
	Pattern   string         `bun:"pattern"`
	Failures  bool           `bun:"failures"`
	CreatedAt stamp          `bun:"created_at"`
	CreatedBy string         `bun:"created_by"`
	Cursor    int64          `bun:"cursor"`
	PausedAt  stamp          `bun:"paused_at"`
	RemovedAt stamp          `bun:"removed_at"`
	LastOKAt  stamp          `bun:"last_ok_at"`
	Failing   stamp          `bun:"failing_since"`
	LastError string         `bun:"last_error"`

	Waiting    int64  `bun:"waiting,scanonly"`
	TenantName string `bun:"tenant_name,scanonly"`
}

func selectHooks(q *bun.SelectQuery, rows any) *bun.SelectQuery {
	return q.Model(rows).ColumnExpr("h.*, (SELECT count(*) FROM hook_deliveries d WHERE d.hook = h.id AND d.state = 'waiting') AS waiting").Where("h.removed_at = 0")
}

func (r *hookRow) forge() (forge.Hook, error) {
	h := forge.Hook{ID: r.ID, Tenant: r.Tenant, Site: r.Tenant == "", Name: r.Name, Kind: r.Kind, Target: r.Target, Match: r.Pattern, Failures: r.Failures,
		CreatedAt: r.CreatedAt.time(), CreatedBy: r.CreatedBy, PausedAt: r.PausedAt.pointer(), Waiting: r.Waiting, LastOKAt: r.LastOKAt.pointer(),
		FailingSince: r.Failing.pointer(), LastError: r.LastError}
	return h, decode(r.Events, &h.On)
}

func (r *hookRow) place(order string) []any {
	if order == "name" {
		return []any{r.Name}
	}
	return []any{r.CreatedAt, r.ID}
}

// hookScope is whose hooks a request is about: the tenant's to its admins, the site's to operators.
func (t *Tenant) hookScope(op string, site bool) error {
	least, what := forge.RoleAdmin, "hooks of a tenant need"
	if site {
		least, what = forge.RoleOperator, "hooks of the site need"
	}
	if t.p.Role.Includes(least) {
		return nil
	}
	return forge.Errorf(forge.KindForbidden, op, "%s the role %s; yours is %s", what, least, t.p.Role).WithHint("forgectl whoami says who you are here")
}

func (t *Tenant) inScope(q *bun.SelectQuery, site bool) *bun.SelectQuery {
	if site {
		return q.Where("h.tenant IS NULL")
	}
	return q.Where("h.tenant = ?", t.p.Tenant)
}

// CreateHook makes a hook of the tenant, or of the site where h.Site says so; it hears of what happens from now on. KindConflict when the name is
// taken; KindPrecondition for more than 100; KindForbidden; KindInvalid for what is no name, event or pattern.
func (t *Tenant) CreateHook(ctx context.Context, h forge.Hook) (made forge.Hook, again bool, err error) {
	const op = "hook.create"
	if err := t.hookScope(op, h.Site); err != nil {
		return forge.Hook{}, false, err
	}
	if err := forge.CheckName(h.Name); err != nil {
		return forge.Hook{}, false, forge.Invalidf("name", "%w", err).WithOp(op)
	}
	if err := forge.CheckHookOn(h.On, h.Site); err != nil {
		return forge.Hook{}, false, err
	}
	events, err := json.Marshal(h.On)
	if err != nil {
		return forge.Hook{}, false, classify(op, err)
	}
	row := &hookRow{Name: h.Name, Kind: h.Kind, Target: clean(h.Target), Events: string(events), Pattern: clean(h.Match), Failures: h.Failures, CreatedBy: t.p.Actor()}
	if !h.Site {
		row.Tenant = t.p.Tenant
	}
	err = t.db.write(ctx, op, func(tx *tx) error {
		return tx.once(t.p, func() (string, error) {
			err := tx.createHook(t.p, row)
			return string(row.ID), err
		}, func(ref string) error {
			again, row = true, &hookRow{}
			return tx.NewSelect().Model(row).Where("h.id = ?", ref).Scan(tx.ctx)
		})
	})
	if err != nil {
		return forge.Hook{}, false, err
	}
	made, err = row.forge()
	return made, again, err
}

func (t *tx) createHook(p forge.Principal, row *hookRow) error {
	const op = "hook.create"
	if row.Tenant != "" {
		if err := t.needTenant(row.Tenant); err != nil {
			return err
		}
	}
	var known, all int
	if err := t.one(`SELECT count(*), coalesce(sum(name = ?), 0) FROM hooks WHERE tenant IS nullif(?, '') AND removed_at = 0`,
		[]any{row.Name, string(row.Tenant)}, &all, &known); err != nil {
		return err
	}
	switch {
	case known > 0:
		return forge.Errorf(forge.KindConflict, op, "hook %q exists already", row.Name).WithHint("forgectl hook show %s; a hook is changed by removing it and adding it again", row.Name)
	case all >= maxHooks:
		return forge.Errorf(forge.KindPrecondition, op, "there are %d hooks, which is the most", all).WithHint("forgectl hook list, and remove what nobody needs")
	}
	row.ID, row.CreatedAt = forge.HookID(t.id()), stampOf(t.now)
	if err := t.one(`SELECT coalesce(max(seq), 0) FROM events`, nil, &row.Cursor); err != nil {
		return err
	}
	if _, err := t.NewInsert().Model(row).Exec(t.ctx); err != nil {
		return err
	}
	// Its own birth is no news to it.
	if err := t.hookEvent(p, row, forge.EventHookAdded, "added: "+row.where()); err != nil {
		return err
	}
	return t.one(`UPDATE hooks SET cursor = (SELECT max(seq) FROM events) WHERE id = ? RETURNING cursor`, []any{string(row.ID)}, &row.Cursor)
}

// where says what a hook calls without saying what whoever knows may use: the path of a URL often is a secret of its own.
func (r *hookRow) where() string {
	if u, err := url.Parse(r.Target); r.Kind == forge.HookWebhook && err == nil {
		return "webhook at " + u.Host
	} else if r.Kind == forge.HookWebhook {
		return "webhook"
	}
	return string(r.Kind) + " " + r.Target
}

func (t *tx) hookEvent(p forge.Principal, row *hookRow, typ forge.EventType, what string) error {
	return t.event(forge.Event{Tenant: row.Tenant, Actor: p.Actor(), Type: typ, Reason: string(forge.WhyRequested), Message: "hook " + row.Name + " " + what,
		Data: map[string]any{"hook": row.Name, "kind": string(row.Kind)}})
}

// Hooks lists hooks of the tenant, or of the site, and says where the next page begins. KindForbidden.
func (t *Tenant) Hooks(ctx context.Context, l Listing, site bool) ([]forge.Hook, string, error) {
	const op = "hook.list"
	if err := t.hookScope(op, site); err != nil {
		return nil, "", err
	}
	var rows []hookRow
	q := startsWith(t.inScope(selectHooks(t.db.read.NewSelect(), &rows), site), "h.name", l.Name)
	next, err := pageOf(ctx, t, op, l, namedOrders("h"), q, &rows, site)
	if err != nil {
		return nil, "", err
	}
	all, err := nouns(rows, (*hookRow).forge)
	return all, next, classify(op, err)
}

// Hook finds a hook by name or id. KindNotFound; KindForbidden.
func (t *Tenant) Hook(ctx context.Context, idOrName string, site bool) (forge.Hook, error) {
	const op = "hook.show"
	row, err := t.hookRow(ctx, t.db.read, op, idOrName, site)
	if err != nil {
		return forge.Hook{}, err
	}
	return row.forge()
}

func (t *Tenant) hookRow(ctx context.Context, from bun.IDB, op, idOrName string, site bool) (*hookRow, error) {
	if err := t.hookScope(op, site); err != nil {
		return nil, err
	}
	row, name := &hookRow{}, clean(idOrName)
	err := t.inScope(selectHooks(from.NewSelect(), row), site).Where("(h.id = ? OR h.name = ?)", name, name).Scan(ctx)
	if absent(err) {
		return nil, notFound(op, "there is no hook %q", idOrName).WithHint("forgectl hook list")
	}
	return row, classify(op, err)
}

// RemovedHook finds a hook by its id, also one that is removed: for whoever repeats the request that removed it. KindNotFound.
func (t *Tenant) RemovedHook(ctx context.Context, id string) (forge.Hook, error) {
	row := &hookRow{}
	q := t.db.read.NewSelect().Model(row).Where("h.id = ?", clean(id))
	if t.p.Role == forge.RoleOperator {
		q = q.Where("(h.tenant = ? OR h.tenant IS NULL)", t.p.Tenant)
	} else {
		q = q.Where("h.tenant = ?", t.p.Tenant)
	}
	err := q.Scan(ctx)
	if absent(err) || err == nil && !t.p.Role.Includes(forge.RoleAdmin) {
		return forge.Hook{}, notFound("hook.show", "there is no hook %q", id).WithHint("forgectl hook list")
	}
	if err != nil {
		return forge.Hook{}, classify("hook.show", err)
	}
	return row.forge()
}

// RemoveHook ends a hook and forgets what was on its way to it. KindNotFound; KindForbidden.
func (t *Tenant) RemoveHook(ctx context.Context, idOrName string, site bool) (forge.Hook, error) {
	return t.changeHook(ctx, "hook.remove", idOrName, site, func(tx *tx, row *hookRow) error {
		row.RemovedAt = stampOf(tx.now)
		if _, err := tx.exec(`UPDATE hooks SET removed_at = ? WHERE id = ?`, int64(row.RemovedAt), string(row.ID)); err != nil {
			return err
		}
		gone, err := tx.exec(`DELETE FROM hook_deliveries WHERE hook = ? AND state = 'waiting'`, string(row.ID))
		if err != nil {
			return err
		}
		what := "removed"
		if gone > 0 {
			what += ", with what waited for it"
		}
		return tx.hookEvent(t.p, row, forge.EventHookRemoved, what)
	})
}

// PauseHook keeps what comes for a hook until ResumeHook. Twice is as good as once. KindNotFound; KindForbidden.
func (t *Tenant) PauseHook(ctx context.Context, idOrName string, site bool) (forge.Hook, error) {
	return t.changeHook(ctx, "hook.pause", idOrName, site, func(tx *tx, row *hookRow) error {
		if row.PausedAt != 0 {
			return nil
		}
		row.PausedAt = stampOf(tx.now)
		if _, err := tx.exec(`UPDATE hooks SET paused_at = ? WHERE id = ?`, int64(row.PausedAt), string(row.ID)); err != nil {
			return err
		}
		return tx.hookEvent(t.p, row, forge.EventHookPaused, "paused")
	})
}

// ResumeHook lets a hook go on with what has happened meanwhile, as far as it is no older than a day. KindNotFound; KindForbidden.
func (t *Tenant) ResumeHook(ctx context.Context, idOrName string, site bool) (forge.Hook, error) {
	return t.changeHook(ctx, "hook.resume", idOrName, site, func(tx *tx, row *hookRow) error {
		if row.PausedAt == 0 {
			return nil
		}
		row.PausedAt = 0
		if _, err := tx.exec(`UPDATE hooks SET paused_at = 0, failing_since = 0,
			cursor = max(cursor, coalesce((SELECT max(seq) FROM events WHERE seq > cursor AND time < ?), 0)) WHERE id = ?`,
			int64(stampOf(tx.now.Add(-hookKeepsFor))), string(row.ID)); err != nil {
			return err
		}
		return tx.hookEvent(t.p, row, forge.EventHookResumed, "goes on")
	})
}

func (t *Tenant) changeHook(ctx context.Context, op, idOrName string, site bool, do func(*tx, *hookRow) error) (forge.Hook, error) {
	var row *hookRow
	err := t.db.write(ctx, op, func(tx *tx) error {
		return tx.once(t.p, func() (string, error) {
			var err error
			if row, err = t.hookRow(tx.ctx, tx, op, idOrName, site); err != nil {
				return "", err
			}
			return string(row.ID), do(tx, row)
		}, func(ref string) error {
			row = &hookRow{}
			return tx.NewSelect().Model(row).Where("h.id = ?", ref).Scan(tx.ctx)
		})
	})
	if err != nil {
		return forge.Hook{}, err
	}
	return row.forge()
}
