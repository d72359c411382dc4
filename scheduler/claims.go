package scheduler

import (
	"cmp"
	"fmt"
	"slices"

	forge "github.com/forge-ml/forge-ml"
)

// kept is one slot that is kept for a run, and the run that was stopped for it.
type kept struct {
	node *node
	slot int
	from forge.RunID
}

// keep writes a claim into the world.
func (w *world) keep(run forge.RunID, n *node, k kept) {
	w.claims[run] = append(w.claims[run], k)
	sl, ok := n.slots[k.slot]
	if !ok {
		return
	}
	sl.claim, sl.from = run, k.from
	n.slots[k.slot] = sl
	sl.bin.countFree()
}

// setAside keeps CPUs and memory for a run that GPUs are claimed for, as if it ran there already:
// else somebody could take them before it starts, and the GPUs would have been freed in vain. It says whether
// what is claimed is all that the gang needs: claims that have ceased to suffice (a GPU became sick) are
// none, and the run takes its turn like any other.
func (w *world) setAside(r *forge.PendingRun, sh *shape) bool {
	if sh.waitForNode {
		return false
	}
	for _, p := range sh.pools {
		var bins []*bin
		for _, b := range p.bins {
			n := 0
			for _, k := range w.claims[r.ID] {
				sl, ok := k.node.slots[k.slot]
				a := k.node.holder(k.slot)
				if k.node == b.node && ok && sl.bin == b && !sl.sick && (!sl.held || a != nil && w.leaving(a)) {
					n++
				}
			}
			if n >= sh.need.slots && sh.mayUse(b) && b.holdsEmpty(sh.need, b.healthy) {
				bins = append(bins, b)
			}
		}
		if len(bins) >= r.Gang.Nodes {
			for _, b := range bins[:r.Gang.Nodes] {
				b.node.setAside(r.ID, sh.need)
			}
			return true
		}
	}
	return false
}

func (n *node) setAside(run forge.RunID, what need) {
	n.take(use{cpus: what.cpus, mib: what.mib, setAside: run})
}

// giveBack undoes setAside.
func (w *world) giveBack(r *forge.PendingRun) {
	for _, k := range w.claims[r.ID] {
		k.node.uses = slices.DeleteFunc(k.node.uses, func(u use) bool {
			if u.setAside != r.ID {
				return false
			}
			k.node.freeCPU, k.node.freeMiB = k.node.freeCPU+u.cpus, k.node.freeMiB+u.mib
			return true
		})
	}
}

// awaited says that somebody is still to leave a slot that is claimed for the run. Where all are free and the
// gang does not fit, its claims help it no more.
func (w *world) awaited(r *forge.PendingRun) bool {
	return slices.ContainsFunc(w.claims[r.ID], func(k kept) bool { return k.node.holder(k.slot) != nil })
}

// savingHold says how many of the runs that are stopped for a run have still to save.
func (w *world) savingHold(run forge.RunID) *forge.Held {
	still := map[forge.RunID]bool{}
	for _, k := range w.claims[run] {
		if k.from == "" {
			continue
		}
		a := k.node.holder(k.slot)
		still[k.from] = still[k.from] || a != nil && a.Run == k.from
	}
	n := 0
	for _, s := range still {
		if s {
			n++
		}
	}
	return &forge.Held{Code: forge.HoldPreempting, Text: fmt.Sprintf(
		"waits for %d of %s to save; it starts on the GPUs that are kept for it as soon as they have stopped", n, count(len(still), "run"))}
}

// holder is the active attempt that holds a slot; nil when none does.
func (n *node) holder(slot int) *forge.ActiveAttempt {
	for i := range n.uses {
		if u := &n.uses[i]; u.by != nil && slices.Contains(u.slots, slot) {
			return u.by
		}
	}
	return nil
}

// leaving says that an attempt ends without being asked once more.
func (w *world) leaving(a *forge.ActiveAttempt) bool { return a.Leaving() || w.stopping[a.Run] }

// priority is that of a pending run that GPUs are claimed for. A claim for a run that does not wait
// gives way to nobody: the store is about to end it.
func (w *world) priority(claimant forge.RunID) int {
	if r := w.waiters[claimant]; r != nil {
		return r.Priority
	}
	return forge.MaxPriority + 1
}

// carryOut writes the preemptions down and sets aside in the world what they make room for: later
// runs of this plan must not take it.
func (pl *planner) carryOut(r *forge.PendingRun, c *clearing) {
	claims := map[forge.RunID][]forge.Claim{} // by the run that is stopped; "" for what is free
	delete(pl.w.claims, r.ID)
	slices.SortFunc(c.bins, func(a, b *bin) int { return cmp.Compare(a.node.Name, b.node.Name) })
	for _, b := range c.bins {
		for _, k := range pl.choose(c, b) {
			if old := b.node.slots[k.slot].claim; old != "" && old != r.ID {
				pl.overruled[old] = true
			}
			holder := forge.RunID("")
			if a := b.node.holder(k.slot); a != nil {
				holder = a.Run
			}
			claims[holder] = append(claims[holder], forge.Claim{Cluster: b.node.Cluster, Node: b.node.Name, Slot: k.slot, For: r.ID, From: k.from})
			pl.w.keep(r.ID, b.node, k)
		}
		b.node.setAside(r.ID, c.need)
	}
	slices.SortFunc(c.stops, func(a, b *forge.ActiveAttempt) int { return cmp.Compare(a.Run, b.Run) })
	for i, a := range c.stops {
		pl.w.stopping[a.Run] = true
		p := forge.Preempt{Run: a.Run, Attempt: a.Number, For: r.ID, Claims: claims[a.Run]}
		if i == 0 {
			p.Claims = slices.Concat(p.Claims, claims[""])
		}
		pl.plan.Preempt = append(pl.plan.Preempt, p)
	}
}

// choose takes the slots of one node: one at least of each attempt that is stopped there, what is
// claimed already, what is free, and then what the stopped ones hold.
func (pl *planner) choose(c *clearing, b *bin) []kept {
	var out []kept
	take := func(n int) {
		if !slices.ContainsFunc(out, func(k kept) bool { return k.slot == n }) {
			k := kept{node: b.node, slot: n}
			if a := b.node.holder(n); a != nil {
				k.from = a.Run
			} else if sl := b.node.slots[n]; sl.claim == c.r.ID {
				k.from = sl.from
			}
			out = append(out, k)
		}
	}
	for i := range b.node.uses {
		if u := &b.node.uses[i]; u.by != nil && slices.Contains(c.stops, u.by) {
			if n := b.claimable(pl.w, c, u); n >= 0 {
				take(n)
			}
		}
	}
	ofBin := 0
	for _, k := range out {
		if sl := b.node.slots[k.slot]; sl.bin == b && !sl.sick {
			ofBin++
		}
	}
	var rest []int
	rank := map[int]int{}
	for i := range b.node.GPUs {
		n := b.node.GPUs[i].Slot
		sl := b.node.slots[n]
		a := b.node.holder(n)
		usable := sl.bin == b && !sl.sick && c.mayClaim(pl.w, sl.claim) && (!sl.held || a != nil && slices.Contains(c.stops, a))
		if !usable || slices.ContainsFunc(out, func(k kept) bool { return k.slot == n }) {
			continue
		}
		switch { // whose claim gives way loses all of it, so that the rest of it is taken first
		case sl.claim != "":
		case sl.held:
			rank[n] = 2
		default:
			rank[n] = 1
		}
		rest = append(rest, n)
	}
	slices.SortFunc(rest, func(x, y int) int { return cmp.Or(cmp.Compare(rank[x], rank[y]), cmp.Compare(x, y)) })
	for _, n := range rest[:max(0, min(len(rest), c.need.slots-ofBin))] {
		take(n)
	}
	slices.SortFunc(out, func(x, y kept) int { return cmp.Compare(x.slot, y.slot) })
	return out
}
