package scheduler

import (
	"iter"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

func (c *checker) queueOf(name forge.ClusterName) (forge.ClusterQueue, bool) {
	i := slices.IndexFunc(c.s.Queues, func(q forge.ClusterQueue) bool { return q.Cluster == name })
	if i < 0 {
		return forge.ClusterQueue{}, false
	}
	return c.s.Queues[i], true
}

func (c *checker) hasBatch(name forge.ClusterName) bool {
	_, ok := c.queueOf(name)
	return ok
}

func (c *checker) isEager(name forge.ClusterName) bool {
	q, ok := c.queueOf(name)
	return ok && q.Binding == forge.BindEager
}

// handedOver: the cluster has a queue of its own that could ever start the gang, and nothing of it is ours to give.
func (c *checker) handedOver(p forge.Place, r forge.PendingRun) {
	if !c.isEager(p.Cluster) {
		c.fault(PropHandOverOnly, p.Run, "handed over to %s, which has no queue of its own", p.Cluster)
	}
	if len(p.Shares)+len(p.Nodes) > 0 {
		c.fault(PropHandOverNodes, p.Run, "handed over, and has %d nodes", len(p.Shares))
	}
	if !c.couldQueue(r, p.Cluster) {
		c.fault(PropHandOverNodes, p.Run, "handed over to %s, whose nodes could never hold it", p.Cluster)
	}
}

// couldQueue says whether the cluster's queue could start the run some day: on nodes of one type that are not drained, and
// on those that it avoids only where no others could hold it anywhere.
func (c *checker) couldQueue(r forge.PendingRun, name forge.ClusterName) bool {
	if !c.isEager(name) || c.isPaused(name) || r.Gang.Nodes < 1 || r.Gang.GPUsPerNode < 1 {
		return false
	}
	return slices.Contains(remembered(c.queueable, r, func() []forge.ClusterName { return c.findQueues(r) }), name)
}

// findQueues are the eager clusters whose nodes the run could have.
func (c *checker) findQueues(r forge.PendingRun) (in []forge.ClusterName) {
	kind := c.kindFor(r)
	without := c.couldRunWithout(r, kind)
	for _, t := range c.typesOf() {
		if !c.isEager(t.cluster) || t.kind != kind {
			continue
		}
		nodes := c.nodesThatHold(r, t, false, func(n forge.Node) bool {
			return n.State != forge.NodeDrained && !(without && avoids(r, n))
		})
		if areEnough(r, nodes) {
			in = append(in, t.cluster)
		}
	}
	return in
}

// readyAndLeft are the runs that nothing but room keeps from starting and that do not start.
func (c *checker) readyAndLeft() iter.Seq[forge.PendingRun] {
	starts := map[forge.RunID]bool{}
	for _, p := range c.plan.Place {
		starts[p.Run] = true
	}
	return func(yield func(forge.PendingRun) bool) {
		for _, r := range c.s.Pending {
			if ready, _ := c.mayStart(r); ready && !starts[r.ID] && !yield(r) {
				return
			}
		}
	}
}

// queues judges what is handed over as a whole: how much of whom, in which order, and instead of what.
func (c *checker) queues() {
	for _, q := range c.s.Queues {
		if q.Binding == forge.BindEager {
			c.queue(q)
		}
	}
	c.notEarly()
}

func (c *checker) queue(q forge.ClusterQueue) {
	type who struct {
		tenant forge.TenantID
		user   string
	}
	waiting := map[who]int{}
	for _, a := range c.s.Active {
		if a.Cluster == q.Cluster && len(a.Placement) == 0 {
			waiting[who{a.Tenant, a.User}]++
		}
	}
	last := map[who]forge.PendingRun{} // of each user, who was handed over and is furthest behind
	for _, p := range c.plan.Place {
		r, ok := c.waiting(p.Run)
		if !ok || !p.HandOver || p.Cluster != q.Cluster {
			continue
		}
		w := who{r.Tenant, r.User}
		if waiting[w]++; q.MaxPending > 0 && waiting[w] > q.MaxPending {
			c.fault(PropHandOverLimit, p.Run, "%d runs of %s wait in %s, %d may", waiting[w], r.User, q.Cluster, q.MaxPending)
		}
		if b, ok := last[w]; !ok || c.isBefore(b.ID, r.ID) {
			last[w] = r
		}
	}
	for r := range c.readyAndLeft() {
		w := who{r.Tenant, r.User}
		// What waits for others to save, or whose claims were just lost, has its place elsewhere.
		if c.isClaimant(r.ID) || len(c.stops(r.ID)) > 0 || !c.couldQueue(r, q.Cluster) || c.everything().over(r) {
			continue
		}
		if b, ok := last[w]; ok && c.isBefore(r.ID, b.ID) {
			c.fault(PropHandOverOrder, r.ID, "waits, and %s behind it was handed over to %s", b.ID, q.Cluster)
		}
		if q.MaxPending <= 0 || waiting[w] < q.MaxPending {
			c.fault(PropHandOverDue, r.ID, "waits, and the queue of %s has room for it", q.Cluster)
		}
	}
}

// notEarly: whoever is handed over would not start now on nodes that forge places on, with all that this plan starts there. While
// somebody waits for such nodes they are not free for others, so that only plans without such a head are judged.
func (c *checker) notEarly() {
	there := view{scenes: []scene{c.asPlanned(), c.asKept()}}
	for r := range c.readyAndLeft() {
		if len(c.choices(r)) > 0 {
			return
		}
	}
	for _, p := range c.plan.Place {
		r, ok := c.waiting(p.Run)
		if !ok || !p.HandOver {
			continue
		}
		if t, fits := c.fitsIn(r, c.choices(r), there, time.Time{}); fits {
			c.fault(PropHandOverBound, p.Run, "handed over to %s, and fits %s now", p.Cluster, t.cluster)
		}
	}
}
