package daemon

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
	"github.com/forge-ml/forge-ml/slurm"
)

// The bounds of what a run may say of where it goes: each of its nodes is held against all of it.
const (
	maxWhereTypes   = 64
	maxWhereLabels  = 32
	maxWhereExclude = 4096
	maxLabelRunes   = 128
)

// resolveWhere holds where a run may go against the nodes that there are, and writes what people say as it is called there. What no
// node has is a slip of the pen: it would wait for ever.
func (d *Daemon) resolveWhere(spec *forge.RunSpec, asked *forge.Constraints) (notes []string, err error) {
	var w forge.Constraints
	if asked != nil {
		w = *asked
	}
	if c := d.live().clusters[spec.Cluster]; c != nil && c.Slurm != nil && c.Binding != forge.BindEager && spec.Batch != nil && spec.Batch.Exclude != "" {
		// Forge's plan chooses the nodes there: told to Slurm alone, it would be asked for nodes that it may not give.
		b := *spec.Batch
		w.Exclude, b.Exclude = append(slices.Clone(w.Exclude), forge.NodeName(b.Exclude)), ""
		if spec.Batch = &b; b.Empty() {
			spec.Batch = nil
		}
	}
	if w.Empty() {
		return nil, nil
	}
	ground := d.terrain().part(spec.Cluster)
	if w.GPUMemoryMiB < 0 {
		return nil, forge.Invalidf("where.gpu_memory_mib", "%d: want 0 or more", w.GPUMemoryMiB)
	}
	if w.GPUTypes, err = gpuTypes(ground.types, w.GPUTypes); err != nil {
		return nil, err
	}
	if err := checkLabels(ground.labels, w.Labels, w.Within); err != nil {
		return nil, err
	}
	if w.Exclude, notes, err = excluded(ground.nodes, w.Exclude); err != nil {
		return nil, err
	}
	if spec.Gang.Nodes == 1 {
		w.Within = "" // one node is in one place
	}
	if !w.Empty() {
		w.Labels = maps.Clone(w.Labels)
		spec.Where = &w
	}
	return notes, d.sayable(*spec)
}

// gpuTypes writes the types that people mean as nodes call them.
func gpuTypes(types []string, asked []string) (out []string, err error) {
	if len(asked) > maxWhereTypes {
		return nil, forge.Invalidf("where.gpu_types", "%d types: want at most %d", len(asked), maxWhereTypes)
	}
	for _, a := range asked {
		found := false
		for _, t := range types {
			if forge.NamesGPUType(a, t) {
				found = true
				out = append(out, t)
			}
		}
		if !found {
			return nil, forge.Invalidf("where.gpu_types", "%.80q: there are no such GPUs; there is %s", a, someOf(types)).WithHint("forgectl node list")
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// maxListed is how many words of a site an answer names.
const maxListed = 20

func someOf(words []string) string {
	switch {
	case len(words) == 0:
		return "none at all"
	case len(words) > maxListed:
		return fmt.Sprintf("%s and %d more", strings.Join(words[:maxListed], ", "), len(words)-maxListed)
	}
	return strings.Join(words, ", ")
}

func checkLabels(values map[string]map[string]bool, labels map[string]string, within string) error {
	if len(labels) > maxWhereLabels {
		return forge.Invalidf("where.labels", "%d labels: want at most %d", len(labels), maxWhereLabels)
	}
	unknown := func(field, k string) error {
		return forge.Invalidf(field, "no node has a label %.80q; there is %s", k, someOf(slices.Sorted(maps.Keys(values)))).WithHint("forgectl node show NODE prints those of a node")
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		switch v := labels[k]; {
		case values[k] == nil:
			return unknown("where.labels", k)
		case !values[k][v]:
			return forge.Invalidf("where.labels", "no node has %s=%.80s; %s is %s", k, v, k, someOf(slices.Sorted(maps.Keys(values[k])))).WithHint("forgectl node list --label %s=VALUE", k)
		}
	}
	if within != "" && values[within] == nil {
		return unknown("where.within", within)
	}
	return nil
}

// excluded writes each node by its name. A name that no node has is no obstacle: it may be one that left, or is not in use here.
func excluded(nodes []forge.Node, asked []forge.NodeName) (out []forge.NodeName, notes []string, err error) {
	for _, list := range asked {
		names, err := slurm.Hosts(string(list))
		if err != nil || len(names) == 0 || len(out)+len(names) > maxWhereExclude {
			return nil, nil, forge.Invalidf("where.exclude", "%.80q: want at most %d names of nodes, each by itself or as gpu-[1-3,7]", list, maxWhereExclude)
		}
		out = append(out, names...)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	for _, name := range out {
		if len(notes) < maxListed && !slices.ContainsFunc(nodes, func(n forge.Node) bool { return n.Name == name }) {
			notes = append(notes, fmt.Sprintf("no node is called %.80s, so that keeping away from it changes nothing", name))
		}
	}
	return out, notes, nil
}

// sayable refuses what the queue of a cluster has no words for. A run that may also go elsewhere has to be told where: it would be
// handed over and fail.
func (d *Daemon) sayable(spec forge.RunSpec) error {
	live := d.live()
	if !slices.ContainsFunc(live.order, func(n forge.ClusterName) bool { return live.clusters[n].Slurm != nil }) {
		return nil // nobody is told anything
	}
	var others []string
	var bad error
	for _, name := range live.order {
		c := live.clusters[name]
		if spec.Cluster != "" && spec.Cluster != name {
			continue
		}
		if ok, _ := scheduler.FitsWhere(d.world.nodesOf(name), spec.Gang, name, spec.Where); !ok && spec.Cluster == "" {
			continue // it does not go there
		}
		if err := d.sayableOn(c, spec); err != nil {
			bad = err
		} else {
			others = append(others, string(name))
		}
	}
	if bad == nil || len(others) == 0 {
		return bad
	}
	return forge.Invalidf("cluster", "is missing, and one that the run may go to cannot be told where: %w", bad).WithHint("--cluster %s", strings.Join(others, " or --cluster "))
}

func (d *Daemon) sayableOn(c *Cluster, spec forge.RunSpec) error {
	if c.Slurm == nil {
		return nil
	}
	var alike []string
	spec.Where, alike = whereOn(d.world.nodesOf(c.Name), spec.Where)
	return c.Slurm.CheckWhere(spec, alike)
}

// whereOn is where a run may go as far as one cluster goes: of the types those that it has, and the values of the label that all nodes
// of the gang have one of.
func whereOn(nodes []forge.Node, where *forge.Constraints) (w *forge.Constraints, alike []string) {
	if where.Empty() {
		return nil, nil
	}
	here := *where
	here.GPUTypes = slices.DeleteFunc(slices.Clone(where.GPUTypes), func(t string) bool {
		return !slices.ContainsFunc(nodes, func(n forge.Node) bool {
			return slices.ContainsFunc(n.GPUs, func(g forge.GPU) bool { return g.Type == t })
		})
	})
	if len(here.GPUTypes) == 0 {
		here.GPUTypes = where.GPUTypes // it has none of them: let it be said so
	}
	if here.Within != "" {
		for i := range nodes {
			if v, ok := nodes[i].Labels[here.Within]; ok {
				alike = append(alike, v)
			}
		}
		slices.Sort(alike)
		alike = slices.Compact(alike)
	}
	return &here, alike
}
