package scheduler

import (
	"cmp"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// preemptions: each stops an active attempt of a lower class for a run that waits, or only claims
// what one that is leaving frees; all preemptions for a run together claim what its gang needs,
// and none of them could be left out.
func (c *checker) preemptions() {
	claimed := map[checkSlot]bool{}
	done := map[forge.RunID]bool{}
	twice := map[[2]forge.RunID]bool{}
	for i, p := range c.plan.Preempt {
		if pair := [2]forge.RunID{p.Run, p.For}; !twice[pair] {
			twice[pair] = true
		} else {
			c.fault(PropPreemptTarget, p.Run, "preempted twice for one run")
		}
		if i > 0 && c.plan.Preempt[i-1].For != p.For && done[p.For] {
			c.fault(PropPreemptClaims, p.Run, "the preemptions for %s do not stand side by side", p.For)
		}
		done[p.For] = true
		a, ok := c.active(p)
		if !ok {
			c.fault(PropPreemptTarget, p.Run, "attempt %d is not active", p.Attempt)
			continue
		}
		r, ready := c.pendingReady(p.For)
		if !ready {
			c.fault(PropPreemptTarget, p.Run, "preempted for %s, which could not start", p.For)
		}
		if p.Leaves != c.leavesAnyway(p, a) {
			c.fault(PropPreemptTarget, p.Run, "leaves anyway: %v, and the plan says %v", c.leavesAnyway(p, a), p.Leaves)
		}
		c.entitled(p, a, r)
		c.claimsOf(p, a, r, claimed)
	}
	for run := range done {
		if r, ready := c.pendingReady(run); ready {
			c.notInVain(r)
		}
	}
}

func (c *checker) active(p forge.Preempt) (forge.ActiveAttempt, bool) {
	if a, ok := c.running[p.Run]; ok && a.Number == p.Attempt {
		return *a, true
	}
	return forge.ActiveAttempt{}, false
}

// entitled: what is asked to stop may be stopped at all, and for this run: it borrows what the other is entitled to, or the policy puts the other
// before it.
func (c *checker) entitled(p forge.Preempt, a forge.ActiveAttempt, r forge.PendingRun) {
	if c.leavesAnyway(p, a) {
		return
	}
	if a.Pinned {
		c.fault(PropPreemptPinned, p.Run, "is pinned by its owner, and stopped for %s", p.For)
	}
	if until := c.sparedUntil(a); c.s.Now.Before(until) {
		c.fault(PropPreemptAgain, p.Run, "was preempted at %s, %d times by now, and is spared until %s", a.PreemptedAt, a.Preempted, until)
	}
	lent := c.tier(r.ID) == 0 && c.tier(p.Run) > 0
	taken := c.tier(r.ID) > 0 && c.tier(p.Run) == 0
	switch {
	case lent:
	case c.policy.PreemptInOrder:
		if c.isBefore(p.For, p.Run) {
			return
		}
		if gpusOf(a) >= r.Gang.GPUs() || taken || a.Priority > r.Priority {
			c.fault(PropPreemptOrder, p.Run, "is stopped for %s, which comes later in the order, and is no wider or of a lower class", p.For)
		} else if !c.findsPlace(a) {
			c.fault(PropPreemptMoved, p.Run, "is stopped for %s, which comes later in the order, and fits nowhere else", p.For)
		}
	case c.policy.PreemptGap <= 0 || r.Priority-a.Priority < c.policy.PreemptGap || taken:
		c.fault(PropPreemptGap, p.Run, "has priority %d and tier %d, %s has %d and %d; the gap is %d", a.Priority, c.tier(p.Run), p.For, r.Priority, c.tier(r.ID), c.policy.PreemptGap)
	}
}

func gpusOf(a forge.ActiveAttempt) (n int) {
	for _, sh := range a.Placement {
		n += len(sh.Slots)
	}
	return n
}

// findsPlace says whether a run that is moved fits in its own cluster with all that this plan does, where narrower ones and those behind it that may
// be stopped give way in their turn.
func (c *checker) findsPlace(a forge.ActiveAttempt) bool {
	r := forge.PendingRun{ID: a.Run, Cluster: a.Cluster, Gang: a.Gang, Where: a.Where}
	if n := len(a.Placement); n > 0 && a.Gang.GPUs() != gpusOf(a) {
		sh := a.Placement[0]
		r.Gang = forge.Gang{Nodes: n, GPUsPerNode: len(sh.Slots), CPUsPerGPU: sh.CPUs / len(sh.Slots), MemoryMiBPerGPU: sh.MemoryMiB / int64(len(sh.Slots))}
	}
	v := view{scenes: []scene{c.asPlanned(), c.asKept()}, left: func(_ checkNode, h holding) (forge.Share, bool) {
		x, running := c.running[h.run]
		_, movable := c.position[h.run]
		gives := running && (h.run == a.Run || len(c.stoppedAs[h.run]) > 0 || movable && (gpusOf(*x) < gpusOf(a) || c.isBefore(a.Run, h.run)))
		return h.share, !gives
	}}
	_, fits := c.fitsIn(r, c.choices(r), v, time.Time{})
	return fits
}

// leavesAnyway: it is leaving already, or is stopped in this plan for a run further ahead.
func (c *checker) leavesAnyway(p forge.Preempt, a forge.ActiveAttempt) bool {
	ofIt := c.stoppedAs[p.Run]
	return isLeaving(a) || len(ofIt) > 0 && ofIt[0].For != p.For
}

func isLeaving(a forge.ActiveAttempt) bool {
	return a.Intent != forge.IntentNone || a.State == forge.AttemptStopping
}

// claimsOf: what is claimed is what the victim frees, or free, once, for the run that it is freed for.
func (c *checker) claimsOf(p forge.Preempt, victim forge.ActiveAttempt, r forge.PendingRun, claimed map[checkSlot]bool) {
	own := false
	for _, cl := range p.Claims {
		at := checkSlot{checkNode{cl.Cluster, cl.Node}, cl.Slot}
		holder, held := c.heldBy[at]
		own = own || held && holder == p.Run && victim.Cluster == cl.Cluster
		switch {
		case cl.For != p.For:
			c.fault(PropPreemptClaims, p.Run, "slot %d of %s is claimed for %s, preempted for %s", cl.Slot, cl.Node, cl.For, p.For)
		case held && holder != p.Run:
			c.fault(PropPreemptClaims, p.Run, "slot %d of %s is claimed and not its own", cl.Slot, cl.Node)
		case held && cl.From != p.Run:
			c.fault(PropPreemptClaims, p.Run, "slot %d of %s is freed by it, and the claim says by %q", cl.Slot, cl.Node, cl.From)
		case claimed[at] || c.claims[at] != "" && !c.givesWay(c.claims[at], r):
			c.fault(PropPreemptClaims, p.Run, "slot %d of %s is claimed already", cl.Slot, cl.Node)
		}
		claimed[at] = true
	}
	if !own {
		c.fault(PropPreemptClaims, p.Run, "nothing is claimed of what it frees")
	}
}

// givesWay: a claim may go to its own run, or to one that is of a higher class and comes before it.
func (c *checker) givesWay(claimant forge.RunID, r forge.PendingRun) bool {
	x, waits := c.waiting(claimant)
	return claimant == r.ID || waits && r.Priority-x.Priority >= max(1, c.policy.PreemptGap) && c.isBefore(r.ID, claimant)
}

// stops are the preemptions of the plan for a run.
func (c *checker) stops(run forge.RunID) []forge.Preempt { return c.stopped[run] }

// notInVain: with every victim for the run gone and every placement of this plan there, the gang fits on what
// is claimed for it alone. And with any one of the victims still there it fits nowhere.
func (c *checker) notInVain(r forge.PendingRun) {
	stops := c.stops(r.ID)
	choices := c.choices(r)
	if !c.fitsOnClaims(r, choices, stops) {
		c.fault(PropPreemptInVain, stops[0].Run, "is preempted for %s, which could still not start", r.ID)
		return
	}
	// Where nothing is claimed for it, it makes no difference who of them stays.
	there, elsewhere := c.stoppedOn(stops, choices), map[gangType][]forge.Node{}
	if !c.repacks() {
		elsewhere = c.fitNow(r, there)
	}
	for i, p := range stops {
		if a, ok := c.active(p); ok && !c.leavesAnyway(p, a) && c.fitsWithout(r, there, elsewhere, slices.Delete(slices.Clone(stops), i, i+1)) {
			c.fault(PropPreemptNeedless, p.Run, "is preempted for %s, which could start without that", r.ID)
		}
	}
}

// repacks says that plans are made by repacking: what is free on other nodes may have been meant for others when the run got its own.
func (c *checker) repacks() bool { return c.policy.PreemptInOrder }

func (c *checker) stoppedOn(stops []forge.Preempt, choices map[gangType][]forge.Node) map[gangType][]forge.Node {
	out := map[gangType][]forge.Node{}
	on := map[checkNode]bool{}
	for _, p := range stops {
		for _, cl := range p.Claims {
			on[checkNode{cl.Cluster, cl.Node}] = true
		}
	}
	for t, nodes := range choices {
		for _, n := range nodes {
			if on[checkNode{n.Cluster, n.Name}] {
				out[t] = append(out[t], n)
			}
		}
	}
	return out
}

func (c *checker) claimedOn(t gangType, n forge.Node, claims map[checkSlot]bool) int {
	k := 0
	for _, g := range n.GPUs {
		if t.is(g) && g.Sick == "" && claims[checkSlot{checkNode{n.Cluster, n.Name}, g.Slot}] {
			k++
		}
	}
	return k
}

// keptFor finds what is set aside for runs that wait until others have stopped: CPUs and memory on the nodes
// where slots for the whole gang are claimed. Those runs hold nobody up and stop nothing more.
func (c *checker) keptFor() {
	claims := map[forge.RunID]map[checkSlot]bool{}
	add := func(run forge.RunID, at checkSlot) {
		if claims[run] == nil {
			claims[run] = map[checkSlot]bool{}
		}
		claims[run][at] = true
	}
	leaving := map[forge.RunID]bool{}
	for _, a := range c.s.Active {
		leaving[a.Run] = isLeaving(a)
	}
	for at, run := range c.claims {
		if len(c.stops(run)) == 0 {
			add(run, at)
		}
	}
	for _, p := range c.plan.Preempt {
		leaving[p.Run] = true
		for _, cl := range p.Claims {
			at := checkSlot{checkNode{cl.Cluster, cl.Node}, cl.Slot}
			if old := c.claims[at]; old != "" && old != p.For {
				c.overruled[old] = true
			}
			add(p.For, at)
		}
	}
	placed := map[forge.RunID]bool{}
	for _, p := range c.plan.Place {
		placed[p.Run] = true
	}
	for run, at := range claims {
		r, ready := c.pendingReady(run)
		if !ready || placed[run] {
			continue
		}
		usable, somebodyThere := map[checkSlot]bool{}, false
		for s := range at {
			holder, held := c.heldBy[s]
			somebodyThere = somebodyThere || held
			usable[s] = !held || leaving[holder]
		}
		if somebodyThere {
			c.setAsideFor(r, usable)
		}
	}
}

func (c *checker) setAsideFor(r forge.PendingRun, usable map[checkSlot]bool) {
	choices := c.choices(r)
	on := map[checkNode]bool{}
	for s := range usable {
		on[s.at] = true
	}
	for _, t := range c.typesOf() {
		out := forge.ActiveAttempt{Run: r.ID, Cluster: t.cluster}
		var nodes []forge.Node
		for _, n := range choices[t] {
			if on[checkNode{n.Cluster, n.Name}] {
				nodes = append(nodes, n)
			}
		}
		slices.SortFunc(nodes, func(a, b forge.Node) int { return cmp.Compare(a.Name, b.Name) })
		for _, n := range nodes {
			if len(out.Placement) < r.Gang.Nodes && c.claimedOn(t, n, usable) >= r.Gang.GPUsPerNode {
				share := forge.Share{Node: n.Name, CPUs: r.Gang.CPUsPerNode(), MemoryMiB: r.Gang.MemoryMiBPerNode()}
				for s := range usable {
					if s.at == (checkNode{n.Cluster, n.Name}) {
						share.Slots = append(share.Slots, s.slot)
					}
				}
				out.Placement = append(out.Placement, share)
			}
		}
		if len(out.Placement) == r.Gang.Nodes {
			c.setAside[r.ID] = out
			return
		}
	}
}
