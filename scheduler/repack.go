package scheduler

import (
	"cmp"
	"slices"

	forge "github.com/forge-ml/forge-ml"
)

// Repacking, second half: places for what was chosen. Wide gangs first; of one size, what runs stays where it is unless something wider took its slots;
// then those that wait go where the fewest chosen runs must move, the least work is lost and the fewest slots are left over. A
// smaller chosen run in the way is stopped and finds another place in its turn. Nothing of this touches the world until every one of them has a place.

// repackRounds bounds how often the choice is made again without what found no place.
const repackRounds = 6

// neverOpen shuts a shape that the choice has nothing for, whatever is free.
const neverOpen = -1

func (pl *planner) repack() {
	done := false
	pl.repacked = true
	pl.shut = pl.shut[:0]
	for _, sh := range pl.w.numbered {
		shut := 0
		if sh.code != "" || sh.waitForNode {
			shut = neverOpen
		}
		pl.shut = append(pl.shut, shut)
	}
	for range repackRounds {
		if done = !pl.choose(); done {
			break
		}
		if done = pl.realise(); done {
			break
		}
	}
	if !done {
		for _, e := range pl.chosen {
			e.excluded = e.excluded || e.pend != nil && !e.placed
		}
	}
	if done {
		pl.settle()
	}
	pl.forgetChoice()
}

// unplace takes back what this realisation has placed: one found no room, perhaps because of that.
func (pl *planner) unplace() {
	for i := len(pl.fresh) - 1; i >= 0; i-- {
		e := pl.fresh[i]
		last := len(pl.plan.Place) - 1
		p := pl.plan.Place[last]
		for _, sh := range p.Shares {
			pl.w.giveUp(pl.w.nodes[nodeKey{p.Cluster, sh.Node}], sh)
		}
		pl.plan.Place = pl.plan.Place[:last]
		e.placed = false
		pl.fates[e.turn.at] = e.fateOf()
	}
	pl.fresh = pl.fresh[:0]
}

// giveUp takes back what take gave to a run of this plan.
func (w *world) giveUp(n *node, sh forge.Share) {
	i := slices.IndexFunc(n.uses, func(u use) bool { return u.by == nil && u.setAside == "" && slices.Equal(u.slots, sh.Slots) })
	n.move()
	n.freeCPU, n.freeMiB = n.freeCPU+n.uses[i].cpus, n.freeMiB+n.uses[i].mib
	n.uses = slices.Delete(n.uses, i, i+1)
	for _, k := range sh.Slots {
		sl := n.slot(k)
		sl.held = false
		if sl.free() {
			sl.bin.setAvail(sl.bin.avail + 1)
		}
	}
}

// realise finds a place for each of the chosen. False: one found none; it has the first pick in the next choice, or is left out of it.
func (pl *planner) realise() bool {
	pl.fresh = pl.fresh[:0]
	for _, e := range pl.left {
		for _, s := range e.shares {
			s.bin.hold(s, -1) // which counts for nothing
			s.bin.doomed++
		}
	}
	for _, e := range pl.chosen {
		if e.pend == nil || e.placed {
			continue
		}
		if len(e.shape.queues) == 0 && !e.pend.Pinned || !pl.startsFree(e) {
			break // who comes later below, and first in the order, gets what is free before those behind it
		}
	}
	pl.sortChosen()
	for _, e := range pl.chosen {
		switch {
		case e.placed:
		case e.act != nil && e.by == nil:
			e.kept = true
			for _, s := range e.shares {
				s.bin.keep(s)
			}
		case e.act != nil:
			if pl.stays(e) {
				continue
			}
			if e.to = pl.moveTo(e); e.to == nil {
				e.by.excluded = true
				pl.unplace()
				return false
			}
		default:
			if pl.startsFree(e) {
				continue
			}
			if len(e.shape.queues) > 0 { // nothing is stopped for who can be handed over
				e.chosen = false
				uncount(e)
				continue
			}
			e.to = pl.clearFor(e, e.shape, e.pool)
			for _, p := range e.shape.pools {
				if e.to == nil && e.first && p != e.pool {
					e.to = pl.clearFor(e, e.shape, p)
				}
			}
			if e.to == nil {
				e.first, e.excluded = true, e.first // who comes first in the order has the first pick, before it is given up
				pl.unplace()
				return false
			}
		}
	}
	return true
}

// startsFree places a run on what is free now, if that holds it: in the pool where it was counted, or in another that has so much left.
func (pl *planner) startsFree(e *entry) bool {
	f := pl.findIn(e, e.shape, e.pool, leftFor(e))
	for _, p := range e.shape.pools {
		if f != nil {
			break
		}
		fits := p.fits(e.gang.Nodes, e.gang.GPUsPerNode)
		if p != e.pool && (fits || e.first) { // who has the first pick need not mind whom it was counted beside
			if f = pl.findIn(e, e.shape, p, leftFor(e)); f != nil && fits {
				p.give(e.gang.Nodes, e.gang.GPUsPerNode)
			}
		}
	}
	if f == nil {
		return false
	}
	pl.fresh = append(pl.fresh, e)
	for _, c := range f.choices {
		c.bin.use(e.gang.GPUsPerNode, e.gang.CPUsPerNode(), e.gang.MemoryMiBPerNode())
	}
	pl.place(e, f)
	return true
}

// leftFor are the bins that have room for a run beside what others that were chosen get or keep there: what is free may be a part of that.
func leftFor(e *entry) func(*bin) bool {
	n := needOf(e.gang)
	return func(b *bin) bool {
		return b.room-b.small >= n.slots && b.node.roomCPU-b.node.smallCPU >= n.cpus && b.node.roomMiB-b.node.smallMiB >= n.mib
	}
}

// stays says whether a run that gave way can have its own slots after all.
func (pl *planner) stays(e *entry) bool {
	for _, s := range e.shares {
		if s.bin.room < s.slots || s.bin.node.roomCPU < s.cpus || s.bin.node.roomMiB < s.mib {
			return false
		}
	}
	e.kept, e.by = true, nil
	for _, s := range e.shares {
		s.bin.use(s.slots, s.cpus, s.mib)
	}
	return true
}

// moveTo finds another place for a run that gave way, of the same form.
func (pl *planner) moveTo(e *entry) []*bin {
	p := e.shares[0].bin.pool
	sh := pl.shapeOfRunning(e)
	if sh.code != "" || sh.waitForNode || !slices.Contains(sh.pools, p) {
		return nil
	}
	return pl.clearFor(e, sh, p)
}

// shapeOfRunning is the shape that a run would have if it waited.
func (pl *planner) shapeOfRunning(e *entry) *shape {
	if e.shape != nil {
		return e.shape
	}
	r := forge.PendingRun{ID: e.id, Gang: e.act.Gang, Where: e.act.Where}
	if r.Gang.Nodes < 1 { // an attempt of an older daemon; which of its slots are well may be others in the next plan
		s := e.shares[0]
		r.Gang = forge.Gang{Nodes: len(e.shares), GPUsPerNode: s.slots, CPUsPerGPU: s.cpus / s.slots, MemoryMiBPerGPU: s.mib / int64(s.slots)}
		return pl.w.shapeFor(pl.nodes, &r)
	}
	e.shape = pl.w.shapeFor(pl.nodes, &r)
	return e.shape
}

// site is one bin that could be cleared and what that costs.
type site struct {
	choice
	moves int   // slots of chosen runs that must find another place
	lost  int64 // work of those that are stopped for good
}

func compareSites(a, b site) int {
	switch {
	case a.moves != b.moves:
		return a.moves - b.moves
	case a.lost != b.lost:
		return cmp.Compare(a.lost, b.lost)
	}
	return compareChoices(a.choice, b.choice)
}

// clearFor chooses bins for a gang, takes their room, and makes chosen smaller runs give way where there is not enough.
func (pl *planner) clearFor(e *entry, sh *shape, p *pool) []*bin {
	nodes, n := sh.key.gang.Nodes, sh.need
	eligible, better := sh.of(p)
	within := sh.where != nil && sh.where.Within != "" && nodes > 1
	sites := pl.sites[:0]
	lost := func(s *site) { s.lost = pl.lostOn(s.bin, s.left-s.bin.small) }
	look := func(b *bin) {
		if b.node.roomCPU < n.cpus || b.node.roomMiB < n.mib || b.small > b.room-n.slots && b.room-pl.immovable(e, b) < n.slots {
			return
		}
		s := site{choice: choice{bin: b, worse: !better.has(b.at), left: b.room - n.slots}}
		if s.moves = max(0, b.small-s.left); !within {
			lost(&s)
		}
		sites = append(sites, s)
	}
	p.roomy(eligible, n.slots, look, func() bool { return within || len(sites) < nodes })
	pl.sites = sites
	if len(sites) < nodes {
		return nil
	}
	switch {
	case nodes == 1:
		best := slices.MinFunc(sites, compareSites)
		sites = append(sites[:0], best)
	case within:
		if sites = pl.tightest(sites, sh.where.Within, nodes, lost); sites == nil {
			return nil
		}
	default:
		slices.SortFunc(sites, compareSites)
	}
	var to []*bin
	for _, s := range sites[:nodes] {
		s.bin.use(n.slots, n.cpus, n.mib)
		to = append(to, s.bin)
	}
	for _, b := range to {
		pl.giveWay(e, b)
	}
	return to
}

// tightest are the best sites among those that share one value of a label: the value that has the fewest of them and still enough.
func (pl *planner) tightest(sites []site, label string, nodes int, lost func(*site)) []site {
	ids := sites[0].bin.pool.grouped(label)
	pl.counts = pl.counts[:0]
	for i := range sites {
		id := int(ids[sites[i].bin.at])
		for id >= len(pl.counts) {
			pl.counts = append(pl.counts, 0)
		}
		pl.counts[id]++
	}
	least := len(sites) + 1
	for _, n := range pl.counts[1:] {
		if n >= nodes {
			least = min(least, n)
		}
	}
	var best *site
	for i := range sites {
		s := &sites[i]
		if id := ids[s.bin.at]; id != 0 && pl.counts[id] == least {
			lost(s)
			if best == nil || compareSites(*s, *best) < 0 {
				best = s
			}
		}
	}
	if best == nil {
		return nil
	}
	id := ids[best.bin.at]
	in := slices.DeleteFunc(sites, func(s site) bool { return ids[s.bin.at] != id })
	slices.SortFunc(in, compareSites)
	choices := make([]choice, len(in))
	for i, s := range in {
		choices[i] = s.choice
	}
	in = in[:0]
	for _, c := range nearest(choices, nodes, pl.spread) {
		in = append(in, site{choice: c})
	}
	return in
}

// immovable are the slots of chosen runs of a bin that do not move for this one: those of a higher class, and those ahead of it that are no narrower.
func (pl *planner) immovable(e *entry, b *bin) int {
	n := 0
	if b.small == 0 || !pl.classes && !e.first {
		return 0
	}
	for i := range b.node.uses {
		a := b.node.uses[i].by
		if a == nil || !pl.before(a, e) || !a.movable() {
			continue
		}
		for _, s := range a.shares {
			if s.bin == b {
				n += s.slots
			}
		}
	}
	return n
}

// before says that a run does not move for another: it is of a higher class, entitled where that one borrows, or ahead and no narrower.
func (pl *planner) before(a, b *entry) bool {
	return a.turn.at < b.turn.at && a.gpus >= b.gpus || a.turn.tier == 0 && b.turn.tier > 0 || (a.turn.tier > 0 || b.turn.tier == 0) && a.turn.class > b.turn.class
}

// movable says that a chosen run has no place yet in this choice and gave way to nobody.
func (e *entry) movable() bool { return e.act != nil && e.chosen && !e.kept && e.by == nil && !e.fixed }

// lostOn is the work that is lost on a bin when those that were not chosen have only so many slots left.
func (pl *planner) lostOn(b *bin, space int) int64 {
	var lost int64
	if b.doomed == 0 {
		return 0
	}
	for i := range b.node.uses {
		e := b.node.uses[i].by
		if e == nil || e.chosen || e.fixed || e.stopped {
			continue
		}
		for _, s := range e.shares {
			if s.bin != b {
				continue
			}
			if s.slots <= space {
				space -= s.slots
			} else {
				lost += pl.lost(e)
			}
		}
	}
	return lost
}

// giveWay makes chosen runs leave a bin until those that stay fit beside what was put there: what is behind in the order first.
func (pl *planner) giveWay(e *entry, b *bin) {
	for b.small > b.room || b.node.smallCPU > b.node.roomCPU || b.node.smallMiB > b.node.roomMiB {
		var out *entry
		for i := range b.node.uses {
			a := b.node.uses[i].by
			if a == nil || !a.movable() || pl.before(a, e) {
				continue
			}
			if out == nil || a.turn.at > out.turn.at {
				out = a
			}
		}
		if out == nil {
			return
		}
		out.by = e
		for _, s := range out.shares {
			s.bin.hold(s, -1)
		}
	}
}

// settle writes down what was found: who starts, and who is stopped for it. What was not chosen and still has its room stays.
func (pl *planner) settle() {
	for _, e := range pl.left {
		if fits := !slices.ContainsFunc(e.shares, func(s share) bool {
			return s.bin.room < s.slots || s.bin.node.roomCPU < s.cpus || s.bin.node.roomMiB < s.mib
		}); fits {
			e.kept = true
			for _, s := range e.shares {
				s.bin.use(s.slots, s.cpus, s.mib)
			}
		}
	}
	slices.SortFunc(pl.chosen, func(a, b *entry) int { return a.turn.at - b.turn.at })
	for _, e := range pl.chosen {
		if e.pend == nil || e.placed || len(e.to) == 0 {
			continue
		}
		if f, _ := pl.find(e, e.shape, leftFor(e)); f != nil { // what others left over holds it after all
			pl.place(e, f)
			pl.fresh = append(pl.fresh, e)
			continue
		}
		c := &clearing{e: e, need: e.shape.need, class: -1, bins: e.to, where: e.shape.where}
		enough := true
		for _, b := range e.to {
			enough = pl.stopsOn(c, b) && enough
		}
		if enough {
			pl.spareWhoIsNotNeeded(c)
		}
		if len(c.stops) == 0 || !enough {
			e.excluded = true
			if slices.ContainsFunc(pl.fresh, func(f *entry) bool { return f.pend.Pinned && f.turn.at > e.turn.at }) {
				pl.unplace() // who cannot be stopped later does not overtake it: all take their turns, one after the other
			}
			for _, b := range e.to { // others may have it
				b.use(-c.need.slots, -c.need.cpus, -c.need.mib)
			}
			continue
		}
		pl.carryOut(c)
		pl.saving[e.id] = pl.savingHold(e.id)
		pl.decided(e)
	}
	for _, e := range pl.chosen {
		if e.act == nil || !e.stopped || len(e.to) == 0 {
			continue
		}
		for _, b := range e.to { // where it goes once it has saved: nobody else starts there in this plan
			s := e.shares[0]
			pl.w.take(b.node, use{slots: b.pickSlots("", min(b.avail, s.slots)), cpus: s.cpus, mib: s.mib, setAside: e.id})
		}
	}
}

// spareWhoIsNotNeeded leaves out whose slots on one bin are needed no more since another, on several bins, is stopped for the sake of a second one;
// first whoever is first in the order.
func (pl *planner) spareWhoIsNotNeeded(c *clearing) {
	slices.SortFunc(c.stops, func(a, b *entry) int { return cmp.Or(cmp.Compare(a.turn.at, b.turn.at), cmp.Compare(a.id, b.id)) })
	for i := 0; i < len(c.stops); {
		without := slices.Delete(slices.Clone(c.stops), i, i+1)
		if c.stops[i].stopped || slices.ContainsFunc(c.bins, func(b *bin) bool { return !pl.room(c, b, without).meets(c.need) }) {
			i++
			continue
		}
		c.stops = without
	}
	if slices.ContainsFunc(pl.chosen, func(a *entry) bool { return a.act != nil && len(a.to) > 0 }) {
		return // what is free elsewhere is where a moved run goes
	}
	for i := 0; i < len(c.stops); {
		if bins := pl.fitsElsewhere(c, slices.Delete(slices.Clone(c.stops), i, i+1)); bins != nil && !c.stops[i].stopped {
			c.stops, c.bins = slices.Delete(c.stops, i, i+1), bins
		} else {
			i++
		}
	}
}

// fitsElsewhere finds bins of the run's shape that hold its gang when only these are stopped.
func (pl *planner) fitsElsewhere(c *clearing, stops []*entry) []*bin {
	for _, p := range c.e.shape.pools {
		for _, bins := range c.e.shape.withinOne(c.e.shape.clearable(p)) {
			left := leftFor(c.e)
			bins = slices.DeleteFunc(bins, func(b *bin) bool {
				return !slices.Contains(c.bins, b) && !left(b) || !pl.room(c, b, stops).meets(c.need)
			})
			if len(bins) >= c.e.gang.Nodes {
				return bins[:c.e.gang.Nodes]
			}
		}
	}
	return nil
}

// stopsOn adds to a clearing those that lose their place on a bin, as many as the gang needs there, and says whether they are enough. Who comes
// before the run and was not chosen loses its place only to somebody before itself.
func (pl *planner) stopsOn(c *clearing, b *bin) bool {
	have := pl.room(c, b, c.stops)
	var out []*entry
	for i := range b.node.uses {
		a := b.node.uses[i].by
		if a == nil || a.kept || slices.Contains(c.stops, a) || a.fixed && !a.stopped || b.claimable(pl.w, c, &b.node.uses[i]) < 0 {
			continue
		}
		if !a.stopped && a.by != c.e && a.turn.at < c.e.turn.at {
			continue // it gives way to others, or to nobody
		}
		out = append(out, a)
	}
	slices.SortFunc(out, func(x, y *entry) int {
		leaves := func(e *entry) int {
			if e.stopped {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(leaves(x), leaves(y)), cmp.Compare(y.turn.at, x.turn.at), cmp.Compare(x.id, y.id))
	})
	for _, a := range out {
		if have.meets(c.need) {
			return true
		}
		if have.progress(pl.gives(c, b, a), c.need) <= 0 {
			continue
		}
		have.add(pl.gives(c, b, a))
		c.stops = append(c.stops, a)
	}
	return have.meets(c.need)
}
