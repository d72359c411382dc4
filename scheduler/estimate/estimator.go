package estimate

import (
	"cmp"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Like is what makes runs resemble each other.
type Like struct {
	Tenant  forge.TenantID
	Recipe  string
	Model   string // base model
	GPUType string // "" where it is not known yet
	GPUs    int
}

// Params are the knobs of a policy that estimates depend on.
type Params struct {
	Probe time.Duration // how long a run that reports its progress works before it is believed; who calls Progress keeps to it
}

// Bounds of what is taken from history.
const (
	enough    = 3           // runs that ended, before their mean is believed
	leastLeft = time.Minute // what a run has left at least that has not been probed
	inTurn    = 32          // runs looked at again at each end, beside the neighbours
	news      = 100         // an estimate is changed by what happened to others when it comes out by more than one part in this otherwise
)

// Estimator knows how far runs are. It is not safe for concurrent use.
type Estimator struct {
	params  Params
	runs    map[forge.RunID]*run
	groups  map[groupKey]*group
	likes   map[Like]*mean
	sizes   map[int]*size
	all     census
	ended   mean
	open    []*run // that go on, and of which nobody knows how long
	turn    int    // of open
	timers  timers
	changed map[forge.RunID]bool // since Advance
	since   time.Time            // the first of those changes
	arrived []forge.Arrival      // since Arrivals
}

// groupKey is whose members are neighbours.
type groupKey struct {
	tenant forge.TenantID
	recipe string
	gpus   int
}

type run struct {
	id    forge.RunID
	came  time.Time
	gpus  int
	group *group
	size  *size
	like  *mean

	reports, known, running, over bool

	started time.Time     // this time
	asOf    time.Time     // up to when worked counts
	ran     time.Duration // in the times that it was stopped after
	worked  time.Duration // less what was lost
	high    time.Duration // most that it ever had worked
	left    time.Duration // where it is known
	level   int           // of high; those below are counted
	service forge.GPUTime // as told by Arrivals
	due     time.Time     // when its timer counts
	place   int           // in Estimator.open
	seat    int           // in its group, if it has not moved since
	work    forge.Work
}

// New knows of nothing.
func New(p Params) *Estimator {
	return &Estimator{params: p, runs: map[forge.RunID]*run{}, groups: map[groupKey]*group{}, likes: map[Like]*mean{}, sizes: map[int]*size{}, changed: map[forge.RunID]bool{}}
}

// SetParams is in force from the next call on.
func (e *Estimator) SetParams(p Params) { e.params = p }

// Came tells of a run that was submitted, in order of arrival. One that reports says by itself, once it works, how far it is.
func (e *Estimator) Came(id forge.RunID, at time.Time, like Like, reports bool) {
	if e.runs[id] != nil {
		return
	}
	like.GPUs = max(like.GPUs, 1)
	r := &run{id: id, came: at, gpus: like.GPUs, group: get(e.groups, groupKey{like.Tenant, like.Recipe, like.GPUs}), like: get(e.likes, like), reports: reports}
	if r.size = e.sizes[like.GPUs]; r.size == nil {
		r.size = &size{edges: edgesFor(like.GPUs)}
		e.sizes[like.GPUs] = r.size
	}
	e.runs[id] = r
	r.group.add(r)
	r.place, e.open = len(e.open), append(e.open, r)
	e.estimate(r)
}

// Started tells that a run works with its GPUs from at on: after it was loaded, which may lie ahead.
func (e *Estimator) Started(id forge.RunID, at time.Time) {
	r := e.runs[id]
	if r == nil || r.running {
		return
	}
	r.running, r.started, r.asOf = true, at, at
	e.estimate(r)
	e.schedule(r)
}

// Stopped tells that a run lost its GPUs and has not ended.
func (e *Estimator) Stopped(id forge.RunID, at time.Time) {
	if r := e.runs[id]; r != nil && r.running {
		e.stop(r, at)
		e.estimate(r)
	}
}

// Probed says that a run has worked long enough at a time for what it reports to be believed.
func (e *Estimator) Probed(id forge.RunID, at time.Time) bool {
	r := e.runs[id]
	if r == nil {
		return false
	}
	did := r.worked
	if r.running {
		did += max(0, at.Sub(r.asOf))
	}
	return r.known || did > 0 && did >= e.params.Probe
}

// Progress tells what a run has left: from now on nothing else is believed. It may be told at arrival (by an oracle).
func (e *Estimator) Progress(id forge.RunID, at time.Time, left time.Duration) {
	r := e.runs[id]
	if r == nil {
		return
	}
	e.see(r, at)
	if !r.known {
		r.known, r.due = true, time.Time{}
		e.close(r)
	}
	r.left = max(left, 0)
	e.estimate(r)
	e.tell(r, r.worked+r.left)
}

// Lost tells that work of a run is gone, mostly what it did since its last checkpoint: it is to be done again.
func (e *Estimator) Lost(id forge.RunID, work time.Duration) {
	r := e.runs[id]
	if r == nil {
		return
	}
	work = max(0, min(work, r.worked))
	r.worked -= work
	r.left += work
	e.estimate(r)
	e.schedule(r)
}

// Ended tells that a run completed or gave up. One that never worked says nothing of others.
func (e *Estimator) Ended(id forge.RunID, at time.Time) {
	r := e.runs[id]
	if r == nil {
		return
	}
	if r.running {
		e.stop(r, at)
	}
	delete(e.runs, id)
	delete(e.changed, id)
	if !r.known {
		e.close(r)
	}
	if r.over = true; r.high <= 0 {
		r.group.remove(r)
		e.tell(r, 0)
		return
	}
	e.all.ended(r.level)
	r.size.ended(r.level)
	e.ended.add(r.worked)
	r.size.took.add(r.worked)
	r.like.add(r.worked)
	e.tell(r, r.worked)
	e.again(r.group.around(r), at)
	for range min(inTurn, len(e.open)) {
		e.turn = (e.turn + 1) % len(e.open)
		e.again(e.open[e.turn:e.turn+1], at)
	}
	r.group.forget()
}

// Advance lets time pass and names, sorted, the runs whose Work changed by that alone or since others ended.
func (e *Estimator) Advance(now time.Time) []forge.RunID {
	for {
		t, ok := e.timers.next()
		if !ok || t.at.After(now) {
			break
		}
		e.timers.pop()
		if r := t.run; r.running && r.due.Equal(t.at) {
			e.see(r, t.at)
			e.estimate(r)
			e.schedule(r)
			e.changed[r.id] = true
		}
	}
	if len(e.changed) == 0 {
		return nil
	}
	ids := make([]forge.RunID, 0, len(e.changed))
	for id := range e.changed {
		ids = append(ids, id)
	}
	clear(e.changed)
	slices.Sort(ids)
	return ids
}

// Next is the earliest time at which Advance has something to say; zero when it has nothing unless more is told.
func (e *Estimator) Next() time.Time {
	if len(e.changed) > 0 {
		return e.since
	}
	for {
		t, ok := e.timers.next()
		if !ok {
			return time.Time{}
		}
		if t.run.running && t.run.due.Equal(t.at) {
			return t.at
		}
		e.timers.pop()
	}
}

// Work is what is known of a run; the zero value for one that is not known, or has ended.
func (e *Estimator) Work(id forge.RunID) forge.Work {
	if r := e.runs[id]; r != nil {
		return r.work
	}
	return forge.Work{}
}

// Took is how long runs alike that ended took on average, and how many they are; 0, 0 while those are too few to be believed.
func (e *Estimator) Took(l Like) (time.Duration, int) {
	if m := e.likes[l]; m != nil && m.n >= enough {
		return m.mean(), int(m.n)
	}
	return 0, 0
}

// Arrivals are the runs whose whole service became known, or turned out to be another, since the last call.
func (e *Estimator) Arrivals() []forge.Arrival {
	out := e.arrived
	e.arrived = nil
	return out
}

// tell of a run's service. An observation that moves it by less than a hundredth is not news.
func (e *Estimator) tell(r *run, whole time.Duration) {
	service := forge.GPUTimeOf(whole, r.gpus)
	if d := service - r.service; r.over && d != 0 || max(d, -d) > r.service/100 {
		r.service = service
		e.arrived = append(e.arrived, forge.Arrival{Run: r.id, At: r.came, Service: service, GPUs: r.gpus})
	}
}

// see counts what a run has done up to at, and the levels that it passed by that.
func (e *Estimator) see(r *run, at time.Time) {
	if r.running && at.After(r.asOf) {
		did := at.Sub(r.asOf)
		r.worked += did
		r.left = max(0, r.left-did)
		r.asOf = at
	}
	for r.high = max(r.high, r.worked); r.high >= r.size.edges[r.level] && r.level < levels-1; r.level++ {
		e.all.passed(r.level)
		r.size.passed(r.level)
	}
}

func (e *Estimator) stop(r *run, at time.Time) {
	e.see(r, at)
	r.ran += max(0, at.Sub(r.started))
	r.running, r.due = false, time.Time{}
}

// probing says that a run will tell how far it is, and has not worked long enough.
func (e *Estimator) probing(r *run) bool { return r.reports && !r.known && r.worked < e.params.Probe }

// schedule sets the time at which a run that works changes by that: its probe is over, or it leaves its level.
func (e *Estimator) schedule(r *run) {
	if r.due = (time.Time{}); !r.running || r.known {
		return
	}
	in := r.size.edges[r.level] - r.worked
	if e.probing(r) {
		in = e.params.Probe - r.worked
	} else if r.level == levels-1 {
		return
	}
	r.due = r.asOf.Add(in)
	e.timers.push(timer{r.due, r})
}

// estimate makes the Work of a run from what was seen.
func (e *Estimator) estimate(r *run) {
	w := forge.Work{Ran: r.ran}
	if r.running {
		w.AsOf = r.asOf
	}
	switch {
	case r.known:
		w.Known, w.Left, w.Source = true, r.left, forge.WorkProgress
	case e.probing(r):
		w.Rank, w.Source = forge.GPUTimeOf(e.params.Probe-r.worked, r.gpus), forge.WorkProbe
		w.Left = leastLeft
		for _, m := range []*mean{r.like, &r.size.took, &e.ended} {
			if m.n >= enough {
				w.Left = max(leastLeft, m.mean()-r.worked)
				break
			}
		}
	default:
		var v vicinity
		r.group.census(r, &v)
		w.Rank = index(&e.all, &r.size.census, &v, r.level, float64((r.high-r.worked).Milliseconds()*int64(r.gpus)))
		w.Left = time.Duration(int64(w.Rank)/int64(r.gpus)) * time.Millisecond
		if w.Source = forge.WorkIndex; r.like.n >= enough {
			w.Source = forge.WorkHistory
		}
	}
	r.work = w
}

// again makes the estimates of runs anew, since others ended, and notes those that come out otherwise.
func (e *Estimator) again(runs []*run, at time.Time) {
	for _, r := range runs {
		if r.known || r.over {
			continue
		}
		was := r.work
		e.estimate(r)
		if r.work.Source == was.Source && !differ(r.work.Rank, was.Rank) && !differ(r.work.Left, was.Left) {
			r.work = was
			continue
		}
		if len(e.changed) == 0 {
			e.since = at
		}
		e.changed[r.id] = true
	}
}

func differ[N ~int64](a, b N) bool { return max(a-b, b-a) > b/news }

// close takes a run out of those that are looked at in turn.
func (e *Estimator) close(r *run) {
	last := len(e.open) - 1
	e.open[r.place] = e.open[last]
	e.open[r.place].place = r.place
	e.open[last] = nil
	e.open = e.open[:last]
}

func get[K comparable, V any](m map[K]*V, k K) *V {
	v := m[k]
	if v == nil {
		v = new(V)
		m[k] = v
	}
	return v
}

func before(a, b *run) int { return cmp.Or(a.came.Compare(b.came), cmp.Compare(a.id, b.id)) }
