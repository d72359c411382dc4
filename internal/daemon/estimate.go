package daemon

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
	"github.com/forge-ml/forge-ml/scheduler/estimate"
	"github.com/forge-ml/forge-ml/store"
)

// Bounds of what estimates rest on.
const (
	pastRuns    = 10_000
	pastTime    = 90 * 24 * time.Hour
	mostArrived = 20_000 // runs whose service is kept, newest first
	paceSteps   = 256    // rows of metrics read at a start, for the pace of one run
)

// estimates tell the estimator of package scheduler/estimate what the world goes through, and keep what planning takes from it. They
// belong to a world and are only touched under its lock; nil ones know nothing.
type estimates struct {
	by      *estimate.Estimator
	matter  bool // the policy orders by them
	watched map[forge.RunID]*watched
	tells   map[teller]bool
	recipes map[string]bool // whether runs of a recipe told, of whomever was heard last: for a tenant of whom nothing was heard
	arrived []forge.Arrival // by time, then run
	lent    atomic.Bool     // a snapshot has it: it is not written to any more
	changes *changes        // of the world
}

// teller is whose runs say how far they are, or do not: what a program writes is seen only once it runs.
type teller struct {
	tenant forge.TenantID
	recipe string
}

// watched is a run that has had an attempt.
type watched struct {
	pace    pace
	attempt int  // the last that has started
	working bool // it holds its GPUs, as the estimator was told
	ended   bool
	over    bool // what it lost is not settled yet
	until   time.Time
	lost    time.Duration
}

func newEstimates(p scheduler.Policy, c *changes) *estimates {
	e := &estimates{changes: c, by: estimate.New(estimate.Params{}), watched: map[forge.RunID]*watched{}, tells: map[teller]bool{}, recipes: map[string]bool{}}
	e.follow(p)
	return e
}

// follow takes what a policy says of estimates.
func (e *estimates) follow(p scheduler.Policy) {
	e.by.SetParams(estimate.Params{Probe: p.Probe})
	e.matter = p.Order != scheduler.OrderArrival && p.Order != ""
}

func likeOf(r *forge.Run) estimate.Like {
	l := estimate.Like{Tenant: r.Tenant, Recipe: r.Spec.Recipe, GPUs: r.Spec.Gang.GPUs()}
	if r.Spec.Base != nil {
		l.Model = r.Spec.Base.Name
	}
	if w := r.Spec.Where; w != nil && len(w.GPUTypes) == 1 {
		l.GPUType = w.GPUTypes[0]
	}
	return l
}

// heard remembers whether runs of a kind tell how far they are: the last that was heard of counts.
func (e *estimates) heard(k teller, told bool) { e.tells[k], e.recipes[k.recipe] = told, told }

func (e *estimates) willTell(k teller) bool {
	if told, known := e.tells[k]; known {
		return told
	}
	return e.recipes[k.recipe]
}

// took is how long runs like one took that ended, and how many those are.
func (d *world) took(r *forge.Run) (time.Duration, int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.estimates == nil {
		return 0, 0
	}
	return d.estimates.by.Took(likeOf(r))
}

// run follows a change of a run.
func (e *estimates) run(r *forge.Run) {
	if e == nil {
		return
	}
	kind := teller{r.Tenant, r.Spec.Recipe}
	w := e.watched[r.ID]
	if r.TotalSteps > 0 {
		e.heard(kind, true)
	} else if r.State == forge.RunCompleted && w != nil {
		e.heard(kind, false)
	}
	if r.State.Terminal() {
		e.by.Ended(r.ID, r.EndedAt)
		delete(e.watched, r.ID)
		e.arrive()
		return
	}
	e.by.Came(r.ID, r.SubmittedAt, likeOf(r), e.willTell(kind))
	if r.State == forge.RunPending {
		e.settle(r, w)
	}
}

// attempt follows a change of an attempt of a run that has not ended.
func (e *estimates) attempt(a *forge.Attempt, r *forge.Run) {
	if e == nil || r.ID == "" {
		return
	}
	w := e.watched[a.Run]
	if w == nil {
		w = &watched{}
		e.watched[a.Run] = w
	}
	if a.StartedAt.IsZero() || a.Number < w.attempt {
		return
	}
	if a.Number > w.attempt {
		e.settle(r, w)
		e.by.Started(a.Run, a.StartedAt)
		w.attempt, w.working, w.ended = a.Number, true, false
		w.pace.of(a.Number)
	}
	if w.working && !a.State.Open() {
		w.until, w.working = left(a), false
		e.by.Stopped(a.Run, w.until)
	}
	if w.ended {
		return
	}
	if a.State == forge.AttemptEnded {
		from := a.StartedAt
		if a.SavedAt.After(from) {
			from = a.SavedAt
		}
		w.ended, w.over, w.lost = true, true, max(0, w.until.Sub(from))
		if r.State == forge.RunPending {
			e.settle(r, w)
		}
	}
}

// left is when an attempt that has exited let go of its GPUs.
func left(a *forge.Attempt) time.Time {
	if a.ExitedAt.IsZero() {
		return a.EndedAt
	}
	return a.ExitedAt
}

// settle takes what the last attempt did since its last checkpoint as lost. It is called once both are known, that the attempt has
// ended and that its run goes on: of one that is over nothing was lost.
func (e *estimates) settle(r *forge.Run, w *watched) {
	if w == nil || !w.over {
		return
	}
	if w.over = false; e.by.Work(r.ID).Known && w.pace.typical() > 0 && r.TotalSteps > 0 {
		e.by.Progress(r.ID, w.until, w.pace.times(r.TotalSteps-r.SavedStep))
		return
	}
	e.by.Lost(r.ID, w.lost)
}

// steps follows rows of metrics of an attempt. It says whether what the run has left was not known before.
func (e *estimates) steps(a *forge.Attempt, r *forge.Run, rows []forge.MetricRow, now time.Time) (news bool) {
	if e == nil || r.ID == "" {
		return false
	}
	w := e.watched[a.Run]
	if w == nil || len(rows) == 0 {
		return false
	}
	w.pace.of(a.Number)
	for i := range rows {
		w.pace.step(rows[i].Step, rows[i].Time)
	}
	if r.TotalSteps <= 0 || w.pace.typical() <= 0 || !w.working || !e.by.Probed(a.Run, now) {
		return false
	}
	news = !e.by.Work(a.Run).Known
	e.by.Progress(a.Run, now, w.pace.times(r.TotalSteps-rows[len(rows)-1].Step))
	e.changes.run(a.Run)
	e.arrive()
	return news
}

// arrive takes over the runs whose service became known.
func (e *estimates) arrive() {
	fresh := e.by.Arrivals()
	if len(fresh) == 0 {
		return
	}
	if e.lent.Swap(false) {
		e.arrived = slices.Clone(e.arrived)
	}
	for _, a := range fresh {
		i, found := slices.BinarySearchFunc(e.arrived, a, func(a, b forge.Arrival) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Run, b.Run)) })
		if found {
			e.arrived[i] = a
		} else {
			e.arrived = slices.Insert(e.arrived, i, a)
		}
		e.changes.arrival(a)
	}
	if n := len(e.arrived) - mostArrived; n > mostArrived/10 {
		e.arrived = slices.Delete(e.arrived, 0, n)
		e.changes.everything() // a planner forgets no arrival
	}
}

// lend gives the list away for reading.
func (e *estimates) lend() []forge.Arrival {
	if e == nil {
		return nil
	}
	e.lent.Store(true)
	return e.arrived
}

func (e *estimates) work(id forge.RunID) forge.Work {
	if e == nil {
		return forge.Work{}
	}
	return e.by.Work(id)
}

// estimate lets the estimates come up to now.
func (d *world) estimate(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.estimates
	if e == nil {
		return
	}
	for _, id := range e.by.Advance(now) {
		d.changes.run(id)
		i, waits := d.waits(id)
		if waits {
			d.pending[i].Work = e.by.Work(id)
		}
		if !e.matter {
			continue
		}
		if d.revision++; waits {
			d.touched[d.pending[i].Priority]++
		} else {
			d.moved++
		}
	}
}

// estimateAgain is the earlier of a time and that at which estimates change by the passing of it, where that matters; zero is never.
func (d *world) estimateAgain(at time.Time) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.estimates == nil || !d.estimates.matter {
		return at
	}
	if next := d.estimates.by.Next(); !next.IsZero() && (at.IsZero() || next.Before(at)) {
		return next
	}
	return at
}

// measure takes rows of metrics into the estimates, and says whether planning could come out differently.
func (d *world) measure(a *forge.Attempt, rows []forge.MetricRow, now time.Time) (replan bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.runs[a.Run]
	if d.estimates == nil || !d.estimates.steps(a, &r, rows, now) || !d.estimates.matter {
		return false
	}
	d.revision++
	d.moved++
	return true
}

// follow takes a policy that is put in force.
func (d *world) follow(p scheduler.Policy) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.estimates != nil {
		d.estimates.follow(p)
	}
}

// past is what estimates are rebuilt from at a start.
type past struct {
	lived    []store.Lived
	attempts []forge.Attempt // ended ones of runs that have not, by run and number
	steps    map[forge.RunID][]forge.MetricRow
}

func (d *Daemon) readPast(ctx context.Context) (p past, err error) {
	if p.lived, err = d.db.RunsLived(ctx, time.Now().Add(-pastTime), pastRuns); err != nil {
		return p, err
	}
	if p.attempts, err = d.db.PastAttempts(ctx); err != nil {
		return p, err
	}
	p.steps = map[forge.RunID][]forge.MetricRow{}
	for id, r := range d.world.runs {
		if r.TotalSteps > 0 {
			if p.steps[id], err = d.db.LastSteps(ctx, id, paceSteps); err != nil {
				return p, err
			}
		}
	}
	return p, nil
}

// learn rebuilds the estimates. Runs that ended are told after those that still run, which are neighbours of theirs, and before those that only
// wait: what 100,000 of them learn from each of 10,000 would take minutes.
func (d *world) learn(p scheduler.Policy, was past, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := newEstimates(p, &d.changes)
	slices.SortFunc(was.lived, func(a, b store.Lived) int { return cmp.Compare(a.Run, b.Run) })
	for _, l := range was.lived {
		e.by.Came(l.Run, l.SubmittedAt, estimate.Like{Tenant: l.Tenant, Recipe: l.Recipe, Model: l.Base, GPUs: l.GPUs}, false)
		if l.Worked > 0 {
			e.heard(teller{l.Tenant, l.Recipe}, l.TotalSteps > 0)
		}
	}
	ids := slices.Sorted(maps.Keys(d.runs))
	for _, id := range ids {
		if r := d.runs[id]; r.Attempt > 0 {
			e.run(&r)
		}
	}
	slices.SortFunc(was.lived, func(a, b store.Lived) int { return cmp.Or(a.EndedAt.Compare(b.EndedAt), cmp.Compare(a.Run, b.Run)) })
	for _, l := range was.lived {
		if l.Worked > 0 {
			e.by.Started(l.Run, l.EndedAt.Add(-l.Worked))
		}
		e.by.Ended(l.Run, l.EndedAt)
	}
	for i := range was.attempts {
		r := d.runs[was.attempts[i].Run]
		e.attempt(&was.attempts[i], &r)
	}
	for _, id := range ids {
		r := d.runs[id]
		if r.Attempt == 0 {
			e.run(&r)
			continue
		}
		a, open := d.attempts[id]
		if open {
			e.attempt(&a, &r)
		}
		e.recall(&r, was.steps[id], now)
	}
	e.arrive()
	_ = e.by.Advance(now)
	d.estimates = e
	for i := range d.pending {
		d.pending[i].Work = e.work(d.pending[i].ID)
	}
}

// recall takes a run's pace from what it wrote before this start.
func (e *estimates) recall(r *forge.Run, rows []forge.MetricRow, now time.Time) {
	w := e.watched[r.ID]
	if w == nil || len(rows) == 0 {
		return
	}
	last := rows[len(rows)-1]
	for _, m := range rows {
		if m.Attempt == last.Attempt {
			w.pace.step(m.Step, m.Time)
		}
	}
	if w.pace.typical() <= 0 || !e.by.Probed(r.ID, now) {
		return
	}
	if w.working {
		e.by.Progress(r.ID, now, w.pace.times(r.TotalSteps-r.Step))
	} else {
		e.by.Progress(r.ID, now, w.pace.times(r.TotalSteps-r.SavedStep))
	}
}
