package scheduler

import "math/bits"

// vacancy is what the bins of a pool may still give away while places are found for what was chosen. Bins are found by how much they have open, so that finding
// one place does not look at thousands of bins that have none.
type vacancy struct {
	least []set // by slots: the bins that have so many or more left to give
	spare []set // by slots, from -most: the bins that have so many left beside what chosen runs hold there that have no place yet
	at    []int // how many there are in each of spare
	open  []int // for the choice: how many bins have so many slots open
	opens int   // and how many slots that are
	// surveyed is open as it was at first, moved are the bins that are not any more as they were then.
	valid    bool // false: the bins are others than they were
	surveyed []int
	moved    []*bin
}

// survey counts what each bin could give if all that may be stopped were gone. It differs from what it was the last time only where something was moved since.
func (pl *planner) survey() {
	w := pl.w
	if !pl.surveyed {
		pl.surveyed = true
		for i := range w.runners {
			if r := &w.runners[i]; r.e.lends == r.fixed {
				w.sharesOf(r.e)
				r.e.lend(!r.fixed)
			}
		}
	}
	for _, p := range w.pools {
		if !p.room.valid {
			p.measure()
		}
		r := &p.room
		for _, b := range r.moved {
			most := b.most()
			if most != b.base && p.opened() && p.ready.has(b.at) {
				r.surveyed[b.base]--
				r.surveyed[most]++
			}
			b.base = most
			b.shift(most-b.room, b.lent-b.small)
			b.node.survey()
			b.doomed, b.moved = 0, false
		}
		r.moved = r.moved[:0]
		copy(r.open, r.surveyed)
		r.opens = 0
		for slots, n := range r.open {
			r.opens += slots * n
		}
	}
}

// most is what a bin could give if all that may be stopped were gone. Claims may overlap what is held.
func (b *bin) most() int { return min(b.avail+b.lent, b.pool.most) }

func (n *node) survey() {
	n.roomCPU, n.roomMiB, n.smallCPU, n.smallMiB = n.freeCPU+n.lentCPU, n.freeMiB+n.lentMiB, n.lentCPU, n.lentMiB
}

// move notes that a bin is not as it was surveyed.
func (b *bin) move() {
	if r := &b.pool.room; !b.moved && r.valid {
		b.moved = true
		r.moved = append(r.moved, b)
	}
}

// move is told before CPUs or memory of a node are taken or given back.
func (n *node) move() {
	for _, b := range n.bins {
		b.move()
	}
}

// measure makes the sets anew from what the bins have.
func (p *pool) measure() {
	r := &p.room
	*r = vacancy{valid: true, open: make([]int, p.most+1), surveyed: make([]int, p.most+1), least: make([]set, p.most+1), spare: make([]set, 2*p.most+1), at: make([]int, 2*p.most+1), moved: r.moved[:0]}
	for _, sets := range [][]set{r.least, r.spare} {
		for i := range sets {
			sets[i] = newSet(len(p.bins))
		}
	}
	for _, b := range p.bins {
		b.room, b.small, b.doomed, b.moved = b.most(), b.lent, 0, false
		b.base = b.room
		b.node.survey()
		if !p.opened() {
			continue
		}
		if p.ready.has(b.at) {
			r.surveyed[b.room]++
		}
		for k := range b.room + 1 {
			r.least[k].add(b.at)
		}
		r.spare[p.level(b)].add(b.at)
		r.at[p.level(b)]++
	}
}

// level is in which of the spare sets a bin is.
func (p *pool) level(b *bin) int { return max(0, min(2*p.most, b.room-b.small+p.most)) }

// shift changes what a bin may give and what of that is held by chosen runs without a place.
func (b *bin) shift(room, small int) {
	p := b.pool
	b.move()
	if !p.opened() { // nobody looks for room there
		b.room, b.small = b.room+room, b.small+small
		return
	}
	r := &p.room
	was := p.level(b)
	for k := max(0, b.room+room+1); k <= b.room; k++ {
		r.least[k].remove(b.at)
	}
	for k := max(0, b.room+1); k <= b.room+room; k++ {
		r.least[min(k, p.most)].add(b.at)
	}
	b.room, b.small = b.room+room, b.small+small
	if now := p.level(b); now != was {
		r.spare[was].remove(b.at)
		r.spare[now].add(b.at)
		r.at[was]--
		r.at[now]++
	}
}

// hold counts what chosen runs that have no place yet hold of a bin.
func (b *bin) hold(s share, sign int) {
	b.shift(0, sign*s.slots)
	b.node.smallCPU += sign * s.cpus
	b.node.smallMiB += int64(sign) * s.mib
}

// use takes room of a bin for good.
func (b *bin) use(slots, cpus int, mib int64) {
	b.shift(-slots, 0)
	b.node.roomCPU -= cpus
	b.node.roomMiB -= mib
}

// keep is hold taken back and use, of a run that stays.
func (b *bin) keep(s share) {
	b.shift(-s.slots, -s.slots)
	n := b.node
	n.smallCPU, n.smallMiB = n.smallCPU-s.cpus, n.smallMiB-s.mib
	n.roomCPU, n.roomMiB = n.roomCPU-s.cpus, n.roomMiB-s.mib
}

// fits says whether so many bins have so many slots open, by numbers.
func (p *pool) fits(nodes, slots int) bool {
	if nodes*slots > p.room.opens {
		return false
	}
	for f := p.most; f >= slots; f-- {
		if nodes -= p.room.open[f]; nodes <= 0 {
			return true
		}
	}
	return false
}

// give takes them, from the bins that have the fewest.
func (p *pool) give(nodes, slots int) {
	p.room.opens -= nodes * slots
	for f := slots; f <= p.most && nodes > 0; f++ {
		k := min(nodes, p.room.open[f])
		p.room.open[f] -= k
		p.room.open[f-slots] += k
		nodes -= k
	}
}

// roomy goes through the bins of a set that have so many slots left to give, those first that have most left beside what is held: in steps. All of the first step
// have enough without anybody moving, those of each later step one slot less than those before. Within a step those come first of which least is left over.
// After each part of a step, and at its end, more says whether to go on.
func (p *pool) roomy(among set, slots int, look func(*bin), more func(end bool) bool) {
	if slots > p.most {
		return
	}
	r := &p.room
	type word struct {
		at   int
		bits uint64
	}
	words, in := make([]word, 0, 64), make([]word, 0, 64)
	for w, m := range r.least[slots] {
		if m &= among[w]; m != 0 {
			words = append(words, word{w, m})
		}
	}
	step := func(from, to int) bool {
		in = in[:0]
		for l := from; l <= to; l++ {
			if r.at[l] == 0 {
				continue
			}
			for _, w := range words {
				if m := w.bits & r.spare[l][w.at]; m != 0 {
					in = append(in, word{w.at, m})
				}
			}
		}
		if len(in) == 0 {
			return true
		}
		for k := slots; k <= p.most; k++ {
			some := false
			for _, w := range in {
				m := w.bits & r.least[k][w.at]
				if k < p.most {
					m &^= r.least[k+1][w.at]
				}
				some = some || m != 0
				for ; m != 0; m &= m - 1 {
					look(p.bins[w.at<<6|bits.TrailingZeros64(m)])
				}
			}
			if some && from > 0 && !more(false) { // the last step has all that lack more besides
				return false
			}
		}
		return more(true)
	}
	if len(words) == 0 || !step(slots+p.most, 2*p.most) {
		return
	}
	for l := slots + p.most - 1; l >= 0; l-- {
		if !step(l, l) {
			return
		}
	}
}
