package daemon

import (
	"cmp"
	"slices"

	forge "github.com/forge-ml/forge-ml"
)

// demand counts, by user, the runs that wait and may go to a cluster's own queue. Whether anybody could be handed over is asked
// before each plan, and a queue of 100,000 is not gone through for that.
type demand struct {
	queues  []forge.ClusterQueue // by name
	waiting map[waiter]int
	touched map[waiter]int64 // grows when such a run comes or changes
}

// waiter is a user of a tenant.
type waiter struct {
	tenant forge.TenantID
	user   string
}

// add counts a waiting run in or out.
func (q *demand) add(r *forge.PendingRun, n int) {
	if !q.wants(r) {
		return
	}
	o := waiter{r.Tenant, r.User}
	if q.waiting[o] += n; q.waiting[o] == 0 {
		delete(q.waiting, o)
	}
	if n > 0 {
		q.touched[o]++
	}
}

func (q *demand) wants(r *forge.PendingRun) bool {
	return r.Hold == nil && r.Cancel == forge.CancelNone && slices.ContainsFunc(q.queues, func(c forge.ClusterQueue) bool {
		return c.Binding == forge.BindEager && (r.Cluster == "" || r.Cluster == c.Cluster)
	})
}

// setQueues puts the clusters with a batch system in force.
func (d *world) setQueues(queues []forge.ClusterQueue) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.demand = demand{queues: queues, waiting: map[waiter]int{}, touched: map[waiter]int64{}}
	for i := range d.pending {
		d.demand.add(&d.pending[i].PendingRun, 1)
	}
	d.moved++
	d.changes.everything()
}

// batch says that it has a batch system, whoever chooses its nodes.
func (c *Cluster) batch() bool { return c.Binding == forge.BindEager || c.Kind == KindSlurm }

// batchSystem is what people call that of a cluster.
func (d *Daemon) batchSystem(name forge.ClusterName) string {
	if c, ok := d.live().clusters[name]; ok && c.Kind == KindSlurm {
		return "Slurm"
	}
	return "its own queue"
}

// queuesOf lists the clusters with a batch system, by name.
func queuesOf(s *settings) []forge.ClusterQueue {
	var out []forge.ClusterQueue
	for _, c := range s.clusters {
		if c.batch() {
			out = append(out, forge.ClusterQueue{Cluster: c.Name, Binding: cmp.Or(c.Binding, forge.BindPlan), MaxPending: c.MaxPending})
		}
	}
	slices.SortFunc(out, func(a, b forge.ClusterQueue) int { return cmp.Compare(a.Cluster, b.Cluster) })
	return out
}

// handable says whether a run waits whose user has a place left in a queue that it may go to. Full clusters of forge's own do not
// matter to it. The number changes with whatever could let one of those runs be handed over: a flood of runs of somebody
// whose places are taken does not have the whole queue copied.
func (d *world) handable() (touched int64, ok bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if len(d.demand.waiting) == 0 {
		return 0, false
	}
	type place struct {
		cluster forge.ClusterName
		waiter
	}
	taken := map[place]int{}
	for _, a := range d.attempts {
		if a.Queued() {
			r := d.runs[a.Run]
			taken[place{a.Cluster, waiter{r.Tenant, r.User}}]++
		}
	}
	for o := range d.demand.waiting {
		for _, q := range d.demand.queues {
			if _, paused := d.paused[q.Cluster]; !paused && q.Binding == forge.BindEager && (q.MaxPending <= 0 || taken[place{q.Cluster, o}] < q.MaxPending) {
				touched, ok = touched+d.demand.touched[o], true
				break
			}
		}
	}
	return touched, ok
}
