package scheduler

import (
	"cmp"
	"slices"

	forge "github.com/forge-ml/forge-ml"
)

// choice is one node of a fit and how good it is.
type choice struct {
	bin     *bin
	claimed int  // slots kept for this run
	worse   bool // avoided: only as a last resort
	left    int  // slots of the type left over
}

// compareChoices is best fit, as a total order: what is kept for the run first (its claims are
// freed by nobody else), then nodes that are not avoided, then the fewest slots left over, then the fewest failures of late, then the name.
func compareChoices(a, b choice) int {
	switch {
	case a.claimed != b.claimed:
		return b.claimed - a.claimed
	case a.worse != b.worse:
		if b.worse {
			return -1
		}
		return 1
	case a.left != b.left:
		return a.left - b.left
	case a.bin.node.Failures != b.bin.node.Failures:
		return a.bin.node.Failures - b.bin.node.Failures
	}
	return a.bin.at - b.bin.at
}

// fit is one way to place a whole gang.
type fit struct {
	pool    *pool
	choices []choice
}

// better compares fits in different pools by the sums of what compareChoices looks at.
func (f fit) better(g fit) bool {
	sum := func(f fit) (worse, claimed, left int) {
		for _, c := range f.choices {
			if c.worse {
				worse++
			}
			claimed += c.claimed
			left += c.left
		}
		return worse, claimed, left
	}
	fa, fc, fl := sum(f)
	ga, gc, gl := sum(g)
	return cmp.Or(cmp.Compare(gc, fc), cmp.Compare(fa, ga), cmp.Compare(fl, gl), comparePools(f.pool, g.pool)) < 0
}

// find looks for the best fit of a run now. allowed says which nodes reservations leave to it, nil all.
// blocked is a fit that only reservations stand against.
func (pl *planner) find(e *entry, sh *shape, allowed func(*bin) bool) (found, blocked *fit) {
	for _, p := range sh.pools {
		if f := pl.findIn(e, sh, p, allowed); f != nil && (found == nil || f.better(*found)) {
			found = f
		}
	}
	if found == nil && allowed != nil {
		for _, p := range sh.pools {
			if blocked = pl.findIn(e, sh, p, nil); blocked != nil {
				break
			}
		}
	}
	return found, blocked
}

func (pl *planner) findIn(e *entry, sh *shape, p *pool, allowed func(*bin) bool) *fit {
	nodes := e.gang.Nodes
	eligible, better := sh.of(p)
	within := sh.where != nil && sh.where.Within != "" && nodes > 1
	var choices []choice
	if e.claims {
		for i := range eligible.in(eligible) {
			b := p.bins[i]
			if c, ok := sh.claimedChoice(e.id, b, !better.has(i)); ok && (allowed == nil || allowed(b)) {
				choices = append(choices, c)
			}
		}
		return pl.pick(sh, p, choices, nodes)
	}
	for _, worse := range []bool{false, true} {
		among := better
		if worse {
			if !sh.shuns(p) {
				break
			}
			among = eligible
		}
		for f := sh.need.slots; f <= p.most; f++ {
			if p.counts[f] == 0 {
				continue
			}
			first := len(choices)
			for i := range p.free[f].in(among) {
				b := p.bins[i]
				if worse && better.has(i) || b.node.freeCPU < sh.need.cpus || b.node.freeMiB < sh.need.mib || allowed != nil && !allowed(b) {
					continue
				}
				choices = append(choices, choice{bin: b, worse: worse, left: f - sh.need.slots})
				if nodes == 1 && !p.failing {
					return &fit{p, choices}
				}
			}
			if nodes == 1 && len(choices) > first {
				return &fit{p, []choice{slices.MinFunc(choices, compareChoices)}}
			}
			if !within && len(choices) >= nodes && len(pl.spread) == 0 {
				return pl.pick(sh, p, choices, nodes)
			}
		}
	}
	return pl.pick(sh, p, choices, nodes)
}

// claimedChoice is the choice of a bin for a run that slots are claimed for.
func (sh *shape) claimedChoice(run forge.RunID, b *bin, worse bool) (choice, bool) {
	if b.node.freeCPU < sh.need.cpus || b.node.freeMiB < sh.need.mib {
		return choice{}, false
	}
	c := choice{bin: b, worse: worse, claimed: b.claimed(run)}
	if c.left = b.avail + c.claimed - sh.need.slots; c.left < 0 {
		return choice{}, false
	}
	c.claimed = min(c.claimed, sh.need.slots)
	return c, true
}

func (pl *planner) pick(sh *shape, p *pool, choices []choice, nodes int) *fit {
	if len(choices) < nodes {
		return nil
	}
	slices.SortFunc(choices, compareChoices)
	if nodes == 1 {
		return &fit{p, choices[:1]}
	}
	if choices = pl.together(sh, choices, nodes); choices == nil {
		return nil
	}
	return &fit{p, choices}
}

// together picks the nodes of a gang from choices that are sorted, on as few racks and switches as it can; nil when they must share a label
// and cannot.
func (pl *planner) together(sh *shape, choices []choice, nodes int) []choice {
	if sh.where != nil && sh.where.Within != "" {
		var best []choice
		for _, g := range grouped(choices, sh.where.Within) {
			if g.value != "" && len(g.choices) >= nodes && (best == nil || len(g.choices) < len(best)) {
				best = g.choices
			}
		}
		if best == nil {
			return nil
		}
		choices = best
	}
	return nearest(choices, nodes, pl.spread)
}

// nearest takes nodes from the fewest groups, by labels from the outermost (the last) inwards.
func nearest(choices []choice, nodes int, labels []string) []choice {
	if len(labels) == 0 || nodes == 1 {
		return choices[:nodes]
	}
	outer, inner := labels[len(labels)-1], labels[:len(labels)-1]
	groups := grouped(choices, outer)
	if len(groups) == 1 {
		return nearest(choices, nodes, inner)
	}
	var tight *group
	for i := range groups {
		if g := &groups[i]; len(g.choices) >= nodes && (tight == nil || len(g.choices) < len(tight.choices)) {
			tight = g
		}
	}
	if tight != nil {
		return nearest(tight.choices, nodes, inner)
	}
	slices.SortStableFunc(groups, func(a, b group) int { return len(b.choices) - len(a.choices) })
	var out []choice
	for _, g := range groups {
		n := min(len(g.choices), nodes-len(out))
		if n == 0 {
			break
		}
		out = append(out, nearest(g.choices, n, inner)...)
	}
	return out
}

// group is the choices whose nodes have one value of a label.
type group struct {
	value   string
	choices []choice
}

// grouped divides choices by a label, groups in the order of their first choice.
func grouped(choices []choice, label string) []group {
	var out []group
	at := map[string]int{}
	for _, c := range choices {
		v := c.bin.node.Labels[label]
		i, ok := at[v]
		if !ok {
			i = len(out)
			at[v] = i
			out = append(out, group{value: v})
		}
		out[i].choices = append(out[i].choices, c)
	}
	return out
}

// place takes the fit from the world and writes it down.
func (pl *planner) place(e *entry, f *fit) {
	r := e.pend
	out := forge.Place{Run: r.ID, RunVersion: r.Version, Attempt: r.Attempt + 1, Cluster: f.pool.cluster.name}
	n := needOf(r.Gang)
	slices.SortFunc(f.choices, func(a, b choice) int { return a.bin.at - b.bin.at })
	for _, c := range f.choices {
		node := c.bin.node
		slots := c.bin.pickSlots(r.ID, n.slots)
		u := use{slots: slots, cpus: n.cpus, mib: n.mib}
		if r.TimeLimit > 0 {
			u.until = pl.now.Add(r.TimeLimit)
		}
		pl.w.take(node, u)
		out.Shares = append(out.Shares, forge.Share{Node: node.Name, Slots: slots, CPUs: n.cpus, MemoryMiB: n.mib})
		out.Nodes = append(out.Nodes, forge.NodeVersion{Node: node.Name, Version: node.Version})
	}
	e.placed = true
	pl.count(e)
	pl.plan.Place = append(pl.plan.Place, out)
}
