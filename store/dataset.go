package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

type datasetRow struct {
	bun.BaseModel `bun:"table:datasets,alias:d"`

	ID          forge.DatasetID `bun:"id,pk"`
	Tenant      forge.TenantID  `bun:"tenant"`
	Name        string          `bun:"name"`
	LastVersion int             `bun:"last_version"`
	CreatedAt   stamp           `bun:"created_at"`
}

func (r *datasetRow) forge() forge.Dataset {
	return forge.Dataset{ID: r.ID, Tenant: r.Tenant, Name: r.Name, CreatedAt: r.CreatedAt.time()}
}

func (r *datasetRow) place(order string) []any {
	if order == "name" {
		return []any{r.Name}
	}
	return []any{r.CreatedAt, r.ID}
}

type datasetVersionRow struct {
	bun.BaseModel `bun:"table:dataset_versions,alias:v"`

	Seq       int64                  `bun:"seq,pk"`
	ID        forge.DatasetVersionID `bun:"id"`
	Tenant    forge.TenantID         `bun:"tenant"`
	Dataset   forge.DatasetID        `bun:"dataset"`
	Number    int                    `bun:"number"`
	Kind      forge.DatasetKind      `bun:"kind"`
	Columns   string                 `bun:"columns"`
	Rows      int64                  `bun:"rows"`
	Bytes     int64                  `bun:"bytes"`
	SHA256    string                 `bun:"sha256"`
	Artifact  string                 `bun:"artifact"`
	License   string                 `bun:"license"`
	PII       forge.PIIStatus        `bun:"pii"`
	Looked    string                 `bun:"looked"`
	CreatedBy string                 `bun:"created_by"`
	CreatedAt stamp                  `bun:"created_at"`

	Description  string `bun:"description"`
	Layout       string `bun:"layout"`
	CopyDir      string `bun:"copy_dir"`
	Indexed      bool   `bun:"indexed"`
	WaivedBy     string `bun:"waived_by"`
	WaivedReason string `bun:"waived_reason"`
	WaivedAt     stamp  `bun:"waived_at"`
	DeletedAt    stamp  `bun:"deleted_at"`
	PurgingAt    stamp  `bun:"purging_at"`
	PurgedAt     stamp  `bun:"purged_at"`

	Name    string `bun:"name,scanonly"`
	Root    string `bun:"root,scanonly"`
	Files   string `bun:"files,scanonly"`
	Parents string `bun:"parents,scanonly"`
	Report  string `bun:"report,scanonly"`
}

func (r *datasetVersionRow) forge() (forge.DatasetVersion, error) {
	v := forge.DatasetVersion{ID: r.ID, Dataset: r.Dataset, Tenant: r.Tenant, Name: r.Name, Number: r.Number, Kind: r.Kind, Rows: r.Rows,
		Bytes: r.Bytes, SHA256: r.SHA256, License: r.License, PII: r.PII, CreatedBy: r.CreatedBy, CreatedAt: r.CreatedAt.time(),
		Description: r.Description, Owned: r.CopyDir != "", Indexed: r.Indexed, DeletedAt: r.DeletedAt.time(), PurgedAt: r.PurgedAt.time()}
	if r.WaivedAt != 0 {
		v.Waiver = &forge.Waiver{By: r.WaivedBy, Reason: r.WaivedReason, At: r.WaivedAt.time()}
	}
	if err := errors.Join(decode(r.Columns, &v.Columns), decode(r.Looked, &v.Seen), decode(r.Layout, &v.Layout), decode(r.Parents, &v.Parents), decode(r.Report, &v.Scan)); err != nil {
		return v, err
	}
	if len(v.Parents) > 0 {
		v.Parent = v.Parents[0].ID
	}
	var err error
	v.Manifest, err = manifest(r.Root, r.Files)
	return v, err
}

// AddDataset registers the next version of a dataset, and the dataset with its first. ID, Number and times are given
// here; SHA256 and Bytes come from the manifest where they are empty; of Parents only the ids count. Data that the dataset has already is answered with the
// version that it is, and true: if nobody has looked for personal data in that one yet, it gets what v says. KindConflict where that version
// takes the same data for something else; KindInvalid for a name that is none, or a parent that the tenant does not have.
func (t *Tenant) AddDataset(ctx context.Context, v forge.DatasetVersion) (_ forge.DatasetVersion, existed bool, _ error) {
	const op = "dataset.add"
	if err := forge.CheckName(v.Name); err != nil {
		return v, false, forge.Invalidf("name", "%w", err).WithOp(op)
	}
	in := v
	err := t.db.write(ctx, op, func(tx *tx) error {
		return tx.once(t.p, func() (string, error) {
			v, existed = in, false
			v.Tenant = t.p.Tenant
			if v.CreatedBy == "" {
				v.CreatedBy = t.p.Actor()
			}
			id, err := tx.addDataset(&v)
			if existed = id != v.ID; err != nil || !existed {
				return string(id), err
			}
			v, err = tx.datasetVersion(string(id))
			return string(id), err
		}, func(ref string) (err error) { v, err = tx.datasetVersion(ref); return err })
	})
	if err != nil {
		return forge.DatasetVersion{}, false, err
	}
	return v, existed, nil
}

func (t *tx) datasetVersion(id string) (forge.DatasetVersion, error) {
	row := datasetVersionRow{}
	return foundDatasetVersion(&row, id, selectDatasetVersions(t.NewSelect(), &row, true).Where("v.id = ?", id).Scan(t.ctx))
}

// addDataset answers the id of the version that the data is: v's, or that of one that has it already.
func (t *tx) addDataset(v *forge.DatasetVersion) (forge.DatasetVersionID, error) {
	d, err := t.ensureDataset(v.Tenant, v.Name)
	if err != nil {
		return "", err
	}
	if v.SHA256 == "" {
		v.SHA256 = v.Manifest.Digest()
	}
	layout, err := layoutText(v.Layout)
	if err != nil {
		return "", err
	}
	old := datasetVersionRow{}
	err = selectDatasetVersions(t.NewSelect(), &old, false).Where("v.dataset = ?", d.ID).Where("v.sha256 = ?", v.SHA256).Where("v.deleted_at = 0").Scan(t.ctx)
	if err == nil {
		return old.ID, t.sameData(&old, v, layout)
	}
	if !absent(err) {
		return "", err
	}
	parents, err := t.parents(v)
	if err != nil {
		return "", err
	}
	file, err := t.artifact(v.Tenant, v.Manifest)
	if err != nil {
		return "", err
	}
	if v.Bytes == 0 {
		v.Bytes = file.Bytes
	}
	if v.License == "" {
		v.License = "NOASSERTION"
	}
	if v.PII == "" {
		v.PII = forge.PIINotScanned
	}
	d.LastVersion++
	columns, err := encode(len(v.Columns), v.Columns)
	if err != nil {
		return "", err
	}
	v.ID, v.Dataset, v.Number = forge.DatasetVersionID(t.id()), d.ID, d.LastVersion
	row := datasetVersionRow{ID: v.ID, Tenant: v.Tenant, Dataset: d.ID, Number: v.Number, Kind: v.Kind, Columns: columns, Rows: v.Rows,
		Bytes: v.Bytes, SHA256: v.SHA256, Artifact: file.ID, License: clean(v.License), PII: v.PII,
		CreatedBy: clean(v.CreatedBy), CreatedAt: stampOf(t.now), Description: clean(v.Description), Layout: layout}
	if v.Owned {
		row.CopyDir = filepath.Dir(v.Manifest.Root) // forge's own copies have a directory each
	}
	v.CreatedAt = row.CreatedAt.time()
	if v.Seen != nil {
		if row.Looked, err = encode(1, v.Seen); err != nil {
			return "", err
		}
	}
	if err := t.one(`SELECT coalesce(max(seq), 0) + 1 FROM dataset_versions`, nil, &row.Seq); err != nil {
		return "", err
	}
	if _, err := t.NewInsert().Model(&row).Exec(t.ctx); err != nil {
		return "", err
	}
	for _, p := range parents {
		if _, err := t.exec(`INSERT INTO dataset_parents (child, parent, tenant) VALUES (?, ?, ?)`, row.Seq, p, string(v.Tenant)); err != nil {
			return "", err
		}
	}
	if err := t.keepScan(row.Seq, v.Scan); err != nil {
		return "", err
	}
	if _, err := t.exec(`UPDATE datasets SET last_version = ? WHERE id = ?`, d.LastVersion, string(d.ID)); err != nil {
		return "", err
	}
	return v.ID, t.event(forge.Event{Tenant: v.Tenant, Actor: v.CreatedBy, Type: forge.EventDatasetAdded,
		Message: fmt.Sprintf("dataset %s@%d added: %d rows", v.Name, v.Number, v.Rows),
		Data:    map[string]any{"dataset": v.Name, "version": v.Number, "sha256": v.SHA256}})
}

// layoutText is ” for the layout that everything had before there were others.
func layoutText(l *forge.DatasetLayout) (string, error) {
	if l == nil || l.Plain() && (l.Format == forge.FormatJSONL || l.Format == "") {
		return "", nil
	}
	return encode(1, l)
}

// sameData is asked of a version that has the data of v already.
func (t *tx) sameData(old *datasetVersionRow, v *forge.DatasetVersion, layout string) error {
	if old.Kind != v.Kind && v.Kind != "" || old.Layout != layout {
		return forge.Errorf(forge.KindConflict, "dataset.add", "these bytes are registered already as %s@%d, with another kind or another map of columns", old.Name, old.Number).
			WithHint("register them under another name, or delete that version first: forgectl dataset show %s@%d", old.Name, old.Number)
	}
	if old.PII != forge.PIINotScanned || v.Scan == nil || v.Scan.PII == nil {
		return nil
	}
	return t.setScan(old, v.Scan, v.CreatedBy)
}

// parents are the seqs of the versions that v was made from; their names are filled in.
func (t *tx) parents(v *forge.DatasetVersion) ([]int64, error) {
	if v.Parent != "" && len(v.Parents) == 0 {
		v.Parents = []forge.DatasetParent{{ID: v.Parent}}
	}
	var all []int64
	for i := range v.Parents {
		p := &v.Parents[i]
		var seq int64
		err := t.one(`SELECT v.seq, d.name, v.number FROM dataset_versions AS v JOIN datasets AS d ON d.id = v.dataset WHERE v.tenant = ? AND v.id = ?`,
			[]any{string(v.Tenant), clean(string(p.ID))}, &seq, &p.Name, &p.Version)
		if absent(err) {
			return nil, forge.Invalidf("parents", "there is no dataset version %q", p.ID).WithHint("forgectl dataset list")
		}
		if err != nil {
			return nil, err
		}
		if slices.Contains(all, seq) {
			return nil, forge.Invalidf("parents", "%s@%d is named twice", p.Name, p.Version)
		}
		all = append(all, seq)
	}
	if len(v.Parents) > 0 {
		v.Parent = v.Parents[0].ID
	}
	return all, nil
}

func (t *tx) ensureDataset(tenant forge.TenantID, name string) (*datasetRow, error) {
	d := &datasetRow{}
	err := t.NewSelect().Model(d).Where("d.tenant = ?", tenant).Where("d.name = ?", name).Scan(t.ctx)
	if !absent(err) {
		return d, err
	}
	*d = datasetRow{ID: forge.DatasetID(t.id()), Tenant: tenant, Name: name, CreatedAt: stampOf(t.now)}
	_, err = t.NewInsert().Model(d).Exec(t.ctx)
	return d, err
}

// selectDatasetVersions selects dataset versions with their names; manifests only when asked for.
func selectDatasetVersions(q *bun.SelectQuery, rows any, withFiles bool) *bun.SelectQuery {
	q = q.Model(rows).ColumnExpr("v.*, d.name AS name").Join("JOIN datasets AS d ON d.id = v.dataset")
	if withFiles {
		q = q.ColumnExpr("f.root AS root, f.files AS files").Join("JOIN artifacts AS f ON f.id = v.artifact").ColumnExpr("(" + parentsSQL + ") AS parents")
	}
	return q
}

// parentsSQL is JSON of forge.DatasetParent, the first registered first; ” for none.
const parentsSQL = `SELECT coalesce(nullif(json_group_array(json_object('id', x.id, 'name', x.name, 'version', x.number)), '[]'), '') FROM
	(SELECT pv.id, pd.name, pv.number FROM dataset_parents AS p JOIN dataset_versions AS pv ON pv.seq = p.parent JOIN datasets AS pd ON pd.id = pv.dataset WHERE p.child = v.seq ORDER BY p.parent) AS x`

// Datasets lists the tenant's datasets with their versions but without their manifests, and says where the next page begins.
func (t *Tenant) Datasets(ctx context.Context, l Listing) ([]forge.Dataset, string, error) {
	const op = "dataset.list"
	var rows []datasetRow
	q := startsWith(t.db.read.NewSelect().Model(&rows).Where("d.tenant = ?", t.p.Tenant), "d.name", l.Name)
	if l.Kind != "" {
		q = q.Where("EXISTS (SELECT 1 FROM dataset_versions AS v WHERE v.dataset = d.id AND v.kind = ?)", clean(l.Kind))
	}
	next, err := pageOf(ctx, t, op, l, namedOrders("d"), q, &rows)
	if err != nil || len(rows) == 0 {
		return nil, "", err
	}
	all := make([]forge.Dataset, len(rows))
	place := map[forge.DatasetID]int{}
	for i := range rows {
		all[i], place[rows[i].ID] = rows[i].forge(), i
	}
	var versions []datasetVersionRow
	err = selectDatasetVersions(t.db.read.NewSelect(), &versions, false).Where("v.tenant = ?", t.p.Tenant).
		Where("v.dataset IN (?)", idList(place)).Order("v.number").Scan(ctx)
	if err != nil {
		return nil, "", classify(op, err)
	}
	for i := range versions {
		v, err := versions[i].forge()
		if err != nil {
			return nil, "", classify(op, err)
		}
		d := &all[place[v.Dataset]]
		d.Versions = append(d.Versions, v)
	}
	return all, next, nil
}

func idList[K comparable, V any](m map[K]V) any { return bun.List(slices.Collect(maps.Keys(m))) }

// Dataset shows a dataset with all its versions, oldest first, manifests included.
func (t *Tenant) Dataset(ctx context.Context, name string) (forge.Dataset, error) {
	const op = "dataset.show"
	d := datasetRow{}
	err := t.db.read.NewSelect().Model(&d).Where("d.tenant = ?", t.p.Tenant).Where("d.name = ?", clean(name)).Scan(ctx)
	if absent(err) {
		return forge.Dataset{}, noDataset(name)
	}
	if err != nil {
		return forge.Dataset{}, classify(op, err)
	}
	var rows []datasetVersionRow
	err = selectDatasetVersions(t.db.read.NewSelect(), &rows, true).Where("v.tenant = ?", t.p.Tenant).Where("v.dataset = ?", d.ID).Order("v.number").Scan(ctx)
	if err != nil {
		return forge.Dataset{}, classify(op, err)
	}
	noun := d.forge()
	noun.Versions, err = nouns(rows, func(r *datasetVersionRow) (forge.DatasetVersion, error) { return r.forge() })
	return noun, classify(op, err)
}

// DatasetVersion finds NAME (the newest that is not deleted) or NAME@NUMBER, with the report of its scan. KindNotFound when the tenant has none;
// KindInvalid for a label: datasets have no stages.
func (t *Tenant) DatasetVersion(ctx context.Context, ref forge.Ref) (forge.DatasetVersion, error) {
	if ref.Label != "" {
		return forge.DatasetVersion{}, forge.Invalidf("dataset", "%q: dataset versions have numbers only; want NAME or NAME@NUMBER", ref.String()).WithOp("dataset.show")
	}
	return t.db.oneDatasetVersion(ctx, ref.String(), func(q *bun.SelectQuery) *bun.SelectQuery {
		q = q.Where("v.tenant = ?", t.p.Tenant).Where("d.name = ?", clean(ref.Name)).OrderExpr("v.deleted_at <> 0, v.number DESC").Limit(1)
		if ref.Number > 0 {
			q = q.Where("v.number = ?", ref.Number)
		}
		return q
	})
}

// DatasetVersionByID finds a dataset version of the tenant. KindNotFound.
func (t *Tenant) DatasetVersionByID(ctx context.Context, id forge.DatasetVersionID) (forge.DatasetVersion, error) {
	return t.db.oneDatasetVersion(ctx, string(id), func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("v.tenant = ?", t.p.Tenant).Where("v.id = ?", clean(string(id)))
	})
}

// DatasetVersionByID finds any tenant's dataset version, for the daemon's loops.
func (db *DB) DatasetVersionByID(ctx context.Context, id forge.DatasetVersionID) (forge.DatasetVersion, error) {
	return db.oneDatasetVersion(ctx, string(id), func(q *bun.SelectQuery) *bun.SelectQuery { return q.Where("v.id = ?", clean(string(id))) })
}

func (db *DB) oneDatasetVersion(ctx context.Context, name string, where func(*bun.SelectQuery) *bun.SelectQuery) (forge.DatasetVersion, error) {
	row := datasetVersionRow{}
	q := selectDatasetVersions(db.read.NewSelect(), &row, true).ColumnExpr("coalesce((SELECT report FROM dataset_scans AS s WHERE s.version = v.seq), '') AS report")
	return foundDatasetVersion(&row, name, where(q).Scan(ctx))
}

func foundDatasetVersion(row *datasetVersionRow, name string, err error) (forge.DatasetVersion, error) {
	if absent(err) {
		return forge.DatasetVersion{}, noDataset(name)
	}
	if err != nil {
		return forge.DatasetVersion{}, classify("dataset.show", err)
	}
	v, err := row.forge()
	return v, classify("dataset.show", err)
}

func noDataset(name string) *forge.Error {
	return notFound("dataset.show", "there is no dataset %q", name).WithHint("forgectl dataset list")
}
