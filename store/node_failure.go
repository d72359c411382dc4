package store

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

// Blame is a node that may have had its part in the end of an attempt.
type Blame struct {
	Node    forge.NodeName
	Certain bool // it alone had the fault: its own GPU, its own environment
}

// NodeFailure is one attempt that ended by a fault that a node may have had its part in.
type NodeFailure struct {
	Node    forge.NodeName
	Run     forge.RunID // any tenant's: for counting, not for showing
	Attempt int
	Reason  forge.EndReason
	Certain bool
	At      time.Time
}

type nodeFailureRow struct {
	bun.BaseModel `bun:"table:node_failures,alias:f"`

	Cluster forge.ClusterName `bun:"cluster,pk"`
	Node    forge.NodeName    `bun:"node,pk"`
	Run     forge.RunID       `bun:"run,pk"`
	Attempt int               `bun:"attempt,pk"`
	Reason  forge.EndReason   `bun:"reason"`
	Certain bool              `bun:"certain"`
	At      stamp             `bun:"at"`
}

func (t *tx) noteFailures(a *attemptRow, e End) error {
	for _, b := range e.Blamed {
		row := nodeFailureRow{Cluster: a.Cluster, Node: b.Node, Run: a.Run, Attempt: a.Number, Reason: e.Reason, Certain: b.Certain, At: stampOf(e.At)}
		if _, err := t.NewInsert().Model(&row).On("CONFLICT DO NOTHING").Exec(t.ctx); err != nil {
			return err
		}
	}
	return nil
}

// evidenceRuns is from how many different runs on faults speak against a node: one run may bring its own.
const evidenceRuns = 2

// NodeEvidence lists the nodes of a cluster, by name, that there is evidence against since then: faults of two different runs,
// or one that was certainly its own.
func (db *DB) NodeEvidence(ctx context.Context, cluster forge.ClusterName, since time.Time) ([]forge.NodeName, error) {
	var nodes []forge.NodeName
	err := db.read.NewRaw(`SELECT node FROM node_failures WHERE cluster = ? AND at >= ? AND forgiven = 0 GROUP BY node
		HAVING max(certain) = 1 OR count(DISTINCT run) >= ? ORDER BY node`, string(cluster), stampOf(since), evidenceRuns).Scan(ctx, &nodes)
	return nodes, classify("node.evidence", err)
}

// NodeFailures is the history of a cluster's nodes since then, newest first.
func (db *DB) NodeFailures(ctx context.Context, cluster forge.ClusterName, since time.Time) ([]NodeFailure, error) {
	var rows []nodeFailureRow
	err := db.read.NewSelect().Model(&rows).Where("f.cluster = ?", cluster).Where("f.at >= ?", stampOf(since)).
		Order("f.at DESC", "f.node", "f.run", "f.attempt").Scan(ctx)
	if err != nil {
		return nil, classify("node.failures", err)
	}
	return nouns(rows, func(r *nodeFailureRow) (NodeFailure, error) {
		return NodeFailure{Node: r.Node, Run: r.Run, Attempt: r.Attempt, Reason: r.Reason, Certain: r.Certain, At: r.At.time()}, nil
	})
}

// forgive lets the evidence against a node be history, once an operator has let it take work again, and says how much of it there was.
func (t *tx) forgive(cluster forge.ClusterName, node forge.NodeName) (int64, error) {
	return t.exec(`UPDATE node_failures SET forgiven = 1 WHERE cluster = ? AND node = ? AND forgiven = 0`, string(cluster), string(node))
}
