package scheduler

import (
	"maps"

	forge "github.com/forge-ml/forge-ml"
)

// renew tells the world of a node that it knows in a new state. False: it is another machine than before, and the world has to be made anew.
func (w *world) renew(n *forge.Node) bool {
	old := w.nodes[nodeKey{n.Cluster, n.Name}]
	if old == nil || old.CPUs != n.CPUs || old.MemoryMiB != n.MemoryMiB || len(old.GPUs) != len(n.GPUs) || !maps.Equal(old.Labels, n.Labels) {
		return false
	}
	for i := range n.GPUs {
		a, b := old.GPUs[i], n.GPUs[i]
		if a.Slot != b.Slot || a.Kind != b.Kind || a.Type != b.Type || a.MemoryMiB != b.MemoryMiB || a.Island != b.Island || a.NUMA != b.NUMA || a.MIG != b.MIG {
			return false
		}
	}
	*old.Node = *n
	for i := range n.GPUs {
		g := &n.GPUs[i]
		sl := old.slot(g.Slot)
		if sick := g.Sick != ""; sl != nil && sl.sick != sick {
			if sl.sick = sick; sick {
				sl.bin.healthy--
			} else {
				sl.bin.healthy++
			}
		}
	}
	for _, b := range old.bins {
		b.avail = 0
		for _, sl := range b.slots {
			if sl.free() {
				b.avail++
			}
		}
		b.pool.index()
	}
	for i := range old.uses {
		if by := old.uses[i].by; by != nil {
			by.lend(false)
			by.shares = nil // which of its slots are well may be others now
		}
	}
	return true
}
