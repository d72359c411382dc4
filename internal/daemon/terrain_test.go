package daemon

import (
	"fmt"
	"slices"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
	"github.com/forge-ml/forge-ml/store"
)

func TestSubmissionsLookAtTheNodesOnceUntilOneChanges(t *testing.T) {
	node := func(cluster forge.ClusterName, i, gpus int, typ string) forge.Node {
		n := forge.Node{Name: forge.NodeName(fmt.Sprintf("n%d", i)), Cluster: cluster, CPUs: 64, MemoryMiB: 1 << 20, State: forge.NodeReady, Labels: map[string]string{"rack": fmt.Sprint("r", i%2)}}
		for s := range gpus {
			n.GPUs = append(n.GPUs, forge.GPU{Slot: s, Kind: forge.GPUDevice, Type: typ, MemoryMiB: 81920})
		}
		return n
	}
	d := &Daemon{world: newWorld(store.World{Nodes: []forge.Node{node("a", 1, 4, "h100"), node("a", 2, 4, "h100"), node("b", 1, 2, "a100")}}, nil)}
	pair := forge.Gang{Nodes: 2, GPUsPerNode: 4, CPUsPerGPU: 1}
	where := &forge.Constraints{Labels: map[string]string{"rack": "r1"}}

	agree := func(g forge.Gang, c forge.ClusterName, w *forge.Constraints) {
		t.Helper()
		for range 2 { // looked up, and remembered
			ok, largest := d.terrain().fits(g, c, w)
			if fits, is := scheduler.FitsWhere(d.world.nodeList(), g, c, w); ok != fits || largest != is {
				t.Errorf("remembered are %v %q, and the nodes say %v %q", ok, largest, fits, is)
			}
		}
	}
	first := d.terrain()
	agree(pair, "", nil)
	agree(pair, "b", nil)
	agree(pair, "", where)
	agree(forge.Gang{Nodes: 1, GPUsPerNode: 4, CPUsPerGPU: 1}, "", where)
	if d.terrain() != first || len(first.fit) != 4 {
		t.Errorf("four questions asked twice left %d answers", len(first.fit))
	}
	if g := first.part("b"); g != d.terrain().part("b") || !slices.Equal(g.types, []string{"a100"}) || len(g.labels["rack"]) != 1 {
		t.Errorf("cluster b is known as %+v", g)
	}
	if g := first.part(""); !slices.Equal(g.types, []string{"a100", "h100"}) || len(g.labels["rack"]) != 2 {
		t.Errorf("the site is known as %+v", g)
	}
	if first.part("nowhere"); len(first.parts) != 2 {
		t.Error("a cluster that is not there is remembered")
	}

	larger := node("b", 2, 8, "b200")
	d.world.apply([]forge.Delta{{Node: &larger}})
	agree(forge.Gang{Nodes: 1, GPUsPerNode: 8, CPUsPerGPU: 1}, "b", nil)
	if ok, _ := d.terrain().fits(forge.Gang{Nodes: 1, GPUsPerNode: 8, CPUsPerGPU: 1}, "b", nil); !ok || !slices.Contains(d.terrain().part("b").types, "b200") {
		t.Error("a node that came is not seen")
	}
}

func TestWhatSubmissionsRememberOfShapesIsBounded(t *testing.T) {
	d := &Daemon{world: newWorld(store.World{}, nil)}
	for i := range mostShapes + 10 {
		d.terrain().fits(forge.Gang{Nodes: 1, GPUsPerNode: i}, "", nil)
	}
	if n := len(d.terrain().fit); n > mostShapes {
		t.Errorf("%d shapes are remembered", n)
	}
}
