package estimate

import (
	"container/heap"
	"slices"
	"time"
)

// group is the runs that are each other's neighbours, in order of arrival.
type group struct {
	members []*run
	spent   int // of members, from the start: over, and nobody before them goes on
	dropped int // before the first member
}

func (g *group) add(r *run) {
	if n := len(g.members); n == 0 || before(g.members[n-1], r) < 0 {
		r.seat = n + g.dropped
		g.members = append(g.members, r)
		return
	}
	i := g.place(r)
	g.members = slices.Insert(g.members, i, r)
	g.spent = min(g.spent, i)
}

func (g *group) remove(r *run) {
	i := g.place(r)
	g.members = slices.Delete(g.members, i, i+1)
	g.spent = min(g.spent, i)
}

// place of a member. It is mostly where it was when last looked for.
func (g *group) place(r *run) int {
	i := r.seat - g.dropped
	if i < 0 || i >= len(g.members) || g.members[i] != r {
		i, _ = slices.BinarySearchFunc(g.members, r, before)
		r.seat = i + g.dropped
	}
	return i
}

// census of a run's neighbours, nearest first.
func (g *group) census(r *run, v *vicinity) {
	i := g.place(r)
	for d := range neighbours {
		if j := i - 1 - d; j >= 0 {
			v.add(fadings[d], g.members[j].level, g.members[j].over)
		}
		if j := i + 1 + d; j < len(g.members) {
			v.add(fadings[d], g.members[j].level, g.members[j].over)
		}
	}
}

// around lists a run's neighbours.
func (g *group) around(r *run) []*run {
	i := g.place(r)
	return g.members[max(0, i-neighbours):min(len(g.members), i+1+neighbours)]
}

// forget drops those that can be nobody's neighbour any more: whoever still comes comes at the end.
func (g *group) forget() {
	for g.spent < len(g.members) && g.members[g.spent].over {
		g.spent++
	}
	if drop := g.spent - neighbours; drop > 4*neighbours {
		g.members = slices.Delete(g.members, 0, drop)
		g.spent = neighbours
		g.dropped += drop
	}
}

// size is what is known of all runs of one size.
type size struct {
	census
	edges [levels]time.Duration
	took  mean
}

// mean of durations, in whole milliseconds: a century of a thousand GPUs fits, and the order of adding does not count.
type mean struct{ n, sum int64 }

func (m *mean) add(d time.Duration) {
	m.n++
	m.sum += d.Milliseconds()
}

func (m *mean) mean() time.Duration { return time.Duration(m.sum/m.n) * time.Millisecond }

// timers by time. Those that were overtaken stay until they come up.
type timers struct{ h timerHeap }

type timer struct {
	at  time.Time
	run *run
}

func (t *timers) push(x timer) { heap.Push(&t.h, x) }
func (t *timers) pop()         { heap.Pop(&t.h) }

func (t *timers) next() (timer, bool) {
	if len(t.h) == 0 {
		return timer{}, false
	}
	return t.h[0], true
}

type timerHeap []timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timerHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(x any)        { *h = append(*h, x.(timer)) }
func (h *timerHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = timer{}
	*h = old[:len(old)-1]
	return x
}
