package scheduler

import (
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// asks says whether a run's constraints let it onto a node with GPUs of a type; well counts there only the slots that it would take.
func asks(w *forge.Constraints, n forge.Node, typ string) bool {
	if w == nil {
		return true
	}
	if len(w.GPUTypes) > 0 && !slices.ContainsFunc(w.GPUTypes, func(t string) bool { return strings.EqualFold(t, typ) }) {
		return false
	}
	for k, v := range w.Labels {
		if have, ok := n.Labels[k]; !ok || have != v {
			return false
		}
	}
	return !slices.Contains(w.Exclude, n.Name)
}

// areEnough says whether nodes that each hold a share hold the gang; where it must stay within one value of a label, those of one value.
func areEnough(r forge.PendingRun, nodes []forge.Node) bool {
	if r.Where == nil || r.Where.Within == "" || r.Gang.Nodes <= 1 {
		return len(nodes) >= r.Gang.Nodes
	}
	with := map[string]int{}
	for _, n := range nodes {
		if v := n.Labels[r.Where.Within]; v != "" {
			with[v]++
		}
	}
	for _, n := range with {
		if n >= r.Gang.Nodes {
			return true
		}
	}
	return false
}

// constraints judges a placement by what the run asks of its nodes and GPUs.
func (c *checker) constraints(p forge.Place, r forge.PendingRun) {
	if r.Where == nil {
		return
	}
	together := map[string]bool{}
	for _, sh := range p.Shares {
		n := c.nodes[checkNode{p.Cluster, sh.Node}]
		for _, g := range n.GPUs {
			if !slices.Contains(sh.Slots, g.Slot) {
				continue
			}
			if !asks(r.Where, n, g.Type) {
				c.fault(PropWhere, p.Run, "slot %d of %s, a %s, is not what it asks for", g.Slot, sh.Node, g.Type)
			}
			if g.MemoryMiB < r.Where.GPUMemoryMiB {
				c.fault(PropWhere, p.Run, "slot %d of %s has %d MiB, asked for %d", g.Slot, sh.Node, g.MemoryMiB, r.Where.GPUMemoryMiB)
			}
		}
		if r.Where.Within != "" {
			together[n.Labels[r.Where.Within]] = true
		}
	}
	if r.Gang.Nodes > 1 && (len(together) > 1 || together[""]) {
		c.fault(PropWhere, p.Run, "not within one %s", r.Where.Within)
	}
}

// counted is what somebody has at once. Evals count by themselves.
type counted struct{ gpus, runs, evals int }

func (k *counted) add(gpus int, eval bool) {
	if eval {
		k.evals += gpus
		return
	}
	k.gpus += gpus
	k.runs++
}

func (k counted) exceeds(q forge.Quota, eval bool) bool {
	if eval {
		return q.EvalGPUs > 0 && k.evals > q.EvalGPUs
	}
	return q.MaxGPUs > 0 && k.gpus > q.MaxGPUs || q.MaxRunning > 0 && k.runs > q.MaxRunning
}

// whose is a user of a tenant, or with user "" and all the tenant as a whole.
type whose struct {
	tenant forge.TenantID
	user   string
	all    bool
}

// tally is what everybody has: what is active, and what of this plan was added.
type tally struct {
	c     *checker
	has   map[whose]counted
	added map[forge.RunID]bool
}

func (c *checker) whatIsActive() *tally {
	t := &tally{c: c, has: map[whose]counted{}, added: map[forge.RunID]bool{}}
	for _, a := range c.s.Active {
		gpus := gpusOf(a)
		if len(a.Placement) == 0 { // waits in a queue that gives it what it asks for
			gpus = a.Gang.GPUs()
		}
		t.count(a.Tenant, a.User, gpus, a.Eval)
	}
	return t
}

// everything is the tally with all that the plan starts or keeps for those who wait for others to stop.
func (c *checker) everything() *tally {
	if c.all == nil {
		c.all = c.whatIsActive()
		for _, p := range c.plan.Place {
			c.all.add(p.Run)
		}
		for run := range c.setAside {
			c.all.add(run)
		}
	}
	return c.all
}

func (t *tally) count(tenant forge.TenantID, user string, gpus int, eval bool) {
	for _, w := range []whose{{tenant, "", true}, {tenant, user, false}} {
		k := t.has[w]
		k.add(gpus, eval)
		t.has[w] = k
	}
}

func (t *tally) add(run forge.RunID) {
	if r, ok := t.c.waiting(run); ok && !t.added[run] {
		t.added[run] = true
		t.count(r.Tenant, r.User, r.Gang.GPUs(), r.Eval)
	}
}

// over says whether a tenant or user has too much once the run is there as well.
func (t *tally) over(r forge.PendingRun) bool {
	if t.c.tenants == nil {
		t.c.tenants = map[forge.TenantID]forge.TenantShare{}
		for _, x := range t.c.s.Tenants {
			t.c.tenants[x.Tenant] = x
		}
	}
	share, ok := t.c.tenants[r.Tenant]
	if !ok {
		return false
	}
	if share.Spent != "" {
		return true
	}
	tenant, user := t.has[whose{r.Tenant, "", true}], t.has[whose{r.Tenant, r.User, false}]
	if !t.added[r.ID] {
		tenant.add(r.Gang.GPUs(), r.Eval)
		user.add(r.Gang.GPUs(), r.Eval)
	}
	i := slices.IndexFunc(share.Users, func(u forge.UserQuota) bool { return u.User == r.User })
	return tenant.exceeds(share.Quota, r.Eval) || i >= 0 && user.exceeds(share.Users[i].Quota, r.Eval)
}

// budgets: nothing is placed of a tenant whose budget is spent, and nothing is freed for it.
func (c *checker) budgets() {
	spent := func(run forge.RunID) bool {
		r, ok := c.waiting(run)
		return ok && slices.ContainsFunc(c.s.Tenants, func(t forge.TenantShare) bool { return t.Tenant == r.Tenant && t.Spent != "" })
	}
	for _, p := range c.plan.Place {
		if spent(p.Run) {
			c.fault(PropBudget, p.Run, "its tenant's budget is spent")
		}
	}
	for _, p := range c.plan.Preempt {
		if spent(p.For) {
			c.fault(PropBudget, p.For, "GPUs are freed for it, and its tenant's budget is spent")
		}
	}
}

// bounds: nobody gets more at once than may be, those included who wait for others to stop.
func (c *checker) bounds() {
	for _, p := range c.plan.Place {
		if r, ok := c.waiting(p.Run); ok && c.everything().over(r) {
			c.fault(PropBound, p.Run, "its tenant or user has then more than it may have at once")
		}
	}
	for i, p := range c.plan.Preempt {
		if r, ok := c.waiting(p.For); ok && (i == 0 || c.plan.Preempt[i-1].For != p.For) && c.everything().over(r) {
			c.fault(PropBound, p.For, "GPUs are freed for it, and its tenant or user has then more than it may have at once")
		}
	}
}
