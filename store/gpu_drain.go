package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

type gpuDrainRow struct {
	bun.BaseModel `bun:"table:gpu_drains,alias:h"`

	Cluster forge.ClusterName `bun:"cluster,pk"`
	Node    forge.NodeName    `bun:"node,pk"`
	UUID    string            `bun:"uuid,pk"`
	Rule    string            `bun:"rule,pk"`
	Hold    forge.HoldAct     `bun:"hold"`
	By      string            `bun:"by_user"`
	Reason  string            `bun:"reason"`
	At      stamp             `bun:"at"`
	OverAt  stamp             `bun:"over_at"`
	Outside bool              `bun:"outside"`
}

func (r *gpuDrainRow) forge() forge.NodeHold {
	return forge.NodeHold{UUID: r.UUID, Rule: r.Rule, Act: r.Hold, By: r.By, Reason: r.Reason, At: r.At.time(), OverAt: r.OverAt.time(), Outside: r.Outside}
}

// holdReason is how much of a reason is kept, in bytes: it is shown in tables.
const holdReason = 200

type nodeName struct {
	cluster forge.ClusterName
	node    forge.NodeName
}

// heldBack reads what is held back, by node; there is little of it.
func heldBack(ctx context.Context, db bun.IDB, cluster forge.ClusterName) (map[nodeName][]forge.NodeHold, error) {
	var rows []gpuDrainRow
	q := db.NewSelect().Model(&rows).Order("h.cluster", "h.node", "h.uuid", "h.rule")
	if cluster != "" {
		q = q.Where("h.cluster = ?", cluster)
	}
	if err := q.Scan(ctx); err != nil {
		return nil, err
	}
	out := map[nodeName][]forge.NodeHold{}
	for i := range rows {
		k := nodeName{rows[i].Cluster, rows[i].Node}
		out[k] = append(out[k], rows[i].forge())
	}
	return out, nil
}

// HealthNews is what the rules of GPU health make of a node, at once.
type HealthNews struct {
	Events []forge.NodeEvent
	Holds  []forge.NodeHold // UUID, Rule, Act, Reason; At is when it was told
	Over   []forge.NodeHold // UUID, Rule, OverAt: conditions that have ended
}

// RecordHealth writes it in one transaction, and says which holds are new: the same hold again is the one that there is, of which the act may
// grow stronger, and whose condition lasts again. Claims on what is held back end; what is allocated stays so.
func (db *DB) RecordHealth(ctx context.Context, cluster forge.ClusterName, node forge.NodeName, news HealthNews) (fresh []forge.NodeHold, err error) {
	err = db.write(ctx, "node.health", func(t *tx) error {
		fresh = nil
		for _, e := range news.Events {
			e.Cluster, e.Node = cluster, node
			if err := t.nodeEvent(e); err != nil {
				return err
			}
		}
		if len(news.Holds)+len(news.Over) == 0 {
			return nil
		}
		was, known, err := t.nodeIfKnown(cluster, node)
		if err != nil {
			return err
		}
		changed := false
		for _, h := range news.Holds {
			if h.Rule == "" || !h.Act.Keeps() {
				return forge.Errorf(forge.KindInternal, "node.health", "rule %q cannot hold back by %q", h.Rule, h.Act)
			}
			isNew, moved, err := t.hold(cluster, node, h)
			if err != nil {
				return err
			}
			if changed = changed || moved; isNew {
				fresh = append(fresh, h)
			}
		}
		for _, h := range news.Over {
			n, err := t.exec(`UPDATE gpu_drains SET over_at = ? WHERE cluster = ? AND node = ? AND uuid = ? AND rule = ? AND over_at = 0`,
				int64(stampOf(h.OverAt)), string(cluster), string(node), h.UUID, h.Rule)
			if err != nil {
				return err
			}
			changed = changed || n > 0
		}
		if changed && known {
			return t.holdsChanged(was)
		}
		return nil
	})
	return fresh, err
}

func (t *tx) hold(cluster forge.ClusterName, node forge.NodeName, h forge.NodeHold) (isNew, changed bool, err error) {
	row := gpuDrainRow{Cluster: cluster, Node: node, UUID: clean(h.UUID), Rule: clean(h.Rule), Hold: h.Act, By: h.By, Reason: bounded(h.Reason, holdReason), At: stampOf(h.At)}
	if row.By == "" {
		row.By = actorForged
	}
	if row.At == 0 {
		row.At = stampOf(t.now)
	}
	var old []gpuDrainRow
	if err := t.NewSelect().Model(&old).Where("h.cluster = ?", cluster).Where("h.node = ?", node).Where("h.uuid = ?", row.UUID).Where("h.rule = ?", row.Rule).Scan(t.ctx); err != nil {
		return false, false, err
	}
	if len(old) > 0 {
		was := old[0]
		now := was
		now.OverAt, now.At = 0, max(was.At, row.At)
		if row.Hold.Weight() > was.Hold.Weight() {
			now.Hold, now.Reason = row.Hold, row.Reason
		}
		if now == was {
			return false, false, nil
		}
		_, err := t.NewUpdate().Model(&now).WherePK().Exec(t.ctx)
		return false, true, err
	}
	if _, err := t.NewInsert().Model(&row).Exec(t.ctx); err != nil {
		return false, false, err
	}
	what := "GPU " + row.UUID + " of node " + string(node)
	if row.UUID == "" || row.Hold == forge.HoldNode {
		what = "node " + string(node)
	}
	e := forge.NodeEvent{At: row.At.time(), Cluster: cluster, Node: node, Kind: forge.NodeEventHeld, UUID: row.UUID, Rule: row.Rule, Words: "takes no new work: " + row.Reason}
	if err := t.nodeEvent(e); err != nil {
		return false, false, err
	}
	return true, true, t.event(forge.Event{Type: forge.EventNodeHeld, Reason: row.Rule, Message: fmt.Sprintf("%s of %s takes no new work (%s): %s", what, cluster, row.Rule, row.Reason),
		Data: map[string]any{"cluster": string(cluster), "node": string(node), "uuid": row.UUID, "hold": string(row.Hold)}})
}

// LetBack lets back what one rule held, and nothing else: what another rule or an operator holds stays. why says what was checked. Letting back what is
// not held does nothing.
func (db *DB) LetBack(ctx context.Context, cluster forge.ClusterName, node forge.NodeName, uuid, rule, why string) (done bool, err error) {
	if rule == "" {
		return false, forge.Errorf(forge.KindInternal, "node.return", "what a person drained is let back by people")
	}
	err = db.write(ctx, "node.return", func(t *tx) error {
		done = false
		was, known, err := t.nodeIfKnown(cluster, node)
		if err != nil {
			return err
		}
		n, err := t.exec(`DELETE FROM gpu_drains WHERE cluster = ? AND node = ? AND uuid = ? AND rule = ?`, string(cluster), string(node), uuid, rule)
		if err != nil || n == 0 {
			return err
		}
		done = true
		what := "node " + string(node)
		if uuid != "" {
			what = "GPU " + uuid + " of node " + string(node)
		}
		why := bounded(why, holdReason)
		if err := t.nodeEvent(forge.NodeEvent{Cluster: cluster, Node: node, Kind: forge.NodeEventReturned, UUID: uuid, Rule: rule, Words: why}); err != nil {
			return err
		}
		if err := t.event(forge.Event{Type: forge.EventNodeReturned, Reason: rule, Message: fmt.Sprintf("%s of %s is no longer held back by %s: %s", what, cluster, rule, why),
			Data: map[string]any{"cluster": string(cluster), "node": string(node), "uuid": uuid}}); err != nil || !known {
			return err
		}
		return t.holdsChanged(was)
	})
	return done, err
}

// HeldOutside notes that the cluster's batch system was told of a rule's hold as well.
func (db *DB) HeldOutside(ctx context.Context, cluster forge.ClusterName, node forge.NodeName, uuid, rule string) error {
	return db.write(ctx, "node.hold", func(t *tx) error {
		n, err := t.exec(`UPDATE gpu_drains SET outside = 1 WHERE cluster = ? AND node = ? AND uuid = ? AND rule = ?`, string(cluster), string(node), uuid, rule)
		if err != nil || n == 0 {
			return err
		}
		was, known, err := t.nodeIfKnown(cluster, node)
		if err == nil && known {
			t.emit(forge.Delta{Node: &was})
		}
		return err
	})
}

// DrainGPU keeps new work away from one GPU until it is undrained; gpu is its UUID or the number of its slot. KindNotFound; KindPrecondition when it is
// drained already by an operator, and where GPUs are not known one by one. For operators: who may is the caller's to know.
func (t *Tenant) DrainGPU(ctx context.Context, cluster forge.ClusterName, node forge.NodeName, gpu, reason string) (forge.Node, error) {
	const op = "node.drain"
	return t.changeDrain(ctx, op, cluster, node, func(tx *tx, n forge.Node) error {
		g, err := gpuOf(op, n, gpu)
		if err != nil {
			return err
		}
		for _, h := range n.Holds {
			if h.UUID == g.UUID && h.Rule == "" {
				return forge.Errorf(forge.KindPrecondition, op, "GPU %s of %s is drained already, by %s: %s", g.UUID, node, h.By, h.Reason).WithHint("forgectl node undrain %s --gpu %d", node, g.Slot)
			}
		}
		row := gpuDrainRow{Cluster: cluster, Node: node, UUID: g.UUID, Hold: forge.HoldDrain, By: t.p.Actor(), Reason: bounded(reason, holdReason), At: stampOf(tx.now)}
		if _, err := tx.NewInsert().Model(&row).Exec(tx.ctx); err != nil {
			return err
		}
		return tx.operatorSaid(n, forge.EventNodeDrained, forge.NodeEventDrained, row.By, g.UUID,
			fmt.Sprintf("GPU %s of node %s of %s takes no new work: %s", g.UUID, node, cluster, row.Reason), "by "+row.By+": "+row.Reason)
	})
}

// UndrainGPU takes back all that holds one GPU back, a rule's too: whoever undrains has looked after it. A GPU that is missing is forgotten, and its slot
// is free for another. KindPrecondition where nothing holds it back, and of a missing one while an attempt has it.
func (t *Tenant) UndrainGPU(ctx context.Context, cluster forge.ClusterName, node forge.NodeName, gpu string) (forge.Node, error) {
	const op = "node.undrain"
	return t.changeDrain(ctx, op, cluster, node, func(tx *tx, n forge.Node) error {
		g, err := gpuOf(op, n, gpu)
		if err != nil {
			return err
		}
		actor := t.p.Actor()
		if g.Missing() {
			return tx.forgetGPU(n, g, actor)
		}
		count, err := tx.exec(`DELETE FROM gpu_drains WHERE cluster = ? AND node = ? AND uuid = ? AND hold <> ?`, string(cluster), string(node), g.UUID, string(forge.HoldNode))
		if err != nil {
			return err
		}
		if count == 0 {
			e := forge.Errorf(forge.KindPrecondition, op, "nothing of forge's holds GPU %s of %s back", g.UUID, node)
			switch {
			case slices.ContainsFunc(n.Holds, func(h forge.NodeHold) bool { return h.UUID == g.UUID && h.Act == forge.HoldNode }):
				return e.WithHint("for its sake the whole node is held back: forgectl node undrain %s", node)
			case g.Parent != "" && slices.ContainsFunc(n.Holds, func(h forge.NodeHold) bool { return h.UUID == g.Parent }):
				return e.WithHint("the GPU that it is a part of is held back: forgectl node undrain %s --gpu %s", node, g.Parent)
			case g.Sick != "":
				return e.WithHint("it takes nothing because: %s", g.Sick)
			}
			return e.WithHint("forgectl node show %s", node)
		}
		return tx.operatorSaid(n, forge.EventNodeUndrained, forge.NodeEventUndrain, actor, g.UUID,
			fmt.Sprintf("GPU %s of node %s of %s may take work again", g.UUID, node, cluster), "by "+actor)
	})
}

// forgetGPU lets go of one that the driver no longer names.
func (t *tx) forgetGPU(n forge.Node, g forge.GPU, actor string) error {
	var run string
	var number int64
	err := t.one(`SELECT coalesce(max(a.run), ''), coalesce(max(r.number), 0) FROM allocations AS a JOIN runs AS r ON r.id = a.run WHERE a.cluster = ? AND a.node = ? AND a.slot = ?`,
		[]any{string(n.Cluster), string(n.Name), g.Slot}, &run, &number)
	if err != nil {
		return err
	}
	if run != "" {
		return forge.Errorf(forge.KindPrecondition, "node.undrain", "GPU %s of %s is missing, and run %d has it still", g.UUID, n.Name, number).
			WithHint("it can be forgotten once that attempt has ended: forgectl run show %d", number)
	}
	for _, query := range []string{`DELETE FROM gpus WHERE cluster = ? AND node = ? AND uuid = ?`, `DELETE FROM gpu_drains WHERE cluster = ? AND node = ? AND uuid = ?`} {
		if _, err := t.exec(query, string(n.Cluster), string(n.Name), g.UUID); err != nil {
			return err
		}
	}
	return t.operatorSaid(n, forge.EventNodeGPU, forge.NodeEventForgot, actor, g.UUID,
		fmt.Sprintf("GPU %s of node %s of %s, which was missing, is forgotten: slot %d is free for another", g.UUID, n.Name, n.Cluster, g.Slot), "by "+actor)
}

func (t *tx) operatorSaid(n forge.Node, typ forge.EventType, kind forge.NodeEventKind, actor, uuid, message, words string) error {
	if err := t.nodeEvent(forge.NodeEvent{Cluster: n.Cluster, Node: n.Name, Kind: kind, UUID: uuid, Words: words}); err != nil {
		return err
	}
	if err := t.event(forge.Event{Actor: actor, Type: typ, Message: message, Data: map[string]any{"cluster": string(n.Cluster), "node": string(n.Name), "uuid": uuid}}); err != nil {
		return err
	}
	return t.holdsChanged(n)
}

// gpuOf finds a GPU by its UUID or the number of its slot; a GPU that is cut into MIG instances by its own UUID.
func gpuOf(op string, n forge.Node, gpu string) (forge.GPU, error) {
	if !n.HasUUIDs() {
		return forge.GPU{}, forge.Errorf(forge.KindPrecondition, op, "the GPUs of node %s are not known one by one: its cluster chooses them itself", n.Name).
			WithHint("forgectl node drain %s keeps new work away from the whole node", n.Name)
	}
	slot, err := strconv.Atoi(gpu)
	number := err == nil
	for _, g := range n.GPUs {
		switch {
		case g.UUID == "" && number && g.Slot == slot:
			return forge.GPU{}, forge.Errorf(forge.KindPrecondition, op, "slot %d of node %s is no GPU", slot, n.Name).WithHint("forgectl node show %s", n.Name)
		case g.UUID != "" && (g.UUID == gpu || number && g.Slot == slot):
			return g, nil
		case g.Parent != "" && g.Parent == gpu:
			return forge.GPU{Slot: g.Slot, UUID: gpu, Type: g.Type}, nil
		}
	}
	return forge.GPU{}, notFound(op, "node %s of %s has no GPU %.100q", n.Name, n.Cluster, gpu).WithHint("forgectl node show %s", n.Name)
}

func (t *tx) nodeIfKnown(cluster forge.ClusterName, node forge.NodeName) (forge.Node, bool, error) {
	nodes, err := loadNodes(t.ctx, t.Conn, cluster, node)
	if err != nil || len(nodes) == 0 {
		return forge.Node{}, false, err
	}
	return nodes[0], true, nil
}

// holdsChanged lets whoever plans know: a new version, so that a plan that was made by the old one comes back.
func (t *tx) holdsChanged(was forge.Node) error {
	if _, err := t.exec(`UPDATE nodes SET version = version + 1 WHERE cluster = ? AND name = ?`, string(was.Cluster), string(was.Name)); err != nil {
		return err
	}
	n, err := t.oneNode("node.hold", was.Cluster, was.Name)
	if err != nil {
		return err
	}
	if err := t.dropClaimsOn(n, lostSlots(n, was)); err != nil {
		return err
	}
	t.emit(forge.Delta{Node: &n})
	return nil
}

// NodeUse is what ran on a node, for its mean time between failures.
type NodeUse struct {
	GPUHours float64 // of attempts that let go of it since then, and of those that have it
	Failures int     // attempts that ended by a fault that is blamed on it
	Lost     float64 // GPU-hours on it of those attempts
}

// NodeUses is that of every node of a cluster. An attempt counts from its start, or from since, whichever is later.
func (db *DB) NodeUses(ctx context.Context, cluster forge.ClusterName, since, now time.Time) (map[forge.NodeName]NodeUse, error) {
	var rows []attemptRow
	err := selectAttempts(db.read.NewSelect(), &rows).Where("a.cluster = ?", cluster).Where("(a.exited_at >= ? OR a.exited_at = 0)", stampOf(since)).
		Where("a.started_at > 0").Order("a.run", "a.number").Scan(ctx)
	if err != nil {
		return nil, classify("node.use", err)
	}
	failures, err := db.NodeFailures(ctx, cluster, since)
	if err != nil {
		return nil, err
	}
	type attempt struct {
		node   forge.NodeName
		run    forge.RunID
		number int
	}
	blamed := map[attempt]bool{}
	out := map[forge.NodeName]NodeUse{}
	for _, f := range failures {
		blamed[attempt{f.Node, f.Run, f.Attempt}] = true
		u := out[f.Node]
		u.Failures++
		out[f.Node] = u
	}
	for i := range rows {
		a, err := rows[i].forge()
		if err != nil {
			return nil, classify("node.use", err)
		}
		from, to := a.StartedAt, a.ExitedAt
		if to.IsZero() {
			to = now
		}
		if from.Before(since) {
			from = since
		}
		for _, s := range a.Placement {
			hours := max(0, to.Sub(from).Hours()) * float64(len(s.Slots))
			u := out[s.Node]
			u.GPUHours += hours
			if blamed[attempt{s.Node, a.Run, a.Number}] {
				u.Lost += hours
			}
			out[s.Node] = u
		}
	}
	return out, nil
}
