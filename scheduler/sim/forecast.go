package sim

import (
	"context"
	"math"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

// ForecastOptions say how far and how carefully the live queue is looked ahead on. The zero value does.
type ForecastOptions struct {
	Runs    []forge.RunID // it is enough to know when these start; nil: all that wait
	Horizon time.Duration // beyond it nothing is said; 0: DefaultHorizon
	Samples int           // replays with the work that is left drawn anew, for the interval; 0: none, the expected alone
	Seed    uint64
	Leaving time.Duration // how long one that is asked to go takes; 0: DefaultLeaving
	Unknown time.Duration // what a run is taken to last of which nothing is known; 0: DefaultUnknown
	// MaxPlans bounds each replay, so that a queue of 100,000 is answered at all: what is not known by then is not said. 0: DefaultMaxPlans.
	MaxPlans int64
	// Budget bounds the real time that all replays may take together: the expected one says what it knows by then, a sample that is not done
	// does not count. 0: none.
	Budget time.Duration
}

// The defaults of a forecast.
const (
	DefaultHorizon  = 30 * 24 * time.Hour
	DefaultLeaving  = time.Minute
	DefaultUnknown  = time.Hour
	DefaultMaxPlans = 100_000
)

// Outlook is what happens to a queue if nothing else comes.
type Outlook struct {
	Policy  string
	Now     time.Time
	Until   time.Time  // how far the expected replay got
	Runs    []Expected // that wait, in the order of the snapshot
	Samples int
}

// Expected is when a run starts.
type Expected struct {
	Run   forge.RunID
	Start time.Time // zero: not before Outlook.Until, as far as is known
	End   time.Time // of the attempt that starts then or of a later one; zero: not known
	// In four of five samples it starts from Low to High; zero: not known, or later than the horizon.
	Low, High time.Time
}

// interval is the part of the samples on each side that Low and High leave out.
const interval = 0.1

// fewSamples are so few that a budget which allows no more gives no interval.
const fewSamples = 5

// Forecast replays the queue of a snapshot under a policy until all runs that are asked for have started. What it would be under another
// policy, with more nodes or with fewer is the forecast of a snapshot and a policy that are so.
func Forecast(ctx context.Context, s forge.Snapshot, p scheduler.Policy, o ForecastOptions) (*Outlook, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	o.Horizon, o.Leaving, o.Unknown = defaulted(o.Horizon, DefaultHorizon), defaulted(o.Leaving, DefaultLeaving), defaulted(o.Unknown, DefaultUnknown)
	o.MaxPlans = defaulted(o.MaxPlans, DefaultMaxPlans)
	out := &Outlook{Policy: p.Preset, Now: s.Now, Samples: o.Samples}
	starts := make([][]int64, len(s.Pending))
	began, late := time.Now(), false
	for k := 0; k <= o.Samples; k++ {
		e, pending := lookAhead(s, p, o, k)
		if done := e.enough; o.Budget > 0 {
			e.enough = func() bool {
				late = late || time.Since(began) > o.Budget
				return late || done()
			}
		}
		if err := e.loop(ctx); err != nil {
			return nil, err
		}
		if late && k > 0 {
			out.Samples = k - 1
			break
		}
		for i, at := range pending {
			r := &e.runs[at]
			if r.first >= 0 {
				starts[i] = append(starts[i], r.first)
			}
			if k > 0 {
				continue
			}
			x := Expected{Run: r.ID}
			if r.first >= 0 {
				x.Start = e.time(r.first)
			}
			if r.phase == over && r.first >= 0 && !r.handed {
				x.End = e.time(r.ended)
			}
			out.Runs = append(out.Runs, x)
		}
		if k == 0 {
			out.Until = e.time(e.now)
		}
	}
	if late && out.Samples < fewSamples {
		out.Samples = 0
	}
	if out.Samples > 0 {
		for i := range out.Runs {
			out.Runs[i].interval(s.Now, starts[i], out.Samples+1)
		}
	}
	return out, nil
}

// interval takes the middle of what was drawn as what is expected. A replay in which the run did not start counts as late.
func (x *Expected) interval(now time.Time, starts []int64, of int) {
	slices.Sort(starts)
	at := func(q float64) time.Time {
		if k := int(q * float64(of-1)); k < len(starts) {
			return time.UnixMilli(now.UnixMilli() + starts[k]).UTC()
		}
		return time.Time{}
	}
	x.Start, x.Low, x.High = at(0.5), at(interval), at(1-interval)
}

func defaulted[T ~int64](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// lookAhead makes the engine that plays a snapshot on, and says which of its runs the pending ones are. Sample 0 has every run last as long
// as is expected.
func lookAhead(s forge.Snapshot, p scheduler.Policy, o ForecastOptions, sample int) (*engine, []int32) {
	e := newEngine(p, model{restart: p.RestartCost.Milliseconds(), graceOK: 1, seed: o.Seed, horizon: o.Horizon.Milliseconds(), maxPlans: o.MaxPlans}, s.Now.UnixMilli(), len(s.Pending)+len(s.Active))
	e.planner.Load(s)
	e.wake = 0
	e.dependents = map[forge.RunID][]int32{}
	g := &given{e: e}
	e.guess = g
	for _, c := range s.Claims {
		e.claimed[slotKey{nodeKey{c.Cluster, c.Node}, c.Slot}] = c.For
		e.claims[c.For] = append(e.claims[c.For], c)
	}
	unknown := map[nodeKey]bool{}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		unknown[nodeKey{n.Cluster, n.Name}] = n.State == forge.NodeUnknown
	}
	draw := func(w forge.Work, left time.Duration) int64 {
		i := uint64(len(e.runs))
		return max(1, int64(float64(left.Milliseconds())*factor(w, o.Seed, uint64(sample), i)))
	}
	waiting := map[forge.RunID]bool{}
	for _, id := range o.Runs {
		waiting[id] = true
	}
	asked := 0
	pending := make([]int32, len(s.Pending))
	for i := range s.Pending {
		q := &s.Pending[i]
		for _, d := range q.After {
			if !d.State.Terminal() {
				e.dependents[d.Run] = append(e.dependents[d.Run], int32(i))
			}
		}
		left := expected(q.Work, q.TimeLimit, 0, o.Unknown)
		r := run{PendingRun: *q, phase: waitingPhase(q), starts: q.Attempt, need: draw(q.Work, left)}
		pending[i] = e.addRun(r)
		g.works = append(g.works, q.Work)
		if r.phase == apart {
			e.left--
			continue
		}
		e.queued++
		e.wanted += r.gpus
		if o.Runs == nil || waiting[q.ID] {
			e.runs[pending[i]].asked = true
			asked++
		}
	}
	for i := range s.Active {
		a := &s.Active[i]
		ran := time.Duration(0)
		if !a.Work.AsOf.IsZero() {
			ran = max(0, s.Now.Sub(a.Work.AsOf))
		}
		left := expected(a.Work, 0, ran, o.Unknown)
		if !a.EndsBy.IsZero() {
			left = max(time.Millisecond, min(left, a.EndsBy.Sub(s.Now)))
		}
		k := e.addRun(activeRun(a, s.Now, draw(a.Work, left)))
		g.works = append(g.works, a.Work)
		r := &e.runs[k]
		switch stays := slices.ContainsFunc(a.Placement, func(sh forge.Share) bool { return unknown[nodeKey{a.Cluster, sh.Node}] }); {
		case a.Queued() || stays: // when it goes nobody can say
			r.phase = apart
			e.left--
			continue
		case a.Leaving() && goesOn(a.Intent):
			e.agenda.push(event{at: o.Leaving.Milliseconds(), kind: yields, what: k, gen: r.gen})
		case a.Leaving():
			r.need = r.done + o.Leaving.Milliseconds()
			fallthrough
		default:
			e.agenda.push(event{at: max(0, r.begins) + r.need - r.done, kind: finishes, what: k, gen: r.gen})
		}
		e.busy += r.gpus
	}
	for _, r := range newcomers(&s, o, sample) {
		k := e.addRun(r)
		g.works = append(g.works, r.Work)
		e.agenda.push(event{at: r.submit, kind: arrives, what: k})
	}
	e.enough = func() bool { return e.started >= asked }
	return e, pending
}

// apart is where a run stands of which nothing is expected: one on hold, one that waits for what failed.
const apart = over + 1

func waitingPhase(q *forge.PendingRun) phase {
	if q.Hold != nil || q.Cancel != forge.CancelNone {
		return apart
	}
	for _, d := range q.After {
		if d.State.Terminal() && d.State != forge.RunCompleted {
			return apart
		}
	}
	return waiting
}

// goesOn says that a run waits again once it has left.
func goesOn(i forge.Intent) bool {
	return i == forge.IntentCheckpointPreempt || i == forge.IntentCheckpointDrain
}

func activeRun(a *forge.ActiveAttempt, now time.Time, left int64) run {
	r := run{PendingRun: forge.PendingRun{ID: a.Run, Tenant: a.Tenant, User: a.User, Attempt: a.Number, Priority: a.Priority, SubmittedAt: a.SubmittedAt, Gang: a.Gang,
		Where: a.Where, Eval: a.Eval}, phase: running, starts: a.Number, shares: a.Placement, cluster: a.Cluster, intent: a.Intent,
		need: left, stops: a.Preempted}
	if a.Preempted > 0 {
		r.stoppedAt = a.PreemptedAt.UnixMilli() - now.UnixMilli()
	}
	r.since = a.PlacedAt.UnixMilli() - now.UnixMilli()
	if a.StartedAt.After(now) {
		r.begins = a.StartedAt.UnixMilli() - now.UnixMilli()
	}
	return r
}

// expected is how long a run is taken to go on that has run for so long since its estimate was made.
func expected(w forge.Work, limit, ran, otherwise time.Duration) time.Duration {
	left := w.Left - ran
	switch {
	case w.Known:
	case w.Left <= 0 && limit > 0:
		left = limit / 2 // people ask for about twice what they need
	case w.Left <= 0:
		left = otherwise
	default:
		// Who has outlived what was expected goes on a good while yet.
		left = max(left, (w.Ran+ran)/4, time.Minute)
	}
	if limit > 0 {
		left = min(left, limit)
	}
	return max(left, time.Millisecond)
}

// factor is by how much a run lasts longer or shorter than expected in a sample: little where it reports its progress, widely where
// nothing is known but others.
func factor(w forge.Work, seed, sample, i uint64) float64 {
	if sample == 0 {
		return 1
	}
	spread := 1.5
	switch {
	case w.Known:
		spread = 0.05
	case w.Source == forge.WorkHistory, w.Source == forge.WorkProbe:
		spread = 0.8
	}
	u, v := chance(seed+2*sample, i, 1), chance(seed+2*sample+1, i, 2)
	normal := math.Sqrt(-2*math.Log(1-u)) * math.Cos(2*math.Pi*v)
	return math.Exp(spread*normal - spread*spread/4) // between the median's and the mean's: 0 and spread²/2
}

// given is the estimates as they are in the snapshot, carried on.
type given struct {
	e     *engine
	works []forge.Work
}

func (g *given) came(int32)              {}
func (g *given) reports(int32)           {}
func (g *given) ended(int32)             {}
func (g *given) next() time.Time         { return time.Time{} }
func (g *given) settle() []forge.RunID   { return nil }
func (g *given) work(i int32) forge.Work { return g.works[i] }

func (g *given) started(i int32) { g.works[i].AsOf = g.e.time(g.e.runs[i].begins) }

func (g *given) stopped(i int32, _ int64) {
	w := &g.works[i]
	if did := g.e.time(g.e.now).Sub(w.AsOf); did > 0 && !w.AsOf.IsZero() {
		w.Ran += did
		w.Left = max(0, w.Left-did)
		if !w.Known {
			w.Left = max(time.Minute, w.Left)
		}
	}
	w.AsOf = time.Time{}
}
