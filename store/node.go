package store

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/uptrace/bun"

	forge "github.com/forge-ml/forge-ml"
)

type nodeRow struct {
	bun.BaseModel `bun:"table:nodes,alias:n"`

	Cluster   forge.ClusterName `bun:"cluster,pk"`
	Name      forge.NodeName    `bun:"name,pk"`
	CPUs      int               `bun:"cpus"`
	MemoryMiB int64             `bun:"memory_mib"`
	State     forge.NodeState   `bun:"state"`
	Reason    string            `bun:"reason"`
	Labels    string            `bun:"labels"`
	SeenAt    stamp             `bun:"seen_at"`
	Version   int64             `bun:"version"`
	Batch     string            `bun:"batch"`
}

type gpuRow struct {
	bun.BaseModel `bun:"table:gpus,alias:g"`

	Cluster   forge.ClusterName `bun:"cluster,pk"`
	Node      forge.NodeName    `bun:"node,pk"`
	Slot      int               `bun:"slot,pk"`
	Kind      forge.GPUKind     `bun:"kind"`
	UUID      string            `bun:"uuid"`
	Type      string            `bun:"type"`
	MemoryMiB int64             `bun:"memory_mib"`
	Island    int               `bun:"island"`
	Sick      string            `bun:"sick"`
	PCI       string            `bun:"pci"`
	NUMA      string            `bun:"numa"`
	CPUs      string            `bun:"near_cpus"`
	MIG       string            `bun:"mig"`
	Parent    string            `bun:"parent"`
}

func (r *nodeRow) forge() (forge.Node, error) {
	n := forge.Node{Name: r.Name, Cluster: r.Cluster, GPUs: []forge.GPU{}, CPUs: r.CPUs, MemoryMiB: r.MemoryMiB, State: r.State,
		Reason: r.Reason, SeenAt: r.SeenAt.time(), Version: r.Version}
	if err := decode(r.Batch, &n.Batch); err != nil {
		return n, err
	}
	return n, decode(r.Labels, &n.Labels)
}

// loadNodes reads nodes with their GPUs, sorted by cluster and name; an empty cluster means all, and with names only those of a cluster.
func loadNodes(ctx context.Context, db bun.IDB, cluster forge.ClusterName, only ...forge.NodeName) ([]forge.Node, error) {
	var rows []nodeRow
	var gpus []gpuRow
	qn := db.NewSelect().Model(&rows).Order("n.cluster", "n.name")
	qg := db.NewSelect().Model(&gpus).Order("g.cluster", "g.node", "g.slot")
	if cluster != "" {
		qn, qg = qn.Where("n.cluster = ?", cluster), qg.Where("g.cluster = ?", cluster)
	}
	if len(only) > 0 {
		names, err := encode(len(only), only)
		if err != nil {
			return nil, err
		}
		qn, qg = qn.Where("n.name IN (SELECT value FROM json_each(?))", names), qg.Where("g.node IN (SELECT value FROM json_each(?))", names)
	}
	if err := qn.Scan(ctx); err != nil {
		return nil, err
	}
	if err := qg.Scan(ctx); err != nil {
		return nil, err
	}
	nodes, err := nouns(rows, func(r *nodeRow) (forge.Node, error) { return r.forge() })
	if err != nil {
		return nil, err
	}
	i := 0
	for _, g := range gpus { // both are in the same order
		for nodes[i].Cluster != g.Cluster || nodes[i].Name != g.Node {
			i++
		}
		nodes[i].GPUs = append(nodes[i].GPUs, forge.GPU{Slot: g.Slot, Kind: g.Kind, UUID: g.UUID, Type: g.Type, MemoryMiB: g.MemoryMiB, Island: g.Island, Sick: g.Sick,
			PCI: g.PCI, NUMA: g.NUMA, CPUs: g.CPUs, MIG: g.MIG, Parent: g.Parent})
	}
	if nodes, err = withDrains(ctx, db, nodes); err != nil {
		return nil, err
	}
	held, err := heldBack(ctx, db, cluster)
	if err != nil {
		return nil, err
	}
	for i, n := range nodes {
		nodes[i] = n.Held(held[nodeName{n.Cluster, n.Name}])
	}
	return withFailures(ctx, db, cluster, nodes, time.Now())
}

// RecordNodes stores what an executor says of its nodes. A node that it no longer names becomes unknown, never
// gone: what it holds stays allocated. GPUs keep their slots for as long as their UUIDs are known. A version grows when something that matters changed; a
// node that was merely seen again is written at most every 15 seconds, so that an idle daemon does not
// sync the disk at every poll.
func (db *DB) RecordNodes(ctx context.Context, cluster forge.ClusterName, nodes []forge.Node, at time.Time) error {
	return db.write(ctx, "node.record", func(t *tx) error {
		if err := t.ensureCluster(cluster); err != nil {
			return err
		}
		known, err := loadNodes(t.ctx, t.Conn, cluster)
		if err != nil {
			return err
		}
		held, err := heldBack(t.ctx, t.Conn, cluster)
		if err != nil {
			return err
		}
		old := map[forge.NodeName]forge.Node{}
		for _, n := range known {
			old[n.Name] = n
		}
		for _, n := range nodes {
			n.Cluster, n.SeenAt = cluster, at
			was, ok := old[n.Name]
			n.Holds = held[nodeName{cluster, n.Name}]
			if err := t.recordNode(n, was, ok); err != nil {
				return err
			}
			delete(old, n.Name)
		}
		for _, name := range slices.Sorted(maps.Keys(old)) { // sorted: equal calls give equal events
			was := old[name]
			n := was
			n.Drain = nil
			if n.State != forge.NodeUnknown {
				n.State, n.Reason = forge.NodeUnknown, "cluster "+string(cluster)+" no longer reports it"
			}
			if err := t.recordNode(n, was, true); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t *tx) recordNode(n, was forge.Node, known bool) error {
	n = normalNode(n)
	n.Failures, n.Suspect = was.Failures, was.Suspect // no executor knows them
	n.GPUs = forge.KeepSlots(was.GPUs, n.GPUs)
	said := n // by the executor: that is what is stored, so that it shows again when what is held back is let back
	n = n.Drained(was.Drain).Held(n.Holds)
	changed := !known || !sameNode(n, was)
	if !changed && n.SeenAt.Sub(was.SeenAt) < seenEvery {
		return nil
	}
	n.Version = was.Version
	if changed {
		n.Version++
	}
	labels, err := encode(len(n.Labels), n.Labels)
	if err != nil {
		return err
	}
	batch := ""
	if n.Batch != nil {
		if batch, err = encode(1, n.Batch); err != nil {
			return err
		}
	}
	row := nodeRow{Cluster: n.Cluster, Name: n.Name, CPUs: n.CPUs, MemoryMiB: n.MemoryMiB, State: said.State, Reason: said.Reason, Labels: labels,
		SeenAt: stampOf(n.SeenAt), Version: n.Version, Batch: batch}
	if known {
		_, err = t.NewUpdate().Model(&row).WherePK().Exec(t.ctx)
	} else {
		_, err = t.NewInsert().Model(&row).Exec(t.ctx)
	}
	if err != nil {
		return err
	}
	if changed {
		if err := t.replaceGPUs(n, was, said.GPUs); err != nil {
			return err
		}
		if err := t.tellGPUs(n, was, known); err != nil {
			return err
		}
		if err := t.dropClaimsOn(n, lostSlots(n, was)); err != nil {
			return err
		}
	}
	n.SeenAt = row.SeenAt.time()
	t.emit(forge.Delta{Node: &n})
	if known && n.State == was.State {
		return nil
	}
	message := fmt.Sprintf("node %s of %s is %s", n.Name, n.Cluster, n.State)
	if n.Reason != "" {
		message += ": " + n.Reason
	}
	return t.event(forge.Event{Type: forge.EventNodeChanged, Reason: string(n.State), Message: message,
		Data: map[string]any{"cluster": string(n.Cluster), "node": string(n.Name)}})
}

// tellGPUs tells of GPUs that came and went, where they are known one by one.
func (t *tx) tellGPUs(n, was forge.Node, known bool) error {
	if !known || !was.HasUUIDs() {
		return nil
	}
	before := map[string]forge.GPU{}
	for _, g := range was.GPUs {
		before[g.UUID] = g
	}
	tell := func(kind forge.NodeEventKind, g forge.GPU, words string) error {
		if err := t.nodeEvent(forge.NodeEvent{At: n.SeenAt, Cluster: n.Cluster, Node: n.Name, Kind: kind, UUID: g.UUID, Words: words}); err != nil {
			return err
		}
		return t.event(forge.Event{Type: forge.EventNodeGPU, Reason: string(kind), Message: fmt.Sprintf("GPU %s of node %s of %s: %s", g.UUID, n.Name, n.Cluster, words),
			Data: map[string]any{"cluster": string(n.Cluster), "node": string(n.Name), "uuid": g.UUID}})
	}
	for _, g := range n.GPUs {
		w, had := before[g.UUID]
		var err error
		switch {
		case g.UUID == "":
		case !had:
			err = tell(forge.NodeEventNew, g, fmt.Sprintf("it is new, in slot %d", g.Slot))
		case g.Missing() && !w.Missing():
			err = tell(forge.NodeEventMissing, g, g.Sick)
		case w.Missing() && !g.Missing():
			err = tell(forge.NodeEventBack, g, fmt.Sprintf("it is back, in slot %d as before", g.Slot))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) replaceGPUs(n, was forge.Node, said []forge.GPU) error {
	if slices.Equal(n.GPUs, was.GPUs) {
		return nil
	}
	if _, err := t.exec(`DELETE FROM gpus WHERE cluster = ? AND node = ?`, string(n.Cluster), string(n.Name)); err != nil || len(said) == 0 {
		return err
	}
	rows := make([]gpuRow, 0, len(said))
	for _, g := range said {
		rows = append(rows, gpuRow{Cluster: n.Cluster, Node: n.Name, Slot: g.Slot, Kind: g.Kind, UUID: g.UUID, Type: g.Type, MemoryMiB: g.MemoryMiB, Island: g.Island, Sick: g.Sick,
			PCI: g.PCI, NUMA: g.NUMA, CPUs: g.CPUs, MIG: g.MIG, Parent: g.Parent})
	}
	_, err := t.NewInsert().Model(&rows).Exec(t.ctx)
	return err
}

// lostSlots are those that nothing new can be placed on any more: all of a node that takes no
// work, else the ones that are sick or gone.
func lostSlots(n, was forge.Node) (lost []int) {
	for _, g := range was.GPUs {
		i := slices.IndexFunc(n.GPUs, func(x forge.GPU) bool { return x.Slot == g.Slot })
		if n.State != forge.NodeReady || i < 0 || n.GPUs[i].Sick != "" {
			lost = append(lost, g.Slot)
		}
	}
	return lost
}

// dropClaimsOn ends all claims of the gangs that had one on these slots: a gang starts whole or
// not at all, so the rest of its claims would block GPUs for nothing.
func (t *tx) dropClaimsOn(n forge.Node, slots []int) error {
	if len(slots) == 0 {
		return nil
	}
	list, err := encode(len(slots), slots)
	if err != nil {
		return err
	}
	return t.dropClaims(`for_run IN (SELECT for_run FROM claims WHERE cluster = ? AND node = ? AND slot IN (SELECT value FROM json_each(?)))`, string(n.Cluster), string(n.Name), list)
}

// normalNode gives equal nodes one form: slots ascending, text that can be stored.
func normalNode(n forge.Node) forge.Node {
	if n.State == "" {
		n.State = forge.NodeReady
	}
	n.Reason = clean(n.Reason)
	if len(n.Labels) == 0 {
		n.Labels = nil
	}
	n.GPUs = append([]forge.GPU{}, n.GPUs...)
	slices.SortFunc(n.GPUs, func(a, b forge.GPU) int { return a.Slot - b.Slot })
	for i := range n.GPUs {
		g := &n.GPUs[i]
		for _, text := range []*string{&g.Sick, &g.Type, &g.UUID, &g.PCI, &g.NUMA, &g.CPUs, &g.MIG, &g.Parent} {
			*text = clean(*text)
		}
	}
	return n
}

func sameNode(a, b forge.Node) bool {
	return a.CPUs == b.CPUs && a.MemoryMiB == b.MemoryMiB && a.State == b.State && a.Reason == b.Reason &&
		maps.Equal(a.Labels, b.Labels) && slices.Equal(a.GPUs, b.GPUs) && reflect.DeepEqual(a.Batch, b.Batch) && (a.Drain == nil) == (b.Drain == nil) &&
		slices.Equal(a.Holds, b.Holds)
}
