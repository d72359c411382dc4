package sim

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// WhatIf is a change of a site that is thought, not made.
type WhatIf struct {
	Add   []NewNodes
	Drain []forge.NodeName
}

// NewNodes are nodes that a site does not have.
type NewNodes struct {
	Cluster
	Type string // of their GPUs; "" like those that there are most of
}

// ParseNewNodes reads NODESxGPUS[:TYPE].
func ParseNewNodes(text string) (NewNodes, error) {
	size, typ, _ := strings.Cut(text, ":")
	c, err := ParseCluster(size)
	if err != nil {
		return NewNodes{}, forge.Invalidf("add-nodes", "%s is no set of nodes; want NODESxGPUS[:TYPE] such as 4x8:h100, up to %dx%d", quote(text), maxNodes, maxPerNode)
	}
	return NewNodes{c, typ}, nil
}

// Apply is the snapshot as it would be. New nodes join the cluster that has the most nodes of their type, and are like them in all else; what runs on a
// node that is drained goes on.
func (w WhatIf) Apply(s forge.Snapshot) (forge.Snapshot, error) {
	s.Nodes = slices.Clone(s.Nodes)
	for _, name := range w.Drain {
		i := slices.IndexFunc(s.Nodes, func(n forge.Node) bool { return n.Name == name })
		if i < 0 {
			return s, forge.Invalidf("drain", "there is no node %s", quote(string(name)))
		}
		s.Nodes[i].State, s.Nodes[i].Reason = forge.NodeDrained, "thought away"
	}
	for k, a := range w.Add {
		like, err := likeliest(s.Nodes, a.Type)
		if err != nil {
			return s, err
		}
		for i := range a.Nodes {
			s.Nodes = append(s.Nodes, another(like, fmt.Sprintf("new-%d-%0*d", k+1, len(fmt.Sprint(a.Nodes)), i+1), a.GPUs))
		}
	}
	slices.SortFunc(s.Nodes, func(a, b forge.Node) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Name, b.Name))
	})
	return s, nil
}

// likeliest is a node of the cluster that has most with GPUs of the type. The type may be a part of the name, in any case.
func likeliest(nodes []forge.Node, typ string) (forge.Node, error) {
	count := map[forge.ClusterName]int{}
	var best forge.Node
	for _, n := range nodes {
		if len(n.GPUs) == 0 || !strings.Contains(strings.ToLower(n.GPUs[0].Type), strings.ToLower(typ)) {
			continue
		}
		if count[n.Cluster]++; best.Name == "" || count[n.Cluster] > count[best.Cluster] {
			if best.Cluster != n.Cluster || best.Name == "" {
				best = n
			}
		}
	}
	if best.Name == "" {
		return best, forge.Invalidf("add-nodes", "no node has GPUs of type %s; new nodes are like one that is there", quote(typ))
	}
	return best, nil
}

// another is a node like one that is there, with so many GPUs, and CPUs and memory in proportion.
func another(like forge.Node, name string, gpus int) forge.Node {
	n := forge.Node{Name: forge.NodeName(name), Cluster: like.Cluster, State: forge.NodeReady, Labels: like.Labels, Batch: like.Batch,
		CPUs: like.CPUs * gpus / len(like.GPUs), MemoryMiB: like.MemoryMiB * int64(gpus) / int64(len(like.GPUs)), GPUs: make([]forge.GPU, gpus)}
	for i := range n.GPUs {
		g := like.GPUs[0]
		n.GPUs[i] = forge.GPU{Slot: i, Kind: g.Kind, Type: g.Type, MemoryMiB: g.MemoryMiB}
	}
	return n
}
