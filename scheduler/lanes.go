package scheduler

import (
	"cmp"
	"slices"

	forge "github.com/forge-ml/forge-ml"
)

// stretch is a part of the order that is of one lane.
type stretch struct {
	from int // up to where the next one begins
	lane forge.Lane
}

// stretch tells in which lane the candidates from here on are.
func (pl *planner) stretch(from int, lane forge.Lane) {
	pl.stretches = append(pl.stretches, stretch{from, lane})
}

// laneOf is the lane of a candidate.
func (pl *planner) laneOf(at int) forge.Lane {
	lane := forge.LaneRest
	for _, s := range pl.stretches {
		if s.from > at {
			break
		}
		lane = s.lane
	}
	return lane
}

// lanes orders one class, whose candidates are those from here on: who has waited too long, a small part of the work shortest first, what is critical for the
// end of it all longest first, then the rest shortest first.
func (pl *planner) lanes(from int, need, oldest, backlog, capacity int64) {
	p := pl.p
	if p.AgeAfter == 0 && p.Guard == 0 {
		return
	}
	rest := pl.candidates[from:]
	if p.AgeAfter > 0 && oldest < pl.now.UnixNano()-int64(p.AgeAfter) {
		rest = rest[pl.ageing(rest, capacity):]
		pl.stretch(from, forge.LaneAgeing)
	}
	pl.stretch(len(pl.candidates)-len(rest), forge.LaneSmall)
	var budget float64
	if p.SmallPrefix > 0 {
		budget = p.SmallPrefix * float64(need)
	}
	var sum int64
	for len(rest) > 0 {
		if sum += rest[0].need; float64(sum) > budget {
			break
		}
		rest = rest[1:]
	}
	pl.stretch(len(pl.candidates)-len(rest), forge.LaneRest)
	if p.Guard == 0 {
		return
	}
	wait := float64(backlog) / float64(capacity) // ms that the whole cluster needs for all that is there
	least := p.Guard * wait
	critical, others := pl.critical[:0], pl.others[:0]
	for _, s := range rest {
		if s.ms >= least && s.ms >= p.Guard*(wait+p.Mirror*float64(pl.w.arrivals.since(pl.now, s.ms))/float64(capacity)) {
			critical = append(critical, s)
		} else {
			others = append(others, s)
		}
	}
	pl.critical, pl.others = critical, others
	if len(critical) == 0 {
		return
	}
	slices.SortStableFunc(critical, func(a, b *spot) int { return cmp.Compare(b.ms, a.ms) })
	copy(rest, critical)
	copy(rest[len(critical):], others)
	pl.stretches[len(pl.stretches)-1].lane = forge.LaneCritical
	pl.stretch(len(pl.candidates)-len(others), forge.LaneRest)
}

// ageing moves those to the front that have waited longest, until they have their part of the GPUs, and says how many they are.
func (pl *planner) ageing(class []*spot, capacity int64) int {
	type waiter struct {
		*spot
		cost float64
	}
	now := pl.now.UnixNano()
	before := now - int64(pl.p.AgeAfter)
	var old []waiter
	for _, s := range class {
		if s.since >= before {
			continue
		}
		x := waiter{s, float64(now - s.since)}
		if s.fate == fateRuns {
			x.cost *= pl.p.CriticalBonus
		}
		old = append(old, x)
	}
	slices.SortStableFunc(old, func(a, b waiter) int { return cmp.Compare(b.cost, a.cost) })
	share := pl.p.AgeShare * float64(capacity)
	held, n := 0, 0
	for n < len(old) && float64(held) < share {
		held += old[n].e.gpus
		old[n].e.ageing = true
		n++
	}
	others := pl.others[:0]
	for _, s := range class {
		if s.since >= before || !s.e.ageing {
			others = append(others, s)
		}
	}
	for i, x := range old[:n] {
		class[i], x.e.ageing = x.spot, false
	}
	copy(class[n:], others)
	pl.others = others
	return n
}
