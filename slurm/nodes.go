package slurm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// ForeignUse is what a GPU of a late cluster is sick of while somebody else's job has it.
const ForeignUse = "used by a job that is not forge's"

// The labels that forge makes of the topology, where the configuration asks for it.
const (
	LabelSwitch   = "switch"   // what the node hangs on
	LabelTopology = "topology" // the way to it from the top: "spine/leaf1"
)

// listNodes says where ranks can run: one sinfo; one squeue where GPUs are in use, to tell ours from others'; one scontrol for the
// topology where it is asked for. An answer that is empty or cannot be read is an error: it would turn every node unknown.
func listNodes(ctx context.Context, o Options) ([]forge.Node, error) {
	out, err := o.Tools.Run(ctx, "", "sinfo", "-h", "-a", "-N", "-O", sinfoFormat)
	if err != nil {
		return nil, err
	}
	lines, err := parseSinfo(out)
	if err != nil {
		return nil, forge.Errorf(forge.KindUnavailable, "slurm.nodes", "%w", err)
	}
	if len(lines) == 0 {
		return nil, forge.Errorf(forge.KindUnavailable, "slurm.nodes", "sinfo names no nodes")
	}
	b := newNodeBook(o)
	for _, l := range lines {
		b.add(l)
	}
	if len(b.nodes) == 0 {
		return nil, forge.Errorf(forge.KindUnavailable, "slurm.nodes", "no node of Slurm's is in a partition that the configuration names: %s", strings.Join(b.names, ", "))
	}
	if b.used() {
		if err := b.ownUse(ctx, o); err != nil {
			return nil, err
		}
	}
	var topology map[string][]string
	if o.Topology {
		if topology, err = topologyOf(ctx, o.Tools); err != nil {
			return nil, err
		}
	}
	return b.result(topology), nil
}

// nodeBook gathers what the lines say of each node.
type nodeBook struct {
	o     Options
	gres  string
	names []string             // partitions that forge uses, in the order of the configuration; nil: all
	parts map[string]Partition // by name
	nodes map[string]*nodeEntry
}

type nodeEntry struct {
	nodeLine
	partitions []string
	used       int   // GPUs, by anybody
	index      []int // which, where Slurm says it
	own        int   // GPUs that jobs of ours hold
	ownIndex   []int
}

func newNodeBook(o Options) *nodeBook {
	b := &nodeBook{o: o, gres: cmp.Or(o.With.GRES, DefaultGRES), parts: map[string]Partition{}, nodes: map[string]*nodeEntry{}}
	for _, p := range o.With.Partitions {
		b.names, b.parts[p.Name] = append(b.names, p.Name), p
	}
	return b
}

// add: sinfo has one line per node and partition, with the same facts in each.
func (b *nodeBook) add(l nodeLine) {
	if l.absent() || b.names != nil && !slices.Contains(b.names, l.Partition) {
		return
	}
	e := b.nodes[l.Name]
	if e == nil {
		e = &nodeEntry{nodeLine: l}
		var items []gresItem
		items, e.used = ofName(l.Used, b.gres)
		for _, it := range items {
			e.index = append(e.index, it.Index...)
		}
		b.nodes[l.Name] = e
	}
	if l.Partition != "" && !slices.Contains(e.partitions, l.Partition) {
		e.partitions = append(e.partitions, l.Partition)
	}
}

func (b *nodeBook) used() bool {
	for _, e := range b.nodes {
		if e.used > 0 {
			return true
		}
	}
	return false
}

// holding is a job that has its nodes, as far as its GPUs go.
const holding = "JobID:|,NodeList:|,tres-per-node:|,Name:"

// ownUse counts what jobs of forge's hold. Theirs are asked for by node, so that the count is the same on each.
func (b *nodeBook) ownUse(ctx context.Context, o Options) error {
	out, err := o.Tools.Run(ctx, "", "squeue", "-h", "-a", "-t", "RUNNING,SUSPENDED,COMPLETING,CONFIGURING,STAGE_OUT", "-O", holding)
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		f := strings.SplitN(strings.TrimRight(line, "\r\n"), "|", 4)
		if len(f) != 4 {
			continue // a name of somebody else's may hold a line break
		}
		if _, _, ours := ParseJobName(o.Cluster, strings.TrimSpace(f[3])); !ours {
			continue
		}
		hosts, err := expandHosts(f[1])
		if err != nil {
			return forge.Errorf(forge.KindUnavailable, "slurm.nodes", "job %s: %w", f[0], err)
		}
		items, err := parseGRES(f[2])
		if err != nil {
			return forge.Errorf(forge.KindUnavailable, "slurm.nodes", "job %s: %w", f[0], err)
		}
		_, each := ofName(items, b.gres)
		for _, h := range hosts {
			if e := b.nodes[h]; e != nil {
				e.own += each
			}
		}
	}
	if o.Binding != BindLate || !b.mixed() {
		return nil
	}
	return b.ownSlots(ctx, o)
}

// mixed says that somewhere jobs of ours stand beside others', so that the count alone does not say which GPU is whose.
func (b *nodeBook) mixed() bool {
	for _, e := range b.nodes {
		if e.own > 0 && e.used > e.own {
			return true
		}
	}
	return false
}

// ownSlots asks which GPUs our jobs have. Only where forge plans and others work beside it.
func (b *nodeBook) ownSlots(ctx context.Context, o Options) error {
	out, err := o.Tools.Run(ctx, "", "scontrol", "-o", "-d", "show", "job")
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		f := pairs(line)
		if _, _, ours := ParseJobName(o.Cluster, f.get("JobName")); !ours {
			continue
		}
		for i, p := range f {
			if p.key != "Nodes" {
				continue
			}
			hosts, err := expandHosts(p.value)
			if err != nil {
				continue
			}
			for _, q := range f[i:min(i+5, len(f))] {
				if q.key != "GRES" {
					continue
				}
				items, err := parseGRES(q.value)
				if err != nil {
					return forge.Errorf(forge.KindUnavailable, "slurm.nodes", "job %s: %w", f.get("JobId"), err)
				}
				items, _ = ofName(items, b.gres)
				for _, h := range hosts {
					for _, it := range items {
						if e := b.nodes[h]; e != nil {
							e.ownIndex = append(e.ownIndex, it.Index...)
						}
					}
				}
				break
			}
		}
	}
	return nil
}

func (b *nodeBook) result(topology map[string][]string) []forge.Node {
	now := time.Now().UTC()
	out := make([]forge.Node, 0, len(b.nodes))
	for _, name := range slices.Sorted(maps.Keys(b.nodes)) {
		e := b.nodes[name]
		state, reason := e.nodeState()
		slices.Sort(e.partitions)
		foreign := max(0, e.used-e.own)
		n := forge.Node{Name: forge.NodeName(name), Cluster: b.o.Cluster, CPUs: e.CPUs, MemoryMiB: e.MemoryMiB, State: state, Reason: reason,
			Labels: labelsOf(b.o.Labels, e.Features, topology[name]), SeenAt: now, GPUs: b.slots(e),
			Batch: &forge.NodeBatch{State: e.State, Partitions: e.partitions, Features: e.Features, GPUsUsed: e.used, Foreign: foreign}}
		if b.o.Binding == BindLate {
			markForeign(n.GPUs, e, foreign)
		}
		out = append(out, n)
	}
	return out
}

// slots numbers the GPUs as Slurm does: over all types of a node, in the order of its list.
func (b *nodeBook) slots(e *nodeEntry) []forge.GPU {
	p := Partition{}
	for _, name := range b.names {
		if slices.Contains(e.partitions, name) {
			p = b.parts[name]
			break
		}
	}
	gpus := []forge.GPU{}
	items, _ := ofName(e.GRES, b.gres)
	for _, it := range items {
		for range min(it.Count, maxGRES-len(gpus)) {
			gpus = append(gpus, forge.GPU{Slot: len(gpus), Kind: forge.GPUDevice, Type: cmp.Or(it.Type, p.GPUType, b.gres), MemoryMiB: p.GPUMemoryMiB})
		}
	}
	return gpus
}

// markForeign keeps plans away from what others use. Where Slurm does not say which GPUs they are, the highest numbers are taken to be.
func markForeign(gpus []forge.GPU, e *nodeEntry, foreign int) {
	for _, i := range e.index {
		if foreign > 0 && i < len(gpus) && gpus[i].Sick == "" && !slices.Contains(e.ownIndex, i) && (e.own == 0 || e.ownIndex != nil) {
			gpus[i].Sick = ForeignUse
			foreign--
		}
	}
	for i := len(gpus) - 1; i >= 0 && foreign > 0; i-- {
		if gpus[i].Sick == "" && !slices.Contains(e.ownIndex, i) {
			gpus[i].Sick = ForeignUse
			foreign--
		}
	}
}

// labelsOf: "rack: rack*" makes the feature rack12 the label rack=rack12. The first by name that fits, since a node may have several.
func labelsOf(want map[string]string, features []string, way []string) map[string]string {
	labels := map[string]string{}
	for label, pattern := range want {
		head, tail, open := strings.Cut(pattern, "*")
		for _, f := range features {
			if f == pattern || open && len(f) >= len(head)+len(tail) && strings.HasPrefix(f, head) && strings.HasSuffix(f, tail) {
				labels[label] = f
				break
			}
		}
	}
	if len(way) > 0 {
		labels[LabelSwitch], labels[LabelTopology] = way[len(way)-1], strings.Join(way, "/")
	}
	if len(labels) == 0 {
		return nil
	}
	return labels
}

// topologyOf is the way to each node from the top, by switches. Most sites have none, and Slurm then says so in words.
func topologyOf(ctx context.Context, t Tools) (map[string][]string, error) {
	out, err := t.Run(ctx, "", "scontrol", "-o", "show", "topology")
	var said *ToolError
	switch {
	case errors.As(err, &said) && said.Trouble == TroubleOther && said.Code >= 0: // no topology, or a kind that has no switches
		return nil, nil
	case err != nil:
		return nil, err
	}
	return parseTopology(out)
}

func parseTopology(out string) (map[string][]string, error) {
	type sw struct {
		name  string
		level string
		hosts []string
	}
	var all []sw
	for line := range strings.Lines(out) {
		f := pairs(line)
		if f.get("SwitchName") == "" || f.get("Nodes") == "" {
			continue
		}
		hosts, err := expandHosts(f.get("Nodes"))
		if err != nil {
			return nil, fmt.Errorf("switch %.100s: %w", f.get("SwitchName"), err)
		}
		all = append(all, sw{f.get("SwitchName"), fmt.Sprintf("%06s", f.get("Level")), hosts})
	}
	slices.SortStableFunc(all, func(a, b sw) int { return cmp.Or(cmp.Compare(b.level, a.level), cmp.Compare(a.name, b.name)) })
	ways := map[string][]string{}
	for _, s := range all {
		for _, h := range s.hosts {
			ways[h] = append(ways[h], s.name)
		}
	}
	return ways, nil
}
