package sim

import (
	"context"
	"math"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

// phase is where a run stands.
type phase uint8

const (
	ahead   phase = iota // has not come yet
	waiting              // has no GPUs
	running
	over
)

// run is one run of the replay. Times are ms of the replay's clock.
type run struct {
	forge.PendingRun // as the policy sees it while it waits

	phase  phase
	gen    uint32 // grows when an attempt starts: events of an earlier one are void
	gpus   int64
	submit int64
	need   int64 // work on all of its GPUs
	done   int64 // of it, when the current attempt began, or before the next one does
	begins int64 // when the work of the current attempt does; after its start where that is a restart
	since  int64 // when the current attempt got its GPUs
	saved  int64 // work done as of the newest periodic checkpoint of the attempt
	ended  int64
	lost   int64 // ms of work that was done in vain
	first  int64 // when it first got GPUs; -1 before

	starts    int
	stops     int // preemptions
	stoppedAt int64
	savedAt   int64
	shares    []forge.Share
	cluster   forge.ClusterName
	endsBy    time.Time
	intent    forge.Intent
	asked     bool // it is asked when this one starts
	handed    bool // over to a queue of the cluster's own
}

// worked is the work done by now.
func (r *run) worked(now int64) int64 {
	if r.phase != running {
		return r.done
	}
	return r.done + max(0, now-r.begins)
}

// model is what a replay is played by.
type model struct {
	restart int64   // ms that every start but the first costs
	every   int64   // ms of work between periodic checkpoints; 0: none
	graceOK float64 // part of the saves at a stop that succeed
	seed    uint64
	mtbf    float64 // ms of a node between failures; 0: none
	away    int64   // ms that a failed node is away

	// Of a forecast, which may end before all is done: how far it looks, and how many plans it may make.
	horizon  int64
	maxPlans int64
}

// engine is the one loop behind replays and forecasts.
type engine struct {
	model
	policy  scheduler.Policy
	planner *scheduler.Planner
	base    int64 // Unix ms at which the clock of the replay is 0
	now     int64
	runs    []run
	byID    map[forge.RunID]int32
	agenda  agenda
	wake    int64 // plan again then at the latest; never: no need
	guess   guesser
	nodes   []node
	claims  map[forge.RunID][]forge.Claim
	claimed map[slotKey]forge.RunID
	left    int // runs that are not over
	started int // runs that were asked for and have
	idle    int // plans in a row that nothing but the clock asked for, while nothing ran
	stats   stats
	models  []string // base model of each run
	series  *Series
	held    float64 // GPU ms
	busy    int64   // GPUs held
	queued  int64   // runs that wait
	wanted  int64   // GPUs that they ask for

	// standing is told how far it is, now and then; watch sees every watchEvery-th plan with the world that it was made for.
	standing   func(done, total int)
	watchEvery int
	watch      func(forge.Snapshot, forge.Plan)
	ended      func(run int, at int64)
	enough     func() bool             // whatever else happens is of no interest
	dependents map[forge.RunID][]int32 // pending runs that wait for a run
}

type stats struct {
	events, plans, preemptions int64
}

const (
	never = math.MaxInt64
	// maxRounds bounds the plans at one instant: preempt, start what it was for, fill what is left. What is still open then is looked at
	// again a second later, so that a policy that takes turns with itself cannot stop the clock.
	maxRounds = 32
	lookAgain = 1000
	// maxIdle plans that only the clock asked for, while nothing runs and nothing is to come: whoever waits then waits for ever.
	maxIdle = 1000
	// lookEvery events the context is asked, and somebody told how far it is.
	lookEvery = 256
	endOfTime = 250 * 365 * 24 * 3600 * 1000
)

func (e *engine) time(ms int64) time.Time { return time.UnixMilli(e.base + ms).UTC() }

// ms is a time on the clock of the replay, rounded up: nothing may happen before its time.
func (e *engine) ms(t time.Time) int64 {
	at := t.UnixMilli() - e.base
	if t.Nanosecond()%1e6 != 0 {
		at++
	}
	return at
}

// loop runs until all runs are over, or what is asked is known.
func (e *engine) loop(ctx context.Context) error {
	for e.left > 0 && (e.enough == nil || !e.enough()) {
		if e.stats.events%lookEvery == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if e.standing != nil {
				e.standing(len(e.runs)-e.left, len(e.runs))
			}
		}
		at := e.wake
		if len(e.agenda) > 0 {
			at = min(at, e.agenda[0].at)
		}
		if t := e.guess.next(); !t.IsZero() {
			at = min(at, e.ms(t))
		}
		if e.horizon > 0 && (at > e.horizon || e.stats.plans >= e.maxPlans) {
			break
		}
		if at == never {
			return e.stuck()
		}
		if at > endOfTime {
			return forge.Invalidf("trace", "the replay has come to year %d and %d runs are not done; want less work, or a larger cluster", endOfTime/(365*24*3600*1000), e.left)
		}
		e.advance(max(at, e.now))
		plan, moved := e.wake <= e.now, false
		for len(e.agenda) > 0 && e.agenda[0].at <= e.now {
			ev := e.agenda.pop()
			e.stats.events++
			if e.happens(ev) {
				plan, moved = true, true
			}
		}
		if e.settle() {
			plan = true
		}
		if !plan {
			continue
		}
		if moved || e.busy > 0 || len(e.agenda) > 0 {
			e.idle = 0
		} else if e.idle++; e.idle > maxIdle {
			return e.stuck()
		}
		if err := e.decide(); err != nil {
			return err
		}
	}
	e.series.end(e.now)
	return nil
}

// settle tells the planner of the estimates that changed by themselves, or since others ended, and says whether any did.
func (e *engine) settle() bool {
	changed := e.guess.settle()
	for _, id := range changed {
		i := e.byID[id]
		switch e.runs[i].phase {
		case waiting:
			e.tellPending(i)
		case running:
			e.tellActive(i)
		}
	}
	return len(changed) > 0
}

func (e *engine) stuck() error {
	for i := range e.runs {
		if r := &e.runs[i]; r.phase == waiting {
			return forge.Errorf(forge.KindPrecondition, "simulate", "%d runs never start with policy %s, the first of them run %s with %d GPUs",
				e.queued, e.policy.Preset, r.ID, r.gpus)
		}
	}
	return forge.Errorf(forge.KindInternal, "simulate", "nothing happens any more and %d runs are not over", e.left)
}

// advance moves the clock.
func (e *engine) advance(to int64) {
	if to > e.now {
		e.series.add(e.now, to, e.busy, e.queued, e.wanted)
		e.held += float64(to-e.now) * float64(e.busy)
		e.now = to
	}
}

// happens carries out an event and says whether it calls for a plan.
func (e *engine) happens(ev event) bool {
	switch ev.kind {
	case nodeBack:
		e.nodeReturns(ev.what)
		return true
	case nodeFails:
		e.nodeFails(ev.what)
		return true
	case arrives:
		e.arrive(ev.what)
		return true
	}
	r := &e.runs[ev.what]
	if r.gen != ev.gen || r.phase != running {
		e.stats.events-- // void
		return false
	}
	switch ev.kind {
	case finishes:
		e.finish(ev.what)
		return true
	case yields:
		e.goesBack(ev.what, r.worked(e.now))
		return true
	case reports:
		e.guess.reports(ev.what)
		e.tellActive(ev.what)
		return true
	case saves:
		r.saved, r.savedAt = r.worked(e.now), e.now
		e.nextSave(ev.what)
		e.tellActive(ev.what)
	}
	return false
}

func (e *engine) arrive(i int32) {
	r := &e.runs[i]
	r.phase = waiting
	e.queued++
	e.wanted += r.gpus
	e.guess.came(i)
	e.tellPending(i)
}

func (e *engine) finish(i int32) {
	r := &e.runs[i]
	r.done, r.ended = r.need, e.now
	e.leaves(r)
	r.phase = over
	e.left--
	e.guess.ended(i)
	e.planner.Change(scheduler.Change{Gone: r.ID})
	if e.ended != nil {
		e.ended(int(i), e.now)
	}
	for _, k := range e.dependents[r.ID] {
		e.completed(&e.runs[k], r.ID)
		e.tellPending(k)
	}
}

// completed lets a run go on that waited for another.
func (e *engine) completed(r *run, other forge.RunID) {
	r.After = slices.Clone(r.After)
	for i := range r.After {
		if r.After[i].Run == other {
			r.After[i].State = forge.RunCompleted
		}
	}
}

// decide plans and carries out until a plan stops nobody any more.
func (e *engine) decide() error {
	for round := 0; ; round++ {
		now := e.time(e.now)
		var before forge.Snapshot
		look := e.watch != nil && e.stats.plans%int64(e.watchEvery) == 0
		if look {
			before = e.planner.Snapshot(now)
		}
		plan := e.planner.Decide(now)
		if look {
			e.watch(before, plan)
		}
		e.stats.plans++
		e.wake = never
		if !plan.WakeAt.IsZero() {
			e.wake = max(e.ms(plan.WakeAt), e.now+1)
		}
		if len(plan.Place)+len(plan.Preempt) > 0 {
			e.idle = 0
		}
		if err := e.carryOut(&plan); err != nil {
			return err
		}
		if len(plan.Preempt) == 0 {
			return nil
		}
		if round == maxRounds {
			e.wake = min(e.wake, e.now+lookAgain)
			return nil
		}
	}
}

func (e *engine) tellPending(i int32) {
	r := &e.runs[i]
	p := r.PendingRun
	p.Attempt, p.Work = r.starts, e.guess.work(i)
	e.planner.Change(scheduler.Change{Pending: &p})
}

func (e *engine) tellActive(i int32) {
	r := &e.runs[i]
	a := forge.ActiveAttempt{Run: r.ID, Number: r.starts, Tenant: r.Tenant, User: r.User, Priority: r.Priority, State: forge.AttemptRunning,
		Cluster: r.cluster, Placement: r.shares, PlacedAt: e.time(r.since), StartedAt: e.time(r.begins), EndsBy: r.endsBy, Intent: r.intent,
		Preempted: r.stops, SubmittedAt: r.SubmittedAt, Gang: r.Gang, Where: r.Where, Eval: r.Eval, Work: e.guess.work(i)}
	if r.savedAt >= 0 {
		a.SavedAt = e.time(r.savedAt)
	}
	if r.stops > 0 {
		a.PreemptedAt = e.time(r.stoppedAt)
	}
	e.planner.Change(scheduler.Change{Active: &a})
}
