package scheduler

import (
	"cmp"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// reservation is what the head of a cluster's queue waits for.
type reservation struct {
	at    time.Time // when the head can start at the latest; zero: not known
	gang  forge.Gang
	spare map[*node]*spare
}

// spare is what a reserved node has beyond what the head needs of it.
type spare struct {
	slots map[*bin]int // bins that are not here are none of the head's business
	cpus  int
	mib   int64
}

func (s *spare) covers(b *bin, n need) bool {
	left, counted := s.slots[b]
	return (!counted || left >= n.slots) && s.cpus >= n.cpus && s.mib >= n.mib
}

// reserve keeps for a run that did not fit what it will start on: in the cluster where that is
// known to come free first, or, when no time is known, in every cluster that it could use.
// Clusters that are reserved for an earlier run are left to that.
func (pl *planner) reserveFor(e *entry, sh *shape) *reservation {
	r := e.pend
	var best *reservation
	var bestPool *pool
	for _, p := range sh.pools {
		if p.cluster.reserved != nil {
			continue
		}
		if res := pl.earliest(r, sh, p); res != nil && (best == nil || res.at.Before(best.at)) {
			best, bestPool = res, p
		}
	}
	if best != nil {
		bestPool.cluster.reserved = best
		return best
	}
	unknown := map[*cluster]*reservation{}
	for _, p := range sh.pools {
		if p.cluster.reserved != nil && unknown[p.cluster] == nil {
			continue
		}
		if unknown[p.cluster] == nil {
			best = &reservation{gang: r.Gang, spare: map[*node]*spare{}}
			unknown[p.cluster], p.cluster.reserved = best, best
		}
		pl.protect(r, sh, p, unknown[p.cluster])
	}
	return best
}

// avail is what a bin can give to a run at some time.
type avail struct {
	slots int
	cpus  int
	mib   int64
}

func (a avail) meets(n need) bool { return a.slots >= n.slots && a.cpus >= n.cpus && a.mib >= n.mib }

func (w *world) freeNow(r *forge.PendingRun, b *bin) avail {
	a := avail{b.avail, b.node.freeCPU, b.node.freeMiB}
	if _, claims := w.claims[r.ID]; claims {
		a.slots += b.claimed(r.ID)
	}
	return a
}

// release adds what one use gives back to the bin for this run.
func (a *avail) release(r *forge.PendingRun, b *bin, u use) {
	a.cpus += u.cpus
	a.mib += u.mib
	for _, i := range u.slots {
		if sl := b.node.slot(i); sl != nil && sl.bin == b && !sl.sick && (sl.claim == "" || sl.claim == r.ID) {
			a.slots++
		}
	}
}

// freeAt is what the bin has at a time, if everything ends by its limit. What is past its limit
// has not ended: it counts as ending now, which lets nothing be backfilled before it.
func (w *world) freeAt(r *forge.PendingRun, b *bin, at time.Time) avail {
	a := w.freeNow(r, b)
	for _, u := range b.node.uses {
		if !u.until.IsZero() && !u.until.After(at) {
			a.release(r, b, u)
		}
	}
	return a
}

// firstFree is the earliest time at which the bin meets the need.
func (pl *planner) firstFree(r *forge.PendingRun, sh *shape, b *bin) (time.Time, bool) {
	a := pl.w.freeNow(r, b)
	if a.meets(sh.need) {
		return pl.now, true
	}
	uses := slices.DeleteFunc(slices.Clone(b.node.uses), func(u use) bool { return u.until.IsZero() })
	slices.SortFunc(uses, func(x, y use) int { return x.until.Compare(y.until) })
	for _, u := range uses {
		a.release(r, b, u)
		if a.meets(sh.need) {
			if u.until.Before(pl.now) {
				return pl.now, true
			}
			return u.until, true
		}
	}
	return time.Time{}, false
}

// earliest is the reservation of a pool whose time is known, or nil.
func (pl *planner) earliest(r *forge.PendingRun, sh *shape, p *pool) *reservation {
	var best *reservation
	for _, bins := range sh.withinOne(sh.clearable(p)) {
		if res := pl.earliestOn(r, sh, bins); res != nil && (best == nil || res.at.Before(best.at)) {
			best = res
		}
	}
	return best
}

func (pl *planner) earliestOn(r *forge.PendingRun, sh *shape, bins []*bin) *reservation {
	type candidate struct {
		bin  *bin
		at   time.Time
		left int
	}
	var cands []candidate
	for _, b := range bins {
		if at, ok := pl.firstFree(r, sh, b); ok {
			cands = append(cands, candidate{b, at, pl.w.freeAt(r, b, at).slots - sh.need.slots})
		}
	}
	if len(cands) < r.Gang.Nodes {
		return nil
	}
	slices.SortFunc(cands, func(a, b candidate) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.left, b.left), cmp.Compare(a.bin.node.Name, b.bin.node.Name))
	})
	cands = cands[:r.Gang.Nodes]
	res := &reservation{at: cands[len(cands)-1].at, gang: r.Gang, spare: map[*node]*spare{}}
	for _, c := range cands {
		a := pl.w.freeAt(r, c.bin, res.at)
		res.spare[c.bin.node] = &spare{
			slots: map[*bin]int{c.bin: a.slots - sh.need.slots}, cpus: a.cpus - sh.need.cpus, mib: a.mib - sh.need.mib}
	}
	return res
}

// protect keeps, on every node of the pool that the run could use, what it needs of it: nobody
// knows which of them come free first.
func (pl *planner) protect(r *forge.PendingRun, sh *shape, p *pool, res *reservation) {
	eligible, _ := sh.of(p)
	for i := range eligible.in(eligible) {
		b := p.bins[i]
		s := res.spare[b.node]
		if s == nil {
			s = &spare{slots: map[*bin]int{}, cpus: max(0, b.node.freeCPU-sh.need.cpus), mib: max(0, b.node.freeMiB-sh.need.mib)}
			res.spare[b.node] = s
		}
		// Slots that are claimed for the run serve it and nobody else: only the rest is kept.
		s.slots[b] = max(0, min(b.avail, pl.w.freeNow(r, b).slots-sh.need.slots))
	}
}

// backfill says which nodes the reservations leave to a run, and is told what it takes.
type backfill struct {
	pl        *planner
	e         *entry
	need      need
	margin    time.Duration
	exhausted bool // nothing more is tried behind reservations
}

// yields says that the run can be stopped for whoever is ahead of it, so that it keeps nobody waiting.
func (f backfill) yields() bool { return f.pl.p.PreemptInOrder && !f.e.pend.Pinned }

// endsBefore says that the run is gone before the head can start.
func (f backfill) endsBefore(res *reservation) bool {
	return !res.at.IsZero() && f.e.pend.TimeLimit > 0 && !f.pl.now.Add(f.e.pend.TimeLimit+f.margin).After(res.at)
}

func (f backfill) allowed(b *bin) bool {
	res := b.node.cluster.reserved
	if res == nil {
		return true
	}
	if f.exhausted {
		return false
	}
	s := res.spare[b.node]
	return s == nil || f.yields() || f.endsBefore(res) || s.covers(b, f.need)
}

func (f backfill) took(fit *fit) {
	for _, c := range fit.choices {
		res := c.bin.node.cluster.reserved
		if res == nil || f.yields() || f.endsBefore(res) {
			continue
		}
		if s := res.spare[c.bin.node]; s != nil {
			if _, counted := s.slots[c.bin]; counted {
				s.slots[c.bin] -= f.need.slots
			}
			s.cpus -= f.need.cpus
			s.mib -= f.need.mib
		}
	}
}
