package daemon

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

// terrain is what submissions ask of the nodes that there are, remembered as long as these are the nodes: on a site of thousands, looking at
// each of them for every run was most of what a submission cost, and thousands of runs ask the same few things.
type terrain struct {
	nodes []forge.Node // the world's list; it is never written to, so that the list itself says whether it is still the same

	mu    sync.Mutex
	parts map[forge.ClusterName]*ground
	fit   map[shape]verdict
	alike map[shape][]kind // by where a run may go, without its gang
}

// ground is what runs may ask for by name, on one cluster or on all ("").
type ground struct {
	nodes  []forge.Node
	types  []string // of GPUs, sorted
	labels map[string]map[string]bool

	devices bool // some GPU is one, and no CPU slot
}

// shape is a gang with where it may go, the constraints in their JSON.
type shape struct {
	gang    forge.Gang
	cluster forge.ClusterName
	where   string
}

type verdict struct {
	ok      bool
	largest string
}

// mostShapes bounds what is remembered while nodes stay as they are: where a run may go is its user's to write.
const mostShapes = 4096

// terrain is that of the newest list of nodes.
func (d *Daemon) terrain() *terrain {
	nodes := d.world.nodeList()
	if t := d.ground.Load(); t != nil && sameList(t.nodes, nodes) {
		return t
	}
	t := &terrain{nodes: nodes, parts: map[forge.ClusterName]*ground{}, fit: map[shape]verdict{}, alike: map[shape][]kind{}}
	d.ground.Store(t)
	return t
}

// sameList says that two lists are one. An array that is still held is not made anew elsewhere.
func sameList(a, b []forge.Node) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// part is a cluster's, or that of all for "".
func (t *terrain) part(c forge.ClusterName) *ground {
	t.mu.Lock()
	defer t.mu.Unlock()
	if g := t.parts[c]; g != nil {
		return g
	}
	g := &ground{nodes: t.nodes, labels: map[string]map[string]bool{}}
	if c != "" {
		g.nodes = listOf(t.nodes, c)
	}
	types := map[string]bool{}
	for i := range g.nodes {
		for j := range g.nodes[i].GPUs {
			types[g.nodes[i].GPUs[j].Type] = true
			g.devices = g.devices || g.nodes[i].GPUs[j].Kind != forge.GPUCPUSlot
		}
		for k, v := range g.nodes[i].Labels {
			if g.labels[k] == nil {
				g.labels[k] = map[string]bool{}
			}
			g.labels[k][v] = true
		}
	}
	g.types = slices.Sorted(maps.Keys(types))
	if len(g.nodes) > 0 { // names of clusters that there are not are anybody's to write
		t.parts[c] = g
	}
	return g
}

// shapeOf is what is remembered by; ok is false for what cannot be written down.
func shapeOf(g forge.Gang, c forge.ClusterName, where *forge.Constraints) (s shape, ok bool) {
	s = shape{gang: g, cluster: c}
	if !where.Empty() {
		text, err := json.Marshal(where)
		if err != nil {
			return s, false
		}
		s.where = string(text)
	}
	return s, true
}

// fits is scheduler.FitsWhere on these nodes.
func (t *terrain) fits(g forge.Gang, c forge.ClusterName, where *forge.Constraints) (bool, string) {
	s, ok := shapeOf(g, c, where)
	if !ok {
		return scheduler.FitsWhere(t.nodes, g, c, where)
	}
	t.mu.Lock()
	v, known := t.fit[s]
	t.mu.Unlock()
	if known {
		return v.ok, v.largest
	}
	v.ok, v.largest = scheduler.FitsWhere(t.nodes, g, c, where)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.fit) >= mostShapes {
		clear(t.fit)
	}
	t.fit[s] = v
	return v.ok, v.largest
}

// tooMuch is the field of a gang that fits nowhere which keeps it from fitting, the first of which less would do.
func (t *terrain) tooMuch(spec forge.RunSpec) string {
	if ok, _ := t.fits(spec.Gang, spec.Cluster, nil); ok {
		return "where"
	}
	for _, less := range []struct {
		field string
		make  func(*forge.Gang)
	}{
		{"memory_mib_per_gpu", func(g *forge.Gang) { g.MemoryMiBPerGPU = 0 }},
		{"cpus_per_gpu", func(g *forge.Gang) { g.CPUsPerGPU = 0 }},
		{"nodes", func(g *forge.Gang) { g.Nodes = 1 }},
	} {
		g := spec.Gang
		less.make(&g)
		if ok, _ := t.fits(g, spec.Cluster, spec.Where); ok {
			return less.field
		}
	}
	return "gpus_per_node"
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
