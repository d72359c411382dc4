package scheduler

import (
	"fmt"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// A cluster with a queue of its own (forge.BindEager) decides for itself when and where a gang starts. What is decided here is
// who may wait there: those whose turn it is, that no other cluster takes now, and as many of one user as the
// cluster allows. Nothing is known of what is free there, so that nothing is reserved, backfilled, claimed or preempted.

// queue is what waits in such a cluster already, what this plan hands over included.
type queue struct {
	limit int // of one owner; 0: none
	of    map[owner]int
	all   int
	here  []owner // handed over by the plan that is being made
}

// owner is a user of a tenant: names are a tenant's own.
type owner struct {
	tenant forge.TenantID
	user   string
}

func (q *queue) add(o owner) {
	q.of[o]++
	q.all++
}

func (q *queue) drop(o owner) {
	if q.of[o]--; q.of[o] <= 0 {
		delete(q.of, o)
	}
	q.all--
}

// forget takes back what a plan handed over.
func (q *queue) forget() {
	for _, o := range q.here {
		q.drop(o)
	}
	q.here = q.here[:0]
}

func (q *queue) takes(o owner) bool { return q.limit <= 0 || q.of[o] < q.limit }

// handOver gives the run to the cluster in whose queue the fewest of forge's runs wait, and says whether there is one.
func (pl *planner) handOver(e *entry, sh *shape) bool {
	r := e.pend
	o := owner{r.Tenant, r.User}
	var to *cluster
	for _, c := range sh.queues {
		if c.queue.takes(o) && (to == nil || c.queue.all < to.queue.all) {
			to = c
		}
	}
	if to == nil {
		return false
	}
	to.queue.add(o)
	to.queue.here = append(to.queue.here, o)
	e.placed = true
	pl.count(e)
	pl.plan.Place = append(pl.plan.Place, forge.Place{Run: r.ID, RunVersion: r.Version, Attempt: r.Attempt + 1, Cluster: to.name, HandOver: true})
	return true
}

// takes says whether new work may go to the node. A node of a batch system that does not answer now may be waited
// for in that system's queue, where the run's age counts; one that is drained is nobody's.
func (n *node) takes() bool {
	return n.ready() || n.cluster.queue != nil && n.State != forge.NodeDrained
}

// queueFullText is generic: it is shared by all runs of a shape, and whoever else's runs wait is nobody's business.
func (sh *shape) queueFullText() string {
	var full []string
	for _, c := range sh.queues {
		full = append(full, fmt.Sprintf("as many runs of the same user as may (%d) wait in the queue of cluster %s already", c.queue.limit, c.name))
	}
	slices.Sort(full)
	return strings.Join(full, "; ") + "; it is handed over when one of them starts"
}

// fullText adds to why forge's own clusters do not take a run that no queue does either.
func (sh *shape) fullText() string {
	if len(sh.queues) == 0 {
		return ""
	}
	return "; " + sh.queueFullText()
}
