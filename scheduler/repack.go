package scheduler

import (
	"slices"

	forge "github.com/forge-ml/forge-ml"
)

// Repacking, second half: places for what was chosen. Wide gangs first; of one size, what runs stays where it is unless something wider took its slots;
// then those that wait go where the fewest chosen runs must move, the least work is lost and the fewest slots are left over. A
// smaller chosen run in the way is stopped and finds another place in its turn. Nothing of this touches the world until every one of them has a place.

// repackRounds bounds how often the choice is made again without what found no place. No figure of the public traces
// is another with more than two; on a full site of many shapes further rounds fail as the first did, at the same cost each.
const repackRounds = 2

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
