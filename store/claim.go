package store

import (
	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

type claimRow struct {
	bun.BaseModel `bun:"table:claims,alias:c"`

	Cluster   forge.ClusterName `bun:"cluster,pk"`
	Node      forge.NodeName    `bun:"node,pk"`
	Slot      int               `bun:"slot,pk"`
	For       forge.RunID       `bun:"for_run"`
	CreatedAt stamp             `bun:"created_at"`
	From      forge.RunID       `bun:"from_run"`
}

func (r *claimRow) forge() forge.Claim {
	return forge.Claim{Cluster: r.Cluster, Node: r.Node, Slot: r.Slot, For: r.For, From: r.From}
}

// claim keeps a slot for a run. The claims of a run with lower priority give way, all of them: a gang starts whole or
// not at all. Any other answers with a refusal: two gangs must not both wait for the same slot to become free.
func (t *tx) claim(c forge.Claim, priority int) error {
	row := claimRow{Cluster: c.Cluster, Node: c.Node, Slot: c.Slot, For: c.For, From: c.From, CreatedAt: stampOf(t.now)}
	var holder forge.RunID
	err := t.one(`SELECT for_run FROM claims WHERE cluster = ? AND node = ? AND slot = ?`, []any{string(c.Cluster), string(c.Node), c.Slot}, (*string)(&holder))
	switch {
	case absent(err):
	case err != nil:
		return err
	case holder == c.For:
		return nil
	default:
		r, err := t.run(holder)
		if err != nil {
			return err
		}
		if r.Priority >= priority {
			return stale("slot %d of %s is claimed for another run", c.Slot, c.Node)
		}
		if err := t.dropClaims(claimsFor, string(holder)); err != nil {
			return err
		}
	}
	if _, err := t.exec(`INSERT INTO claims (cluster, node, slot, for_run, created_at, from_run) VALUES (?, ?, ?, ?, ?, ?)`,
		string(row.Cluster), string(row.Node), row.Slot, string(row.For), int64(row.CreatedAt), string(row.From)); err != nil {
		return err
	}
	t.emit(forge.Delta{Claim: &forge.ClaimChange{Claim: row.forge()}})
	return nil
}

// claimsFor selects those of a run.
const claimsFor = `for_run = ?`

// dropClaims ends the claims that where selects.
func (t *tx) dropClaims(where string, args ...any) error {
	rows, err := t.claims(where, args...)
	if err != nil {
		return err
	}
	for i := range rows {
		if _, err := t.exec(`DELETE FROM claims WHERE cluster = ? AND node = ? AND slot = ?`,
			string(rows[i].Cluster), string(rows[i].Node), rows[i].Slot); err != nil {
			return err
		}
		t.emit(forge.Delta{Claim: &forge.ClaimChange{Claim: rows[i].forge(), Gone: true}})
	}
	return nil
}
