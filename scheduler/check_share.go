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

// overBound says whether a run exceeds a bound of its tenant or user when these have what is active, what is placed for, or kept for, the
// runs that with accepts, and itself.
func (c *checker) overBound(r forge.PendingRun, with func(forge.RunID) bool) bool {
	i := slices.IndexFunc(c.s.Tenants, func(t forge.TenantShare) bool { return t.Tenant == r.Tenant })
	if i < 0 {
		return false
	}
	t := c.s.Tenants[i]
	var tenant, user counted
	add := func(gpus int, of string, eval bool) {
		if tenant.add(gpus, eval); of == r.User {
			user.add(gpus, eval)
		}
	}
	for _, a := range c.s.Active {
		if a.Tenant != r.Tenant {
			continue
		}
		gpus := gpusOf(a)
		if len(a.Placement) == 0 { // waits in a queue that gives it what it asks for
			gpus = a.Gang.GPUs()
		}
		add(gpus, a.User, a.Eval)
	}
	gets := map[forge.RunID]bool{}
	for _, p := range c.plan.Place {
		gets[p.Run] = true
	}
	for run := range c.setAside {
		gets[run] = true
	}
	gets[r.ID] = true
	for run := range gets {
		if x := c.pending[run]; x.Tenant == r.Tenant && (run == r.ID || with(run)) {
			add(x.Gang.GPUs(), x.User, x.Eval)
		}
	}
	if tenant.exceeds(t.Quota, r.Eval) {
		return true
	}
	j := slices.IndexFunc(t.Users, func(u forge.UserQuota) bool { return u.User == r.User })
	return j >= 0 && user.exceeds(t.Users[j].Quota, r.Eval)
}

func everybody(forge.RunID) bool { return true }

// bounds: nobody gets more at once than may be, those included who wait for others to stop.
func (c *checker) bounds() {
	for _, p := range c.plan.Place {
		if r, ok := c.pending[p.Run]; ok && c.overBound(r, everybody) {
			c.fault(PropBound, p.Run, "its tenant or user has then more than it may have at once")
		}
	}
	for i, p := range c.plan.Preempt {
		if r, ok := c.pending[p.For]; ok && (i == 0 || c.plan.Preempt[i-1].For != p.For) && c.overBound(r, everybody) {
			c.fault(PropBound, p.For, "GPUs are freed for it, and its tenant or user has then more than it may have at once")
		}
	}
}
