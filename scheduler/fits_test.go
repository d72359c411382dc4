package scheduler_test

import (
	"fmt"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

func TestFitsKnowsWhereARunMayGo(t *testing.T) {
	var nodes []forge.Node
	add := func(name, cluster, typ string, gib int64, gpus int, labels map[string]string) {
		n := forge.Node{Name: forge.NodeName(name), Cluster: forge.ClusterName(cluster), CPUs: 64, MemoryMiB: 512 << 10, State: forge.NodeReady, Labels: labels}
		for i := range gpus {
			n.GPUs = append(n.GPUs, forge.GPU{Slot: i, Kind: forge.GPUDevice, Type: typ, MemoryMiB: gib << 10})
		}
		nodes = append(nodes, n)
	}
	for rack := range 2 {
		for i := range 2 {
			add(fmt.Sprintf("h%d%d", rack, i), "main", "h100", 80, 8, map[string]string{"rack": fmt.Sprintf("r%d", rack)})
		}
	}
	add("h9", "main", "h100", 80, 8, nil)
	add("a1", "main", "a100", 40, 4, map[string]string{"rack": "r0"})
	add("u1", "side", "gpu", 0, 4, map[string]string{"rack": "r0"})
	mixed := forge.Node{Name: "m1", Cluster: "side", CPUs: 8, MemoryMiB: 64 << 10, GPUs: []forge.GPU{{Type: "a100", Kind: forge.GPUDevice, MemoryMiB: 40 << 10}, {Slot: 1, Type: "t4", Kind: forge.GPUDevice, MemoryMiB: 16 << 10}}}
	nodes = append(nodes, mixed)

	for _, c := range []struct {
		name    string
		nodes   int
		gpus    int
		cluster forge.ClusterName
		where   forge.Constraints
		ok      bool
		says    []string
	}{
		{"a type", 5, 8, "", forge.Constraints{GPUTypes: []string{"h100"}}, true, nil},
		{"a type of which there are too few", 2, 4, "", forge.Constraints{GPUTypes: []string{"a100"}}, false, []string{"the largest that fits is 1 node with 4 GPUs (at 1 CPU per GPU), in cluster main", "of what it asks for: a100"}},
		{"GPUs of another type on a node do not count", 1, 2, "side", forge.Constraints{GPUTypes: []string{"a100"}}, false, []string{"1 node with 1 GPU"}},
		{"memory", 5, 8, "", forge.Constraints{GPUMemoryMiB: 80 << 10}, true, nil},
		{"memory that none has", 1, 1, "", forge.Constraints{GPUMemoryMiB: 96 << 10}, false, []string{"there are 8 nodes with GPUs, and none of them has one of 96G or more"}},
		{"memory that the type does not have", 1, 1, "", forge.Constraints{GPUTypes: []string{"a100"}, GPUMemoryMiB: 80 << 10}, false, []string{"there are 2 nodes with a GPU of type a100, and none of them has one of 80G or more"}},
		{"memory that nobody knows is not enough", 1, 1, "", forge.Constraints{GPUTypes: []string{"gpu"}, GPUMemoryMiB: 1}, false, []string{"there is 1 node with a GPU of type gpu"}},
		{"a label", 2, 8, "", forge.Constraints{Labels: map[string]string{"rack": "r1"}}, true, nil},
		{"more nodes than have the label", 3, 8, "", forge.Constraints{Labels: map[string]string{"rack": "r1"}}, false, []string{"2 nodes with 8 GPUs each", "rack=r1"}},
		{"a type that has no such label", 1, 1, "", forge.Constraints{GPUTypes: []string{"a100"}, Labels: map[string]string{"rack": "r1"}}, false, []string{"a100, and none of them has the label rack=r1"}},
		{"without excluded nodes", 4, 8, "", forge.Constraints{Exclude: []forge.NodeName{"h9"}}, true, nil},
		{"too many excluded nodes", 5, 8, "", forge.Constraints{Exclude: []forge.NodeName{"h9"}}, false, []string{"4 nodes with 8 GPUs each", "not on h9"}},
		{"all excluded", 1, 1, "side", forge.Constraints{Exclude: []forge.NodeName{"u1", "m1"}}, false, []string{"there are 2 nodes with GPUs, and the run keeps away from all of them"}},
		{"within one rack", 2, 8, "", forge.Constraints{Within: "rack"}, true, nil},
		{"racks do not add up, and nobody knows where a node without the label is", 3, 8, "", forge.Constraints{Within: "rack"}, false, []string{"2 nodes with 8 GPUs each", "within one rack"}},
		{"within a label that none of them has", 1, 1, "", forge.Constraints{Within: "room"}, false, []string{"there are 8 nodes with GPUs, and none of them has a label room"}},
		{"all of it together", 2, 8, "main", forge.Constraints{GPUTypes: []string{"h100"}, GPUMemoryMiB: 80 << 10, Labels: map[string]string{"rack": "r0"}, Exclude: []forge.NodeName{"h10"}, Within: "rack"}, true, nil},
		{"and one node less", 2, 8, "main", forge.Constraints{GPUTypes: []string{"h100"}, Labels: map[string]string{"rack": "r0"}, Exclude: []forge.NodeName{"h00"}, Within: "rack"}, false, []string{"1 node with 8 GPUs"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ok, largest := scheduler.FitsWhere(nodes, forge.Gang{Nodes: c.nodes, GPUsPerNode: c.gpus, CPUsPerGPU: 1}, c.cluster, &c.where)
			if ok != c.ok {
				t.Errorf("got %v: %s", ok, largest)
			}
			for _, w := range c.says {
				if !strings.Contains(largest, w) {
					t.Errorf("%q does not say %q", largest, w)
				}
			}
		})
	}
	if len(nodes[5].GPUs) != 4 || len(nodes[7].GPUs) != 2 {
		t.Error("the nodes that were looked at are not the same any more")
	}
}
