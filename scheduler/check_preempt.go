package scheduler

import (
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// preemptions: each stops an active attempt for a run that waits, claims what that frees, and
// all preemptions for a run together make its gang fit.
func (c *checker) preemptions() {
	stopped := map[forge.RunID]bool{}
	claimed := map[checkSlot]bool{}
	for _, p := range c.plan.Preempt {
		if stopped[p.Run] {
			c.fault(PropPreemptTarget, p.Run, "preempted twice in one plan")
		}
		stopped[p.Run] = true
		i := slices.IndexFunc(c.s.Active, func(a forge.ActiveAttempt) bool { return a.Run == p.Run && a.Number == p.Attempt })
		if i < 0 {
			c.fault(PropPreemptTarget, p.Run, "attempt %d is not active", p.Attempt)
			continue
		}
		if _, ready := c.pendingReady(p.For); !ready {
			c.fault(PropPreemptTarget, p.Run, "preempted for %s, which could not start", p.For)
		}
		c.claimsOf(p, c.s.Active[i], claimed)
	}
	for _, p := range c.plan.Preempt {
		if r, ready := c.pendingReady(p.For); ready {
			c.notInVain(r, p.Run)
		}
	}
}

// claimsOf: what is claimed is what the victim frees, once, for the run that it is freed for.
func (c *checker) claimsOf(p forge.Preempt, victim forge.ActiveAttempt, claimed map[checkSlot]bool) {
	if len(p.Claims) == 0 {
		c.fault(PropPreemptClaims, p.Run, "nothing is claimed of what it frees")
	}
	for _, cl := range p.Claims {
		at := checkSlot{checkNode{cl.Cluster, cl.Node}, cl.Slot}
		holds := cl.Cluster == victim.Cluster && slices.ContainsFunc(victim.Placement, func(sh forge.Share) bool {
			return sh.Node == cl.Node && slices.Contains(sh.Slots, cl.Slot)
		})
		other, taken := c.claims[at]
		switch {
		case cl.For != p.For:
			c.fault(PropPreemptClaims, p.Run, "slot %d of %s is claimed for %s, preempted for %s", cl.Slot, cl.Node, cl.For, p.For)
		case !holds:
			c.fault(PropPreemptClaims, p.Run, "slot %d of %s is claimed and not its own", cl.Slot, cl.Node)
		case claimed[at] || taken && other != p.For:
			c.fault(PropPreemptClaims, p.Run, "slot %d of %s is claimed already", cl.Slot, cl.Node)
		}
		claimed[at] = true
	}
}

// notInVain: with every victim of this plan gone, every placement of this plan there, and only
// the claimed slots of the victims counted as free, the gang fits.
func (c *checker) notInVain(r forge.PendingRun, victim forge.RunID) {
	var there []forge.ActiveAttempt
	for _, a := range c.s.Active {
		i := slices.IndexFunc(c.plan.Preempt, func(p forge.Preempt) bool { return p.Run == a.Run && p.For == r.ID })
		if i < 0 {
			there = append(there, a)
			continue
		}
		there = append(there, unclaimed(a, c.plan.Preempt[i].Claims))
	}
	for _, p := range c.plan.Place {
		there = append(there, forge.ActiveAttempt{Run: p.Run, Cluster: p.Cluster, Placement: p.Shares})
	}
	for t, nodes := range c.choices(r) {
		fit := 0
		for _, n := range nodes {
			has := c.roomOn(r, t, n, there, time.Time{})
			if has.slots >= r.Gang.GPUsPerNode && has.cpus >= r.Gang.CPUsPerNode() && has.mib >= r.Gang.MemoryMiBPerNode() {
				fit++
			}
		}
		if fit >= r.Gang.Nodes {
			return
		}
	}
	c.fault(PropPreemptInVain, victim, "is preempted for %s, which could still not start", r.ID)
}

// unclaimed is what a victim still blocks: the slots that nobody claimed. Its CPUs and memory go.
func unclaimed(a forge.ActiveAttempt, claims []forge.Claim) forge.ActiveAttempt {
	out := forge.ActiveAttempt{Run: a.Run, Number: a.Number, Cluster: a.Cluster}
	for _, sh := range a.Placement {
		rest := forge.Share{Node: sh.Node}
		for _, slot := range sh.Slots {
			if !slices.ContainsFunc(claims, func(cl forge.Claim) bool { return cl.Node == sh.Node && cl.Slot == slot }) {
				rest.Slots = append(rest.Slots, slot)
			}
		}
		out.Placement = append(out.Placement, rest)
	}
	return out
}
