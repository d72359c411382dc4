package scheduler

import (
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Plan decides for one snapshot who starts where and why the others wait.
func Plan(s forge.Snapshot, p Policy) forge.Plan {
	pl := NewPlanner(p)
	pl.Load(s)
	return pl.Plan(s.Now)
}

// PlanInTurn is Plan without repacking: each run takes its turn, on what is free, else by stopping those behind it. Its plans are simpler, and where a plan is
// found to break a property, better than none.
func PlanInTurn(s forge.Snapshot, p Policy) forge.Plan {
	pl := NewPlanner(p)
	pl.Load(s)
	one := pl.make(s.Now)
	one.inTurn = true
	one.run()
	return one.plan
}

// planner makes one plan.
type planner struct {
	p            Policy
	now          time.Time
	quiet        bool // nobody asks for reasons
	inTurn       bool // no repacking
	w            *world
	nodes        []forge.Node // for texts
	bands        map[forge.TenantID]int32
	spread       []string
	plan         forge.Plan
	candidates   []*spot       // all that wait and all that could be stopped for them, in order
	fates        []int32       // of the candidates
	stretches    []stretch     // in which lanes they are
	claimers     []*entry      // those that GPUs are claimed for
	critical     []*spot       // scratch
	others       []*spot       // scratch
	shut         []int         // by shape: the choice of this plan that found no room for one of it
	repacked     bool          // who was left out by the choice has nothing stopped for it
	groups       []*forge.Held // in the order of their first run
	reasons      map[holdKey]*forge.Held
	reservations []*reservation
	tries        int                                  // different shapes tried behind a reservation
	saving       map[forge.RunID]*forge.Held          // runs that wait for what was stopped for them
	overruled    map[forge.RunID]bool                 // runs whose claims went to one of a higher class in this plan
	chosen       []*entry                             // by repacking
	sorted       []*entry                             // scratch of that
	left         []*entry                             // what runs and was not chosen
	surveyed     bool                                 // what bins could give was counted in this plan
	choices      int                                  // how often repacking has chosen
	fresh        []*entry                             // placed by the realisation that is being made
	classes      bool                                 // there are several among the candidates
	sites        []site                               // scratch
	counts       []int                                // scratch
	offers       []*entry                             // scratch
	reserving    func(*entry, *cluster, *reservation) // who asks hears of each reservation; nil: nobody
}

func (pl *planner) run() {
	w := pl.w
	defer w.end()
	pl.line()
	pl.claimants()
	if pl.p.PreemptInOrder && !pl.inTurn {
		pl.repack()
	}
	settled := make([]*forge.Held, len(w.numbered)) // by shape: what holds all of it that come
	for i, fate := range pl.fates {
		switch {
		case fate == fateRuns:
			continue
		case fate <= fateIdle:
			if !pl.quiet {
				pl.hold(w.idles[fateIdle-fate].heldFor(w.undo.plan), pl.candidates[i].id)
			}
			continue
		case fate >= 0 && settled[fate] != nil:
			pl.hold(settled[fate], pl.candidates[i].id)
			continue
		}
		e := pl.touch(i)
		if e.placed {
			continue
		}
		pl.decide(e)
		if sh := e.shape; fate >= 0 && sh.failed != nil && len(sh.queues) == 0 {
			h := sh.failed
			if settled[fate] = h; !pl.quiet && cap(h.Runs) < sh.told { // as many as last time, so that it need not grow
				h.Runs = append(make([]forge.RunID, 0, sh.told+sh.told/16+1), h.Runs...)
			}
		}
	}
	for i, h := range settled {
		if h != nil && !pl.quiet {
			w.numbered[i].told = len(h.Runs)
		}
	}
	for _, h := range pl.groups {
		pl.plan.Hold = append(pl.plan.Hold, *h)
	}
	if pl.p.ReplanEvery > 0 && len(w.waiting) > 0 && len(w.running) > 0 {
		pl.wakeAt(pl.now.Add(pl.p.ReplanEvery))
	}
	if pl.p.Order == OrderAttained && len(w.waiting) > 0 {
		for _, e := range w.running {
			pl.wakeAt(pl.nextLevel(e))
		}
	}
}

// nextLevel is when a run that runs has had so much that it comes later in the order.
func (pl *planner) nextLevel(e *entry) time.Time {
	if e.gpus == 0 {
		return time.Time{}
	}
	had := forge.GPUTimeOf(e.ran(pl.now), e.gpus)
	edge := firstLevel << level(had)
	return pl.now.Add(time.Duration((int64(edge-had)+int64(e.gpus)-1)/int64(e.gpus)) * time.Millisecond)
}

// claimants starts, before all others, the runs that GPUs were freed for and that fit now. In
// their turn they could be held behind a head that itself waits for the very GPUs that they
// claim, and both would wait for ever. Those whose claims stand and which do not fit yet have their room
// set aside, and neither reserve nor preempt more.
func (pl *planner) claimants() {
	w := pl.w
	start := func(e *entry, where func(*bin) bool) bool {
		if _, broken := e.breaks(); broken {
			return false // a bound that came after the claims
		}
		found, _ := pl.find(e, pl.shapeOf(e), where)
		if found != nil {
			pl.place(e, found)
		}
		return found != nil
	}
	var rest []*entry
	for _, e := range pl.claimers {
		if e.idle.code != "" || pl.shapeOf(e).code != "" {
			continue
		}
		// On what is claimed for it a run may start whatever is set aside for others: that was counted beside it.
		if !start(e, func(b *bin) bool { return b.claimed(e.id) >= e.gang.GPUsPerNode }) {
			rest = append(rest, e)
		}
	}
	for _, e := range rest {
		pl.setAside(e, pl.shapeOf(e)) // for all before one starts elsewhere: it must not take another's room
	}
	for _, e := range rest {
		w.giveBack(e)
		if !start(e, nil) && w.awaited(e.id) && pl.setAside(e, pl.shapeOf(e)) {
			pl.saving[e.id] = pl.savingHold(e.id)
			pl.count(e)
		}
	}
}

func (pl *planner) decide(e *entry) {
	r := e.pend
	if e.idle.code != "" {
		if e.idle.code == forge.HoldBackoff {
			pl.wakeAt(r.NotBefore)
		}
		if pl.quiet {
			return
		}
		if e.idles != nil {
			pl.hold(e.idles.heldFor(pl.w.undo.plan), e.id)
			return
		}
		h := pl.reasons[e.idle]
		if h == nil {
			h = &forge.Held{Code: e.idle.code, Text: e.why()}
			pl.reasons[e.idle] = h
		}
		pl.hold(h, e.id)
		return
	}
	switch {
	case pl.overruled[e.id]:
		pl.hold(&forge.Held{Code: forge.HoldCapacity, Text: "what was being freed for it goes to a run of higher priority; its turn comes again"}, e.id)
		return
	case pl.saving[e.id] != nil:
		pl.hold(pl.saving[e.id], e.id)
		return
	}
	sh := pl.shapeOf(e)
	claims := e.claims
	if sh.failed != nil && (sh.code != "" || !claims) {
		if len(sh.queues) > 0 {
			if x, broken := e.breaks(); broken {
				pl.hold(pl.boundHold(sh, x), e.id)
				return
			}
		}
		if !pl.handOver(e, sh) {
			pl.hold(sh.failed, e.id)
		}
		return
	}
	if x, broken := e.breaks(); broken {
		pl.hold(pl.boundHold(sh, x), e.id)
		return
	}
	pl.try(e, sh, claims)
}

func (pl *planner) try(e *entry, sh *shape, claims bool) {
	bf := backfill{pl: pl, e: e, need: sh.need, margin: pl.p.BackfillMargin, exhausted: pl.tries >= pl.p.MaxBackfillTries}
	bk := behindKey{reservations: len(pl.reservations), yields: bf.yields()}
	for _, res := range pl.reservations {
		if bf.endsBefore(res) {
			bk.before++
		}
	}
	if h := sh.behind[bk]; h != nil && !claims { // what is kept for it makes it unlike its equals
		if !pl.handOver(e, sh) {
			pl.hold(h, e.id)
		}
		return
	}
	reserved, all := reservedIn(sh.pools)
	if all && bf.exhausted && len(sh.pools) > 0 {
		if pl.handOver(e, sh) {
			return
		}
		h := pl.held(forge.HoldBehind, func() string { return pl.notTriedText() + sh.fullText() })
		sh.behind[bk] = h
		pl.hold(h, e.id)
		return
	}
	if reserved {
		pl.tries++
	}
	var allowed func(*bin) bool
	if reserved {
		allowed = bf.allowed
	}
	found, blocked := pl.find(e, sh, allowed)
	if found != nil {
		pl.place(e, found)
		bf.took(found)
		return
	}
	if pl.handOver(e, sh) {
		return
	}
	if len(sh.pools) == 0 {
		sh.failed = pl.held(forge.HoldQueueFull, sh.queueFullText)
		pl.hold(sh.failed, e.id)
		return
	}
	if blocked == nil && !all {
		if h := pl.preempt(e, sh); h != nil {
			pl.hold(h, e.id)
			return
		}
	}
	var h *forge.Held
	if blocked != nil {
		h = pl.held(forge.HoldBehind, func() string { return behindText(e.pend, blocked) + sh.fullText() })
		sh.behind[bk] = h
	} else {
		h = pl.held(forge.HoldCapacity, func() string { return pl.capacityText(e, sh) + sh.fullText() })
		if !claims {
			sh.failed = h
		}
	}
	if res := pl.reserve(e, sh, all); res != nil && blocked == nil && !pl.quiet {
		// Its equals wait for the same and have no reservation: they share the text without it.
		h = &forge.Held{Code: h.Code, Text: h.Text + headText(res)}
	}
	pl.hold(h, e.id)
}

// held makes a reason; its text only where somebody reads it.
func (pl *planner) held(code forge.HoldCode, text func() string) *forge.Held {
	if pl.quiet {
		return &forge.Held{Code: code}
	}
	return &forge.Held{Code: code, Text: text()}
}

func (pl *planner) reserve(e *entry, sh *shape, all bool) *reservation {
	if all || sh.waitForNode {
		return nil
	}
	if pl.p.PreemptInOrder && pl.w.pinned == 0 {
		return nil // whoever overtakes it now can be stopped for it
	}
	res := pl.reserveFor(e, sh)
	pl.reservations = pl.reservations[:0]
	for _, c := range pl.w.clusters {
		if c.reserved != nil {
			pl.reservations = append(pl.reservations, c.reserved)
		}
	}
	if res != nil && pl.reserving != nil {
		for _, c := range pl.w.clusters {
			if c.reserved == res {
				pl.reserving(e, c, res)
			}
		}
	}
	if res != nil && !res.at.IsZero() {
		pl.wakeAt(res.at)
	}
	return res
}

// reservedIn says whether any, and whether every, cluster of the pools is reserved.
func reservedIn(pools []*pool) (some, all bool) {
	taken := func(p *pool) bool { return p.cluster.reserved != nil }
	free := func(p *pool) bool { return p.cluster.reserved == nil }
	return slices.ContainsFunc(pools, taken), !slices.ContainsFunc(pools, free)
}

func (pl *planner) hold(h *forge.Held, run forge.RunID) {
	if pl.quiet {
		return
	}
	if len(h.Runs) == 0 {
		pl.groups = append(pl.groups, h)
	}
	h.Runs = append(h.Runs, run)
}

func (pl *planner) wakeAt(t time.Time) {
	if t.After(pl.now) && (pl.plan.WakeAt.IsZero() || t.Before(pl.plan.WakeAt)) {
		pl.plan.WakeAt = t
	}
}
