package store

import (
	"context"
	"fmt"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// keepScan stores what a pass found, beside its version.
func (t *tx) keepScan(seq int64, r *forge.ScanReport) error {
	if r == nil {
		return nil
	}
	text, err := encode(1, r)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO dataset_scans (version, report) VALUES (?, ?) ON CONFLICT (version) DO UPDATE SET report = excluded.report`, seq, clean(text))
	return err
}

// setScan gives a version the report of a later pass, and the PII status that comes of it. Which moves there are the schema says.
func (t *tx) setScan(row *datasetVersionRow, r *forge.ScanReport, actor string) error {
	was := row.PII
	row.PII = r.PII.Status()
	if _, err := t.exec(`UPDATE dataset_versions SET pii = ? WHERE seq = ?`, string(row.PII), row.Seq); err != nil {
		return err
	}
	if err := t.keepScan(row.Seq, r); err != nil {
		return err
	}
	return t.event(forge.Event{Tenant: row.Tenant, Actor: actor, Type: forge.EventDatasetScanned,
		Message: fmt.Sprintf("dataset %s@%d was looked through for personal data: %s", row.Name, row.Number, row.PII),
		Data:    map[string]any{"dataset": row.Name, "version": row.Number, "pii": string(row.PII), "was": string(was)}})
}

// SetDatasetPII moves the PII status of a version, as the schema allows. KindPrecondition where it does not.
func (t *Tenant) SetDatasetPII(ctx context.Context, id forge.DatasetVersionID, to forge.PIIStatus) error {
	return t.db.write(ctx, "dataset.scan", func(tx *tx) error {
		n, err := tx.exec(`UPDATE dataset_versions SET pii = ? WHERE tenant = ? AND id = ?`, string(to), string(t.p.Tenant), clean(string(id)))
		if err == nil && n == 0 {
			err = noDataset(string(id))
		}
		return err
	})
}

// ScanDataset keeps the report of a pass over a version that is registered already. KindPrecondition for one whose status does not move so.
func (t *Tenant) ScanDataset(ctx context.Context, id forge.DatasetVersionID, r forge.ScanReport) (forge.DatasetVersion, error) {
	return t.changeDataset(ctx, "dataset.scan", id, func(tx *tx, row *datasetVersionRow) error { return tx.setScan(row, &r, t.p.Actor()) })
}

// changeDataset changes a version of the tenant and answers what it is then.
func (t *Tenant) changeDataset(ctx context.Context, op string, id forge.DatasetVersionID, change func(*tx, *datasetVersionRow) error) (v forge.DatasetVersion, _ error) {
	err := t.db.write(ctx, op, func(tx *tx) error {
		return tx.once(t.p, func() (string, error) {
			row := datasetVersionRow{}
			err := selectDatasetVersions(tx.NewSelect(), &row, false).Where("v.tenant = ?", t.p.Tenant).Where("v.id = ?", clean(string(id))).Scan(tx.ctx)
			if absent(err) {
				return "", noDataset(string(id))
			}
			if err == nil {
				err = change(tx, &row)
			}
			if err != nil {
				return "", err
			}
			v, err = tx.datasetVersion(string(row.ID))
			return string(row.ID), err
		}, func(ref string) (err error) { v, err = tx.datasetVersion(ref); return err })
	})
	if err != nil {
		return forge.DatasetVersion{}, err
	}
	return v, nil
}

// EditDataset changes what is said about a version; nil stays. The event has what was said before.
func (t *Tenant) EditDataset(ctx context.Context, id forge.DatasetVersionID, license, description *string) (forge.DatasetVersion, error) {
	return t.changeDataset(ctx, "dataset.edit", id, func(tx *tx, row *datasetVersionRow) error {
		data := map[string]any{"dataset": row.Name, "version": row.Number}
		var words []string
		for _, c := range []struct {
			name     string
			was, set *string
		}{{"license", &row.License, license}, {"description", &row.Description, description}} {
			if c.set == nil || clean(*c.set) == *c.was {
				continue
			}
			data[c.name], data[c.name+"_was"] = clean(*c.set), *c.was
			words = append(words, c.name)
			*c.was = clean(*c.set)
		}
		if len(words) == 0 {
			return nil
		}
		if _, err := tx.exec(`UPDATE dataset_versions SET license = ?, description = ? WHERE seq = ?`, row.License, row.Description, row.Seq); err != nil {
			return err
		}
		return tx.event(forge.Event{Tenant: row.Tenant, Actor: t.p.Actor(), Type: forge.EventDatasetEdited,
			Message: fmt.Sprintf("dataset %s@%d: %s changed", row.Name, row.Number, strings.Join(words, " and ")), Data: data})
	})
}

// WaiveDataset marks findings of personal data as taken upon themselves by whoever asks. KindPrecondition for a version without findings.
func (t *Tenant) WaiveDataset(ctx context.Context, id forge.DatasetVersionID, reason string) (forge.DatasetVersion, error) {
	return t.changeDataset(ctx, "dataset.waive", id, func(tx *tx, row *datasetVersionRow) error {
		if row.PII != forge.PIIFindings {
			return forge.Errorf(forge.KindPrecondition, "dataset.waive", "%s@%d has the PII status %s; only findings can be waived", row.Name, row.Number, row.PII).
				WithHint("forgectl dataset show %s@%d", row.Name, row.Number)
		}
		if _, err := tx.exec(`UPDATE dataset_versions SET pii = 'waived', waived_by = ?, waived_reason = ?, waived_at = ? WHERE seq = ?`,
			clean(t.p.Actor()), clean(reason), int64(stampOf(tx.now)), row.Seq); err != nil {
			return err
		}
		return tx.event(forge.Event{Tenant: row.Tenant, Actor: t.p.Actor(), Type: forge.EventDatasetWaived,
			Message: fmt.Sprintf("findings of personal data in dataset %s@%d were waived: %s", row.Name, row.Number, reason),
			Data:    map[string]any{"dataset": row.Name, "version": row.Number, "reason": clean(reason)}})
	})
}

// DeleteDataset takes a version out of use; with purge it also says that forge's own copy of the bytes goes, which the caller then erases
// (DatasetsToPurge, DatasetPurged). A version that is deleted already can still be purged. KindPrecondition, naming
// them, while runs that have not ended or models in production use it, and for a purge of what forge does not own.
func (t *Tenant) DeleteDataset(ctx context.Context, id forge.DatasetVersionID, purge bool) (forge.DatasetVersion, error) {
	const op = "dataset.delete"
	return t.changeDataset(ctx, op, id, func(tx *tx, row *datasetVersionRow) error {
		if purge && row.CopyDir == "" {
			return forge.Errorf(forge.KindPrecondition, op, "the files of %s@%d are referenced where they are and not forge's to erase", row.Name, row.Number).
				WithHint("forgectl dataset delete %s@%d without --purge takes it out of use; its files are yours to remove", row.Name, row.Number)
		}
		if row.DeletedAt != 0 && (!purge || row.PurgingAt != 0) {
			return nil
		}
		users, err := tx.datasetUsers(row)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return forge.Errorf(forge.KindPrecondition, op, "%s@%d is used by %s", row.Name, row.Number, strings.Join(users, ", ")).
				WithHint("wait for runs to end or cancel them; a model leaves production by another one that takes its place")
		}
		verb := "deleted"
		if row.DeletedAt == 0 {
			row.DeletedAt = stampOf(tx.now)
		}
		if purge {
			verb, row.PurgingAt = "deleted, and forge's copy is being erased", stampOf(tx.now)
		}
		if _, err := tx.exec(`UPDATE dataset_versions SET deleted_at = ?, purging_at = ? WHERE seq = ?`, int64(row.DeletedAt), int64(row.PurgingAt), row.Seq); err != nil {
			return err
		}
		return tx.event(forge.Event{Tenant: row.Tenant, Actor: t.p.Actor(), Type: forge.EventDatasetDeleted,
			Message: fmt.Sprintf("dataset %s@%d %s", row.Name, row.Number, verb),
			Data:    map[string]any{"dataset": row.Name, "version": row.Number, "sha256": row.SHA256, "purge": purge}})
	})
}

// shownUsers bounds how many of each sort a refusal names.
const shownUsers = 10

// datasetUsers are the runs that have not ended and the models in production that a version is in, however far down.
func (t *tx) datasetUsers(row *datasetVersionRow) (users []string, _ error) {
	name := fmt.Sprintf("%s@%d", row.Name, row.Number)
	for _, q := range []string{
		`SELECT 'run ' || number FROM runs WHERE tenant = ?0 AND dataset = ?1 AND state IN ('pending', 'provisioning', 'running') ORDER BY number LIMIT ?2`,
		`WITH RECURSIVE made (id) AS (
			SELECT mv.id FROM runs AS r JOIN model_versions AS mv ON mv.run = r.id WHERE r.tenant = ?0 AND r.dataset = ?1
			UNION SELECT mv.id FROM made JOIN run_models AS x ON x.model = made.id JOIN model_versions AS mv ON mv.run = x.run)
		SELECT 'model ' || m.name || '@' || v.number || ' in production' FROM made JOIN model_versions AS v ON v.id = made.id JOIN models AS m ON m.id = v.model
		WHERE v.stage = 'production' ORDER BY v.id LIMIT ?2`,
	} {
		var some []string
		if err := t.NewRaw(q, string(row.Tenant), name, shownUsers).Scan(t.ctx, &some); err != nil {
			return nil, err
		}
		users = append(users, some...)
	}
	return users, nil
}

// DatasetCopy is forge's own copy of a version.
type DatasetCopy struct {
	ID     forge.DatasetVersionID `bun:"id"`
	Tenant forge.TenantID         `bun:"tenant"`
	Dir    string                 `bun:"copy_dir"`
}

// DatasetsToPurge are the copies of which it is decided that they go, and not yet known that they are gone.
func (db *DB) DatasetsToPurge(ctx context.Context) ([]DatasetCopy, error) {
	var all []DatasetCopy
	err := db.read.NewRaw(`SELECT id, tenant, copy_dir FROM dataset_versions WHERE purging_at <> 0 AND purged_at = 0 ORDER BY seq`).Scan(ctx, &all)
	return all, classify("dataset.purge", err)
}

// DatasetPurged notes that a copy is gone.
func (db *DB) DatasetPurged(ctx context.Context, id forge.DatasetVersionID) error {
	return db.write(ctx, "dataset.purge", func(tx *tx) error {
		row := datasetVersionRow{}
		if err := selectDatasetVersions(tx.NewSelect(), &row, false).Where("v.id = ?", id).Scan(tx.ctx); err != nil || row.PurgedAt != 0 {
			return err
		}
		if _, err := tx.exec(`UPDATE dataset_versions SET purged_at = ? WHERE seq = ?`, int64(stampOf(tx.now)), row.Seq); err != nil {
			return err
		}
		return tx.event(forge.Event{Tenant: row.Tenant, Type: forge.EventDatasetPurged, Message: fmt.Sprintf("forge's copy of dataset %s@%d is erased", row.Name, row.Number),
			Data: map[string]any{"dataset": row.Name, "version": row.Number, "sha256": row.SHA256}})
	})
}

// DatasetCopyKnown says whether a directory is the copy of a version.
func (db *DB) DatasetCopyKnown(ctx context.Context, dir string) (known bool, _ error) {
	err := db.sqlRead.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM dataset_versions WHERE copy_dir = ? AND copy_dir <> '')`, clean(dir)).Scan(&known)
	return known, classify("dataset.copies", err)
}

// usable refuses a run of data that was deleted since it was looked up.
func (t *tx) usable(tenant forge.TenantID, in *forge.InputRef) error {
	if in == nil || in.ID == "" {
		return nil
	}
	var deleted int64
	err := t.one(`SELECT deleted_at FROM dataset_versions WHERE tenant = ? AND id = ?`, []any{string(tenant), in.ID}, &deleted)
	if absent(err) || err == nil && deleted == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	return forge.Invalidf("dataset", "%s is deleted", in.Name).WithHint("forgectl dataset show %s", in.Name)
}

// usesModels notes which model versions go into a run.
func (t *tx) usesModels(run forge.RunID, tenant forge.TenantID, spec *forge.RunSpec) error {
	for _, x := range []struct {
		role string
		in   *forge.InputRef
	}{{"base", spec.Base}, {"start", spec.Start}, {"reward_model", spec.RewardModel}} {
		if x.in == nil || x.in.ID == "" {
			continue
		}
		if _, err := t.exec(`INSERT INTO run_models (run, role, model) SELECT ?, ?, id FROM model_versions WHERE id = ? AND tenant = ? ON CONFLICT DO NOTHING`,
			string(run), x.role, x.in.ID, string(tenant)); err != nil {
			return err
		}
	}
	return nil
}

// madeOf notes the same from what a model says of itself: what its run waited for when it was submitted had no id then.
func (t *tx) madeOf(run forge.RunID, tenant forge.TenantID, l *forge.Lineage) error {
	for _, x := range [][2]string{{"base", l.Base}, {"start", l.Start}, {"reward_model", l.RewardModel}} {
		ref, err := forge.ParseRef(x[1])
		if x[1] == "" || err != nil {
			continue
		}
		if _, err := t.exec(`INSERT INTO run_models (run, role, model) SELECT ?, ?, v.id FROM models AS m JOIN model_versions AS v ON v.model = m.id
			WHERE m.tenant = ? AND m.name = ? AND v.number = ? ON CONFLICT DO NOTHING`, string(run), x[0], string(tenant), ref.Name, ref.Number); err != nil {
			return err
		}
	}
	return nil
}
