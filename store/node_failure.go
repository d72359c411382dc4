package store

import (
	"context"
	"fmt"
	"math"
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

// noteFailures lets whoever plans know at once: the next run shall not be the one that finds the node out again.
func (t *tx) noteFailures(a *attemptRow, e End) error {
	for _, b := range e.Blamed {
		row := nodeFailureRow{Cluster: a.Cluster, Node: b.Node, Run: a.Run, Attempt: a.Number, Reason: e.Reason, Certain: b.Certain, At: stampOf(e.At)}
		if _, err := t.NewInsert().Model(&row).On("CONFLICT DO NOTHING").Exec(t.ctx); err != nil {
			return err
		}
	}
	if len(e.Blamed) == 0 {
		return nil
	}
	var blamed []forge.NodeName
	for _, b := range e.Blamed {
		blamed = append(blamed, b.Node)
	}
	nodes, err := loadNodes(t.ctx, t.Conn, a.Cluster, blamed...)
	if err != nil {
		return err
	}
	for i := range nodes {
		t.emit(forge.Delta{Node: &nodes[i]})
	}
	return nil
}

// How failures count against a node.
const (
	evidenceWindow = 24 * time.Hour // for so long they are evidence
	evidenceRuns   = 2              // from so many different runs on: one run may bring its own fault, and goes elsewhere by itself
	failureHalved  = 7 * 24 * time.Hour
	failureGone    = 10 * failureHalved // a thousandth
)

// withFailures adds what speaks against the nodes. An exit that a program can choose proves nothing of a node, however certain it is
// which one it was on: only a fault of the GPU itself does, and where GPUs are known one by one it is held back alone.
func withFailures(ctx context.Context, db bun.IDB, cluster forge.ClusterName, nodes []forge.Node, now time.Time) ([]forge.Node, error) {
	var rows []nodeFailureRow
	q := db.NewSelect().Model(&rows).Where("f.forgiven = 0").Where("f.at >= ?", stampOf(now.Add(-failureGone)))
	if cluster != "" {
		q = q.Where("f.cluster = ?", cluster)
	}
	if err := q.Order("f.cluster", "f.node", "f.at").Scan(ctx); err != nil || len(rows) == 0 { // in one order: the sum is of floats
		return nodes, err
	}
	type key struct {
		cluster forge.ClusterName
		node    forge.NodeName
	}
	type record struct {
		score float64
		runs  map[forge.RunID]bool // of the evidence
		gpu   bool
	}
	against := map[key]*record{}
	for _, f := range rows {
		k := key{f.Cluster, f.Node}
		if against[k] == nil {
			against[k] = &record{runs: map[forge.RunID]bool{}}
		}
		age := max(0, now.Sub(f.At.time()))
		against[k].score += math.Exp2(-float64(age) / float64(failureHalved))
		if age <= evidenceWindow {
			against[k].runs[f.Run] = true
			against[k].gpu = against[k].gpu || f.Reason == forge.EndGPUFault && f.Certain
		}
	}
	for i := range nodes {
		r := against[key{nodes[i].Cluster, nodes[i].Name}]
		switch {
		case r == nil:
			continue
		case r.gpu && !nodes[i].HasUUIDs(): // where GPUs are known one by one the bad one alone is held back
			nodes[i].Suspect = "a run failed there within a day by a fault of its GPU"
		case len(r.runs) >= evidenceRuns:
			nodes[i].Suspect = fmt.Sprintf("%d different runs failed there within a day", len(r.runs))
		}
		nodes[i].Failures = int(math.Round(r.score))
	}
	return nodes, nil
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
