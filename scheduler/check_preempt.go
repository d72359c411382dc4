package scheduler

import (
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
	for i, p := range c.plan.Preempt {
		if slices.ContainsFunc(c.plan.Preempt[:i], func(q forge.Preempt) bool { return q.Run == p.Run && q.For == p.For }) {
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
	i := slices.IndexFunc(c.s.Active, func(a forge.ActiveAttempt) bool { return a.Run == p.Run && a.Number == p.Attempt })
	if i < 0 {
		return forge.ActiveAttempt{}, false
	}
	return c.s.Active[i], true
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
	var there []forge.ActiveAttempt
	for _, x := range c.s.Active {
		stopped := slices.ContainsFunc(c.plan.Preempt, func(p forge.Preempt) bool { return p.Run == x.Run })
		_, movable := c.position[x.Run]
		if !stopped && x.Run != a.Run && !(movable && (gpusOf(x) < gpusOf(a) || c.isBefore(a.Run, x.Run))) {
			there = append(there, x)
		}
	}
	for _, p := range c.plan.Place {
		there = append(there, forge.ActiveAttempt{Run: p.Run, Cluster: p.Cluster, Placement: p.Shares})
	}
	for _, kept := range c.setAside {
		there = append(there, kept)
	}
	_, fits := c.fitsIn(r, c.choices(r), there, time.Time{})
	return fits
}

// leavesAnyway: it is leaving already, or is stopped in this plan for a run further ahead.
func (c *checker) leavesAnyway(p forge.Preempt, a forge.ActiveAttempt) bool {
	i := slices.IndexFunc(c.plan.Preempt, func(q forge.Preempt) bool { return q.Run == p.Run })
	return isLeaving(a) || i >= 0 && c.plan.Preempt[i].For != p.For
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
	if !c.fitsWithout(r, stops, true) {
		c.fault(PropPreemptInVain, stops[0].Run, "is preempted for %s, which could still not start", r.ID)
		return
	}
	for i, p := range stops {
		if a, ok := c.active(p); ok && !c.leavesAnyway(p, a) && c.fitsWithout(r, slices.Delete(slices.Clone(stops), i, i+1), false) {
			c.fault(PropPreemptNeedless, p.Run, "is preempted for %s, which could start without that", r.ID)
		}
	}
}

// fitsWithout says whether the gang fits when these victims are gone, of which only what is claimed is
// free for it. alone: on claimed slots only; else also on free ones, beside what is set aside for others.
func (c *checker) fitsWithout(r forge.PendingRun, gone []forge.Preempt, alone bool) bool {
	var there []forge.ActiveAttempt
	claims := map[checkSlot]bool{}
	for _, p := range gone {
		for _, cl := range p.Claims {
			claims[checkSlot{checkNode{cl.Cluster, cl.Node}, cl.Slot}] = true
		}
	}
	for _, a := range c.s.Active {
		if !slices.ContainsFunc(gone, func(p forge.Preempt) bool { return p.Run == a.Run }) {
			there = append(there, a)
			continue
		}
		there = append(there, unclaimed(a, claims))
	}
	for _, p := range c.plan.Place {
		there = append(there, forge.ActiveAttempt{Run: p.Run, Cluster: p.Cluster, Placement: p.Shares})
	}
	if !alone {
		for run, g := range c.setAside {
			if run != r.ID {
				there = append(there, g)
			}
		}
	}
	choices := c.choices(r)
	if !alone {
		if c.repacks() {
			for t := range choices {
				choices[t] = slices.DeleteFunc(choices[t], func(n forge.Node) bool { return !c.stopsOn(r, n) })
			}
		}
		_, fits := c.fitsIn(r, choices, there, time.Time{})
		return fits
	}
	for t, nodes := range choices {
		var fit []forge.Node
		for _, n := range nodes {
			has := c.roomOn(r, t, n, there, time.Time{})
			if c.claimedOn(t, n, claims) >= r.Gang.GPUsPerNode && has.cpus >= r.Gang.CPUsPerNode() && has.mib >= r.Gang.MemoryMiBPerNode() {
				fit = append(fit, n)
			}
		}
		if areEnough(r, fit) {
			return true
		}
	}
	return false
}

// repacks says that plans are made by repacking: what is free on other nodes may have been meant for others when the run got its own.
func (c *checker) repacks() bool { return c.policy.PreemptInOrder }

func (c *checker) stopsOn(r forge.PendingRun, n forge.Node) bool {
	return slices.ContainsFunc(c.stops(r.ID), func(p forge.Preempt) bool {
		return slices.ContainsFunc(p.Claims, func(cl forge.Claim) bool { return cl.Cluster == n.Cluster && cl.Node == n.Name })
	})
}

func (c *checker) claimedOn(t gangType, n forge.Node, claims map[checkSlot]bool) int {
	k := 0
	for _, g := range n.GPUs {
		if g.Kind == t.kind && g.Type == t.typ && g.Sick == "" && claims[checkSlot{checkNode{n.Cluster, n.Name}, g.Slot}] {
			k++
		}
	}
	return k
}

// unclaimed is what a victim still blocks: the slots that nobody claimed, and all that it has where nothing of it is
// claimed. Elsewhere its CPUs and memory go.
func unclaimed(a forge.ActiveAttempt, claims map[checkSlot]bool) forge.ActiveAttempt {
	out := forge.ActiveAttempt{Run: a.Run, Number: a.Number, Cluster: a.Cluster}
	for _, sh := range a.Placement {
		if !slices.ContainsFunc(sh.Slots, func(slot int) bool { return claims[checkSlot{checkNode{a.Cluster, sh.Node}, slot}] }) {
			out.Placement = append(out.Placement, sh)
			continue
		}
		rest := forge.Share{Node: sh.Node}
		for _, slot := range sh.Slots {
			if !claims[checkSlot{checkNode{a.Cluster, sh.Node}, slot}] {
				rest.Slots = append(rest.Slots, slot)
			}
		}
		out.Placement = append(out.Placement, rest)
	}
	return out
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
	for run, at := range claims {
		r, ready := c.pendingReady(run)
		if !ready || slices.ContainsFunc(c.plan.Place, func(p forge.Place) bool { return p.Run == run }) {
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
	for _, t := range c.typesOf() {
		out := forge.ActiveAttempt{Run: r.ID, Cluster: t.cluster}
		nodes := choices[t]
		slices.SortFunc(nodes, func(a, b forge.Node) int {
			if a.Name < b.Name {
				return -1
			}
			return 1
		})
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
