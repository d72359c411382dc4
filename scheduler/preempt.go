package scheduler

import (
	"cmp"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// preempt looks for the runs of lower priority that together make room for this one at the least
// lost work, and writes their preemption into the plan. Nil when there are none: nothing is
// stopped unless the gang then starts (invariant 6).
func (pl *planner) preempt(e *entry, sh *shape) *forge.Held {
	if sh.waitForNode || pl.repacked && !e.excluded || !pl.mayPreempt(e) {
		return nil
	}
	best := pl.clearance(e, sh, false)
	if best == nil && pl.overrules(e) {
		best = pl.clearance(e, sh, true)
	}
	if best == nil || best.bySelf {
		return nil
	}
	pl.carryOut(best)
	return pl.savingHold(e.id)
}

// mayPreempt says whether there could be anything that is stopped for the run.
func (pl *planner) mayPreempt(e *entry) bool {
	return pl.p.PreemptInOrder || pl.p.PreemptGap > 0 && e.pend.Priority >= pl.p.PreemptGap || e.turn.tier == 0
}

// clearing is one way to make room for a gang in a pool.
type clearing struct {
	e      *entry
	need   need
	class  int  // the highest priority that gives way
	over   bool // claims of runs of that class do not count
	shared bool // a stop costs a node only its part of it
	stops  []*entry
	bins   []*bin
	lost   int64
	where  *forge.Constraints
	bySelf bool // it is enough to wait for what is leaving anyway: a reservation does that
}

// clearance is the best clearing over all pools that are not reserved for somebody ahead.
func (pl *planner) clearance(e *entry, sh *shape, over bool) *clearing {
	var best *clearing
	for _, p := range sh.pools {
		if p.cluster.reserved != nil {
			continue
		}
		// A run on many nodes is dear for the sake of one and cheap for the sake of all: both are tried.
		sites := sh.withinOne(sh.clearable(p))
		for _, shared := range []bool{false, true}[:min(2, e.gang.Nodes)] {
			for _, bins := range sites {
				c := &clearing{e: e, need: sh.need, class: e.pend.Priority - max(1, pl.p.PreemptGap), over: over, shared: shared, where: sh.where}
				if !pl.clear(c, bins) {
					continue
				}
				if c.bySelf {
					return c
				}
				if best == nil || c.lost < best.lost {
					best = c
				}
			}
		}
	}
	return best
}

// clearable are the bins that may be cleared for a shape.
func (sh *shape) clearable(p *pool) []*bin {
	var out []*bin
	eligible, _ := sh.of(p)
	for i := range eligible.in(eligible) {
		out = append(out, p.bins[i])
	}
	return out
}

// withinOne divides bins by the label that all nodes of the gang must share one value of; where there is none they stay together.
func (sh *shape) withinOne(bins []*bin) [][]*bin {
	if sh.where == nil || sh.where.Within == "" || sh.key.gang.Nodes == 1 {
		return [][]*bin{bins}
	}
	if len(bins) == 0 {
		return nil
	}
	var out [][]*bin
	ids := bins[0].pool.grouped(sh.where.Within)
	at := make([]int32, len(bins)+1) // by number of the value, where it is in out, from 1
	for _, b := range bins {
		id := int(ids[b.at])
		if id == 0 {
			continue
		}
		if id >= len(at) {
			at = append(at, make([]int32, id+1-len(at))...)
		}
		if at[id] == 0 {
			out = append(out, nil)
			at[id] = int32(len(out))
		}
		out[at[id]-1] = append(out[at[id]-1], b)
	}
	return out
}

// clear takes the node that is cheapest to clear, then the next one given what was stopped for the first, and at
// the end leaves out every stop, the dearest first, without which the gang still fits.
func (pl *planner) clear(c *clearing, bins []*bin) bool {
	type offer struct {
		stops []*entry
		lost  int64
		ok    bool
	}
	offers := make([]offer, len(bins)) // what clearing each would take; anew only where a stop changes it
	price := func(i int) {
		o := &offers[i]
		o.stops, o.lost, o.ok = pl.clearBin(c, bins[i])
	}
	for i := range bins {
		price(i)
	}
	on := func(e *entry, do func(i int)) {
		for _, sh := range e.act.Placement {
			n := pl.w.nodes[nodeKey{e.act.Cluster, sh.Node}]
			if n == nil {
				continue
			}
			for _, b := range n.bins { // bins are of one pool, and in its order
				if i, in := slices.BinarySearchFunc(bins, b, func(x, y *bin) int { return x.at - y.at }); in && bins[i] == b {
					do(i)
				}
			}
		}
	}
	taken := make([]bool, len(bins))
	for range c.e.gang.Nodes {
		best := -1
		for i := range bins {
			if o := &offers[i]; o.ok && !taken[i] && (best < 0 || o.lost < offers[best].lost || o.lost == offers[best].lost && len(o.stops) < len(offers[best].stops)) {
				best = i
			}
		}
		if best < 0 {
			return false
		}
		taken[best] = true
		next := offers[best].stops
		c.stops = append(c.stops, next...)
		for _, e := range next {
			on(e, price)
		}
	}
	fits, n := make([]bool, len(bins)), 0
	judge := func(i int) {
		if now := pl.room(c, bins[i], c.stops).meets(c.need); now != fits[i] {
			if fits[i] = now; now {
				n++
			} else {
				n--
			}
		}
	}
	for i := range bins {
		judge(i)
	}
	slices.SortFunc(c.stops, pl.dearestFirst)
	for i := 0; i < len(c.stops); {
		all, e := c.stops, c.stops[i]
		c.stops = slices.Delete(slices.Clone(all), i, i+1)
		if on(e, judge); n < c.e.gang.Nodes {
			c.stops = all
			on(e, judge)
			i++
		}
	}
	c.bySelf = len(c.stops) == 0 || !c.over && !slices.ContainsFunc(c.stops, func(a *entry) bool { return !a.stopped })
	for i, b := range bins {
		if fits[i] {
			c.bins = append(c.bins, b)
		}
	}
	slices.SortStableFunc(c.bins, func(a, b *bin) int {
		return cmp.Or(cmp.Compare(pl.room(c, a, c.stops).slots, pl.room(c, b, c.stops).slots), cmp.Compare(a.node.Name, b.node.Name))
	})
	c.bins = c.bins[:c.e.gang.Nodes]
	for _, a := range c.stops {
		c.lost += pl.lost(a)
	}
	return !slices.ContainsFunc(c.bins, func(b *bin) bool { return pl.robs(c, b) })
}

// robs says that on this node the run would take CPUs or memory that are set aside for a run of a lower class
// and none of its claimed GPUs: that one would wait on, for what is no longer there.
func (pl *planner) robs(c *clearing, b *bin) bool {
	slots := pl.slotsFor(c, b)
	for i := range b.node.uses {
		of := b.node.uses[i].setAside
		if of != "" && c.mayClaim(pl.w, of) && !slices.ContainsFunc(slots, func(k kept) bool { return b.node.slot(k.slot).claim == of }) {
			return true
		}
	}
	return false
}

// clearBin chooses whom to stop on one node, beside those that the clearing stops already: again and again
// the attempt that loses least for what it gives of what is still missing.
func (pl *planner) clearBin(c *clearing, b *bin) (stops []*entry, lost int64, ok bool) {
	have := pl.room(c, b, c.stops)
	offers := pl.offers[:0]
	for i := range b.node.uses {
		u := &b.node.uses[i]
		if u.by != nil && pl.mayStop(c.e, u.by) && !slices.Contains(c.stops, u.by) && b.claimable(pl.w, c, u) >= 0 {
			offers = append(offers, u.by)
		}
	}
	pl.offers = offers
	slices.SortFunc(offers, pl.dearestFirst)
	slices.Reverse(offers)
	for !have.meets(c.need) {
		at, gain, price := -1, int64(0), int64(0)
		for i, a := range offers {
			g := have.progress(pl.gives(c, b, a), c.need)
			if l := pl.price(c, b, a); g > 0 && (at < 0 || l*gain < price*g) {
				at, gain, price = i, g, l
			}
		}
		if at < 0 {
			return nil, 0, false
		}
		have.add(pl.gives(c, b, offers[at]))
		stops, lost = append(stops, offers[at]), lost+price
		offers = slices.Delete(offers, at, at+1)
	}
	return stops, lost, true
}

// room is what the bin has for the run once the stops have left.
func (pl *planner) room(c *clearing, b *bin, stops []*entry) avail {
	a := avail{0, b.node.freeCPU, b.node.freeMiB}
	for _, sl := range b.slots {
		if !sl.sick && !sl.held && c.mayClaim(pl.w, sl.claim) {
			a.slots++
		}
	}
	for i := range b.node.uses {
		u := &b.node.uses[i]
		switch {
		case u.by != nil && slices.Contains(stops, u.by):
			a.add(b.gift(pl.w, c, u))
		case u.setAside != "" && c.mayClaim(pl.w, u.setAside):
			a.cpus, a.mib = a.cpus+u.cpus, a.mib+u.mib
		}
	}
	return a
}

func (pl *planner) gives(c *clearing, b *bin, a *entry) avail {
	var sum avail
	for i := range b.node.uses {
		if u := &b.node.uses[i]; u.by == a {
			sum.add(b.gift(pl.w, c, u))
		}
	}
	return sum
}

// gift is what one use gives to the run when it ends; nothing where none of its slots can be claimed, since
// nobody would then know that it is waited for.
func (b *bin) gift(w *world, c *clearing, u *use) avail {
	if b.claimable(w, c, u) < 0 {
		return avail{}
	}
	a := avail{0, u.cpus, u.mib}
	for _, n := range u.slots {
		if sl := b.node.slot(n); sl != nil && sl.bin == b && !sl.sick && c.mayClaim(w, sl.claim) {
			a.slots++
		}
	}
	return a
}

func (a *avail) add(b avail) { a.slots, a.cpus, a.mib = a.slots+b.slots, a.cpus+b.cpus, a.mib+b.mib }

// progress is how much of what is missing first (slots, then CPUs, then memory) a gift gives.
func (a avail) progress(gift avail, n need) int64 {
	switch {
	case a.slots < n.slots:
		return int64(min(gift.slots, n.slots-a.slots))
	case a.cpus < n.cpus:
		return int64(min(gift.cpus, n.cpus-a.cpus))
	}
	return min(gift.mib, n.mib-a.mib)
}

// mayClaim says whether the run may have a slot with this claim. Claims of a lower class give way only
// where nothing else helps: whoever loses them waits anew.
func (c *clearing) mayClaim(w *world, claimant forge.RunID) bool {
	return claimant == "" || claimant == c.e.id || c.over && w.yields(claimant, c.e, c.class)
}

// claimable is a slot of the use that can be claimed, one that the gang can use if there is one; -1 when there is none.
func (b *bin) claimable(w *world, c *clearing, u *use) int {
	found := -1
	for _, n := range u.slots {
		sl := b.node.slot(n)
		if sl == nil || !c.mayClaim(w, sl.claim) {
			continue
		}
		if sl.bin == b && !sl.sick {
			return n
		}
		if found < 0 {
			found = n
		}
	}
	return found
}

// mayStop says whether an attempt may be stopped for a waiting run: what is leaving anyway; what borrows, for whoever is entitled to it; and, by the
// policy, what comes after it in the order or is of a lower class. Not what was preempted just before, nor what its owner has pinned.
func (pl *planner) mayStop(e, a *entry) bool {
	if a.stopped {
		return true
	}
	due := e.turn.tier == 0 && a.turn.tier > 0
	if pl.p.PreemptInOrder {
		due = due || e.turn.at < a.turn.at && !a.fixed
	} else {
		due = due || pl.p.PreemptGap > 0 && a.act.Priority <= e.pend.Priority-pl.p.PreemptGap && (e.turn.tier == 0 || a.turn.tier > 0)
	}
	if !due || a.act.Pinned || a.queued {
		return false
	}
	if until := pl.spared(a.act); until.After(pl.now) {
		pl.wakeAt(until)
		return false
	}
	return true
}

// spared is until when a run that was preempted is spared, longer with each time, so that it gets on: without
// that a stream of short runs could stop it for ever.
func (pl *planner) spared(a *forge.ActiveAttempt) time.Time {
	if a.Preempted == 0 {
		return time.Time{}
	}
	gap := time.Duration(float64(pl.p.Spare) * (1 + pl.p.SpareGrowth*float64(a.Preempted)))
	if pl.p.SpareMost > 0 {
		gap = min(gap, pl.p.SpareMost)
	}
	return a.PreemptedAt.Add(gap)
}

// lost is the work that a stop costs, in GPU-milliseconds: what was done since the last save, and the restart.
func (pl *planner) lost(e *entry) int64 {
	if e.stopped {
		return 0
	}
	since := e.act.StartedAt
	if e.act.SavedAt.After(since) && !since.IsZero() {
		since = e.act.SavedAt
	}
	unsaved := pl.p.RestartCost
	if !since.IsZero() && pl.now.After(since) {
		unsaved += pl.now.Sub(since)
	}
	return int64(e.gpus) * unsaved.Milliseconds()
}

// price is what the stop counts for when one node is cleared.
func (pl *planner) price(c *clearing, b *bin, a *entry) int64 {
	lost := pl.lost(a)
	if !c.shared {
		return lost
	}
	here, all := int64(0), int64(0)
	for _, sh := range a.act.Placement {
		all += int64(len(sh.Slots))
		if sh.Node == b.node.Name {
			here += int64(len(sh.Slots))
		}
	}
	return lost * here / max(1, all)
}

func (pl *planner) dearestFirst(a, b *entry) int {
	return cmp.Or(cmp.Compare(pl.lost(b), pl.lost(a)), cmp.Compare(b.act.Priority, a.act.Priority), cmp.Compare(b.id, a.id))
}

// overrules says whether GPUs are claimed for a run of a lower class.
func (pl *planner) overrules(e *entry) bool {
	for id := range pl.w.claims {
		if id != e.id && pl.w.yields(id, e, e.pend.Priority-max(1, pl.p.PreemptGap)) {
			return true
		}
	}
	return false
}
