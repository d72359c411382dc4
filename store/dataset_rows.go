package store

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"sort"

	forge "github.com/forge-ml/forge-ml"
)

const (
	// RowPrint is how many bytes of a row's digest are kept.
	RowPrint = 8
	// RowsPart is how many bytes of fingerprints stand in one row of the table: one is read for a lookup, and one is what the writer is held for.
	RowsPart = 64 << 10
	// partsDropped bounds one write that takes away what an upload left that was cut off.
	partsDropped = 64
)

// BeginDatasetRows makes a version ready for the index of its rows: what an earlier try left is removed. KindPrecondition
// for one that has its index.
func (t *Tenant) BeginDatasetRows(ctx context.Context, id forge.DatasetVersionID) error {
	const op = "dataset.rows"
	for {
		var gone int64
		err := t.db.write(ctx, op, func(tx *tx) error {
			seq, err := tx.unindexed(t.p.Tenant, id)
			if err == nil {
				gone, err = tx.exec(`DELETE FROM dataset_rows WHERE version = ? AND part IN (SELECT part FROM dataset_rows WHERE version = ? LIMIT ?)`, seq, seq, partsDropped)
			}
			return err
		})
		if err != nil || gone == 0 {
			return err
		}
	}
}

func (t *tx) unindexed(tenant forge.TenantID, id forge.DatasetVersionID) (seq int64, _ error) {
	var name string
	var number int
	var indexed bool
	err := t.one(`SELECT v.seq, d.name, v.number, v.indexed FROM dataset_versions AS v JOIN datasets AS d ON d.id = v.dataset WHERE v.tenant = ? AND v.id = ?`,
		[]any{string(tenant), clean(string(id))}, &seq, &name, &number, &indexed)
	switch {
	case absent(err):
		return 0, noDataset(string(id))
	case err != nil:
		return 0, err
	case indexed:
		return 0, forge.Errorf(forge.KindPrecondition, "dataset.rows", "the rows of %s@%d are indexed already", name, number)
	}
	return seq, nil
}

// AddDatasetRows stores the next fingerprints of a version's rows, at most RowsPart bytes, after those before it.
func (t *Tenant) AddDatasetRows(ctx context.Context, id forge.DatasetVersionID, part int, prints []byte) error {
	return t.db.write(ctx, "dataset.rows", func(tx *tx) error {
		seq, err := tx.unindexed(t.p.Tenant, id)
		if err == nil {
			_, err = tx.exec(`INSERT INTO dataset_rows (version, part, first, prints) VALUES (?, ?, ?, ?)`, seq, part, prints[:RowPrint], prints)
		}
		return err
	})
}

// EndDatasetRows says that the index is whole: from now on rows are looked up in it.
func (t *Tenant) EndDatasetRows(ctx context.Context, id forge.DatasetVersionID) (forge.DatasetVersion, error) {
	return t.changeDataset(ctx, "dataset.rows", id, func(tx *tx, row *datasetVersionRow) error {
		_, err := tx.exec(`UPDATE dataset_versions SET indexed = 1 WHERE seq = ?`, row.Seq)
		return err
	})
}

// timesIn counts a fingerprint in one version's index.
func (t *Tenant) timesIn(ctx context.Context, q querier, version int64, fingerprint []byte) (times int64, _ error) {
	rows, err := q.QueryContext(ctx, `SELECT prints FROM dataset_rows WHERE version = ? AND first <= ? ORDER BY first DESC, part DESC`, version, fingerprint)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var prints []byte
		if err := rows.Scan(&prints); err != nil {
			return 0, err
		}
		times += count(prints, fingerprint)
		if !bytes.Equal(prints[:RowPrint], fingerprint) {
			break // equal ones that filled several parts end here
		}
	}
	return times, rows.Err()
}

// count is how often a fingerprint stands among sorted ones.
func count(prints, fingerprint []byte) int64 {
	n := len(prints) / RowPrint
	from := sort.Search(n, func(i int) bool { return bytes.Compare(prints[i*RowPrint:(i+1)*RowPrint], fingerprint) >= 0 })
	to := sort.Search(n, func(i int) bool { return bytes.Compare(prints[i*RowPrint:(i+1)*RowPrint], fingerprint) > 0 })
	return int64(to - from)
}

// DatasetImpact says in which versions of the tenant a row is, by the first bytes of its digest, and what came of those. A version made
// from one of them counts only if it has the row itself: it may have been made to be rid of it.
func (t *Tenant) DatasetImpact(ctx context.Context, digest [32]byte, limit int) (forge.Impact, error) {
	const op = "dataset.impact"
	out := forge.Impact{Digest: hex.EncodeToString(digest[:]), Versions: []forge.RowInside{}, Unknown: []string{}, Models: []string{}}
	rows, err := t.db.sqlRead.QueryContext(ctx, `SELECT v.seq, d.name || '@' || v.number, v.indexed FROM dataset_versions AS v JOIN datasets AS d ON d.id = v.dataset
		WHERE v.tenant = ? ORDER BY d.name, v.number`, string(t.p.Tenant))
	if err != nil {
		return out, classify(op, err)
	}
	type known struct {
		seq  int64
		name string
	}
	var indexed []known
	for rows.Next() {
		var k known
		var has bool
		if err := rows.Scan(&k.seq, &k.name, &has); err != nil {
			_ = rows.Close()
			return out, classify(op, err)
		}
		if has {
			indexed = append(indexed, k)
		} else {
			out.Unknown = append(out.Unknown, k.name)
		}
	}
	if err := rows.Err(); err != nil {
		return out, classify(op, err)
	}
	_ = rows.Close()
	var holders []int64
	for _, k := range indexed {
		n, err := t.timesIn(ctx, t.db.sqlRead, k.seq, digest[:RowPrint])
		if err != nil {
			return out, classify(op, fmt.Errorf("look up rows of %s: %w", k.name, err))
		}
		if n > 0 {
			holders, out.Versions = append(holders, k.seq), append(out.Versions, forge.RowInside{Name: k.name, Times: n})
		}
	}
	out.Graph, err = t.lineage(ctx, op, holders, 0, limit)
	for _, n := range out.Graph.Nodes {
		if n.Kind == forge.LineageModel {
			out.Models = append(out.Models, n.Name)
		}
	}
	return out, err
}
