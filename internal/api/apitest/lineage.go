package apitest

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func nameOf(v forge.DatasetVersion) string { return fmt.Sprintf("%s@%d", v.Name, v.Number) }

// DatasetLineage implements api.Datasets: datasets by their parents, runs by the dataset of their spec, models by their run. No limit holds.
func (f *Fake) DatasetLineage(_ context.Context, p forge.Principal, ref forge.Ref, q api.LineageQuery) (forge.LineageGraph, error) {
	var g forge.LineageGraph
	_, err := f.onVersion("DatasetLineage", p, forge.RoleViewer, ref, func(v *forge.DatasetVersion) error {
		g = f.lineage(p, []forge.DatasetVersion{*v}, q.Down)
		return nil
	})
	return g, err
}

// lineage walks from some versions; the first is the root.
func (f *Fake) lineage(p forge.Principal, from []forge.DatasetVersion, down bool) forge.LineageGraph {
	g := forge.LineageGraph{Root: string(from[0].ID), Edges: []forge.LineageEdge{}}
	seen := map[string]bool{}
	for queue := from; len(queue) > 0; queue = queue[1:] {
		v := queue[0]
		if seen[string(v.ID)] {
			continue
		}
		seen[string(v.ID)] = true
		g.Nodes = append(g.Nodes, forge.LineageNode{ID: string(v.ID), Kind: forge.LineageDataset, Name: nameOf(v), State: string(v.PII), Detail: v.License, SHA256: v.SHA256})
		for _, other := range f.versions(p) {
			child, parent := other, v
			if !down {
				child, parent = v, other
			}
			if !slices.ContainsFunc(child.Parents, func(d forge.DatasetParent) bool { return d.ID == parent.ID }) {
				continue
			}
			g.Edges = append(g.Edges, forge.LineageEdge{From: string(parent.ID), To: string(child.ID), As: "parent"})
			queue = append(queue, other)
		}
		if down {
			f.used(p, v, &g)
		}
	}
	return g
}

// used adds the runs on a version, and their models.
func (f *Fake) used(p forge.Principal, v forge.DatasetVersion, g *forge.LineageGraph) {
	for _, r := range f.runs {
		if r.Spec.Dataset == nil || r.Spec.Dataset.Name != nameOf(v) {
			continue
		}
		g.Nodes = append(g.Nodes, forge.LineageNode{ID: string(r.ID), Kind: forge.LineageRun, Name: fmt.Sprint(r.Number), State: string(r.State), Detail: r.Spec.Recipe})
		g.Edges = append(g.Edges, forge.LineageEdge{From: string(v.ID), To: string(r.ID), As: "data"})
		for _, m := range f.models {
			for _, mv := range m.Versions {
				if m.Tenant == p.Tenant && mv.Lineage != nil && mv.Lineage.RunNumber == r.Number {
					g.Nodes = append(g.Nodes, forge.LineageNode{ID: string(mv.ID), Kind: forge.LineageModel, Name: fmt.Sprintf("%s@%d", mv.Name, mv.Number), State: string(mv.Stage), SHA256: mv.SHA256})
					g.Edges = append(g.Edges, forge.LineageEdge{From: string(r.ID), To: string(mv.ID), As: "output"})
				}
			}
		}
	}
}

func (f *Fake) versions(p forge.Principal) []forge.DatasetVersion {
	var out []forge.DatasetVersion
	for _, d := range f.datasets {
		if d.Tenant == p.Tenant {
			out = append(out, d.Versions...)
		}
	}
	return out
}

// SetImpact is what DatasetImpact answers, instead of what the indexes of the versions say.
func (f *Fake) SetImpact(i forge.Impact) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.impact = &i
}

// DatasetImpact implements api.Datasets, by the indexes that were sent.
func (f *Fake) DatasetImpact(_ context.Context, p forge.Principal, digest string) (forge.Impact, error) {
	leave, err := f.enter("DatasetImpact")
	if err != nil {
		return forge.Impact{}, err
	}
	defer leave()
	if f.impact != nil {
		i := *f.impact
		i.Digest = digest
		return i, nil
	}
	want, err := hex.DecodeString(digest)
	if err != nil || len(want) < api.RowPrint {
		return forge.Impact{}, forge.Invalidf("digest", "%q is none", digest)
	}
	out := forge.Impact{Digest: digest, Versions: []forge.RowInside{}, Unknown: []string{}, Models: []string{}}
	var holders []forge.DatasetVersion
	for _, v := range f.versions(p) {
		if !v.Indexed {
			out.Unknown = append(out.Unknown, nameOf(v))
			continue
		}
		times := int64(0)
		for rows := f.rows[v.ID]; len(rows) >= api.RowPrint; rows = rows[api.RowPrint:] {
			if string(rows[:api.RowPrint]) == string(want[:api.RowPrint]) {
				times++
			}
		}
		if times > 0 {
			out.Versions, holders = append(out.Versions, forge.RowInside{Name: nameOf(v), Times: times}), append(holders, v)
		}
	}
	if len(holders) > 0 {
		out.Graph = f.lineage(p, holders, true)
	}
	for _, n := range out.Graph.Nodes {
		if n.Kind == forge.LineageModel {
			out.Models = append(out.Models, n.Name)
		}
	}
	slices.SortFunc(out.Models, strings.Compare)
	return out, nil
}
