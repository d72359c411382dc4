package main

import (
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// lineageView is a graph as one looks at it from its root.
type lineageView struct {
	g     forge.LineageGraph
	nodes map[string]forge.LineageNode
	made  map[string][]branch // what came of a node
	from  map[string][]branch // what a node came from
}

// branch leads to the next node.
type branch struct{ to, as string }

func viewLineage(g forge.LineageGraph) lineageView {
	v := lineageView{g: g, nodes: map[string]forge.LineageNode{}, made: map[string][]branch{}, from: map[string][]branch{}}
	for _, n := range g.Nodes {
		v.nodes[n.ID] = n
	}
	for _, e := range g.Edges {
		v.made[e.From] = append(v.made[e.From], branch{e.To, e.As})
		v.from[e.To] = append(v.from[e.To], branch{e.From, e.As})
	}
	return v
}

// tree draws what is below a node with ├─ and └─. A node that several ways lead to is drawn where it is met
// first; the others point back to it, so that a graph of diamonds stays as long as it has nodes and edges.
// A stack instead of recursion: a chain of versions is as deep as somebody had patience.
func (v lineageView) tree(root string, next map[string][]branch) []string {
	type spot struct {
		branch
		lead string // what stands before the line
		last bool
	}
	var out []string
	drawn := map[string]bool{root: true}
	push := func(stack []spot, of []branch, lead string) []spot {
		for i := len(of) - 1; i >= 0; i-- {
			stack = append(stack, spot{of[i], lead, i == len(of)-1})
		}
		return stack
	}
	stack := push(nil, next[root], "")
	for len(stack) > 0 {
		s := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		mark, below := "├─ ", "│  "
		if s.last {
			mark, below = "└─ ", "   "
		}
		line := s.lead + mark + v.label(s.to) + " ← " + clean(s.as)
		if drawn[s.to] {
			if len(next[s.to]) > 0 {
				line += " (see above)"
			}
			out = append(out, line)
			continue
		}
		drawn[s.to] = true
		out = append(out, line)
		stack = push(stack, next[s.to], s.lead+below)
	}
	return out
}

// label is a node in one line: `dataset chat@2  clean, MIT`.
func (v lineageView) label(id string) string {
	n, ok := v.nodes[id]
	if !ok {
		return clean(id)
	}
	s := clean(string(n.Kind) + " " + n.Name)
	if about := aboutNode(n); about != "" {
		s += "  " + about
	}
	return s
}

func aboutNode(n forge.LineageNode) string {
	var parts []string
	for _, p := range []string{n.State, n.Detail} {
		if p != "" {
			parts = append(parts, clean(p))
		}
	}
	return strings.Join(parts, ", ")
}

// both joins what leads to a version with what came of it: one graph with the same root.
func both(up, down forge.LineageGraph) forge.LineageGraph {
	out := forge.LineageGraph{Root: up.Root, Nodes: up.Nodes, Edges: up.Edges, More: up.More || down.More}
	node := map[string]bool{}
	for _, n := range up.Nodes {
		node[n.ID] = true
	}
	edge := map[forge.LineageEdge]bool{}
	for _, e := range up.Edges {
		edge[e] = true
	}
	for _, n := range down.Nodes {
		if !node[n.ID] {
			out.Nodes = append(out.Nodes, n)
		}
	}
	for _, e := range down.Edges {
		if !edge[e] {
			out.Edges = append(out.Edges, e)
		}
	}
	return out
}

var dotShapes = map[forge.LineageKind]string{forge.LineageDataset: "cylinder", forge.LineageRun: "box", forge.LineageModel: "component", forge.LineageEval: "note"}

// dot writes the graph for Graphviz. Everything is quoted: names are people's.
func dot(g forge.LineageGraph) string {
	var b strings.Builder
	b.WriteString("digraph lineage {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n")
	for _, n := range g.Nodes {
		label := dotText(string(n.Kind) + " " + n.Name)
		if about := aboutNode(n); about != "" {
			label += `\n` + dotText(about)
		}
		b.WriteString("  " + dotID(n.ID) + ` [label="` + label + `"`)
		if s := dotShapes[n.Kind]; s != "" {
			b.WriteString(" shape=" + s)
		}
		if n.ID == g.Root {
			b.WriteString(" penwidth=2")
		}
		b.WriteString("];\n")
	}
	for _, e := range g.Edges {
		b.WriteString("  " + dotID(e.From) + " -> " + dotID(e.To) + ` [label="` + dotText(e.As) + "\"];\n")
	}
	if g.More {
		b.WriteString("  // there is more than was given\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func dotID(id string) string { return `"` + dotText(id) + `"` }

// dotText is for between double quotes; a backslash would begin one of Graphviz's escapes.
func dotText(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(clean(s))
}
