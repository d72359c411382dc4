package scheduler

import (
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// entry is a run as planning sees it: it waits, or an attempt of it is active. What passes over those that run look at comes first.
type entry struct {
	id   forge.RunID
	pend *forge.PendingRun    // nil while an attempt is active
	act  *forge.ActiveAttempt // nil while it waits
	gpus int

	turn     turn
	by       *entry  // for whom it gives way
	shares   []share // of one that runs; made once
	home     *pool   // of one that runs: where all its shares are, all alike; nil: an odd one, or it has none
	plan     int     // what follows is of the plan with this number
	fixed    bool
	chosen   bool
	stopped  bool // preempted in this plan, or leaving anyway
	kept     bool // repacking leaves it where it is
	placed   bool // starts in this plan
	first    bool // repacking gives it the first pick
	excluded bool // could not be placed by repacking: takes its turn like any other
	counted  bool // among what its tenant has
	cleared  bool // something is stopped for it in this plan

	lends    bool // of one that runs: its shares are counted in lent
	queued   bool // of one that is active: it waits in a cluster's own queue
	gone     bool // of one that ran: it does not any more
	claims   bool // GPUs are claimed for it
	inLine   bool // of one that waits: it has a spot in a row
	entitled bool // of one that waits: it stands in line within what its tenant is promised
	ageing   bool // scratch of lanes

	pool    *pool         // where it was counted
	to      []*bin        // where repacking puts it
	idle    holdKey       // why it may not start whatever is free
	why     func() string // idle in words, where it is a matter of time
	idles   *idleness     // why it may not start whatever is free, as long as it is not told to be another
	gang    forge.Gang
	shape   *shape
	at      int      // in world.waiting or world.running
	account *account // its tenant's
	user    *account // its user's
	granted int      // the plan that entitled it
	need    int64    // of one that waits: GPU time that is left, in milliseconds
	since   int64    // and what it has waited from, in nanoseconds: when it was submitted and, with that, how long it ran
}

// reset makes the entry ready for a plan.
func (e *entry) reset(plan int) {
	if e.plan != plan {
		e.plan, e.first, e.fixed, e.chosen, e.stopped, e.placed, e.excluded, e.kept, e.counted, e.cleared = plan, false, false, false, false, false, false, false, false, false
		e.by, e.pool, e.to = nil, nil, nil
	}
}

func (e *entry) work() *forge.Work {
	if e.act != nil {
		return &e.act.Work
	}
	return &e.pend.Work
}

func (e *entry) submitted() time.Time {
	if e.act != nil {
		return e.act.SubmittedAt
	}
	return e.pend.SubmittedAt
}

func (e *entry) tenant() forge.TenantID {
	if e.act != nil {
		return e.act.Tenant
	}
	return e.pend.Tenant
}

func (e *entry) eval() bool {
	if e.act != nil {
		return e.act.Eval
	}
	return e.pend.Eval
}

// ran is how long the run had its GPUs.
func (e *entry) ran(now time.Time) time.Duration {
	d := e.work().Ran
	if e.act != nil && !e.act.StartedAt.IsZero() && now.After(e.act.StartedAt) {
		d += now.Sub(e.act.StartedAt)
	}
	return d
}

// left is how long it has still to run, as far as is known.
func (e *entry) left(now time.Time) time.Duration {
	w := e.work()
	if e.act == nil || w.AsOf.IsZero() || !now.After(w.AsOf) {
		return w.Left
	}
	return max(0, w.Left-now.Sub(w.AsOf))
}

// entry is a new one, from those that were made at once where there are any left.
func (w *world) entry() *entry {
	if len(w.slab) == 0 {
		return &entry{}
	}
	e := &w.slab[0]
	w.slab = w.slab[1:]
	return e
}

// putWaiting and putRunning tell the world of a run; drop forgets it.
func (w *world) putWaiting(r *forge.PendingRun) *entry {
	w.drop(r.ID)
	e := w.entry()
	*e = entry{id: r.ID, pend: r, gang: r.Gang, gpus: r.Gang.GPUs(), at: len(w.waiting), plan: -1, claims: len(w.claims[r.ID]) > 0}
	e.account = w.account(r.Tenant)
	e.user = e.account.of(r.User)
	e.need, e.since = int64(forge.GPUTimeOf(r.Work.Left, e.gpus)), r.SubmittedAt.UnixNano()+int64(r.Work.Ran)
	if r.Pinned {
		w.pinned++
	}
	if e.idles = w.idlesFor(r); e.idles != nil {
		e.idle = e.idles.key
	} else if !r.NotBefore.IsZero() {
		w.timed = append(w.timed, e)
	}
	w.backlog += e.need
	w.fresh = append(w.fresh, e)
	w.waiting = append(w.waiting, e)
	w.attend(e, 1)
	w.entries[r.ID] = e
	return e
}

func (w *world) putRunning(a *forge.ActiveAttempt) {
	w.drop(a.Run)
	e := w.entry()
	*e = entry{id: a.Run, act: a, gang: a.Gang, at: len(w.running), account: w.account(a.Tenant), queued: a.Queued()}
	e.user = e.account.of(a.User)
	c := w.byName[a.Cluster]
	if c != nil && c.queue != nil && e.queued {
		c.queue.add(owner{a.Tenant, a.User})
	}
	for _, sh := range a.Placement {
		e.gpus += len(sh.Slots)
		if n := w.nodes[nodeKey{a.Cluster, sh.Node}]; n != nil {
			w.take(n, use{until: a.EndsBy, slots: sh.Slots, cpus: sh.CPUs, mib: sh.MemoryMiB, by: e})
		}
	}
	w.running = append(w.running, e)
	w.attend(e, 1)
	w.started = append(w.started, e)
	w.entries[a.Run] = e
}

func (w *world) drop(run forge.RunID) {
	e := w.entries[run]
	if e == nil {
		return
	}
	delete(w.entries, run)
	w.attend(e, -1)
	list := &w.waiting
	if e.act != nil {
		list = &w.running
		e.gone = true
		e.lend(false)
		w.release(e)
		if c := w.byName[e.act.Cluster]; c != nil && c.queue != nil && e.queued {
			c.queue.drop(owner{e.act.Tenant, e.act.User})
		}
	}
	if e.pend != nil {
		w.leave(e)
	}
	last := len(*list) - 1
	(*list)[e.at] = (*list)[last]
	(*list)[e.at].at = e.at
	(*list)[last] = nil
	*list = (*list)[:last]
}

// never is later than any back-off: what keeps a run from starting then is not time.
var never = time.Unix(1<<40, 0)

// leave takes a waiting run out of the order.
func (w *world) leave(e *entry) {
	w.backlog -= e.need
	same := func(x *entry) bool { return x == e }
	if e.pend.Pinned {
		w.pinned--
	}
	switch {
	case !e.inLine:
		w.fresh = slices.DeleteFunc(w.fresh, same)
	case !w.lineStale:
		w.unpromise(e)
		w.exit(e)
	}
	if e.idles != nil {
		w.forget(e.idles)
	} else if !e.pend.NotBefore.IsZero() {
		w.timed = slices.DeleteFunc(w.timed, same)
	}
}
