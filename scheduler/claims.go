package scheduler

import (
	"cmp"
	"fmt"
	"slices"

	forge "github.com/forge-ml/forge-ml"
)

// kept is one slot that is kept for a run, and the run that was stopped for it.
type kept struct {
	at   nodeKey
	node *node // nil when it is gone
	slot int
	from forge.RunID
}

// claim tells the world of a claim, unclaim that it ended.
func (w *world) claim(c forge.Claim) {
	at := nodeKey{c.Cluster, c.Node}
	w.keep(c.For, kept{at, w.nodes[at], c.Slot, c.From})
}

func (w *world) unclaim(c forge.Claim) {
	at := nodeKey{c.Cluster, c.Node}
	w.setClaims(c.For, slices.DeleteFunc(slices.Clone(w.claims[c.For]), func(k kept) bool { return k.at == at && k.slot == c.Slot }))
	if n := w.nodes[at]; n != nil {
		if sl := n.slot(c.Slot); sl != nil && sl.claim == c.For {
			sl.claim, sl.from = "", ""
			sl.bin.countFree()
		}
	}
}

// keep writes a claim into the world. Who reads the claims of a run must not depend on the order in which they were told.
func (w *world) keep(run forge.RunID, k kept) {
	list := slices.Clone(w.claims[run])
	i, _ := slices.BinarySearchFunc(list, k, func(a, b kept) int {
		return cmp.Or(cmp.Compare(a.at.cluster, b.at.cluster), cmp.Compare(a.at.node, b.at.node), cmp.Compare(a.slot, b.slot))
	})
	w.setClaims(run, slices.Insert(list, i, k))
	if k.node == nil {
		return
	}
	if sl := k.node.slot(k.slot); sl != nil {
		w.keepBefore(k.node)
		sl.claim, sl.from = run, k.from
		sl.bin.countFree()
	}
}

// setAside keeps CPUs and memory for a run that GPUs are claimed for, as if it ran there already:
// else somebody could take them before it starts, and the GPUs would have been freed in vain. It says whether
// what is claimed is all that the gang needs: claims that have ceased to suffice (a GPU became sick) are
// none, and the run takes its turn like any other.
func (pl *planner) setAside(e *entry, sh *shape) bool {
	if sh.waitForNode {
		return false
	}
	for i, p := range sh.pools {
		var bins []*bin
		for j := range sh.eligible[i].in(sh.eligible[i]) {
			b, n := p.bins[j], 0
			for _, k := range pl.w.claims[e.id] {
				if k.node != b.node {
					continue
				}
				sl := k.node.slot(k.slot)
				by := k.node.holder(k.slot)
				if sl != nil && sl.bin == b && !sl.sick && (!sl.held || by != nil && by.stopped) {
					n++
				}
			}
			if n >= sh.need.slots {
				bins = append(bins, b)
			}
		}
		if len(bins) >= e.gang.Nodes {
			for _, b := range bins[:e.gang.Nodes] {
				pl.w.setAside(b.node, e.id, sh.need)
			}
			return true
		}
	}
	return false
}

func (w *world) setAside(n *node, run forge.RunID, what need) {
	w.take(n, use{cpus: what.cpus, mib: what.mib, setAside: run})
}

// giveBack undoes setAside.
func (w *world) giveBack(e *entry) {
	for _, k := range w.claims[e.id] {
		if k.node == nil {
			continue
		}
		k.node.uses = slices.DeleteFunc(slices.Clone(k.node.uses), func(u use) bool {
			if u.setAside != e.id {
				return false
			}
			k.node.move()
			k.node.freeCPU, k.node.freeMiB = k.node.freeCPU+u.cpus, k.node.freeMiB+u.mib
			return true
		})
	}
}

// awaited says that somebody is still to leave a slot that is claimed for the run. Where all are free and the
// gang does not fit, its claims help it no more.
func (w *world) awaited(run forge.RunID) bool {
	return slices.ContainsFunc(w.claims[run], func(k kept) bool { return k.node != nil && k.node.holder(k.slot) != nil })
}

// savingHold says how many of the runs that are stopped for a run have still to save.
func (pl *planner) savingHold(run forge.RunID) *forge.Held {
	return pl.held(forge.HoldPreempting, func() string {
		still := map[forge.RunID]bool{}
		for _, k := range pl.w.claims[run] {
			if k.from == "" || k.node == nil {
				continue
			}
			by := k.node.holder(k.slot)
			still[k.from] = still[k.from] || by != nil && by.id == k.from
		}
		n := 0
		for _, s := range still {
			if s {
				n++
			}
		}
		return fmt.Sprintf("waits for %d of %s to save; it starts on the GPUs that are kept for it as soon as they have stopped", n, count(len(still), "run"))
	})
}

// holder is the active run that holds a slot; nil when none does.
func (n *node) holder(slot int) *entry {
	for i := range n.uses {
		if u := &n.uses[i]; u.by != nil && slices.Contains(u.slots, slot) {
			return u.by
		}
	}
	return nil
}

// yields says whether the claims of a waiting run give way to another: that is of a higher class and comes before it. A claim for a run that does
// not wait gives way to nobody: the store is about to end it. Nor does one of this very plan: for that runs are being stopped.
func (w *world) yields(claimant forge.RunID, to *entry, class int) bool {
	e := w.entries[claimant]
	return e != nil && e.pend != nil && !e.cleared && e.pend.Priority <= class && to.turn.at < e.turn.at
}

// carryOut writes the preemptions down and sets aside in the world what they make room for: later
// runs of this plan must not take it.
func (pl *planner) carryOut(c *clearing) {
	r := c.e.pend
	claims := map[forge.RunID][]forge.Claim{} // by the run that is stopped; "" for what is free
	pl.w.setClaims(r.ID, nil)
	slices.SortFunc(c.bins, func(a, b *bin) int { return cmp.Compare(a.node.Name, b.node.Name) })
	for _, b := range c.bins {
		for _, k := range pl.slotsFor(c, b) {
			if old := b.node.slot(k.slot).claim; old != "" && old != r.ID {
				pl.overruled[old] = true
			}
			holder := forge.RunID("")
			if by := b.node.holder(k.slot); by != nil {
				holder = by.id
			}
			claims[holder] = append(claims[holder], forge.Claim{Cluster: b.node.Cluster, Node: b.node.Name, Slot: k.slot, For: r.ID, From: k.from})
			pl.w.keep(r.ID, k)
		}
		pl.w.setAside(b.node, r.ID, c.need)
	}
	pl.count(c.e)
	c.e.cleared = true
	slices.SortFunc(c.stops, func(a, b *entry) int { return cmp.Compare(a.id, b.id) })
	for i, a := range c.stops {
		p := forge.Preempt{Run: a.id, Attempt: a.act.Number, For: r.ID, Leaves: a.stopped, Claims: claims[a.id]}
		a.stopped = true
		if i == 0 {
			p.Claims = slices.Concat(p.Claims, claims[""])
		}
		pl.plan.Preempt = append(pl.plan.Preempt, p)
	}
}

// slotsFor takes the slots of one node: one at least of each attempt that is stopped there, what is
// claimed already, what is free, and then what the stopped ones hold.
func (pl *planner) slotsFor(c *clearing, b *bin) []kept {
	var out []kept
	take := func(n int) {
		if !slices.ContainsFunc(out, func(k kept) bool { return k.slot == n }) {
			k := kept{at: nodeKey{b.node.Cluster, b.node.Name}, node: b.node, slot: n}
			if by := b.node.holder(n); by != nil {
				k.from = by.id
			} else if sl := b.node.slot(n); sl.claim == c.e.id {
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
		if sl := b.node.slot(k.slot); sl.bin == b && !sl.sick {
			ofBin++
		}
	}
	var rest []int
	rank := map[int]int{}
	for _, sl := range b.slots {
		n := sl.n
		by := b.node.holder(n)
		usable := !sl.sick && c.mayClaim(pl.w, sl.claim) && (!sl.held || by != nil && slices.Contains(c.stops, by))
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
