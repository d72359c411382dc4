package scheduler

import (
	"slices"

	forge "github.com/forge-ml/forge-ml"
)

// placements judges each placement by itself, and slots across all of them.
func (c *checker) placements() {
	placed := map[forge.RunID]bool{}
	takenBy := map[checkSlot]forge.RunID{}
	for _, p := range c.plan.Place {
		r, ok := c.waiting(p.Run)
		if !ok {
			c.fault(PropRunPending, p.Run, "placed, and not pending")
			continue
		}
		if placed[p.Run] {
			c.fault(PropPlacedOnce, p.Run, "placed twice in one plan")
		}
		placed[p.Run] = true
		for _, a := range c.s.Active {
			if a.Run == p.Run {
				c.fault(PropPlacedOnce, p.Run, "attempt %d is still active", a.Number)
			}
		}
		if ready, why := c.mayStart(r); !ready {
			c.fault(PropRunReady, p.Run, "placed, and %s", why)
		}
		if p.Attempt != r.Attempt+1 {
			c.fault(PropAttempt, p.Run, "attempt %d after %d", p.Attempt, r.Attempt)
		}
		if p.RunVersion != r.Version {
			c.fault(PropVersion, p.Run, "run version %d, want %d", p.RunVersion, r.Version)
		}
		c.whereabouts(p, r)
		if p.HandOver {
			c.handedOver(p, r)
			continue
		}
		if c.isEager(p.Cluster) {
			c.fault(PropHandOverOnly, p.Run, "placed on nodes of %s, whose own queue chooses them", p.Cluster)
		}
		c.whole(p, r)
		c.constraints(p, r)
		for _, sh := range p.Shares {
			for _, slot := range sh.Slots {
				at := checkSlot{checkNode{p.Cluster, sh.Node}, slot}
				if other, dup := takenBy[at]; dup {
					c.fault(PropSlotTwice, p.Run, "slot %d of %s is also given to %s", slot, sh.Node, other)
				}
				takenBy[at] = p.Run
			}
		}
		c.lastResorts(p, r)
	}
}

// whereabouts judges clusters, nodes, slots and versions.
func (c *checker) whereabouts(p forge.Place, r forge.PendingRun) {
	if r.Cluster != "" && p.Cluster != r.Cluster {
		c.fault(PropCluster, p.Run, "on %s, asked for %s", p.Cluster, r.Cluster)
	}
	if r.Batch && !c.hasBatch(p.Cluster) {
		c.fault(PropBatchCluster, p.Run, "asks for words of a batch system; %s has none", p.Cluster)
	}
	for _, paused := range c.s.Paused {
		if paused.Cluster == p.Cluster {
			c.fault(PropPaused, p.Run, "%s is paused: %s", p.Cluster, paused.Reason)
		}
	}
	versions := map[forge.NodeName]int64{}
	for _, nv := range p.Nodes {
		versions[nv.Node] = nv.Version
	}
	for _, sh := range p.Shares {
		at := checkNode{p.Cluster, sh.Node}
		n, ok := c.nodes[at]
		if !ok {
			c.fault(PropNode, p.Run, "cluster %s has no node %s", p.Cluster, sh.Node)
			continue
		}
		if v, named := versions[sh.Node]; !named || v != n.Version {
			c.fault(PropVersion, p.Run, "version %d of node %s, want %d", v, sh.Node, n.Version)
		}
		if n.State != forge.NodeReady {
			c.fault(PropNodeReady, p.Run, "%s is %s", sh.Node, n.State)
		}
		for _, slot := range sh.Slots {
			c.slot(p.Run, n, checkSlot{at, slot})
		}
	}
}

func (c *checker) slot(run forge.RunID, n forge.Node, at checkSlot) {
	i := slices.IndexFunc(n.GPUs, func(g forge.GPU) bool { return g.Slot == at.slot })
	if i < 0 {
		c.fault(PropSlot, run, "%s has no slot %d", n.Name, at.slot)
		return
	}
	if sick := n.GPUs[i].Sick; sick != "" {
		c.fault(PropSlotSick, run, "slot %d of %s: %s", at.slot, n.Name, sick)
	}
	if holder, held := c.heldBy[at]; held {
		c.fault(PropSlotHeld, run, "slot %d of %s is held by %s", at.slot, n.Name, holder)
	}
	if claimant, claimed := c.claims[at]; claimed && claimant != run {
		c.fault(PropClaimed, run, "slot %d of %s is claimed for %s", at.slot, n.Name, claimant)
	}
}

// whole judges the gang: all its nodes, all their slots, one type.
func (c *checker) whole(p forge.Place, r forge.PendingRun) {
	if len(p.Shares) != r.Gang.Nodes || r.Gang.Nodes < 1 || r.Gang.GPUsPerNode < 1 {
		c.fault(PropGangWhole, p.Run, "%d shares for %d nodes", len(p.Shares), r.Gang.Nodes)
	}
	nodes := map[forge.NodeName]bool{}
	type model struct {
		kind forge.GPUKind
		typ  string
	}
	models := map[model]bool{}
	slots, mig := 0, 0
	for _, sh := range p.Shares {
		if nodes[sh.Node] {
			c.fault(PropGangWhole, p.Run, "two shares on %s", sh.Node)
		}
		nodes[sh.Node] = true
		distinct := map[int]bool{}
		for i, slot := range sh.Slots {
			distinct[slot] = true
			if i > 0 && sh.Slots[i-1] >= slot {
				c.fault(PropGangWhole, p.Run, "slots %v of %s do not ascend", sh.Slots, sh.Node)
			}
		}
		if len(distinct) != r.Gang.GPUsPerNode || len(sh.Slots) != len(distinct) {
			c.fault(PropGangWhole, p.Run, "slots %v on %s, want %d", sh.Slots, sh.Node, r.Gang.GPUsPerNode)
		}
		if sh.CPUs != r.Gang.GPUsPerNode*r.Gang.CPUsPerGPU || sh.MemoryMiB != int64(r.Gang.GPUsPerNode)*r.Gang.MemoryMiBPerGPU {
			c.fault(PropGangWhole, p.Run, "%d CPUs and %d MiB on %s are not what it asks for", sh.CPUs, sh.MemoryMiB, sh.Node)
		}
		for _, g := range c.nodes[checkNode{p.Cluster, sh.Node}].GPUs {
			if distinct[g.Slot] {
				models[model{g.Kind, g.Type}] = true
				if slots++; g.MIG != "" {
					mig++
				}
			}
		}
	}
	if slots > 1 && mig > 0 {
		c.fault(PropGangMIG, p.Run, "%d of its %d slots are MIG instances", mig, slots)
	}
	if len(models) > 1 {
		c.fault(PropGangMixed, p.Run, "%d types of GPU in one gang", len(models))
	}
}

// amounts judges CPUs and memory per node over everything that is and will be there.
func (c *checker) amounts() {
	cpu, mib := map[checkNode]int{}, map[checkNode]int64{}
	for at, v := range c.usedCPU {
		cpu[at] = v
	}
	for at, v := range c.usedMiB {
		mib[at] = v
	}
	for _, p := range c.plan.Place {
		for _, sh := range p.Shares {
			at := checkNode{p.Cluster, sh.Node}
			cpu[at] += sh.CPUs
			mib[at] += sh.MemoryMiB
			n, ok := c.nodes[at]
			if !ok {
				continue
			}
			// What active attempts use may exceed a node that shrank; only new work is at fault.
			if sh.CPUs > 0 && cpu[at] > n.CPUs {
				c.fault(PropCPU, p.Run, "%d CPUs given on %s, which has %d", cpu[at], sh.Node, n.CPUs)
			}
			if sh.MemoryMiB > 0 && mib[at] > n.MemoryMiB {
				c.fault(PropMemory, p.Run, "%d MiB given on %s, which has %d", mib[at], sh.Node, n.MemoryMiB)
			}
		}
	}
}

// lastResorts judges nodes and kinds of slot that are used only when nothing else could do.
func (c *checker) lastResorts(p forge.Place, r forge.PendingRun) {
	kind := c.kindFor(r)
	for _, sh := range p.Shares {
		if avoids(r, c.nodes[checkNode{p.Cluster, sh.Node}]) && c.couldRunWithout(r, kind) {
			c.fault(PropAvoid, p.Run, "on %s, which it avoids, and other nodes could hold it", sh.Node)
		}
		for _, g := range c.nodes[checkNode{p.Cluster, sh.Node}].GPUs {
			if slices.Contains(sh.Slots, g.Slot) && g.Kind != kind {
				c.fault(PropCPUSlot, p.Run, "%s slot %d of %s is a %s, and it could run on a %s", p.Cluster, g.Slot, sh.Node, g.Kind, kind)
			}
		}
	}
}
