package scheduler

import (
	"slices"
	"sort"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// gangType is one cluster, kind and type: what a gang may be made of, where it is of MIG instances only if it is of one.
type gangType struct {
	cluster forge.ClusterName
	kind    forge.GPUKind
	typ     string
	mig     bool
}

func (t gangType) is(g forge.GPU) bool {
	return g.Kind == t.kind && g.Type == t.typ && (g.MIG != "") == t.mig
}

// typesOf lists the types that nodes hold, in a fixed order.
func (c *checker) typesOf() []gangType {
	if c.types != nil {
		return c.types
	}
	set := map[gangType]bool{}
	for _, n := range c.s.Nodes {
		for _, g := range n.GPUs {
			set[gangType{n.Cluster, g.Kind, g.Type, g.MIG != ""}] = true
		}
	}
	var out []gangType
	for t := range set {
		out = append(out, t)
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i], out[j]
		if a.cluster != b.cluster {
			return a.cluster < b.cluster
		}
		if a.kind != b.kind {
			return a.kind < b.kind
		}
		if a.typ != b.typ {
			return a.typ < b.typ
		}
		return !a.mig && b.mig
	})
	c.types = out
	return out
}

// nodesThatHold lists the nodes of a type on which a share of the gang fits when empty, among
// those that ok accepts; well counts only GPUs that are not sick.
func (c *checker) nodesThatHold(r forge.PendingRun, t gangType, well bool, ok func(forge.Node) bool) []forge.Node {
	var out []forge.Node
	if t.mig && r.Gang.GPUs() > 1 {
		return nil
	}
	for _, n := range c.s.Nodes {
		if n.Cluster != t.cluster || r.Cluster != "" && n.Cluster != r.Cluster || r.Batch && !c.hasBatch(n.Cluster) || !asks(r.Where, n, t.typ) || !ok(n) {
			continue
		}
		slots := 0
		for _, g := range n.GPUs {
			if t.is(g) && (!well || g.Sick == "") && (r.Where == nil || g.MemoryMiB >= r.Where.GPUMemoryMiB) {
				slots++
			}
		}
		if slots >= r.Gang.GPUsPerNode && n.CPUs >= r.Gang.CPUsPerNode() && n.MemoryMiB >= r.Gang.MemoryMiBPerNode() {
			out = append(out, n)
		}
	}
	return out
}

// kindFor is GPUs wherever such GPUs exist at all, else CPU slots.
func (c *checker) kindFor(r forge.PendingRun) forge.GPUKind {
	return remembered(c.kinds, r, func() forge.GPUKind { return c.findKind(r) })
}

func (c *checker) findKind(r forge.PendingRun) forge.GPUKind {
	for _, t := range c.typesOf() {
		if t.kind == forge.GPUDevice && areEnough(r, c.nodesThatHold(r, t, false, func(forge.Node) bool { return true })) {
			return forge.GPUDevice
		}
	}
	return forge.GPUCPUSlot
}

func (c *checker) isPaused(name forge.ClusterName) bool {
	return slices.ContainsFunc(c.s.Paused, func(p forge.PausedCluster) bool { return p.Cluster == name })
}

// avoids says whether the run is to go elsewhere while elsewhere could hold it: it failed on the node, or others did.
func avoids(r forge.PendingRun, n forge.Node) bool {
	return n.Suspect != "" || slices.Contains(r.Avoid, n.Name)
}

// couldRunWithout says whether ready nodes that the run does not avoid could hold it when empty.
func (c *checker) couldRunWithout(r forge.PendingRun, kind forge.GPUKind) bool {
	return remembered(c.without, r, func() bool { return c.findWithout(r, kind) })
}

func (c *checker) findWithout(r forge.PendingRun, kind forge.GPUKind) bool {
	for _, t := range c.typesOf() {
		if t.kind != kind || c.isPaused(t.cluster) {
			continue
		}
		nodes := c.nodesThatHold(r, t, true, func(n forge.Node) bool {
			return n.State == forge.NodeReady && !avoids(r, n)
		})
		if c.isEager(t.cluster) {
			nodes = c.nodesThatHold(r, t, false, func(n forge.Node) bool {
				return n.State != forge.NodeDrained && !avoids(r, n)
			})
		}
		if areEnough(r, nodes) {
			return true
		}
	}
	return false
}

// choices are, per type, the nodes that the run may start on once they are free.
func (c *checker) choices(r forge.PendingRun) map[gangType][]forge.Node {
	return remembered(c.chosen, r, func() map[gangType][]forge.Node { return c.findChoices(r) })
}

func (c *checker) findChoices(r forge.PendingRun) map[gangType][]forge.Node {
	kind := c.kindFor(r)
	without := c.couldRunWithout(r, kind)
	out := map[gangType][]forge.Node{}
	for _, t := range c.typesOf() {
		if t.kind != kind || c.isPaused(t.cluster) || c.isEager(t.cluster) {
			continue
		}
		nodes := c.nodesThatHold(r, t, true, func(n forge.Node) bool {
			return n.State == forge.NodeReady && !(without && avoids(r, n))
		})
		if areEnough(r, nodes) {
			out[t] = nodes
		}
	}
	return out
}

// headNotDelayed finds the first run in the queue that could start if there were room and is not
// placed, and compares when it can start with and without the runs that overtook it.
func (c *checker) headNotDelayed() {
	if len(c.plan.Place)+len(c.plan.Preempt) == 0 {
		return
	}
	var queue []*forge.PendingRun
	for _, k := range c.line() {
		if r := c.pending[k.id]; r != nil && k.waits {
			queue = append(queue, r)
		}
	}
	where := map[forge.RunID]forge.Place{}
	for _, p := range c.plan.Place {
		where[p.Run] = p
	}
	var before, overtook []forge.ActiveAttempt
	var head *forge.PendingRun
	have := c.everything()
	if !c.policy.PreemptInOrder { // in strict order of the queue; claimants go first
		have = c.whatIsActive()
		for _, cl := range c.s.Claims {
			if _, kept := c.setAside[cl.For]; kept || where[cl.For].Run != "" {
				have.add(cl.For)
			}
		}
	}
	for _, r := range queue {
		p, placed := where[r.ID]
		if placed || len(c.stops(r.ID)) > 0 { // in strict order; who is stopped for it counts, too, until it has left
			have.add(r.ID)
		}
		switch {
		case head != nil && c.policy.PreemptInOrder && !r.Pinned: // whoever can be stopped later keeps nobody waiting
		case placed && (head == nil || c.isClaimant(r.ID)): // what was freed for it is its own, whoever waits
			before = append(before, asActive(*r, p, c.s.Now))
		case placed:
			overtook = append(overtook, asActive(*r, p, c.s.Now))
		case head != nil && len(c.stops(r.ID)) > 0: // what is stopped for a run behind the head goes to that one, for nobody knows how long
			overtook = append(overtook, c.setAside[r.ID])
		case head == nil && !c.overruled[r.ID] && len(c.setAside[r.ID].Placement) == 0:
			if ready, _ := c.mayStart(*r); ready && r.Gang.Nodes > 0 && r.Gang.GPUsPerNode > 0 && !have.over(*r) && len(c.choices(*r)) > 0 {
				head = r
			}
		}
	}
	if head == nil || len(overtook) == 0 {
		return
	}
	there := slices.Concat(c.s.Active, before)
	for run, kept := range c.setAside {
		if !slices.ContainsFunc(overtook, func(a forge.ActiveAttempt) bool { return a.Run == run }) {
			there = append(there, kept)
		}
	}
	base, with := viewOf(there), viewOf(there, overtook)
	choices := c.choices(*head)
	t0, known := c.startOf(*head, choices, base)
	if known {
		if t1, still := c.startOf(*head, choices, with); !still || t1.After(t0) {
			c.fault(PropHeadDelayed, head.ID, "could start at %s; after the runs behind it that start now, at %s", t0, t1)
		}
		return
	}
	// No time is known: then no node may come to lack more of what the head needs.
	for t, nodes := range choices {
		for _, n := range nodes {
			a, b := c.lacks(*head, t, n, base), c.lacks(*head, t, n, with)
			if b.slots > a.slots || b.cpus > a.cpus || b.mib > a.mib {
				c.fault(PropHeadDelayed, head.ID, "lacks more on %s after the runs behind it that start now", n.Name)
			}
		}
	}
}

func (c *checker) isClaimant(run forge.RunID) bool {
	return slices.ContainsFunc(c.s.Claims, func(cl forge.Claim) bool { return cl.For == run })
}

func asActive(r forge.PendingRun, p forge.Place, now time.Time) forge.ActiveAttempt {
	a := forge.ActiveAttempt{Run: p.Run, Number: p.Attempt, Cluster: p.Cluster, Placement: p.Shares}
	if r.TimeLimit > 0 {
		a.EndsBy = now.Add(r.TimeLimit)
	}
	return a
}
