package scheduler

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"sync"

	forge "github.com/forge-ml/forge-ml"
)

// The line of all that waits is kept from plan to plan: what a waiting run is ranked by changes only by being told of. Of one tier and class it is a row,
// in which a run is found, put in and taken out without the others being looked at.

// spot is what a pass over all that waits and runs needs to know of one. Spots lie side by side in memory in the order in which they are looked at; the entries
// do not, and to touch a hundred thousand of them costs more than all else.
type spot struct {
	group int64 // tier and class in one number, ascending in the order
	rank  int64
	came  int64
	id    forge.RunID
	e     *entry
	need  int64   // GPU time that is left, in milliseconds
	ms    float64 // time that is left, in milliseconds, with the bonus of what runs; NaN: not known
	since int64   // what it has waited from, in nanoseconds: when it was submitted and, with that, how long it ran
	fate  int32
}

// A run's fate: what decides of it. From 0 it is that of its shape, by number. From fateIdle downwards it is a reason to wait whatever is free, by number.
const (
	fateRuns  = -1 // it runs
	fateClaim = -2 // GPUs are claimed for it
	fateTimed = -3 // it may have to wait for a time
	fateLater = -4 // it has to wait for a time in this plan
	fateOwn   = -5 // something was decided for it in this plan
	fateIdle  = -8
)

func groupOf(tier, class int32) int64 { return int64(tier)<<33 - int64(class) }

func tierIn(group int64, class int32) int32 { return int32((group + int64(class)) >> 33) }

func compareSpots(a, b *spot) int {
	switch {
	case a.group != b.group:
		return cmp.Compare(a.group, b.group)
	case a.rank != b.rank:
		return cmp.Compare(a.rank, b.rank)
	case a.came != b.came:
		return cmp.Compare(a.came, b.came)
	}
	return strings.Compare(string(a.id), string(b.id))
}

// row is what waits of one tier and class, in order.
type row struct {
	group  int64
	spots  []spot
	came   []spot // to be put in
	coming int    // how many that will be; 0: few
	gone   int    // how many of spots have no entry any more
	need   int64
	oldest int64 // no since is before it
}

func (w *world) row(group int64) *row {
	i, found := slices.BinarySearchFunc(w.rows, group, func(r *row, g int64) int { return cmp.Compare(r.group, g) })
	if !found {
		w.rows = slices.Insert(w.rows, i, &row{group: group, oldest: forever})
	}
	return w.rows[i]
}

const forever = 1<<63 - 1

// enter puts a run that has its turn into the line, as soon as its row is closed.
func (pl *planner) enter(e *entry) {
	e.inLine = true
	if e.idles == nil {
		pl.shapeOf(e)
	}
	r := pl.w.row(groupOf(e.turn.tier, e.turn.class))
	s := spot{group: r.group, rank: e.turn.rank, came: e.turn.came, id: e.id, e: e, need: e.need, ms: math.NaN(), since: e.since, fate: e.fateOf()}
	if e.pend.Work.Known {
		s.ms = float64(e.pend.Work.Left.Milliseconds())
	}
	if r.coming > cap(r.came) {
		r.came = slices.Grow(r.came, r.coming-len(r.came))
	}
	r.came = append(r.came, s)
	r.need += e.need
	r.oldest = min(r.oldest, e.since)
}

// fateOf says what decides of a waiting run, as long as it is not told to be another.
func (e *entry) fateOf() int32 {
	switch {
	case e.claims:
		return fateClaim
	case e.idles != nil:
		return fateIdle - e.idles.at
	case !e.pend.NotBefore.IsZero():
		return fateTimed
	}
	return e.shape.at
}

// refate is told when claims come or go.
func (w *world) refate(e *entry) {
	_, s := w.where(e)
	s.fate = e.fateOf()
}

// where finds the spot of a run that is in line.
func (w *world) where(e *entry) (*row, *spot) {
	r := w.row(groupOf(e.turn.tier, e.turn.class))
	own := spot{group: r.group, rank: e.turn.rank, came: e.turn.came, id: e.id}
	lo, hi := 0, len(r.spots)
	for lo < hi {
		if mid := (lo + hi) / 2; compareSpots(&r.spots[mid], &own) < 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return r, &r.spots[lo]
}

// exit takes a run out of the line.
func (w *world) exit(e *entry) {
	r, s := w.where(e)
	s.e = nil
	r.gone++
	r.need -= e.need
	e.inLine = false
}

// close puts in what came and takes out what went, in one pass each.
func (r *row) close() {
	if r.gone > 0 {
		r.spots = slices.DeleteFunc(r.spots, func(s spot) bool { return s.e == nil })
		r.gone = 0
	}
	if len(r.came) == 0 {
		return
	}
	came := inOrder(r.came)
	if len(r.spots) == 0 {
		r.spots, r.came = came, nil
		return
	}
	n, k := len(r.spots), len(r.came)
	r.spots = slices.Grow(r.spots, k)[:n+k]
	for k > 0 { // from the end, so that nothing is overwritten that is still to be moved
		lo, hi := 0, n
		for lo < hi {
			if mid := (lo + hi) / 2; compareSpots(&r.spots[mid], &came[k-1]) < 0 {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		copy(r.spots[lo+k:], r.spots[lo:n])
		r.spots[lo+k-1] = came[k-1]
		n, k = lo, k-1
	}
	clear(r.came)
	r.came = r.came[:0]
}

// inOrder sorts keys, since spots are large.
func inOrder(list []spot) []spot {
	type key struct {
		rank, came int64
		at         int
	}
	keys := make([]key, len(list))
	for i := range list {
		keys[i] = key{list[i].rank, list[i].came, i}
	}
	slices.SortFunc(keys, func(a, b key) int {
		switch {
		case a.rank != b.rank:
			return cmp.Compare(a.rank, b.rank)
		case a.came != b.came:
			return cmp.Compare(a.came, b.came)
		}
		return strings.Compare(string(list[a.at].id), string(list[b.at].id))
	})
	out := make([]spot, len(list))
	for i, k := range keys {
		out[i] = list[k.at]
	}
	return out
}

// waitingInOrder brings the rows up to date: what came since the last plan is put in, and who is entitled now to what its tenant is promised changes rows.
func (pl *planner) waitingInOrder() {
	w := pl.w
	if w.lineStale {
		w.lineStale = false
		for _, r := range w.rows {
			clear(r.spots)
			*r = row{group: r.group, spots: r.spots[:0], came: r.came[:0], oldest: forever}
		}
		for _, p := range w.promises {
			p.waits, p.holds = p.waits[:0], p.holds[:0]
		}
		w.fresh = append(w.fresh[:0], w.waiting...)
		for _, e := range w.fresh {
			e.entitled, e.inLine = false, false
		}
	}
	for _, e := range w.fresh {
		e.turn = pl.turnOf(e)
	}
	w.promise(w.fresh)
	pl.entitle()
	if len(w.fresh) > fewNew {
		for _, e := range w.fresh {
			w.row(groupOf(e.turn.tier, e.turn.class)).coming++
		}
	}
	for _, e := range w.fresh {
		pl.enter(e)
	}
	var closing sync.WaitGroup
	for _, r := range w.rows {
		if r.coming > manyNew {
			closing.Go(r.close) // a row is nobody else's
		} else {
			r.close()
		}
		r.coming = 0
	}
	closing.Wait()
	clear(w.fresh)
	w.fresh = w.fresh[:0]
	w.rows = slices.DeleteFunc(w.rows, func(r *row) bool { return len(r.spots) == 0 })
}
