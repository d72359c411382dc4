package scheduler

import (
	"math"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// runner is one that runs, as planning looks at all of them: in the order of the plan before, which time changes little.
type runner struct {
	spot
	account   *account
	class     int32
	known     bool // what is left of it
	eval      bool
	stopping  bool // it leaves whatever is planned
	preempted bool // once, at least
	still     bool // nobody may stop it
	fixed     bool // in this plan
	gpus      int
	base      int64 // what it is ranked by when what is left is not known
	left      int64 // in nanoseconds, at asOf
	asOf      int64 // forever: it is left now
	started   int64 // forever: not yet
	ran       int64 // before it started
}

func runnerOf(e *entry) runner {
	a := e.act
	r := runner{spot: spot{id: e.id, e: e, fate: fateRuns, came: a.SubmittedAt.UnixNano()}, account: e.account, class: int32(a.Priority), known: a.Work.Known, eval: a.Eval,
		stopping: a.Leaving(), still: a.Pinned || e.queued, preempted: a.Preempted != 0, gpus: e.gpus, base: int64(a.Work.Rank), left: int64(a.Work.Left), asOf: forever, started: forever, ran: int64(a.Work.Ran)}
	if !a.Work.AsOf.IsZero() {
		r.asOf = a.Work.AsOf.UnixNano()
	}
	if !a.StartedAt.IsZero() {
		r.started = a.StartedAt.UnixNano()
	}
	return r
}

// measure says what of it counts at a time.
func (r *runner) measure(p *Policy, now int64) {
	left, ran := r.left, r.ran
	if now > r.asOf {
		left = max(0, left-(now-r.asOf))
	}
	if now > r.started {
		ran += now - r.started
	}
	r.group = groupOf(1, r.class)
	r.need = int64(forge.GPUTimeOf(time.Duration(left), r.gpus))
	r.since = r.came + ran
	r.rank = 0
	switch p.Order {
	case OrderService:
		f := p.BlindFactor
		if r.rank = r.base; r.known {
			r.rank, f = r.need, p.KnownFactor
		}
		r.rank = int64(float64(r.rank) * f)
	case OrderAttained:
		r.rank = int64(level(forge.GPUTimeOf(time.Duration(ran), r.gpus)))
	}
	if r.ms = math.NaN(); r.known {
		r.ms = float64(left/1e6) * p.CriticalBonus
	}
}

// ready tells what may be stopped at all from what keeps its GPUs whatever waits.
func (pl *planner) ready() {
	w := pl.w
	w.begin()
	w.runners = slices.DeleteFunc(w.runners, func(r runner) bool { return r.e.gone })
	for _, e := range w.started {
		if !e.gone {
			w.runners = append(w.runners, runnerOf(e))
		}
	}
	clear(w.started)
	w.started = w.started[:0]
	for i := range w.runners {
		r := &w.runners[i]
		e := r.e
		e.reset(w.undo.plan)
		r.fixed = r.stopping || r.still
		if e.stopped = r.stopping; !r.fixed && r.preempted {
			if until := pl.spared(e.act); until.After(pl.now) {
				r.fixed = true
				if len(w.waiting) > 0 && (pl.p.PreemptInOrder || pl.p.PreemptGap > 0) {
					pl.wakeAt(until)
				}
			}
		}
		e.fixed = r.fixed
	}
	for _, e := range w.timed {
		if late := e.pend.NotBefore.After(pl.now); late != (e.idle.code != "") {
			e.idle, e.why = notReady(e.pend, pl.now)
		}
	}
}

// sortRunners has little to do: the order of before nearly holds.
func sortRunners(list []runner) {
	moved := 0
	for i := 1; i < len(list); i++ {
		if compareSpots(&list[i-1].spot, &list[i].spot) <= 0 {
			continue
		}
		lo, hi := 0, i
		for lo < hi {
			if mid := (lo + hi) / 2; compareSpots(&list[mid].spot, &list[i].spot) <= 0 {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		if moved += i - lo; moved > 16*len(list) {
			sortAllRunners(list)
			return
		}
		x := list[i]
		copy(list[lo+1:i+1], list[lo:i])
		list[lo] = x
	}
}

// sortAllRunners is for when much has changed. It sorts keys, since runners are large.
func sortAllRunners(list []runner) {
	type key struct {
		group, rank, came int64
		at                int
	}
	keys := make([]key, len(list))
	for i := range list {
		keys[i] = key{list[i].group, list[i].rank, list[i].came, i}
	}
	slices.SortFunc(keys, func(a, b key) int {
		x, y := &spot{group: a.group, rank: a.rank, came: a.came}, &spot{group: b.group, rank: b.rank, came: b.came}
		if c := compareSpots(x, y); c != 0 {
			return c
		}
		return strings.Compare(string(list[a.at].id), string(list[b.at].id))
	})
	old := slices.Clone(list)
	for i, k := range keys {
		list[i] = old[k.at]
	}
}
