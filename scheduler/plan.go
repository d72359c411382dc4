package scheduler

import (
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Plan decides for one snapshot who starts where and why the others wait.
func Plan(s forge.Snapshot, p Policy) forge.Plan {
	pl := planner{s: s, p: p, w: newWorld(s), shapes: map[shapeKey]*shape{}, reasons: map[holdKey]*forge.Held{},
		saving: map[forge.RunID]*forge.Held{}, overruled: map[forge.RunID]bool{}}
	pl.plan.Revision = s.Revision
	queue := inOrder(s.Pending)
	early := pl.claimants(queue)
	for _, r := range queue {
		if !early[r.ID] {
			pl.decide(r)
		}
	}
	for _, h := range pl.groups {
		pl.plan.Hold = append(pl.plan.Hold, *h)
	}
	return pl.plan
}

type planner struct {
	s            forge.Snapshot
	p            Policy
	w            *world
	plan         forge.Plan
	groups       []*forge.Held // in the order of their first run
	reasons      map[holdKey]*forge.Held
	shapes       map[shapeKey]*shape
	reservations []*reservation
	tries        int                         // different shapes tried behind a reservation
	saving       map[forge.RunID]*forge.Held // runs that wait for what was stopped for them
	overruled    map[forge.RunID]bool        // runs whose claims went to one of a higher class in this plan
}

// claimants starts, before all others, the runs that GPUs were freed for and that fit now. In
// their turn they could be held behind a head that itself waits for the very GPUs that they
// claim, and both would wait for ever. Those whose claims stand and which do not fit yet have their room
// set aside, and neither reserve nor preempt more.
func (pl *planner) claimants(queue []*forge.PendingRun) map[forge.RunID]bool {
	if len(pl.w.claimant) == 0 {
		return nil
	}
	started := map[forge.RunID]bool{}
	start := func(r *forge.PendingRun, where func(*bin) bool) bool {
		found, _ := pl.w.find(r, pl.shape(r), where)
		if found != nil {
			pl.plan.Place = append(pl.plan.Place, pl.w.place(r, found))
			started[r.ID] = true
		}
		return found != nil
	}
	var rest []*forge.PendingRun
	for _, r := range queue {
		if key, _ := notReady(r, pl.s.Now); key.code != "" || !pl.w.claimant[r.ID] || pl.shape(r).code != "" {
			continue
		}
		// On what is claimed for it a run may start whatever is set aside for others: that was counted beside it.
		if !start(r, func(b *bin) bool { return len(b.claimed(r.ID)) >= r.Gang.GPUsPerNode }) {
			rest = append(rest, r)
		}
	}
	for _, r := range rest {
		pl.w.setAside(r, pl.shape(r)) // for all before one starts elsewhere: it must not take another's room
	}
	for _, r := range rest {
		pl.w.giveBack(r)
		if !start(r, func(*bin) bool { return true }) && pl.w.awaited(r) && pl.w.setAside(r, pl.shape(r)) {
			pl.saving[r.ID] = pl.w.savingHold(r.ID)
		}
	}
	return started
}

func (pl *planner) decide(r *forge.PendingRun) {
	if key, text := notReady(r, pl.s.Now); key.code != "" {
		h := pl.reasons[key]
		if h == nil {
			h = &forge.Held{Code: key.code, Text: text()}
			pl.reasons[key] = h
		}
		if key.code == forge.HoldBackoff {
			pl.wakeAt(r.NotBefore)
		}
		pl.hold(h, r)
		return
	}
	switch {
	case pl.overruled[r.ID]:
		pl.hold(&forge.Held{Code: forge.HoldCapacity, Text: "what was being freed for it goes to a run of higher priority; its turn comes again"}, r)
		return
	case pl.saving[r.ID] != nil:
		pl.hold(pl.saving[r.ID], r)
		return
	}
	sh := pl.shape(r)
	if sh.failed != nil && (sh.code != "" || !pl.w.claimant[r.ID]) {
		if !pl.handOver(r, sh) {
			pl.hold(sh.failed, r)
		}
		return
	}
	pl.try(r, sh)
}

func (pl *planner) shape(r *forge.PendingRun) *shape {
	key := keyOfShape(r)
	sh := pl.shapes[key]
	if sh == nil {
		sh = pl.w.shape(pl.s, r, key)
		pl.shapes[key] = sh
		if sh.code != "" {
			sh.failed = &forge.Held{Code: sh.code, Text: sh.text}
		}
	}
	return sh
}

func (pl *planner) try(r *forge.PendingRun, sh *shape) {
	bf := backfill{w: pl.w, r: r, need: sh.need, margin: pl.p.BackfillMargin, exhausted: pl.tries >= pl.p.MaxBackfillTries}
	bk := behindKey{reservations: len(pl.reservations)}
	for _, res := range pl.reservations {
		if bf.endsBefore(res) {
			bk.before++
		}
	}
	claims := pl.w.claimant[r.ID] // what is kept for it makes it unlike its equals
	if h := sh.behind[bk]; h != nil && !claims {
		if !pl.handOver(r, sh) {
			pl.hold(h, r)
		}
		return
	}
	reserved, all := reservedIn(sh.pools)
	if all && bf.exhausted && len(sh.pools) > 0 {
		if pl.handOver(r, sh) {
			return
		}
		h := &forge.Held{Code: forge.HoldBehind, Text: pl.notTriedText() + sh.fullText()}
		sh.behind[bk] = h
		pl.hold(h, r)
		return
	}
	if reserved {
		pl.tries++
	}
	found, blocked := pl.w.find(r, sh, bf.allowed)
	if found != nil {
		pl.plan.Place = append(pl.plan.Place, pl.w.place(r, found))
		bf.took(found)
		return
	}
	if pl.handOver(r, sh) {
		return
	}
	if len(sh.pools) == 0 {
		sh.failed = &forge.Held{Code: forge.HoldQueueFull, Text: sh.queueFullText()}
		pl.hold(sh.failed, r)
		return
	}
	if blocked == nil && !all {
		if h := pl.preempt(r, sh); h != nil {
			pl.hold(h, r)
			return
		}
	}
	var h *forge.Held
	if blocked != nil {
		h = &forge.Held{Code: forge.HoldBehind, Text: behindText(r, blocked) + sh.fullText()}
		sh.behind[bk] = h
	} else {
		h = &forge.Held{Code: forge.HoldCapacity, Text: pl.w.capacityText(r, sh) + sh.fullText()}
		if !claims {
			sh.failed = h
		}
	}
	if res := pl.reserve(r, sh, all); res != nil && blocked == nil {
		// Its equals wait for the same and have no reservation: they share the text without it.
		h = &forge.Held{Code: h.Code, Text: h.Text + headText(res)}
	}
	pl.hold(h, r)
}

func (pl *planner) reserve(r *forge.PendingRun, sh *shape, all bool) *reservation {
	if all || sh.waitForNode {
		return nil
	}
	res := pl.w.reserve(r, sh)
	pl.reservations = pl.reservations[:0]
	for _, c := range pl.w.clusters {
		if c.reserved != nil {
			pl.reservations = append(pl.reservations, c.reserved)
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

func (pl *planner) hold(h *forge.Held, r *forge.PendingRun) {
	if len(h.Runs) == 0 {
		pl.groups = append(pl.groups, h)
	}
	h.Runs = append(h.Runs, r.ID)
}

func (pl *planner) wakeAt(t time.Time) {
	if t.After(pl.s.Now) && (pl.plan.WakeAt.IsZero() || t.Before(pl.plan.WakeAt)) {
		pl.plan.WakeAt = t
	}
}
