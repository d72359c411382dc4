package store

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

type nodeEventRow struct {
	bun.BaseModel `bun:"table:node_events,alias:e"`

	Seq     int64               `bun:"seq,pk,autoincrement"`
	Cluster forge.ClusterName   `bun:"cluster"`
	Node    forge.NodeName      `bun:"node"`
	At      stamp               `bun:"at"`
	Kind    forge.NodeEventKind `bun:"kind"`
	UUID    string              `bun:"uuid"`
	Rule    string              `bun:"rule"`
	XID     int                 `bun:"xid"`
	Count   int                 `bun:"count"`
	Run     forge.RunID         `bun:"run"`
	Attempt int                 `bun:"attempt"`
	Words   string              `bun:"words"`
	Number  int64               `bun:"number,scanonly"`
	Tenant  forge.TenantID      `bun:"tenant,scanonly"`
}

func (r *nodeEventRow) forge() forge.NodeEvent {
	return forge.NodeEvent{Seq: r.Seq, At: r.At.time(), Cluster: r.Cluster, Node: r.Node, Kind: r.Kind, UUID: r.UUID, Rule: r.Rule, XID: r.XID, Count: r.Count,
		Run: r.Run, Number: r.Number, Attempt: r.Attempt, Words: r.Words}
}

// How much of a node's history is kept, and how often there is a look for what is too much.
const (
	nodeEventsKept  = 5000
	nodeEventsFor   = 180 * 24 * time.Hour
	nodeEventsTrim  = 64
	nodeEventsWords = 500 // bytes
)

// nodeEvent appends a line. Whose the GPU is, is found by who holds it now where the caller does not know.
func (t *tx) nodeEvent(e forge.NodeEvent) error {
	if e.At.IsZero() {
		e.At = t.now
	}
	words := bounded(e.Words, nodeEventsWords)
	run, attempt := string(e.Run), e.Attempt
	if run == "" && e.UUID != "" {
		err := t.one(`SELECT coalesce(max(a.run), ''), coalesce(max(a.attempt), 0) FROM gpus AS g JOIN allocations AS a ON a.cluster = g.cluster AND a.node = g.node AND a.slot = g.slot
			WHERE g.cluster = ? AND g.node = ? AND g.uuid = ?`, []any{string(e.Cluster), string(e.Node), e.UUID}, &run, &attempt)
		if err != nil {
			return err
		}
	}
	res, err := t.Conn.Conn.ExecContext(t.ctx, `INSERT INTO node_events (cluster, node, at, kind, uuid, rule, xid, count, run, attempt, words) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		string(e.Cluster), string(e.Node), int64(stampOf(e.At)), string(e.Kind), clean(e.UUID), clean(e.Rule), e.XID, max(e.Count, 1), run, attempt, words)
	if err != nil {
		return err
	}
	seq, err := res.LastInsertId()
	if err != nil || seq%nodeEventsTrim != 0 {
		return err
	}
	if _, err := t.exec(`DELETE FROM node_events WHERE cluster = ? AND node = ? AND seq <= (SELECT seq FROM node_events WHERE cluster = ? AND node = ? ORDER BY seq DESC LIMIT 1 OFFSET ?)`,
		string(e.Cluster), string(e.Node), string(e.Cluster), string(e.Node), nodeEventsKept); err != nil {
		return err
	}
	_, err = t.exec(`DELETE FROM node_events WHERE cluster = ? AND node = ? AND at < ?`, string(e.Cluster), string(e.Node), int64(stampOf(t.now.Add(-nodeEventsFor))))
	return err
}

// AddNodeEvent appends a line of a node's history that no other change writes by itself. Whose the GPU is, is found where it is not said.
func (db *DB) AddNodeEvent(ctx context.Context, e forge.NodeEvent) error {
	return db.write(ctx, "node.event", func(t *tx) error { return t.nodeEvent(e) })
}

// NodeEventFilter narrows a node's history.
type NodeEventFilter struct {
	Since time.Time // at or after
	After int64     // only greater seqs
	Limit int       // at most so many; 0: 100
}

// NodeEvents is what happened to a node and its GPUs: the oldest first. Whose run had a GPU is told of the principal's
// own tenant, and to operators.
func (t *Tenant) NodeEvents(ctx context.Context, cluster forge.ClusterName, node forge.NodeName, f NodeEventFilter) ([]forge.NodeEvent, error) {
	events, err := t.db.nodeEvents(ctx, cluster, node, f)
	if err != nil {
		return nil, err
	}
	out := make([]forge.NodeEvent, 0, len(events))
	for _, r := range events {
		e := r.forge()
		if r.Tenant != t.p.Tenant && t.p.Role != forge.RoleOperator {
			e.Run, e.Number, e.Attempt = "", 0, 0
		}
		out = append(out, e)
	}
	return out, nil
}

func (db *DB) nodeEvents(ctx context.Context, cluster forge.ClusterName, node forge.NodeName, f NodeEventFilter) ([]nodeEventRow, error) {
	var rows []nodeEventRow
	q := db.read.NewSelect().Model(&rows).ColumnExpr("e.*").ColumnExpr("coalesce(r.number, 0) AS number").ColumnExpr("coalesce(r.tenant, '') AS tenant").
		Join("LEFT JOIN runs AS r ON r.id = e.run").Where("e.cluster = ?", cluster).Where("e.node = ?", node)
	q = q.Where("e.seq > ?", f.After).Order("e.seq")
	if !f.Since.IsZero() {
		q = q.Where("e.at >= ?", stampOf(f.Since))
	}
	if f.Limit <= 0 {
		f.Limit = 100
	}
	if err := q.Limit(int64(f.Limit)).Scan(ctx); err != nil {
		return nil, classify("node.events", err)
	}
	return rows, nil
}

// Told is the newest that is in the history of one GPU for one rule and XID.
type Told struct {
	UUID string
	Rule string
	XID  int
	At   time.Time
}

// Told lists what the history of a node knows already, so that what comes again from another source is not taken for news.
func (db *DB) Told(ctx context.Context, cluster forge.ClusterName, node forge.NodeName) ([]Told, error) {
	var rows []struct {
		UUID string
		Rule string
		XID  int `bun:"xid"`
		At   stamp
	}
	err := db.read.NewRaw(`SELECT uuid, rule, xid, max(at) AS at FROM node_events WHERE cluster = ? AND node = ? AND kind = ? GROUP BY uuid, rule, xid`, string(cluster), string(node), string(forge.NodeEventFound)).Scan(ctx, &rows)
	if err != nil {
		return nil, classify("node.events", err)
	}
	var out []Told
	for _, r := range rows {
		out = append(out, Told{UUID: r.UUID, Rule: r.Rule, XID: r.XID, At: r.At.time()})
	}
	return out, nil
}

// XIDsSince lists what drivers said of a node's GPUs since then, oldest first.
func (db *DB) XIDsSince(ctx context.Context, cluster forge.ClusterName, node forge.NodeName, since time.Time) ([]forge.NodeEvent, error) {
	var rows []nodeEventRow
	err := db.read.NewSelect().Model(&rows).Where("e.cluster = ?", cluster).Where("e.node = ?", node).Where("e.kind = ?", forge.NodeEventFound).Where("e.xid <> 0").
		Where("e.at >= ?", stampOf(since)).Order("e.seq").Limit(nodeEventsKept).Scan(ctx)
	if err != nil {
		return nil, classify("node.events", err)
	}
	out := make([]forge.NodeEvent, 0, len(rows))
	for i := range rows {
		out = append(out, rows[i].forge())
	}
	return out, nil
}

// LastXIDs lists the last that the driver said of each GPU since then, at most so many as a history keeps.
func (db *DB) LastXIDs(ctx context.Context, since time.Time) ([]forge.NodeEvent, error) {
	var rows []struct {
		Cluster forge.ClusterName
		Node    forge.NodeName
		UUID    string
		XID     int `bun:"xid"`
		At      stamp
	}
	// SQLite takes xid from the row that has the maximum.
	err := db.read.NewRaw(`SELECT cluster, node, uuid, xid, max(at) AS at FROM node_events WHERE kind = ? AND xid <> 0 AND uuid <> '' AND at >= ? GROUP BY cluster, node, uuid ORDER BY at DESC LIMIT ?`,
		string(forge.NodeEventFound), stampOf(since), nodeEventsKept).Scan(ctx, &rows)
	if err != nil {
		return nil, classify("node.events", err)
	}
	out := make([]forge.NodeEvent, 0, len(rows))
	for _, r := range rows {
		out = append(out, forge.NodeEvent{At: r.At.time(), Cluster: r.Cluster, Node: r.Node, Kind: forge.NodeEventFound, UUID: r.UUID, XID: r.XID})
	}
	return out, nil
}

// TellWatch records how far what NVML says of a node can be relied on from now on.
func (db *DB) TellWatch(ctx context.Context, cluster forge.ClusterName, node forge.NodeName, state forge.NVMLState, words string) error {
	return db.write(ctx, "node.watch", func(t *tx) error {
		if err := t.nodeEvent(forge.NodeEvent{Cluster: cluster, Node: node, Kind: forge.NodeEventWatch, Words: words}); err != nil {
			return err
		}
		return t.event(forge.Event{Type: forge.EventNodeWatch, Reason: string(state), Message: fmt.Sprintf("node %s of %s: %s", node, cluster, bounded(words, nodeEventsWords)),
			Data: map[string]any{"cluster": string(cluster), "node": string(node)}})
	})
}

// XIDCount is how often a driver said one thing of a GPU.
type XIDCount struct {
	UUID  string
	XID   int
	Count int
	Last  time.Time
	Words string // of the last
}

// XIDCounts adds up what drivers said of a node's GPUs since then, the most recent first.
func (db *DB) XIDCounts(ctx context.Context, cluster forge.ClusterName, node forge.NodeName, since time.Time) ([]XIDCount, error) {
	var rows []struct {
		UUID  string
		XID   int `bun:"xid"`
		Count int
		Last  stamp
		Words string
	}
	// SQLite takes words from the row that has the maximum.
	err := db.read.NewRaw(`SELECT uuid, xid, sum(count) AS count, max(at) AS last, words FROM node_events WHERE cluster = ? AND node = ? AND kind = ? AND xid <> 0 AND at >= ?
		GROUP BY uuid, xid ORDER BY last DESC, uuid, xid`, string(cluster), string(node), string(forge.NodeEventFound), stampOf(since)).Scan(ctx, &rows)
	if err != nil {
		return nil, classify("node.events", err)
	}
	var out []XIDCount
	for _, r := range rows {
		out = append(out, XIDCount{UUID: r.UUID, XID: r.XID, Count: r.Count, Last: r.Last.time(), Words: r.Words})
	}
	return out, nil
}
