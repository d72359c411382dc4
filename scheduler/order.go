package scheduler

import (
	"cmp"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// turn is where a run stands in the order before the lanes of its class are told apart: who may borrow comes after who is entitled, who had
// more than its share after who had less, then classes, then what the policy ranks by, then who came first.
type turn struct {
	tier     int32 // 0: within its tenant's guaranteed quota; 1 and more: borrows, 1 + the band of its tenant
	class    int32 // priority
	rank     int64
	came     int64 // in nanoseconds
	at       int   // in the order of this plan
	critical bool
	ageing   bool
	small    bool // in the prefix that goes before critical runs
}

func (a *turn) compare(b *turn) int {
	switch {
	case a.tier != b.tier:
		return int(a.tier - b.tier)
	case a.class != b.class:
		return int(b.class - a.class)
	case a.rank != b.rank:
		return cmp.Compare(a.rank, b.rank)
	}
	return cmp.Compare(a.came, b.came)
}

func compareEntries(a, b *entry) int {
	if c := a.turn.compare(&b.turn); c != 0 {
		return c
	}
	return strings.Compare(string(a.id), string(b.id))
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
	for _, e := range q.queue {
		out = append(out, e.pend)
	}
	return out
}

// Position is a run's place in the queue, 1 is next, and how many wait; 0 when it does not wait.
// It counts without sorting, since every submit asks, and does not look at lanes: who ages or is critical may overtake.
func Position(s forge.Snapshot, p Policy, run forge.RunID) (position, waiting int) {
	i := slices.IndexFunc(s.Pending, func(r forge.PendingRun) bool { return r.ID == run })
	if i < 0 {
		return 0, len(s.Pending)
	}
	present := map[forge.TenantID]bool{}
	if len(s.Tenants) > 1 {
		for j := range s.Pending {
			present[s.Pending[j].Tenant] = true
		}
		for j := range s.Active {
			present[s.Active[j].Tenant] = true
		}
	}
	bands := bandsOf(s.Tenants, p, func(t forge.TenantID) bool { return present[t] })
	turnOf := func(r *forge.PendingRun) turn {
		t := turn{tier: 1 + bands[r.Tenant], class: int32(r.Priority), came: r.SubmittedAt.UnixNano()}
		if p.Order == OrderService {
			t.rank = rankOf(&r.Work, r.Work.Left, r.Gang.GPUs())
		}
		return t
	}
	own := turnOf(&s.Pending[i])
	position = 1
	for j := range s.Pending {
		other := turnOf(&s.Pending[j])
		if c := other.compare(&own); c < 0 || c == 0 && s.Pending[j].ID < run {
			position++
		}
	}
	return position, len(s.Pending)
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
	for _, e := range w.flagged {
		e.turn.small, e.turn.critical, e.turn.ageing = false, false, false
	}
	w.flagged = w.flagged[:0]
	backlog := w.backlog
	running := pl.runningOnes[:0]
	for _, e := range w.running {
		pl.takeTurn(e)
		pl.measure(e)
		backlog += e.need
		if pl.p.PreemptInOrder && !e.fixed {
			running = append(running, e)
		}
	}
	pl.runningOnes = running
	waiting := pl.waitingInOrder()
	slices.SortFunc(running, compareEntries)
	pl.candidates = merged(pl.candidates[:0], running, waiting)
	var capacity int64
	for _, p := range w.pools {
		capacity += int64(p.serving())
	}
	if n := len(pl.candidates); n > 0 {
		first, last := &pl.candidates[0].turn, &pl.candidates[n-1].turn
		pl.classes = first.class != last.class || first.tier != last.tier
	}
	if pl.p.Order == OrderService && capacity > 0 {
		for from := 0; from < len(pl.candidates); {
			to := from + 1
			for to < len(pl.candidates) && pl.candidates[to].turn.class == pl.candidates[from].turn.class && pl.candidates[to].turn.tier == pl.candidates[from].turn.tier {
				to++
			}
			pl.lanes(pl.candidates[from:to], backlog, capacity)
			from = to
		}
	}
	pl.queue = pl.queue[:0]
	for i, e := range pl.candidates {
		e.turn.at = i
		if e.pend != nil {
			e.reset(w.undo.plan)
			pl.queue = append(pl.queue, e)
		}
	}
}

// measure says of a run that runs what of it counts in lanes now. Of one that waits it does not change.
func (pl *planner) measure(e *entry) {
	left := e.left(pl.now)
	e.need, e.ms = int64(forge.GPUTimeOf(left, e.gpus)), float64(left.Milliseconds())*pl.p.CriticalBonus
	e.since = e.submitted().UnixNano() + int64(e.ran(pl.now))
}

// waitingInOrder lists all that waits. The order of before holds but for those that came since: what a waiting run is ranked by changes only
// by being told of. Guaranteed quotas depend on what runs, and have all of it made anew.
func (pl *planner) waitingInOrder() []*entry {
	w := pl.w
	guaranteed := pl.bounds.guaranteed()
	if w.lineStale || guaranteed {
		w.line = append(w.line[:0], w.waiting...)
		for _, e := range w.line {
			pl.takeTurn(e)
			e.inLine = true
		}
		pl.entitle()
		slices.SortFunc(w.line, compareEntries)
		w.lineStale, w.fresh = guaranteed, w.fresh[:0]
		return w.line
	}
	for _, e := range w.fresh {
		pl.takeTurn(e)
		e.inLine = true
	}
	if len(w.fresh) <= fewNew {
		for _, e := range w.fresh {
			i, _ := slices.BinarySearchFunc(w.line, e, compareEntries)
			w.line = slices.Insert(w.line, i, e)
		}
	} else {
		slices.SortFunc(w.fresh, compareEntries)
		w.spare, w.line = w.line, merged(w.spare[:0], w.line, w.fresh)
	}
	w.fresh = w.fresh[:0]
	return w.line
}

// fewNew is up to how many new runs are put into the order one by one.
const fewNew = 16

// merged puts two lists that are in order into one.
func merged(out, a, b []*entry) []*entry {
	for len(a) > 0 && len(b) > 0 {
		if compareEntries(a[0], b[0]) <= 0 {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

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

func (pl *planner) takeTurn(e *entry) {
	t := turn{tier: 1, class: int32(e.priority()), came: e.submitted().UnixNano()}
	if e.pend != nil {
		t.tier = 1 + pl.bands[e.pend.Tenant] // share decides who starts, never who is stopped
	}
	switch pl.p.Order {
	case OrderService:
		w := e.work()
		t.rank = rankOf(w, e.left(pl.now), e.gpus)
		if e.act != nil {
			f := pl.p.BlindFactor
			if w.Known {
				f = pl.p.KnownFactor
			}
			t.rank = int64(float64(t.rank) * f)
		}
	case OrderAttained:
		t.rank = int64(level(forge.GPUTimeOf(e.ran(pl.now), e.gpus)))
	}
	e.turn = t
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

// lanes orders one class: who has waited too long, a small part of the work shortest first, what is critical for the end of it all longest
// first, then the rest shortest first.
func (pl *planner) lanes(class []*entry, backlog, capacity int64) {
	p := pl.p
	if p.AgeAfter == 0 && p.Guard == 0 {
		return
	}
	rest := pl.ageing(class, capacity)
	var budget float64
	if p.SmallPrefix > 0 {
		var own int64
		for _, e := range class {
			own += e.need
		}
		budget = p.SmallPrefix * float64(own)
	}
	var sum int64
	small := 0
	for small < len(rest) {
		if sum += rest[small].need; float64(sum) > budget {
			break
		}
		rest[small].turn.small = true
		pl.w.flag(rest[small])
		small++
	}
	if p.Guard == 0 {
		return
	}
	rest = rest[small:]
	wait := float64(backlog) / float64(capacity) // ms that the whole cluster needs for all that is there
	critical := pl.scratch[:0]
	for _, e := range rest {
		if e.ms >= p.Guard*wait && e.work().Known && e.ms >= p.Guard*(wait+p.Mirror*float64(pl.w.arrivals.since(pl.now, e.ms))/float64(capacity)) {
			e.turn.critical = true
			pl.w.flag(e)
			critical = append(critical, e)
		}
	}
	if len(critical) == 0 {
		return
	}
	for _, e := range rest {
		if !e.turn.critical {
			critical = append(critical, e)
		}
	}
	n := slices.IndexFunc(critical, func(e *entry) bool { return !e.turn.critical })
	if n < 0 {
		n = len(critical)
	}
	slices.SortStableFunc(critical[:n], func(a, b *entry) int { return cmp.Compare(b.ms, a.ms) })
	copy(rest, critical)
	pl.scratch = critical[:0]
}

// flag remembers a waiting run whose lane is to be forgotten before the next plan.
func (w *world) flag(e *entry) {
	if e.pend != nil {
		w.flagged = append(w.flagged, e)
	}
}

// ageing moves those to the front that have waited longest, until they have their part of the GPUs, and returns the others in their order.
func (pl *planner) ageing(class []*entry, capacity int64) []*entry {
	if pl.p.AgeAfter == 0 {
		return class
	}
	old := pl.scratch[:0]
	before := pl.now.UnixNano() - int64(pl.p.AgeAfter)
	for _, e := range class {
		if e.since >= before {
			continue
		}
		waited := time.Duration(pl.now.UnixNano() - e.since)
		if e.cost = float64(waited); e.act != nil {
			e.cost *= pl.p.CriticalBonus
		}
		old = append(old, e)
	}
	if len(old) == 0 {
		return class
	}
	slices.SortStableFunc(old, func(a, b *entry) int { return cmp.Compare(b.cost, a.cost) })
	share := pl.p.AgeShare * float64(capacity)
	held, n := 0, 0
	for n < len(old) && float64(held) < share {
		held += old[n].gpus
		old[n].turn.ageing = true
		pl.w.flag(old[n])
		n++
	}
	old = old[:n]
	for _, e := range class {
		if !e.turn.ageing {
			old = append(old, e)
		}
	}
	copy(class, old)
	pl.scratch = old[:0]
	return class[n:]
}
