package scheduler

import "slices"

// Repacking, first half. Where a policy stops runs in order, a plan chooses anew who should have GPUs: it walks the order as if nothing that may be
// stopped ran yet, and takes each gang that fits by numbers alone, how many nodes have how many slots open. Which nodes these are is the second
// half (repack.go): there as few runs as possible are moved.

// share is what a running attempt holds of one bin.
type share struct {
	bin   *bin
	slots int // well ones
	cpus  int
	mib   int64
}

// sharesOf lists what an attempt holds that others could have instead. Slots on nodes that take no work are no use to anybody.
func (w *world) sharesOf(e *entry) []share {
	if e.shares != nil {
		return e.shares
	}
	e.shares = []share{}
	for _, sh := range e.act.Placement {
		n := w.nodes[nodeKey{e.act.Cluster, sh.Node}]
		if n == nil || !n.takes() {
			continue
		}
		for _, b := range n.bins {
			k := 0
			for _, i := range sh.Slots {
				if sl := n.slot(i); sl != nil && sl.bin == b && !sl.sick {
					k++
				}
			}
			if k > 0 {
				e.shares = append(e.shares, share{bin: b, slots: k, cpus: sh.CPUs, mib: sh.MemoryMiB})
			}
		}
	}
	return e.shares
}

// opened says whether a plan may put something into the pool.
func (p *pool) opened() bool { return !p.cluster.paused && p.cluster.queue == nil }

// survey counts what each bin could give if all that may be stopped were gone.
func (pl *planner) survey() {
	for _, p := range pl.w.pools {
		if !p.opened() {
			continue
		}
		for _, b := range p.bins {
			b.room, b.small = b.avail, 0
			n := b.node
			n.roomCPU, n.roomMiB, n.smallCPU, n.smallMiB = n.freeCPU, n.freeMiB, 0, 0
		}
	}
	for i := range pl.w.runners {
		r := &pl.w.runners[i]
		if r.fixed {
			continue
		}
		e := r.e
		e.chosen, e.by, e.kept, e.to = false, nil, false, nil
		for _, s := range pl.w.sharesOf(e) {
			s.bin.room += s.slots
			s.bin.node.roomCPU += s.cpus
			s.bin.node.roomMiB += s.mib
		}
	}
	for _, p := range pl.w.pools {
		if p.opened() {
			p.measure()
		}
	}
}

// choose walks the order and says whether any run that waits, and that is not placed yet, is among those that should have GPUs.
func (pl *planner) choose() bool {
	pl.choices++
	pl.survey()
	pl.forgetChoice()
	waits, passed := false, false
	open := 0
	for _, p := range pl.w.pools {
		if p.opened() {
			open += p.room.opens
		}
	}
	for i, fate := range pl.fates {
		if open <= 0 {
			break
		}
		switch {
		case fate == fateRuns:
			if e := pl.candidates[i].e; pl.chooseRunning(e) {
				open -= e.gpus
				pl.chosen = append(pl.chosen, e)
			}
			continue
		case fate <= fateIdle:
			continue
		case fate >= 0 && (pl.w.numbered[fate].code != "" || pl.w.numbered[fate].waitForNode):
			continue
		case fate >= 0 && pl.w.numbered[fate].full == pl.choices && pl.w.numbered[fate].plan == pl.w.undo.plan: // none of its shape finds room any more, and this one could be a head
			passed = true
			continue
		}
		e := pl.touch(i)
		if pl.repackable(e) && !(passed && e.pend.Pinned) { // who cannot be stopped later overtakes nobody here
			if p := pl.poolFor(e); p != nil {
				p.give(e.gang.Nodes, e.gang.GPUsPerNode)
				open -= e.gpus
				e.chosen, e.pool, e.to, waits = true, p, nil, true
				pl.count(e)
				pl.chosen = append(pl.chosen, e)
			}
		}
		passed = passed || !e.chosen && pl.couldHead(e)
	}
	return waits
}

// forgetChoice takes back what was counted for runs that got nothing.
func (pl *planner) forgetChoice() {
	for _, e := range pl.chosen {
		if e.pend != nil && !e.placed && pl.saving[e.id] == nil {
			uncount(e)
		}
	}
	pl.chosen = pl.chosen[:0]
}

// chooseRunning takes the slots of a run that has them, by numbers, from its own pool.
func (pl *planner) chooseRunning(e *entry) bool {
	shares := pl.w.sharesOf(e)
	if len(shares) == 0 {
		return false
	}
	p := shares[0].bin.pool
	uniform := true
	for _, s := range shares[1:] {
		uniform = uniform && s.bin.pool == p && s.slots == shares[0].slots
	}
	if !uniform || !p.opened() {
		e.chosen = true // an odd one stays where it is; its slots are counted bin by bin
		for _, s := range shares {
			if q := s.bin.pool; q.opened() && q.fits(1, s.slots) {
				q.give(1, s.slots)
			}
		}
		return true
	}
	if !p.fits(len(shares), shares[0].slots) {
		return false
	}
	p.give(len(shares), shares[0].slots)
	e.chosen = true
	return true
}

// couldHead says whether a waiting run that gets nothing could be one that nobody may keep waiting.
func (pl *planner) couldHead(e *entry) bool {
	if e.placed || e.idle.code != "" || pl.saving[e.id] != nil || pl.overruled[e.id] {
		return false
	}
	sh := pl.shapeOf(e)
	return sh.code == "" && !sh.waitForNode
}

// repackable says whether a waiting run takes part in the choice. Who waits for what is being freed already does not.
func (pl *planner) repackable(e *entry) bool {
	e.chosen = false
	if e.placed || e.excluded || e.idle.code != "" || pl.saving[e.id] != nil || pl.overruled[e.id] {
		return false
	}
	if e.claims {
		return false
	}
	sh := pl.shapeOf(e)
	if sh.code != "" || sh.waitForNode || sh.full == pl.choices {
		return false
	}
	_, broken := e.breaks()
	return !broken
}

// poolFor is the first pool of a run's shape that has room by numbers.
func (pl *planner) poolFor(e *entry) *pool {
	for _, p := range e.shape.pools {
		if p.fits(e.gang.Nodes, e.gang.GPUsPerNode) {
			return p
		}
	}
	e.shape.full = pl.choices
	return nil
}

// widestFirst is the order in which the chosen find their places: what is wide first, of one size what runs already. Who cannot be stopped later
// comes last: where one before it finds no place after all, it must not have started.
func widestFirst(a, b *entry) int {
	last := func(e *entry) bool { return e.pend != nil && e.pend.Pinned }
	switch {
	case a.first != b.first:
		if a.first {
			return -1
		}
		return 1
	case a.first:
		return a.turn.at - b.turn.at
	case last(a) != last(b):
		if last(b) {
			return -1
		}
		return 1
	case last(a):
		return a.turn.at - b.turn.at
	case a.gpus != b.gpus:
		return b.gpus - a.gpus
	case (a.act != nil) != (b.act != nil):
		if a.act != nil {
			return -1
		}
		return 1
	}
	return a.turn.at - b.turn.at
}

func (pl *planner) sortChosen() { slices.SortFunc(pl.chosen, widestFirst) }
