package scheduler

import (
	"cmp"
	"slices"
)

// Repacking: which bins a gang is given.

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
	before, perfect := 0, 0 // sites of earlier steps, and the best ones of this
	lost := func(s *site) { s.lost = pl.lostOn(s.bin, s.left-s.bin.small) }
	look := func(b *bin) {
		if b.node.roomCPU < n.cpus || b.node.roomMiB < n.mib || b.small > b.room-n.slots && b.room-pl.immovable(e, b) < n.slots {
			return
		}
		s := site{choice: choice{bin: b, worse: !better.has(b.at), left: b.room - n.slots}}
		if s.moves = max(0, b.small-s.left); !within {
			if lost(&s); s.lost == 0 && !s.worse {
				perfect++ // of its step none is better but those of which less is left over
			}
		}
		sites = append(sites, s)
	}
	p.roomy(eligible, n.slots, look, func(end bool) bool {
		if end {
			before, perfect = len(sites), 0
		}
		return within || before+perfect < nodes
	})
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
