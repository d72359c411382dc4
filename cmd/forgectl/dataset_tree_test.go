package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

// family is two runs from one dataset, whose models are both evaluated, and the second made from the first.
func family() forge.LineageGraph {
	return forge.LineageGraph{Root: "D2",
		Nodes: []forge.LineageNode{{ID: "D2", Kind: forge.LineageDataset, Name: "chat@2", State: "redacted", Detail: "MIT"}, {ID: "D1", Kind: forge.LineageDataset, Name: "chat@1", State: "findings"},
			{ID: "R1", Kind: forge.LineageRun, Name: "1", State: "completed", Detail: "lora_sft"}, {ID: "R2", Kind: forge.LineageRun, Name: "2", State: "running", Detail: "dpo"},
			{ID: "M1", Kind: forge.LineageModel, Name: `bot"\@1`, State: "production"}, {ID: "M2", Kind: forge.LineageModel, Name: "bot@2", State: "staging"}},
		Edges: []forge.LineageEdge{{From: "D1", To: "D2", As: "parent"}, {From: "D2", To: "R1", As: "data"}, {From: "D2", To: "R2", As: "data"}, {From: "R1", To: "M1", As: "output"},
			{From: "M1", To: "R2", As: "start"}, {From: "R2", To: "M2", As: "output"}}}
}

func TestALineageIsDrawnAsATreeInWhichEachNodeStandsOnce(t *testing.T) {
	v := viewLineage(family())
	down := strings.Join(v.tree("D2", v.made), "\n")
	if want := strings.Join([]string{
		"├─ run 1  completed, lora_sft ← data",
		`│  └─ model bot"\@1  production ← output`,
		"│     └─ run 2  running, dpo ← start",
		"│        └─ model bot@2  staging ← output",
		"└─ run 2  running, dpo ← data (see above)",
	}, "\n"); down != want {
		t.Errorf("drawn as\n%s\nwant\n%s", down, want)
	}
	if up := v.tree("D2", v.from); len(up) != 1 || up[0] != "└─ dataset chat@1  findings ← parent" {
		t.Errorf("what it came from: %q", up)
	}
}

func TestALineageOfDiamondsIsAsLongAsItHasEdges(t *testing.T) {
	const deep = 400 // 2^400 ways
	g := forge.LineageGraph{Root: "0"}
	for i := range deep {
		for _, side := range []string{"a", "b"} {
			mid := fmt.Sprintf("%d%s", i, side)
			g.Edges = append(g.Edges, forge.LineageEdge{From: fmt.Sprint(i), To: mid, As: "parent"}, forge.LineageEdge{From: mid, To: fmt.Sprint(i + 1), As: "parent"})
		}
	}
	v := viewLineage(g)
	if lines := v.tree("0", v.made); len(lines) != len(g.Edges) {
		t.Errorf("%d lines for %d edges", len(lines), len(g.Edges))
	}
}

func TestACycleThatAServerInventsEnds(t *testing.T) {
	v := viewLineage(forge.LineageGraph{Root: "a", Edges: []forge.LineageEdge{{From: "a", To: "b"}, {From: "b", To: "a"}, {From: "a", To: "a"}}})
	if lines := v.tree("a", v.made); len(lines) != 3 {
		t.Errorf("%q", lines)
	}
}

// The grammar of what is written here: quoted ids, attributes in brackets.
var dotLine = regexp.MustCompile(`^  ("(\\.|[^"\\])*"( -> "(\\.|[^"\\])*")? \[label="(\\.|[^"\\])*"( shape=\w+)?( penwidth=2)?\];|rankdir=LR;|node \[fontname="sans-serif"\];|// .*)$`)

func TestADotGraphIsValidWhateverNamesHold(t *testing.T) {
	g := family()
	g.Nodes[2].Name, g.Nodes[3].State, g.More = "a\n\x1b]0;x\x07\u202e", `";} -> {"`, true
	lines := strings.Split(strings.TrimSuffix(dot(g), "\n"), "\n")
	if lines[0] != "digraph lineage {" || lines[len(lines)-1] != "}" || len(lines) != 2+2+len(g.Nodes)+len(g.Edges)+1 {
		t.Fatalf("%d lines: %s", len(lines), dot(g))
	}
	for _, l := range lines[1 : len(lines)-1] {
		if !dotLine.MatchString(l) {
			t.Errorf("no statement of dot: %s", l)
		}
	}
	if strings.ContainsAny(dot(g), "\x1b\x07\u202e") {
		t.Error("control characters went through")
	}
}

func TestBothDirectionsAreOneGraph(t *testing.T) {
	g := family()
	up, down := g, g
	up.Nodes, up.Edges = g.Nodes[:2], g.Edges[:1]
	down.Nodes, down.Edges, down.More = append(g.Nodes[:1:1], g.Nodes[2:]...), g.Edges[1:], true
	if all := both(up, down); len(all.Nodes) != len(g.Nodes) || len(all.Edges) != len(g.Edges) || !all.More || all.Root != "D2" {
		t.Errorf("%+v", all)
	}
}
