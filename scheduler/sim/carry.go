package sim

import (
	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

type slotKey struct {
	nodeKey
	slot int
}

// carryOut does what store.Apply and an executor would: placements first, then preemptions with their claims.
func (e *engine) carryOut(plan *forge.Plan) error {
	for k := range plan.Place {
		p := &plan.Place[k]
		i, ok := e.byID[p.Run]
		if !ok || e.runs[i].phase != waiting {
			return e.broken("places run %s, which does not wait", p.Run)
		}
		if p.HandOver {
			e.handOver(i)
			continue
		}
		e.start(i, p)
	}
	for k := range plan.Preempt {
		p := &plan.Preempt[k]
		i, ok := e.byID[p.Run]
		if !ok || e.runs[i].phase != running && e.runs[i].stoppedAt != e.now { // one that leaves may leave room for several
			return e.broken("stops run %s, which does not run", p.Run)
		}
		if k == 0 || plan.Preempt[k-1].For != p.For {
			e.dropClaims(p.For)
		}
		for _, c := range p.Claims {
			c.For = p.For
			e.claim(c)
		}
		if e.runs[i].phase == running && e.runs[i].intent == forge.IntentNone {
			e.stop(i)
		}
	}
	return nil
}

func (e *engine) broken(format string, args ...any) error {
	return forge.Errorf(forge.KindInternal, "simulate", "the plan "+format, args...)
}

// start gives a run its GPUs.
func (e *engine) start(i int32, p *forge.Place) {
	r := &e.runs[i]
	e.dropClaims(r.ID)
	r.phase = running
	r.gen++
	r.shares, r.cluster = p.Shares, p.Cluster
	r.since, r.begins, r.saved = e.now, e.now, r.done
	if r.starts > 0 {
		r.begins += e.restart
	}
	if r.first < 0 {
		r.first = e.now
		if r.asked {
			e.started++
		}
	}
	r.starts++
	r.Avoid = nil
	if r.TimeLimit > 0 {
		r.endsBy = e.time(r.begins).Add(r.TimeLimit)
	}
	e.busy += r.gpus
	e.queued--
	e.wanted -= r.gpus
	e.agenda.push(event{at: r.begins + r.need - r.done, kind: finishes, what: i, gen: r.gen})
	e.nextSave(i)
	e.guess.started(i)
	e.tellActive(i)
}

// handOver gives a run to a cluster's own queue. When it starts there nobody here can say.
func (e *engine) handOver(i int32) {
	r := &e.runs[i]
	e.dropClaims(r.ID)
	r.phase, r.handed = apart, true
	e.left--
	e.queued--
	e.wanted -= r.gpus
	if r.asked {
		e.started++
	}
	e.planner.Change(scheduler.Change{Gone: r.ID})
}

// nextSave plans the next periodic checkpoint, where one comes before the end.
func (e *engine) nextSave(i int32) {
	r := &e.runs[i]
	if e.every == 0 {
		return
	}
	at := max(e.now, r.begins) + e.every
	if at < r.begins+r.need-r.done {
		e.agenda.push(event{at: at, kind: saves, what: i, gen: r.gen})
	}
}

// stop preempts a run: it leaves at once, its save included, and waits again.
func (e *engine) stop(i int32) {
	r := &e.runs[i]
	r.stops++
	r.stoppedAt = e.now
	e.stats.preemptions++
	if e.graceOK < 1 && chance(e.seed, uint64(i), uint64(r.stops)) >= e.graceOK {
		e.fallBack(i)
		return
	}
	if r.worked(e.now) > r.done {
		r.savedAt = e.now
	}
	e.goesBack(i, r.worked(e.now))
}

// fallBack ends an attempt whose work since its newest checkpoint is lost.
func (e *engine) fallBack(i int32) {
	r := &e.runs[i]
	r.lost += r.worked(e.now) - r.saved
	e.goesBack(i, r.saved)
}

// goesBack ends an attempt with so much work done, and has the run wait.
func (e *engine) goesBack(i int32, done int64) {
	r := &e.runs[i]
	e.guess.stopped(i, done)
	e.leaves(r)
	r.done = done
	r.phase, r.intent = waiting, forge.IntentNone
	e.queued++
	e.wanted += r.gpus
	e.tellPending(i)
}

// leaves frees what a run holds.
func (e *engine) leaves(r *run) {
	r.shares = nil
	e.busy -= r.gpus
}

// claim keeps a slot for a run; whoever had claimed it before loses all of its claims, since a gang starts whole or not at all.
func (e *engine) claim(c forge.Claim) {
	key := slotKey{nodeKey{c.Cluster, c.Node}, c.Slot}
	if other, ok := e.claimed[key]; ok {
		if other == c.For {
			return
		}
		e.dropClaims(other)
	}
	e.claimed[key] = c.For
	e.claims[c.For] = append(e.claims[c.For], c)
	e.planner.Change(scheduler.Change{Claim: &forge.ClaimChange{Claim: c}})
}

func (e *engine) dropClaims(run forge.RunID) {
	all := e.claims[run]
	if len(all) == 0 {
		return
	}
	for _, c := range all {
		delete(e.claimed, slotKey{nodeKey{c.Cluster, c.Node}, c.Slot})
		e.planner.Change(scheduler.Change{Claim: &forge.ClaimChange{Claim: c, Gone: true}})
	}
	delete(e.claims, run)
}

// chance is a number from 0 to 1 that depends on the seed and on what it is about, and on nothing else.
func chance(seed, a, b uint64) float64 {
	x := mix(mix(seed^0x9e3779b97f4a7c15) ^ mix(a+0x632be59bd9b4e019) ^ mix(b+0xd1342543de82ef95)*3)
	return float64(x>>11) / (1 << 53)
}

// mix is the finaliser of splitmix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
