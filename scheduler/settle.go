package scheduler

import (
	"cmp"
	"slices"
)

// Repacking: what was found becomes the plan.

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
