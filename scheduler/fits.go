package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// Fits says whether a gang could ever run on these nodes: empty, all of them back, every GPU
// well. cluster "" means any. largest says in words the largest gang that could, with the same
// CPUs and memory per GPU; it is what a refused submit is told.
func Fits(nodes []forge.Node, g forge.Gang, cluster forge.ClusterName) (ok bool, largest string) {
	seen := map[device][]offer{}
	var devices []device
	for i := range nodes {
		n := &nodes[i]
		if cluster != "" && n.Cluster != cluster {
			continue
		}
		for _, k := range kindsOn(n) {
			if seen[k.device] == nil {
				devices = append(devices, k.device)
			}
			seen[k.device] = append(seen[k.device], offer{n, k.slots, whole(n, g, k.slots)})
		}
	}
	if len(devices) == 0 {
		if cluster != "" {
			return false, fmt.Sprintf("cluster %s has no GPUs", cluster)
		}
		return false, "there are no nodes with GPUs"
	}
	slices.SortFunc(devices, device.compare)
	var best size
	for _, d := range devices {
		offers := seen[d]
		slices.SortFunc(offers, func(a, b offer) int {
			return cmp.Or(cmp.Compare(b.fit, a.fit), cmp.Compare(b.slots, a.slots), cmp.Compare(a.node.Name, b.node.Name))
		})
		if g.Nodes >= 1 && g.GPUsPerNode >= 1 && len(offers) >= g.Nodes && offers[g.Nodes-1].fit >= g.GPUsPerNode {
			ok = true
		}
		for i, o := range offers {
			if s := (size{d, i + 1, o.fit}); s.nodes*s.slots > best.nodes*best.slots {
				best = s
			}
		}
	}
	return ok, best.text(g, devices, seen)
}

type device struct {
	cluster forge.ClusterName
	kind    forge.GPUKind
	typ     string
}

func (d device) compare(e device) int {
	rank := func(k forge.GPUKind) int {
		if k == forge.GPUDevice {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(rank(d.kind), rank(e.kind)), cmp.Compare(d.cluster, e.cluster), cmp.Compare(d.typ, e.typ))
}

type kindOn struct {
	device
	slots int
}

// kindsOn counts the slots of a node by device. A node has one or two, which a list finds faster
// than a map.
func kindsOn(n *forge.Node) []kindOn {
	var out []kindOn
	for i := range n.GPUs {
		g := &n.GPUs[i]
		j := slices.IndexFunc(out, func(k kindOn) bool { return k.kind == g.Kind && k.typ == g.Type })
		if j < 0 {
			j = len(out)
			out = append(out, kindOn{device: device{n.Cluster, g.Kind, g.Type}})
		}
		out[j].slots++
	}
	return out
}

// offer is what one node has of a device, and how many of them the CPUs and memory serve.
type offer struct {
	node  *forge.Node
	slots int
	fit   int
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

func (s size) text(g forge.Gang, devices []device, seen map[device][]offer) string {
	if s.nodes == 0 {
		d := devices[0]
		o := slices.MinFunc(seen[d], func(a, b offer) int {
			return cmp.Or(cmp.Compare(b.slots, a.slots), cmp.Compare(b.node.CPUs, a.node.CPUs),
				cmp.Compare(b.node.MemoryMiB, a.node.MemoryMiB), cmp.Compare(a.node.Name, b.node.Name))
		})
		return fmt.Sprintf("no node can hold even 1 GPU with that; the largest node, %s, has %s, %s and %s of memory",
			o.node.Name, count(o.slots, slotWord(d.kind)), count(o.node.CPUs, "CPU"), forge.FormatMiB(o.node.MemoryMiB))
	}
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
