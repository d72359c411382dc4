package scheduler

import (
	"sort"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// contender is a run that waits, or that holds GPUs, as the order sees it.
type contender struct {
	id      forge.RunID
	waits   bool
	tenant  forge.TenantID
	user    string
	eval    bool
	gpus    int
	tier    int // 0: within its tenant's guaranteed quota; else it borrows, 1 + the band of a tenant whose run waits
	class   int
	rank    int64
	came    time.Time
	left    time.Duration
	waited  time.Duration // since it came, without the time that it had GPUs
	known   bool
	fixed   bool // keeps its GPUs whatever waits
	ready   bool // waits for nothing but room
	ageing  bool
	stretch float64 // what is left in milliseconds, with the bonus of what runs
}

// contenders lists all runs, ordered by nothing yet.
func (c *checker) contenders() []contender {
	out := make([]contender, 0, len(c.s.Pending)+len(c.s.Active))
	for _, r := range c.s.Pending {
		ready, _ := c.mayStart(r)
		k := contender{id: r.ID, waits: true, tenant: r.Tenant, user: r.User, eval: r.Eval, gpus: r.Gang.GPUs(), tier: 1 + c.band(r.Tenant), class: r.Priority,
			came: r.SubmittedAt, left: r.Work.Left, known: r.Work.Known, ready: ready, waited: c.s.Now.Sub(r.SubmittedAt) - r.Work.Ran}
		k.stretch = float64(k.left.Milliseconds())
		switch c.policy.Order {
		case OrderService:
			k.rank = int64(r.Work.Rank)
			if k.known {
				k.rank = k.left.Milliseconds() * int64(k.gpus)
			}
		case OrderAttained:
			k.rank = doublings(r.Work.Ran.Milliseconds() * int64(k.gpus))
		}
		out = append(out, k)
	}
	for _, a := range c.s.Active {
		k := contender{id: a.Run, tenant: a.Tenant, user: a.User, eval: a.Eval, tier: 1, class: a.Priority, came: a.SubmittedAt, left: a.Work.Left, known: a.Work.Known, ready: true}
		for _, sh := range a.Placement {
			k.gpus += len(sh.Slots)
		}
		if !a.Work.AsOf.IsZero() && c.s.Now.After(a.Work.AsOf) {
			k.left = max(0, k.left-c.s.Now.Sub(a.Work.AsOf))
		}
		ran := c.ranSoFar(a)
		k.waited = c.s.Now.Sub(a.SubmittedAt) - ran
		k.stretch = float64(k.left.Milliseconds()) * c.policy.CriticalBonus
		k.fixed = isLeaving(a) || a.Pinned || len(a.Placement) == 0 || c.sparedUntil(a).After(c.s.Now)
		switch c.policy.Order {
		case OrderService:
			k.rank = int64(a.Work.Rank)
			factor := c.policy.BlindFactor
			if k.known {
				k.rank, factor = k.left.Milliseconds()*int64(k.gpus), c.policy.KnownFactor
			}
			k.rank = int64(float64(k.rank) * factor)
		case OrderAttained:
			k.rank = doublings(ran.Milliseconds() * int64(k.gpus))
		}
		out = append(out, k)
	}
	return out
}

func (c *checker) ranSoFar(a forge.ActiveAttempt) time.Duration {
	if a.StartedAt.IsZero() || !c.s.Now.After(a.StartedAt) {
		return a.Work.Ran
	}
	return a.Work.Ran + c.s.Now.Sub(a.StartedAt)
}

// doublings is how often 10 GPU-minutes were doubled by what a run had.
func doublings(had int64) int64 {
	n := int64(0)
	for edge := int64(10 * 60 * 1000); had >= edge; edge *= 2 {
		n++
	}
	return n
}

// band is how often a tenant had twice its share, 8 at most. Weights count of those that used something or have runs.
func (c *checker) band(tenant forge.TenantID) int {
	if !c.policy.FairShare {
		return 0
	}
	if c.over == nil {
		c.over = map[forge.TenantID]float64{}
		here := map[forge.TenantID]bool{}
		for _, r := range c.s.Pending {
			here[r.Tenant] = true
		}
		for _, a := range c.s.Active {
			here[a.Tenant] = true
		}
		var used, weights float64
		weight := func(t forge.TenantShare) float64 {
			if t.Weight <= 0 {
				return 1
			}
			return t.Weight
		}
		for _, t := range c.s.Tenants {
			if t.Used > 0 || here[t.Tenant] {
				used, weights = used+float64(t.Used), weights+weight(t)
			}
		}
		for _, t := range c.s.Tenants {
			if t.Used > 0 {
				c.over[t.Tenant] = float64(t.Used) / used * weights / weight(t)
			}
		}
	}
	n := 0
	for limit := 1 + 1e-9; c.over[tenant] > limit && n < 8; limit *= 2 {
		n++
	}
	return n
}

// line is the order: who waits, and where the policy stops runs in order also who could be stopped, first first. tiers has all runs.
func (c *checker) line() []contender {
	if c.inLine != nil {
		return c.inLine
	}
	all := c.contenders()
	c.entitle(all)
	c.tiers, c.inLine = make(map[forge.RunID]int, len(all)), make([]contender, 0, len(all))
	for _, k := range all {
		c.tiers[k.id] = k.tier
		if k.waits || c.policy.PreemptInOrder && !k.fixed {
			c.inLine = append(c.inLine, k)
		}
	}
	sort.Slice(c.inLine, func(i, j int) bool { return comesFirst(&c.inLine[i], &c.inLine[j]) })
	if c.policy.Order == OrderService && (c.policy.AgeAfter > 0 || c.policy.Guard > 0) {
		work := int64(0)
		for _, k := range all {
			work += k.left.Milliseconds() * int64(k.gpus)
		}
		if capacity := c.capacity(); capacity > 0 {
			for from := 0; from < len(c.inLine); {
				to := from
				for to < len(c.inLine) && c.inLine[to].tier == c.inLine[from].tier && c.inLine[to].class == c.inLine[from].class {
					to++
				}
				c.lanesOf(c.inLine[from:to], float64(work), float64(capacity))
				from = to
			}
		}
	}
	c.position = make(map[forge.RunID]int, len(c.inLine))
	for i, k := range c.inLine {
		c.position[k.id] = i
	}
	return c.inLine
}

func comesFirst(a, b *contender) bool {
	switch {
	case a.tier != b.tier:
		return a.tier < b.tier
	case a.class != b.class:
		return a.class > b.class
	case a.rank != b.rank:
		return a.rank < b.rank
	case !a.came.Equal(b.came):
		return a.came.Before(b.came)
	}
	return a.id < b.id
}

// entitle finds the runs that the guaranteed quota of their tenant holds: of higher classes first, of one class those that run. Evals have a
// quota of their own, and whoever could not start whatever is free takes nobody's part.
func (c *checker) entitle(all []contender) {
	by := map[forge.TenantID][]*contender{}
	for i := range all {
		if k := &all[i]; !k.eval && k.ready {
			by[k.tenant] = append(by[k.tenant], k)
		}
	}
	for _, t := range c.s.Tenants {
		own := by[t.Tenant]
		if t.Quota.GPUs <= 0 {
			continue
		}
		sort.Slice(own, func(i, j int) bool {
			a, b := own[i], own[j]
			if a.class != b.class {
				return a.class > b.class
			}
			if a.waits != b.waits {
				return b.waits
			}
			return comesFirst(a, b)
		})
		left := t.Quota.GPUs
		for _, k := range own {
			if k.gpus <= left {
				left -= k.gpus
				k.tier = 0
			}
		}
	}
}

// capacity counts what takes work that forge's plan places.
func (c *checker) capacity() int {
	n := 0
	for _, node := range c.s.Nodes {
		if node.State != forge.NodeReady || c.isPaused(node.Cluster) || c.isEager(node.Cluster) {
			continue
		}
		for _, g := range node.GPUs {
			if g.Sick == "" {
				n++
			}
		}
	}
	return n
}

// lanesOf orders a class that is sorted by rank: who has waited too long, the small part of the work, what is critical, the rest.
func (c *checker) lanesOf(class []contender, work, capacity float64) {
	var old, small, critical, rest []contender
	if c.policy.AgeAfter > 0 {
		weight := func(k contender) float64 {
			if k.waits {
				return float64(k.waited)
			}
			return float64(k.waited) * c.policy.CriticalBonus
		}
		for _, k := range class {
			if k.waited > c.policy.AgeAfter {
				old = append(old, k)
			}
		}
		sort.SliceStable(old, func(i, j int) bool { return weight(old[i]) > weight(old[j]) })
		held := 0
		for i, k := range old {
			if float64(held) >= c.policy.AgeShare*capacity {
				old = old[:i]
				break
			}
			held += k.gpus
		}
	}
	own, sum := int64(0), int64(0)
	aged := map[forge.RunID]bool{}
	for i := range old {
		old[i].ageing = true
		aged[old[i].id] = true
	}
	for _, k := range class {
		own += k.left.Milliseconds() * int64(k.gpus)
	}
	stillSmall := true
	for _, k := range class {
		if aged[k.id] {
			continue
		}
		sum += k.left.Milliseconds() * int64(k.gpus)
		stillSmall = stillSmall && float64(sum) <= c.policy.SmallPrefix*float64(own)
		switch {
		case stillSmall:
			small = append(small, k)
		case c.policy.Guard > 0 && k.known && c.isCritical(k, work/capacity, capacity):
			critical = append(critical, k)
		default:
			rest = append(rest, k)
		}
	}
	sort.SliceStable(critical, func(i, j int) bool { return critical[i].stretch > critical[j].stretch })
	n := copy(class, old)
	n += copy(class[n:], small)
	n += copy(class[n:], critical)
	copy(class[n:], rest)
}

// isCritical: it has left what the whole cluster needs for all that is there, and for what will come if as much comes as came.
func (c *checker) isCritical(k contender, wait, capacity float64) bool {
	if k.stretch < c.policy.Guard*wait {
		return false
	}
	came := int64(0)
	for _, a := range c.s.Arrived {
		if !a.At.Before(c.s.Now.Add(-time.Duration(k.stretch) * time.Millisecond)) {
			came += int64(a.Service)
		}
	}
	return k.stretch >= c.policy.Guard*(wait+c.policy.Mirror*float64(came)/capacity)
}

// sparedUntil is how long a run that was preempted before is left alone.
func (c *checker) sparedUntil(a forge.ActiveAttempt) time.Time {
	if a.Preempted == 0 {
		return time.Time{}
	}
	gap := time.Duration(float64(c.policy.Spare) * (1 + float64(a.Preempted)*c.policy.SpareGrowth))
	if c.policy.SpareMost > 0 && gap > c.policy.SpareMost {
		gap = c.policy.SpareMost
	}
	return a.PreemptedAt.Add(gap)
}

// tier is that of a run, and isBefore says who comes first; a run that keeps its GPUs whatever waits is before all others.
func (c *checker) tier(run forge.RunID) int {
	c.line()
	return c.tiers[run]
}

func (c *checker) isBefore(a, b forge.RunID) bool {
	c.line()
	x, has := c.position[a]
	y, other := c.position[b]
	return !has || other && x < y
}
