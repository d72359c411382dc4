package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

type modelRow struct {
	bun.BaseModel `bun:"table:models,alias:m"`

	ID          forge.ModelID   `bun:"id,pk"`
	Tenant      forge.TenantID  `bun:"tenant"`
	Name        string          `bun:"name"`
	Kind        forge.ModelKind `bun:"kind"`
	LastVersion int             `bun:"last_version"`
	CreatedAt   stamp           `bun:"created_at"`
}

func (r *modelRow) forge() forge.Model {
	return forge.Model{ID: r.ID, Tenant: r.Tenant, Name: r.Name, Kind: r.Kind, CreatedAt: r.CreatedAt.time()}
}

func (r *modelRow) place(order string) []any {
	if order == "name" {
		return []any{r.Name}
	}
	return []any{r.CreatedAt, r.ID}
}

type modelVersionRow struct {
	bun.BaseModel `bun:"table:model_versions,alias:v"`

	ID        forge.ModelVersionID `bun:"id,pk"`
	Tenant    forge.TenantID       `bun:"tenant"`
	Model     forge.ModelID        `bun:"model"`
	Number    int                  `bun:"number"`
	Stage     forge.Stage          `bun:"stage"`
	SHA256    string               `bun:"sha256"`
	Bytes     int64                `bun:"bytes"`
	Artifact  string               `bun:"artifact"`
	License   string               `bun:"license"`
	Run       forge.RunID          `bun:"run,nullzero"`
	Lineage   string               `bun:"lineage"`
	Looked    string               `bun:"looked"`
	CreatedBy string               `bun:"created_by"`
	CreatedAt stamp                `bun:"created_at"`

	Name  string          `bun:"name,scanonly"`
	Kind  forge.ModelKind `bun:"kind,scanonly"`
	Root  string          `bun:"root,scanonly"`
	Files string          `bun:"files,scanonly"`

	StageSince stamp  `bun:"stage_since,scanonly"`
	StageBy    string `bun:"stage_by,scanonly"`
	Forced     bool   `bun:"forced,scanonly"`
	Aliases    string `bun:"aliases,scanonly"` // with commas between
}

func (r *modelVersionRow) forge() (forge.ModelVersion, error) {
	v := forge.ModelVersion{ID: r.ID, Model: r.Model, Tenant: r.Tenant, Name: r.Name, Number: r.Number, Kind: r.Kind, Stage: r.Stage,
		SHA256: r.SHA256, Bytes: r.Bytes, License: r.License, CreatedBy: r.CreatedBy, CreatedAt: r.CreatedAt.time(),
		StageSince: r.StageSince.time(), StageBy: r.StageBy, Forced: r.Forced}
	if r.Aliases != "" {
		v.Aliases = strings.Split(r.Aliases, ",")
	}
	if err := decode(r.Lineage, &v.Lineage); err != nil {
		return v, err
	}
	if err := decode(r.Looked, &v.Seen); err != nil {
		return v, err
	}
	var err error
	v.Manifest, err = manifest(r.Root, r.Files)
	return v, err
}

// AddModelVersion registers the next version of a model, and the model with its first. ID, Number, Stage
// (staging) and times are given here; SHA256 and Bytes come from the manifest where they are empty.
// KindConflict when the name belongs to a model of another kind; KindInvalid for a name that is none.
func (t *Tenant) AddModelVersion(ctx context.Context, v forge.ModelVersion) (forge.ModelVersion, error) {
	const op = "model.register"
	in := v
	err := t.db.write(ctx, op, func(tx *tx) error {
		return tx.once(t.p, func() (string, error) {
			v = in
			v.Tenant = t.p.Tenant
			if v.CreatedBy == "" {
				v.CreatedBy = t.p.Actor()
			}
			var run *runRow
			if v.Lineage != nil && v.Lineage.Run != "" {
				var err error
				if run, err = tx.ownRun(t.p.Tenant, v.Lineage.Run, "run"); err != nil {
					return "", err
				}
			}
			err := tx.addModelVersion(&v, run)
			return string(v.ID), err
		}, func(ref string) (err error) {
			row := modelVersionRow{}
			v, err = foundModelVersion(&row, ref, selectModelVersions(tx.NewSelect(), &row, true).Where("v.id = ?", ref).Scan(tx.ctx))
			return err
		})
	})
	if err != nil {
		return forge.ModelVersion{}, err
	}
	return v, nil
}

// addModelVersion registers v, made by run where it is not nil.
func (t *tx) addModelVersion(v *forge.ModelVersion, run *runRow) error {
	const op = "model.register"
	if err := forge.CheckName(v.Name); err != nil {
		return forge.Invalidf("name", "%w", err).WithOp(op)
	}
	m, err := t.ensureModel(v.Tenant, v.Name, v.Kind)
	if err != nil {
		return err
	}
	if m.Kind != v.Kind {
		return forge.Errorf(forge.KindConflict, op, "model %q holds %s weights; a %s version cannot join it", v.Name, m.Kind, v.Kind).
			WithHint("register under another name")
	}
	file, err := t.artifact(v.Tenant, v.Manifest)
	if err != nil {
		return err
	}
	if v.SHA256 == "" {
		v.SHA256 = file.SHA256
	}
	if v.Bytes == 0 {
		v.Bytes = file.Bytes
	}
	if v.License == "" {
		v.License = "NOASSERTION"
	}
	m.LastVersion++
	v.ID, v.Model, v.Number, v.Stage, v.CreatedAt = forge.ModelVersionID(t.id()), m.ID, m.LastVersion, forge.StageStaging, t.now
	row := modelVersionRow{ID: v.ID, Tenant: v.Tenant, Model: m.ID, Number: v.Number, Stage: v.Stage, SHA256: v.SHA256, Bytes: v.Bytes,
		Artifact: file.ID, License: clean(v.License), CreatedBy: clean(v.CreatedBy), CreatedAt: stampOf(t.now)}
	e := forge.Event{Tenant: v.Tenant, Actor: v.CreatedBy, Type: forge.EventModelRegistered, Data: map[string]any{"model": v.Name, "version": v.Number, "sha256": v.SHA256},
		Message: fmt.Sprintf("model %s@%d registered (%s)", v.Name, v.Number, v.Kind)}
	if v.Lineage != nil {
		if row.Lineage, err = encode(1, v.Lineage); err != nil {
			return err
		}
	}
	if v.Seen != nil {
		if row.Looked, err = encode(1, v.Seen); err != nil {
			return err
		}
	}
	if run != nil {
		row.Run, e.Run, e.Number, e.Attempt = run.ID, run.ID, run.Number, v.Lineage.Attempt
	}
	if _, err := t.NewInsert().Model(&row).Exec(t.ctx); err != nil {
		return err
	}
	if _, err := t.exec(`UPDATE models SET last_version = ? WHERE id = ?`, m.LastVersion, string(m.ID)); err != nil {
		return err
	}
	if run != nil {
		if err := t.madeOf(run.ID, v.Tenant, v.Lineage); err != nil {
			return err
		}
	}
	row.Name = v.Name
	line, err := t.stageLine(&row, stageRow{Action: forge.ActionRegister, Becomes: forge.StageStaging, Actor: v.CreatedBy}, nil)
	if err != nil {
		return err
	}
	v.StageSince, v.StageBy = t.now, line.Actor
	e.Data["line"], e.Data["line_sha256"] = line.Seq, line.SHA256
	return t.event(e)
}

func (t *tx) ensureModel(tenant forge.TenantID, name string, kind forge.ModelKind) (*modelRow, error) {
	if kind != forge.ModelBase && kind != forge.ModelTrained {
		return nil, forge.Invalidf("kind", "model kind %q does not exist; want %s or %s", kind, forge.ModelBase, forge.ModelTrained)
	}
	m := &modelRow{}
	err := t.NewSelect().Model(m).Where("m.tenant = ?", tenant).Where("m.name = ?", name).Scan(t.ctx)
	if !absent(err) {
		return m, err
	}
	*m = modelRow{ID: forge.ModelID(t.id()), Tenant: tenant, Name: name, Kind: kind, CreatedAt: stampOf(t.now)}
	_, err = t.NewInsert().Model(m).Exec(t.ctx)
	return m, err
}

// modelOfRun finds the version that a run registered; nil when it has none.
func (t *tx) modelOfRun(r *runRow) (*forge.ModelVersion, error) {
	row := modelVersionRow{}
	err := selectModelVersions(t.NewSelect(), &row, true).Where("v.run = ?", r.ID).Order("v.id").Limit(1).Scan(t.ctx)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v, err := row.forge()
	return &v, err
}

// ModelOfRun finds the version that a run has registered. KindNotFound when it has none.
func (db *DB) ModelOfRun(ctx context.Context, run forge.RunID) (forge.ModelVersion, error) {
	return db.oneModelVersion(ctx, "of run "+string(run), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("v.run = ?", clean(string(run))).Order("v.id").Limit(1)
	})
}

// ModelOfRun finds the version that a run of the tenant has registered. KindNotFound when it has none.
func (t *Tenant) ModelOfRun(ctx context.Context, run forge.RunID) (forge.ModelVersion, error) {
	return t.db.oneModelVersion(ctx, "of run "+string(run), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("v.tenant = ?", t.p.Tenant).Where("v.run = ?", clean(string(run))).Order("v.id").Limit(1)
	})
}

// selectModelVersions selects model versions with their names; manifests only when asked for.
func selectModelVersions(q *bun.SelectQuery, rows any, withFiles bool) *bun.SelectQuery {
	q = q.Model(rows).ColumnExpr("v.*, m.name AS name, m.kind AS kind, s.at AS stage_since, s.actor AS stage_by").Join("JOIN models AS m ON m.id = v.model").
		Join("JOIN stage_changes AS s ON s.version = v.id AND s.seq = (SELECT max(seq) FROM stage_changes WHERE version = v.id)").
		ColumnExpr("EXISTS (SELECT 1 FROM stage_changes WHERE version = v.id AND forced) AS forced").
		ColumnExpr("coalesce((SELECT group_concat(alias) FROM (SELECT alias FROM model_aliases WHERE version = v.id ORDER BY alias)), '') AS aliases")
	if withFiles {
		q = q.ColumnExpr("f.root AS root, f.files AS files").Join("JOIN artifacts AS f ON f.id = v.artifact")
	}
	return q
}

// Models lists the tenant's models with their versions but without their manifests, and says where the next page begins.
func (t *Tenant) Models(ctx context.Context, l Listing) ([]forge.Model, string, error) {
	const op = "model.list"
	var rows []modelRow
	q := startsWith(t.db.read.NewSelect().Model(&rows).Where("m.tenant = ?", t.p.Tenant), "m.name", l.Name)
	if l.Kind != "" {
		q = q.Where("m.kind = ?", clean(l.Kind))
	}
	next, err := pageOf(ctx, t, op, l, namedOrders("m"), q, &rows)
	if err != nil || len(rows) == 0 {
		return nil, "", err
	}
	all := make([]forge.Model, len(rows))
	place := map[forge.ModelID]int{}
	for i := range rows {
		all[i], place[rows[i].ID] = rows[i].forge(), i
	}
	var versions []modelVersionRow
	err = selectModelVersions(t.db.read.NewSelect(), &versions, false).Where("v.tenant = ?", t.p.Tenant).
		Where("v.model IN (?)", idList(place)).Order("v.number").Scan(ctx)
	if err != nil {
		return nil, "", classify(op, err)
	}
	for i := range versions {
		v, err := versions[i].forge()
		if err != nil {
			return nil, "", classify(op, err)
		}
		m := &all[place[v.Model]]
		m.Versions = append(m.Versions, v)
	}
	return all, next, nil
}

// Model shows a model with all its versions, oldest first, manifests included.
func (t *Tenant) Model(ctx context.Context, name string) (forge.Model, error) {
	const op = "model.show"
	m := modelRow{}
	err := t.db.read.NewSelect().Model(&m).Where("m.tenant = ?", t.p.Tenant).Where("m.name = ?", clean(name)).Scan(ctx)
	if absent(err) {
		return forge.Model{}, noModel(name)
	}
	if err != nil {
		return forge.Model{}, classify(op, err)
	}
	var rows []modelVersionRow
	err = selectModelVersions(t.db.read.NewSelect(), &rows, true).Where("v.tenant = ?", t.p.Tenant).Where("v.model = ?", m.ID).Order("v.number").Scan(ctx)
	if err != nil {
		return forge.Model{}, classify(op, err)
	}
	noun := m.forge()
	noun.Versions, err = nouns(rows, func(r *modelVersionRow) (forge.ModelVersion, error) { return r.forge() })
	return noun, classify(op, err)
}

// ModelVersion finds NAME (the newest), NAME@NUMBER, NAME@STAGE (the newest in that stage), or NAME@ALIAS.
// KindNotFound when the tenant has none.
func (t *Tenant) ModelVersion(ctx context.Context, ref forge.Ref) (forge.ModelVersion, error) {
	return t.db.oneModelVersion(ctx, ref.String(), func(q *bun.SelectQuery) *bun.SelectQuery {
		q = q.Where("v.tenant = ?", t.p.Tenant).Where("m.name = ?", clean(ref.Name)).Order("v.number DESC").Limit(1)
		switch {
		case ref.Number > 0:
			q = q.Where("v.number = ?", ref.Number)
		case slices.Contains(forge.Stages, forge.Stage(ref.Label)):
			q = q.Where("v.stage = ?", ref.Label)
		case ref.Label != "":
			q = q.Where("v.id = (SELECT version FROM model_aliases WHERE model = m.id AND alias = ?)", clean(ref.Label))
		}
		return q
	})
}

// ModelVersionByID finds a model version of the tenant. KindNotFound.
func (t *Tenant) ModelVersionByID(ctx context.Context, id forge.ModelVersionID) (forge.ModelVersion, error) {
	return t.db.oneModelVersion(ctx, string(id), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("v.tenant = ?", t.p.Tenant).Where("v.id = ?", clean(string(id)))
	})
}

// ModelVersionByID finds any tenant's model version, for the daemon's loops.
func (db *DB) ModelVersionByID(ctx context.Context, id forge.ModelVersionID) (forge.ModelVersion, error) {
	return db.oneModelVersion(ctx, string(id), func(q *bun.SelectQuery) *bun.SelectQuery { return q.Where("v.id = ?", clean(string(id))) })
}

func (db *DB) oneModelVersion(ctx context.Context, name string, where func(*bun.SelectQuery) *bun.SelectQuery) (forge.ModelVersion, error) {
	row := modelVersionRow{}
	return foundModelVersion(&row, name, where(selectModelVersions(db.read.NewSelect(), &row, true)).Scan(ctx))
}

func foundModelVersion(row *modelVersionRow, name string, err error) (forge.ModelVersion, error) {
	if absent(err) {
		return forge.ModelVersion{}, noModel(name)
	}
	if err != nil {
		return forge.ModelVersion{}, classify("model.show", err)
	}
	v, err := row.forge()
	return v, classify("model.show", err)
}

func noModel(name string) *forge.Error {
	return notFound("model.show", "there is no model %q", name).WithHint("forgectl model list")
}
