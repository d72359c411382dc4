package daemon

import (
	"cmp"
	"slices"
	"sync"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

const (
	// outlookAge is how long a plan answers questions while the revision stays. The times in it (back-offs,
	// limits of what runs) move without one.
	outlookAge = time.Second
	// longQueue is from where on a plan takes milliseconds, and why a run waits may be told by one that is a
	// few of them old.
	longQueue = 1000
)

// outlook is what a plan of now would do, for those who only ask: nobody carries it out.
type outlook struct {
	snap forge.Snapshot
	plan forge.Plan
	cost time.Duration // what it took to make
	by   scheduler.Policy
	at   [2]int64 // of the world

	order []*forge.PendingRun // all that wait, next first

	mu   sync.Mutex // looking makes what planning left out
	view *scheduler.View
}

// queue lists all that wait, next first.
func (o *outlook) queue() []*forge.PendingRun { return o.order }

// placeIn is the place of a run in a queue, from 1; 0 for one that does not wait.
func placeIn(queue []*forge.PendingRun, run forge.RunID) int {
	return 1 + slices.IndexFunc(queue, func(r *forge.PendingRun) bool { return r.ID == run })
}

// terms says where a run stands in the order.
func (o *outlook) terms(run forge.RunID) (forge.Terms, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.view.Terms(run)
}

// soonerCost is what a plan may cost that is made again for each change that is tried for one run.
const soonerCost = 10 * time.Millisecond

// sooner says what would let a run start now; in a queue that takes long to plan nothing is tried.
func (o *outlook) sooner(run forge.RunID, top int) []scheduler.Way {
	if o.cost > soonerCost {
		return nil
	}
	return scheduler.Sooner(o.snap, o.by, run, top)
}

// why gives the reasons of some runs, in words.
func (o *outlook) why(runs map[forge.RunID]string) {
	for _, h := range o.plan.Hold {
		for _, id := range h.Runs {
			if _, asked := runs[id]; asked {
				runs[id] = h.Text
			}
		}
	}
}

// knows says whether the run waits in this outlook as it waits now.
func (o *outlook) knows(r forge.Run) bool {
	i, ok := slices.BinarySearchFunc(o.snap.Pending, r.ID, func(p forge.PendingRun, id forge.RunID) int { return cmp.Compare(p.ID, id) })
	return ok && o.snap.Pending[i].Version == r.Version
}

// outlooks keeps the outlook of the newest revision. With 200 people looking at a queue of thousands, each
// plan would otherwise be made again for every one of them. Who asks while it is made waits for it: two
// plans of one revision are the same (invariant 10).
type outlooks struct {
	mu   sync.Mutex
	last *outlook
}

func (c *outlooks) of(w *world, p scheduler.Policy, now time.Time) *outlook {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := w.at() // before the snapshot, which may be of later
	if c.last != nil && c.last.at == at && c.last.by == p && now.Sub(c.last.snap.Now) < outlookAge {
		return c.last
	}
	began := time.Now()
	o := &outlook{snap: w.snapshot(now), by: p, at: at}
	o.view = scheduler.NewView(o.snap, p)
	o.plan, o.order = o.view.Plan, o.view.Queue()
	o.cost = time.Since(began)
	c.last = o
	return o
}

// about is an outlook that tells of one run. While thousands wait and more come in, no two questions find the same revision:
// then one that is a little older does, if the run has not changed since, so that explaining takes at most
// one part in planShare of the time, as planning does.
func (c *outlooks) about(r forge.Run, w *world, p scheduler.Policy, now time.Time) *outlook {
	c.mu.Lock()
	last := c.last
	c.mu.Unlock()
	if last != nil && last.by == p && len(last.snap.Pending) >= longQueue && now.Sub(last.snap.Now) < min(planShare*last.cost, planMaxGap) && last.knows(r) {
		return last
	}
	return c.of(w, p, now)
}

// at changes with whatever a plan could come out differently by.
func (d *world) at() [2]int64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return [2]int64{d.revision, d.moved}
}
