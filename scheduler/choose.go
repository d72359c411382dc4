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
	e.shares, e.home = []share{}, nil
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
	if len(e.shares) > 0 && !slices.ContainsFunc(e.shares, func(s share) bool { return s.bin.pool != e.shares[0].bin.pool || s.slots != e.shares[0].slots }) {
		e.home = e.shares[0].bin.pool
	}
	return e.shares
}

// lend tells the bins whether what a run holds of them could be another's.
func (e *entry) lend(lends bool) {
	if e.lends == lends {
		return
	}
	e.lends = lends
	sign := 1
	if !lends {
		sign = -1
	}
	for _, s := range e.shares {
		n := s.bin.node
		s.bin.move()
		s.bin.lent += sign * s.slots
		n.lentCPU += sign * s.cpus
		n.lentMiB += int64(sign) * s.mib
	}
}

// opened says whether a plan may put something into the pool.
func (p *pool) opened() bool { return !p.cluster.paused && p.cluster.queue == nil }

// choose walks the order and says whether any run that waits, and that is not placed yet, is among those that should have GPUs.
func (pl *planner) choose() bool {
	pl.choices++
	pl.forgetChoice()
	pl.survey()
	waits, passed := false, false
	open := 0
	for _, p := range pl.w.pools {
		if p.opened() {
			open += p.room.opens
		}
	}
	for i, fate := range pl.fates {
		switch {
		case fate == fateRuns:
			if e := pl.candidates[i].e; open > 0 && pl.chooseRunning(e) {
				open -= e.gpus
				pl.chosen = append(pl.chosen, e)
			} else {
				pl.left = append(pl.left, e)
			}
			continue
		case open <= 0:
			continue
		case fate <= fateIdle || fate == fateLater:
			continue
		case fate >= 0 && pl.shut[fate] == neverOpen:
			continue
		case fate >= 0 && pl.shut[fate] == pl.choices: // none of its shape finds room any more, and this one could be a head
			passed = true
			continue
		}
		e := pl.touch(i)
		if fate == fateTimed && e.idle.code != "" {
			pl.fates[i] = fateLater
			continue
		}
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
		switch {
		case e.act != nil:
			e.chosen, e.by, e.kept, e.to = false, nil, false, nil
		case !e.placed && pl.saving[e.id] == nil:
			uncount(e)
		}
	}
	for _, e := range pl.left {
		e.kept = false
	}
	pl.chosen, pl.left = pl.chosen[:0], pl.left[:0]
}

// chooseRunning takes the slots of a run that has them, by numbers, from its own pool.
func (pl *planner) chooseRunning(e *entry) bool {
	p := e.home
	switch {
	case len(e.shares) == 0:
		return false
	case p == nil || !p.opened():
		for _, s := range e.shares { // an odd one stays where it is; its slots are counted bin by bin
			if q := s.bin.pool; q.opened() && q.fits(1, s.slots) {
				q.give(1, s.slots)
			}
		}
	case !p.fits(len(e.shares), e.shares[0].slots):
		return false
	default:
		p.give(len(e.shares), e.shares[0].slots)
	}
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
	if sh.code != "" || sh.waitForNode || pl.shut[sh.at] == pl.choices {
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
	pl.shut[e.shape.at] = pl.choices
	return nil
}

// sortChosen puts the chosen into the order in which they find their places: what is wide first, of one size what runs already. Who cannot be stopped later
// comes last: where one before it finds no place after all, it must not have started. The chosen are many and in the order already, and their sizes few.
func (pl *planner) sortChosen() {
	type size struct {
		gpus         int
		runs, awaits []*entry
	}
	sizes := make([]size, 0, 16)
	var last []*entry
	out := pl.sorted[:0]
	for _, e := range pl.chosen {
		switch {
		case e.first:
			out = append(out, e)
			continue
		case e.pend != nil && e.pend.Pinned:
			last = append(last, e)
			continue
		}
		i := slices.IndexFunc(sizes, func(s size) bool { return s.gpus == e.gpus })
		if i < 0 {
			i, sizes = len(sizes), append(sizes, size{gpus: e.gpus})
		}
		if s := &sizes[i]; e.act != nil {
			s.runs = append(s.runs, e)
		} else {
			s.awaits = append(s.awaits, e)
		}
	}
	slices.SortFunc(sizes, func(a, b size) int { return b.gpus - a.gpus })
	for _, s := range sizes {
		out = append(append(out, s.runs...), s.awaits...)
	}
	pl.chosen, pl.sorted = append(out, last...), pl.chosen
}
