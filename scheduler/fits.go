package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// Fits is FitsWhere for a gang that may go anywhere.
func Fits(nodes []forge.Node, g forge.Gang, cluster forge.ClusterName) (ok bool, largest string) {
	return FitsWhere(nodes, g, cluster, nil)
}

// FitsWhere says whether a gang could ever run on those of the nodes that its constraints leave: empty, all of them back, every GPU
// well. cluster "" means any. largest says in words the largest gang that could, with the same
// CPUs and memory per GPU; it is what a refused submit is told.
func FitsWhere(nodes []forge.Node, g forge.Gang, cluster forge.ClusterName, where *forge.Constraints) (ok bool, largest string) {
	in := make([]*forge.Node, 0, len(nodes))
	for i := range nodes {
		if n := &nodes[i]; (cluster == "" || n.Cluster == cluster) && len(n.GPUs) > 0 {
			in = append(in, n)
		}
	}
	if len(in) == 0 {
		if cluster != "" {
			return false, fmt.Sprintf("cluster %s has no GPUs", cluster)
		}
		return false, "there are no nodes with GPUs"
	}
	var best size
	sites := fitsSites(fitsLeft(in, where), where)
	if len(sites) == 0 {
		return false, fitsNone(in, where)
	}
	for _, site := range sites {
		fits, s := fitsOn(site, g)
		if ok = ok || fits; s.better(best) {
			best = s
		}
	}
	text := best.text(g)
	if best.nodes == 0 {
		text = fitsNoNode(sites)
	}
	if g.GPUs() > 1 {
		text += fitsMIG(sites)
	}
	if words := where.Words(); words != "" {
		text += " (of what it asks for: " + words + ")"
	}
	return ok, text
}

// fitsMIG says what MIG instances are not for, where there are some.
func fitsMIG(sites [][]*forge.Node) string {
	types := map[string]bool{}
	for _, site := range sites {
		for _, n := range site {
			for i := range n.GPUs {
				if n.GPUs[i].MIG != "" {
					types[n.GPUs[i].Type] = true
				}
			}
		}
	}
	if len(types) == 0 {
		return ""
	}
	return "; MIG instances (" + some(slices.Sorted(maps.Keys(types))) + ") take runs of 1 GPU only, since ranks on them cannot reach each other"
}

// fitsLeft are the nodes that constraints leave, with the GPUs that they leave of each.
func fitsLeft(nodes []*forge.Node, where *forge.Constraints) (out []*forge.Node) {
	if where.Empty() {
		return nodes
	}
	for _, n := range nodes {
		if !where.Node(n) {
			continue
		}
		if unfit := func(g forge.GPU) bool { return !where.GPU(&g) }; slices.ContainsFunc(n.GPUs, unfit) {
			part := *n
			part.GPUs = slices.DeleteFunc(slices.Clone(n.GPUs), unfit)
			n = &part
		}
		if len(n.GPUs) > 0 {
			out = append(out, n)
		}
	}
	return out
}

// fitsSites parts nodes by the label that a gang must not leave; nodes without it are out, since nobody knows where they are.
func fitsSites(nodes []*forge.Node, where *forge.Constraints) (sites [][]*forge.Node) {
	if where == nil || where.Within == "" {
		if len(nodes) == 0 {
			return nil
		}
		return [][]*forge.Node{nodes}
	}
	by := map[string][]*forge.Node{}
	for _, n := range nodes {
		if v, ok := n.Labels[where.Within]; ok {
			by[v] = append(by[v], n)
		}
	}
	for _, v := range slices.Sorted(maps.Keys(by)) {
		sites = append(sites, by[v])
	}
	return sites
}

// fitsNone names the first thing asked for that leaves no node.
func fitsNone(nodes []*forge.Node, where *forge.Constraints) string {
	left, had := nodes, thereAre(len(nodes))+" with GPUs"
	steps := []struct {
		c    forge.Constraints
		what string
	}{
		{forge.Constraints{GPUTypes: where.GPUTypes}, "a GPU of type " + strings.Join(where.GPUTypes, " or ")},
		{forge.Constraints{GPUTypes: where.GPUTypes, GPUMemoryMiB: where.GPUMemoryMiB}, "one of " + forge.FormatMiB(where.GPUMemoryMiB) + " or more"},
	}
	for _, k := range slices.Sorted(maps.Keys(where.Labels)) {
		steps = append(steps, struct {
			c    forge.Constraints
			what string
		}{forge.Constraints{Labels: map[string]string{k: where.Labels[k]}}, "the label " + k + "=" + where.Labels[k]})
	}
	for _, s := range steps { // what is not asked for leaves all
		next := fitsLeft(left, &s.c)
		if len(next) == 0 {
			return had + ", and none of them has " + s.what
		}
		if len(next) < len(left) {
			had = thereAre(len(next)) + " with " + s.what
		}
		left = next
	}
	if len(fitsLeft(left, &forge.Constraints{Exclude: where.Exclude})) == 0 {
		return had + ", and the run keeps away from all of them"
	}
	return had + ", and none of them has a label " + where.Within
}

func thereAre(nodes int) string {
	if nodes == 1 {
		return "there is 1 node"
	}
	return fmt.Sprintf("there are %d nodes", nodes)
}

// fitsOn looks at nodes that may all be in one gang. Of each it matters only how many slots can be used together.
func fitsOn(nodes []*forge.Node, g forge.Gang) (ok bool, best size) {
	seen := map[device]map[int]int{} // by slots that can be used together, how many nodes have so many
	var kinds []kindOn
	for _, n := range nodes {
		kinds = kindsOn(n, kinds[:0])
		for _, k := range kinds {
			by := seen[k.device]
			if by == nil {
				by = map[int]int{}
				seen[k.device] = by
			}
			by[whole(n, g, k.slots)]++
		}
	}
	for _, d := range slices.SortedFunc(maps.Keys(seen), device.compare) {
		n := 0
		for _, slots := range slices.Backward(slices.Sorted(maps.Keys(seen[d]))) {
			n += seen[d][slots]
			if d.mig && slots > 0 { // by itself: ranks on MIG instances could not reach each other
				ok = ok || g.GPUs() == 1
				if s := (size{d, 1, 1}); s.better(best) {
					best = s
				}
				continue
			}
			if g.Nodes >= 1 && g.GPUsPerNode >= 1 && slots >= g.GPUsPerNode && n >= g.Nodes {
				ok = true
			}
			if s := (size{d, n, slots}); s.better(best) {
				best = s
			}
		}
	}
	return ok, best
}

type device struct {
	cluster forge.ClusterName
	kind    forge.GPUKind
	typ     string
	mig     bool
}

func (d device) compare(e device) int {
	return cmp.Or(kindRank(d.kind)-kindRank(e.kind), cmp.Compare(d.cluster, e.cluster), cmp.Compare(d.typ, e.typ), boolRank(d.mig)-boolRank(e.mig))
}

func boolRank(b bool) int {
	if b {
		return 1
	}
	return 0
}

// kindRank puts devices before what stands in for them.
func kindRank(k forge.GPUKind) int {
	if k == forge.GPUDevice {
		return 0
	}
	return 1
}

type kindOn struct {
	device
	slots int
}

// kindsOn counts the slots of a node by device. A node has one or two, which a list finds faster
// than a map.
func kindsOn(n *forge.Node, out []kindOn) []kindOn {
	for i := range n.GPUs {
		g := &n.GPUs[i]
		j := slices.IndexFunc(out, func(k kindOn) bool { return k.kind == g.Kind && k.typ == g.Type && k.mig == (g.MIG != "") })
		if j < 0 {
			j = len(out)
			out = append(out, kindOn{device: device{n.Cluster, g.Kind, g.Type, g.MIG != ""}})
		}
		out[j].slots++
	}
	return out
}

// whole is how many slots of a node can be used together at the gang's CPUs and memory per GPU.
func whole(n *forge.Node, g forge.Gang, slots int) int {
	if g.CPUsPerGPU > 0 {
		slots = min(slots, n.CPUs/g.CPUsPerGPU)
	}
	if g.MemoryMiBPerGPU > 0 {
		slots = int(min(int64(slots), n.MemoryMiB/g.MemoryMiBPerGPU))
	}
	return slots
}

type size struct {
	device
	nodes int
	slots int
}

func (s size) better(t size) bool { return s.nodes*s.slots > t.nodes*t.slots }

// fitsNoNode is said when the CPUs or memory of no node serve a single GPU.
func fitsNoNode(sites [][]*forge.Node) string {
	type holder struct {
		kindOn
		node *forge.Node
	}
	var all []holder
	for _, site := range sites {
		for _, n := range site {
			for _, k := range kindsOn(n, nil) {
				all = append(all, holder{k, n})
			}
		}
	}
	o := slices.MinFunc(all, func(a, b holder) int {
		return cmp.Or(kindRank(a.kind)-kindRank(b.kind), cmp.Compare(b.slots, a.slots), cmp.Compare(b.node.CPUs, a.node.CPUs),
			cmp.Compare(b.node.MemoryMiB, a.node.MemoryMiB), cmp.Compare(a.node.Cluster, b.node.Cluster), cmp.Compare(a.node.Name, b.node.Name))
	})
	return fmt.Sprintf("no node can hold even 1 GPU with that; the largest node, %s, has %s, %s and %s of memory",
		o.node.Name, count(o.slots, slotWord(o.kind)), count(o.node.CPUs, "CPU"), forge.FormatMiB(o.node.MemoryMiB))
}

func (s size) text(g forge.Gang) string {
	text := "the largest that fits is " + count(s.nodes, "node")
	if s.nodes > 1 {
		text += " with " + count(s.slots, slotWord(s.kind)) + " each"
	} else {
		text += " with " + count(s.slots, slotWord(s.kind))
	}
	var per []string
	if g.CPUsPerGPU > 0 {
		per = append(per, count(g.CPUsPerGPU, "CPU"))
	}
	if g.MemoryMiBPerGPU > 0 {
		per = append(per, forge.FormatMiB(g.MemoryMiBPerGPU)+" of memory")
	}
	if len(per) > 0 {
		text += " (at " + strings.Join(per, " and ") + " per GPU)"
	}
	return text + fmt.Sprintf(", in cluster %s", s.cluster)
}
