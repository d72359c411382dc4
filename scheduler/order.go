package scheduler

import (
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// turn is where a run stands in the order before the lanes of its class are told apart: who may borrow comes after who is entitled, who had
// more than its share after who had less, then classes, then what the policy ranks by, then who came first.
type turn struct {
	tier  int32 // 0: within its tenant's guaranteed quota; 1 and more: borrows, 1 + the band of its tenant
	class int32 // priority
	rank  int64
	came  int64 // in nanoseconds
	at    int   // in the order of this plan
}

// Order is the queue: every pending run, next first. Runs on hold keep their place in it.
func Order(s forge.Snapshot, p Policy) []forge.RunID {
	queue := Queue(s, p)
	ids := make([]forge.RunID, len(queue))
	for i, r := range queue {
		ids[i] = r.ID
	}
	return ids
}

// Queue is Order with the runs themselves, as the snapshot has them.
func Queue(s forge.Snapshot, p Policy) []*forge.PendingRun {
	pl := NewPlanner(p)
	pl.Load(s)
	q := pl.make(s.Now)
	q.line()
	out := make([]*forge.PendingRun, 0, len(s.Pending))
	for _, c := range q.candidates {
		if c.fate != fateRuns {
			out = append(out, c.e.pend)
		}
	}
	return out
}

// rankOf is the service that a run is expected to need still.
func rankOf(w *forge.Work, left time.Duration, gpus int) int64 {
	if w.Known {
		return int64(forge.GPUTimeOf(left, gpus))
	}
	return int64(w.Rank)
}

// line puts all that waits, and all that could be stopped for it, in order.
func (pl *planner) line() {
	w := pl.w
	backlog := w.backlog
	now := pl.now.UnixNano()
	for i := range w.runners {
		r := &w.runners[i]
		r.measure(&pl.p, now)
		backlog += r.need
		if p := r.account.promised; p != nil && !r.eval {
			p.runs = append(p.runs, claimant{class: r.class, gpus: r.gpus, rank: r.rank, came: r.came, id: r.id, runner: r})
		}
	}
	pl.waitingInOrder()
	sortRunners(w.runners)
	for i := range w.runners {
		r := &w.runners[i]
		r.e.turn = turn{tier: tierIn(r.group, r.class), class: r.class, rank: r.rank, came: r.came}
	}
	var capacity int64
	for _, p := range w.pools {
		capacity += int64(p.serving())
	}
	if n := len(w.runners) + len(w.waiting); cap(pl.candidates) < n {
		pl.candidates = make([]*spot, 0, n+n/8)
	}
	pl.candidates, pl.stretches = pl.candidates[:0], pl.stretches[:0]
	for rows, runs := w.rows, w.runners; len(rows) > 0 || len(runs) > 0; {
		group := int64(forever)
		if len(rows) > 0 {
			group = rows[0].group
		}
		if len(runs) > 0 {
			group = min(group, runs[0].group)
		}
		var waits row
		if len(rows) > 0 && rows[0].group == group {
			waits, rows = *rows[0], rows[1:]
		} else {
			waits.oldest = forever
		}
		n := 0
		for n < len(runs) && runs[n].group == group {
			if r := &runs[n]; pl.p.PreemptInOrder && !r.fixed {
				waits.need += r.need
				waits.oldest = min(waits.oldest, r.since)
			}
			n++
		}
		from := len(pl.candidates)
		pl.merge(waits.spots, runs[:n])
		pl.stretch(from, forge.LaneRest)
		if pl.p.Order == OrderService && capacity > 0 {
			pl.lanes(from, waits.need, waits.oldest, backlog, capacity)
		}
		runs = runs[n:]
	}
	if n := len(pl.candidates); n > 0 {
		pl.classes = pl.candidates[0].group != pl.candidates[n-1].group
	}
	pl.fates, pl.claimers = pl.fates[:0], pl.claimers[:0]
	for i, c := range pl.candidates {
		pl.fates = append(pl.fates, c.fate)
		switch c.fate {
		case fateRuns:
			c.e.turn.at = i
		case fateClaim:
			pl.claimers = append(pl.claimers, pl.touch(i))
		}
	}
}

// merge puts a row, and those that run of its tier and class and may be stopped, into one order.
func (pl *planner) merge(waits []spot, runs []runner) {
	out := pl.candidates
	for i := range runs {
		r := &runs[i]
		if !pl.p.PreemptInOrder || r.fixed {
			continue
		}
		for len(waits) > 0 && compareSpots(&waits[0], &r.spot) <= 0 {
			out, waits = append(out, &waits[0]), waits[1:]
		}
		out = append(out, &r.spot)
	}
	for i := range waits {
		out = append(out, &waits[i])
	}
	pl.candidates = out
}

// touch readies a candidate that waits for a look at it alone.
func (pl *planner) touch(at int) *entry {
	e := pl.candidates[at].e
	e.reset(pl.w.undo.plan)
	e.turn.at = at
	return e
}

// decided has no pass of this plan take a run by the fate of its shape any more.
func (pl *planner) decided(e *entry) { pl.fates[e.turn.at] = fateOwn }

// serving is how many slots of a pool take work that this plan places.
func (p *pool) serving() int {
	if p.cluster.paused || p.cluster.queue != nil {
		return 0
	}
	n := 0
	for _, b := range p.bins {
		if b.node.ready() {
			n += b.healthy
		}
	}
	return n
}

// turnOf is the turn of a run that waits.
func (pl *planner) turnOf(e *entry) turn {
	t := turn{tier: pl.tierOf(e), class: int32(e.pend.Priority), came: e.pend.SubmittedAt.UnixNano()}
	switch pl.p.Order {
	case OrderService:
		t.rank = rankOf(&e.pend.Work, e.pend.Work.Left, e.gpus)
	case OrderAttained:
		t.rank = int64(level(forge.GPUTimeOf(e.pend.Work.Ran, e.gpus)))
	}
	return t
}

// firstLevel is the first edge of the levels of attained service; each is twice the one before.
const firstLevel = forge.GPUTime(600_000)

// level is how many edges an amount of service has passed.
func level(t forge.GPUTime) int {
	n := 0
	for edge := firstLevel; t >= edge; edge *= 2 {
		n++
	}
	return n
}
