package store

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

type drainRow struct {
	bun.BaseModel `bun:"table:node_drains,alias:d"`

	Cluster forge.ClusterName `bun:"cluster,pk"`
	Node    forge.NodeName    `bun:"node,pk"`
	By      string            `bun:"by_user"`
	Reason  string            `bun:"reason"`
	At      stamp             `bun:"at"`
	Outside bool              `bun:"outside"`
}

func (r *drainRow) forge() *forge.Drain {
	return &forge.Drain{By: r.By, Reason: r.Reason, At: r.At.time(), Outside: r.Outside}
}

// withDrains adds what operators said of the nodes; there are few such words.
func withDrains(ctx context.Context, db bun.IDB, nodes []forge.Node) ([]forge.Node, error) {
	var rows []drainRow
	if err := db.NewSelect().Model(&rows).Scan(ctx); err != nil || len(rows) == 0 {
		return nodes, err
	}
	type key struct {
		cluster forge.ClusterName
		node    forge.NodeName
	}
	said := make(map[key]*forge.Drain, len(rows))
	for i := range rows {
		said[key{rows[i].Cluster, rows[i].Node}] = rows[i].forge()
	}
	for i, n := range nodes {
		nodes[i] = n.Drained(said[key{n.Cluster, n.Name}])
	}
	return nodes, nil
}

// DrainNode keeps new work away from a node until it is undrained; what runs there goes on. Claims on it end. KindNotFound;
// KindPrecondition when it is drained already. For operators: who may is the caller's to know.
func (t *Tenant) DrainNode(ctx context.Context, cluster forge.ClusterName, node forge.NodeName, reason string) (forge.Node, error) {
	return t.changeDrain(ctx, "node.drain", cluster, node, func(tx *tx, n forge.Node) error {
		if n.Drain != nil {
			return forge.Errorf(forge.KindPrecondition, "node.drain", "node %s is drained already, by %s: %s", node, n.Drain.By, n.Drain.Reason).
				WithHint("forgectl node undrain %s", node)
		}
		row := drainRow{Cluster: cluster, Node: node, By: t.p.Actor(), Reason: clean(reason), At: stampOf(tx.now)}
		if _, err := tx.NewInsert().Model(&row).Exec(tx.ctx); err != nil {
			return err
		}
		return tx.drainChanged(n, row.forge(), forge.Event{Actor: row.By, Type: forge.EventNodeDrained, Message: fmt.Sprintf("node %s of %s takes no new work: %s", node, cluster, row.Reason)})
	})
}

// UndrainNode takes that word back, and lets what failures there were be history: whoever undrains has looked after the node.
// KindNotFound; KindPrecondition when nobody has drained it here and there is nothing against it.
func (t *Tenant) UndrainNode(ctx context.Context, cluster forge.ClusterName, node forge.NodeName) (forge.Node, error) {
	return t.changeDrain(ctx, "node.undrain", cluster, node, func(tx *tx, n forge.Node) error {
		forgiven, err := tx.forgive(cluster, node)
		if err != nil {
			return err
		}
		rules, err := tx.letRulesGo(n)
		if err != nil {
			return err
		}
		if n.Drain == nil && rules > 0 {
			return tx.operatorSaid(n, forge.EventNodeUndrained, forge.NodeEventUndrain, t.p.Actor(), "",
				fmt.Sprintf("node %s of %s is no longer held back by rules of GPU health", node, cluster), "by "+t.p.Actor())
		}
		if n.Drain == nil && forgiven > 0 {
			n.Failures, n.Suspect = 0, ""
			tx.emit(forge.Delta{Node: &n})
			return tx.event(forge.Event{Actor: t.p.Actor(), Type: forge.EventNodeUndrained, Message: fmt.Sprintf("the failures of node %s of %s so far are history: it takes work of every run again", node, cluster)})
		}
		if n.Drain == nil {
			e := forge.Errorf(forge.KindPrecondition, "node.undrain", "node %s is not drained by forge", node)
			if n.State != forge.NodeReady {
				return e.WithHint("it is %s by itself: %s", n.State, n.Reason)
			}
			return e.WithHint("forgectl node list")
		}
		if _, err := tx.exec(`DELETE FROM node_drains WHERE cluster = ? AND node = ?`, string(cluster), string(node)); err != nil {
			return err
		}
		return tx.drainChanged(n, nil, forge.Event{Actor: t.p.Actor(), Type: forge.EventNodeUndrained, Message: fmt.Sprintf("node %s of %s may take work again; it was drained: %s", node, cluster, n.Drain.Reason)})
	})
}

// letRulesGo lets go of what rules hold of the node as a whole. What holds single GPUs back stays.
func (t *tx) letRulesGo(n forge.Node) (count int64, err error) {
	for _, h := range n.Holds {
		if !n.HoldsNode(h) {
			continue
		}
		c, err := t.exec(`DELETE FROM gpu_drains WHERE cluster = ? AND node = ? AND uuid = ? AND rule = ?`, string(n.Cluster), string(n.Name), h.UUID, h.Rule)
		if err != nil {
			return count, err
		}
		count += c
	}
	return count, nil
}

// DrainedOutside notes that the cluster's batch system was told of a drain as well, or no longer knows of it.
func (db *DB) DrainedOutside(ctx context.Context, cluster forge.ClusterName, node forge.NodeName, told bool) error {
	return db.write(ctx, "node.drain", func(t *tx) error {
		n, err := t.oneNode("node.drain", cluster, node)
		if err != nil || n.Drain == nil || n.Drain.Outside == told {
			return err
		}
		if _, err := t.exec(`UPDATE node_drains SET outside = ? WHERE cluster = ? AND node = ?`, told, string(cluster), string(node)); err != nil {
			return err
		}
		d := *n.Drain
		d.Outside, n.Drain = told, &d
		t.emit(forge.Delta{Node: &n})
		return nil
	})
}

func (t *Tenant) changeDrain(ctx context.Context, op string, cluster forge.ClusterName, node forge.NodeName, do func(*tx, forge.Node) error) (out forge.Node, err error) {
	err = t.db.write(ctx, op, func(tx *tx) error {
		load := func() (forge.Node, error) { return tx.oneNode(op, cluster, node) }
		err := tx.once(t.p, func() (string, error) {
			n, err := load()
			if err != nil {
				return "", err
			}
			return string(cluster) + "/" + string(node), do(tx, n)
		}, func(string) error { return nil })
		if err == nil {
			out, err = load()
		}
		return err
	})
	return out, err
}

func (t *tx) oneNode(op string, cluster forge.ClusterName, node forge.NodeName) (forge.Node, error) {
	nodes, err := loadNodes(t.ctx, t.Conn, cluster)
	if err != nil {
		return forge.Node{}, err
	}
	for _, n := range nodes {
		if n.Name == node && n.Cluster == cluster {
			return n, nil
		}
	}
	return forge.Node{}, notFound(op, "there is no node %.100q in cluster %.100q", node, cluster).WithHint("forgectl node list")
}

// drainChanged lets whoever plans know: a new version, so that a plan that was made by the old one comes back.
func (t *tx) drainChanged(was forge.Node, d *forge.Drain, e forge.Event) error {
	if _, err := t.exec(`UPDATE nodes SET version = version + 1 WHERE cluster = ? AND name = ?`, string(was.Cluster), string(was.Name)); err != nil {
		return err
	}
	n, err := t.oneNode("node.drain", was.Cluster, was.Name)
	if err != nil {
		return err
	}
	if d != nil {
		if err := t.dropClaimsOn(n, lostSlots(n, was)); err != nil {
			return err
		}
	}
	t.emit(forge.Delta{Node: &n})
	e.Data = map[string]any{"cluster": string(n.Cluster), "node": string(n.Name)}
	kind, words := forge.NodeEventUndrain, "by "+e.Actor
	if d != nil {
		kind, words = forge.NodeEventDrained, "by "+d.By+": "+d.Reason
	}
	if err := t.nodeEvent(forge.NodeEvent{Cluster: n.Cluster, Node: n.Name, Kind: kind, Words: words}); err != nil {
		return err
	}
	return t.event(e)
}
