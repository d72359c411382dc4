package forge

import (
	"slices"
	"time"
)

// CostClass is what a moment of an attempt's GPU time was for. Each moment is of exactly one.
type CostClass string

// The classes.
const (
	CostUseful  CostClass = "useful"  // work that was kept
	CostLost    CostClass = "lost"    // work since the last durable checkpoint of an attempt that ended badly, and what came after it
	CostRedone  CostClass = "redone"  // work since the last durable checkpoint of an attempt that was stopped: the next one does it again
	CostStalled CostClass = "stalled" // from the last step to the end of an attempt that was ended since no step came
	CostIdle    CostClass = "idle"    // held with no step: before the first one, after the last save of a stop, and while nobody could reach the nodes
)

// CostClasses lists them, in the order in which they are shown.
var CostClasses = []CostClass{CostUseful, CostLost, CostRedone, CostStalled, CostIdle}

// Stretch is a piece of an attempt's time, of one class.
type Stretch struct {
	Class    CostClass
	From, To time.Time
}

// held is when an attempt had its GPUs. Where a batch system gave it nodes the time counts from there, since its accounting does: until all
// ranks have started and after the last has ended the GPUs are as taken as between. to is zero while it holds them.
func (a *Attempt) held() (from, to time.Time) {
	from, to = a.PlacedAt, a.ExitedAt
	if b := a.Batch; b != nil {
		if from = b.StartedAt; from.IsZero() {
			from = a.StartedAt
		}
		if !b.EndedAt.IsZero() {
			to = b.EndedAt
		}
	}
	return from, to
}

// Stretches cuts the time that an attempt held GPUs, up to now, into pieces that follow each other without a gap: together they are all of it.
// What has not ended counts as useful from its first step on, until its end says otherwise.
func (a Attempt) Stretches(now time.Time) []Stretch { return a.stretches(now, nil) }

// mostStretches is how many pieces there are of one attempt at most: one that was stopped has four.
const mostStretches = 4

// stretches appends them to out: who adds up a hundred thousand attempts brings room for one.
func (a *Attempt) stretches(now time.Time, out []Stretch) []Stretch {
	from, to := a.held()
	if a.State.Open() && to.IsZero() {
		to = now
	}
	if from.IsZero() || !to.After(from) {
		return out
	}
	// Times of ranks, of their nodes and of forged are of several clocks: each boundary is at or after the one before it.
	later := func(t, than time.Time) time.Time {
		switch {
		case t.Before(than):
			return than
		case t.After(to):
			return to
		}
		return t
	}
	begin := to // no rank ever started
	switch {
	case !a.FirstStepAt.IsZero():
		begin = later(a.FirstStepAt, from)
	case !a.StartedAt.IsZero(): // a program that reports no steps
		begin = later(a.StartedAt, from)
	}
	kept := later(a.KeptAt, begin)
	worked := later(a.LastStepAt, kept)
	silent := to
	if since := a.silentSince(); !since.IsZero() {
		silent = later(since, worked)
	}
	cut := cutter{at: from, out: out}
	cut.to(begin, CostIdle)
	switch {
	case a.State.Open():
		cut.to(silent, CostUseful)
		cut.to(to, CostIdle)
	case a.State != AttemptEnded || a.Reason == EndCompleted: // between exit and verdict nobody knows better yet
		cut.to(to, CostUseful)
	case a.Reason == EndStalled:
		cut.to(kept, CostUseful)
		cut.to(worked, CostLost)
		cut.to(to, CostStalled)
	case isStop(a.Reason):
		cut.to(kept, CostUseful)
		if a.LastStepAt.IsZero() && kept.Equal(begin) { // how far it came is not known, and nothing was kept
			worked = silent
		}
		cut.to(worked, CostRedone)
		cut.to(to, CostIdle)
	default:
		cut.to(kept, CostUseful)
		cut.to(silent, CostLost)
		cut.to(to, CostIdle)
	}
	return cut.out
}

// silentSince is from when on nobody could reach the attempt; zero: it answers, or did until its end.
func (a *Attempt) silentSince() time.Time {
	if a.State.Open() {
		return a.Unknown
	}
	return a.UnheardAt
}

// isStop says that an attempt was stopped so that it goes on later: what it did since its last save is done again.
func isStop(r EndReason) bool {
	return r == EndTimeLimit || slices.Contains([]EndReason{EndCheckpointedPreempt, EndCheckpointedLimit, EndCheckpointedDrain, EndCheckpointedUser}, r)
}

type cutter struct {
	at  time.Time
	out []Stretch
}

func (c *cutter) to(t time.Time, class CostClass) {
	if t.After(c.at) {
		c.out = append(c.out, Stretch{class, c.at, t})
		c.at = t
	}
}

// Within cuts a stretch to a period; bounds that are zero are none.
func (s Stretch) Within(since, until time.Time) time.Duration {
	if !since.IsZero() && s.From.Before(since) {
		s.From = since
	}
	if !until.IsZero() && s.To.After(until) {
		s.To = until
	}
	return max(0, s.To.Sub(s.From))
}

// CostBy is what costs are added up by.
type CostBy string

// What they may be.
const (
	CostByTenant  CostBy = "tenant"
	CostByUser    CostBy = "user"
	CostByModel   CostBy = "model" // that the run registers, or that its eval is of
	CostByRecipe  CostBy = "recipe"
	CostByRun     CostBy = "run"
	CostByCluster CostBy = "cluster"
)

// CostBys lists them.
var CostBys = []CostBy{CostByTenant, CostByUser, CostByModel, CostByRecipe, CostByRun, CostByCluster}

// Cost is what attempts had and what that cost. Classes are GPU-hours and add up to all of them.
type Cost struct {
	Runs     int      `json:"runs"`
	Attempts int      `json:"attempts"`
	GPUHours float64  `json:"gpu_hours"`
	Money    *float64 `json:"cost,omitempty" doc:"In the site's currency, of the GPU-hours whose price is known; absent: of none of them is it known"`
	Unpriced float64  `json:"unpriced_gpu_hours,omitempty" doc:"GPU-hours whose price nobody has said: cost is without them"`
	Useful   float64  `json:"useful" doc:"GPU-hours of work that was kept"`
	Lost     float64  `json:"lost" doc:"GPU-hours of work since the last durable checkpoint of attempts that ended badly"`
	Redone   float64  `json:"redone" doc:"GPU-hours of work that is done again after a stop"`
	Stalled  float64  `json:"stalled" doc:"GPU-hours from the last step to the end of attempts that stalled"`
	Idle     float64  `json:"idle" doc:"GPU-hours held with no step done: before the first, after the save of a stop, and while nobody could reach the nodes"`
	Wasted   *float64 `json:"wasted_cost,omitempty" doc:"Of cost, what was not useful"`
	Goodput  *float64 `json:"goodput,omitempty" doc:"Useful GPU-hours over all; absent: nothing was had"`
}

// CostRow is the cost of one tenant, user, model, recipe, run or cluster.
type CostRow struct {
	Key  string `json:"key" doc:"Name of it, number of a run; empty: of runs that have none, such as those that register no model"`
	Name string `json:"name,omitempty" doc:"Of a run"`
	Cost
}

// Costs is what was had in a period. Attempts that reach beyond it are cut to it.
type Costs struct {
	By       CostBy    `json:"by"`
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until"`
	Currency string    `json:"currency,omitempty" doc:"A word of the site's; nothing is converted"`
	Rows     []CostRow `json:"rows" doc:"What cost most first"`
	More     int       `json:"more,omitempty" doc:"Rows that are left out, those that cost least; the total has them"`
	Total    Cost      `json:"total"`
}

// CostSum adds up attempts. The zero value is nothing.
type CostSum struct {
	classes  [5]time.Duration // GPU time, in the order of CostClasses
	Money    float64
	Wasted   float64
	Unpriced time.Duration // GPU time
	Attempts int
	priced   bool
}

// Add counts what an attempt had in a period, with so many GPUs at a price for all of them together for an hour; nil: not known.
func (s *CostSum) Add(a *Attempt, gpus int, price *float64, since, until, now time.Time) (had bool) {
	var room [mostStretches]Stretch
	for _, x := range a.stretches(now, room[:0]) {
		d := x.Within(since, until)
		if d <= 0 || gpus <= 0 {
			continue
		}
		had = true
		s.classes[slices.Index(CostClasses, x.Class)] += d * time.Duration(gpus)
		if price == nil {
			s.Unpriced += d * time.Duration(gpus)
			continue
		}
		s.priced = true
		s.Money += *price * d.Hours()
		if x.Class != CostUseful {
			s.Wasted += *price * d.Hours()
		}
	}
	if had {
		s.Attempts++
	}
	return had
}

// Plus adds what another has.
func (s *CostSum) Plus(o *CostSum) {
	for i, d := range o.classes {
		s.classes[i] += d
	}
	s.Money, s.Wasted, s.Unpriced, s.Attempts = s.Money+o.Money, s.Wasted+o.Wasted, s.Unpriced+o.Unpriced, s.Attempts+o.Attempts
	s.priced = s.priced || o.priced
}

// Of is the GPU time of one class.
func (s *CostSum) Of(c CostClass) time.Duration { return s.classes[slices.Index(CostClasses, c)] }

// Known is the money, and below 0 where of none of it the price is known: what may be free comes after what is.
func (s *CostSum) Known() float64 {
	if !s.priced {
		return -1
	}
	return s.Money
}

// GPUTime is all of it.
func (s *CostSum) GPUTime() (all time.Duration) {
	for _, d := range s.classes {
		all += d
	}
	return all
}

// Cost is the sum as it is told.
func (s *CostSum) Cost(runs int) Cost {
	h := func(c CostClass) float64 { return s.Of(c).Hours() }
	c := Cost{Runs: runs, Attempts: s.Attempts, GPUHours: s.GPUTime().Hours(), Unpriced: s.Unpriced.Hours(),
		Useful: h(CostUseful), Lost: h(CostLost), Redone: h(CostRedone), Stalled: h(CostStalled), Idle: h(CostIdle)}
	if s.priced {
		money, wasted := s.Money, s.Wasted
		c.Money, c.Wasted = &money, &wasted
	}
	if c.GPUHours > 0 {
		good := c.Useful / c.GPUHours
		c.Goodput = &good
	}
	return c
}
