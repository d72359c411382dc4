package scheduler

import (
	"cmp"
	"slices"

	forge "github.com/forge-ml/forge-ml"
)

// choice is one node of a fit and how good it is.
type choice struct {
	bin      *bin
	claimed  []int // slots kept for this run
	avoided  bool
	left     int // slots of the type left over
	leftCPUs int
	leftMiB  int64
}

// compareChoices is best fit, as a total order: what is kept for the run first (its claims are
// freed by nobody else), then the fewest slots, CPUs and MiB left over, then the name.
func compareChoices(a, b choice) int {
	if a.avoided != b.avoided {
		if b.avoided {
			return -1
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(len(b.claimed), len(a.claimed)),
		cmp.Compare(a.left, b.left),
		cmp.Compare(a.leftCPUs, b.leftCPUs),
		cmp.Compare(a.leftMiB, b.leftMiB),
		cmp.Compare(a.bin.node.Name, b.bin.node.Name),
	)
}

// fit is one way to place a whole gang.
type fit struct {
	pool    *pool
	choices []choice
}

// better compares fits in different pools by the sums of what compareChoices looks at.
func (f fit) better(g fit) bool {
	sum := func(f fit) (avoided, claimed, left int) {
		for _, c := range f.choices {
			if c.avoided {
				avoided++
			}
			claimed += len(c.claimed)
			left += c.left
		}
		return avoided, claimed, left
	}
	fa, fc, fl := sum(f)
	ga, gc, gl := sum(g)
	return cmp.Or(cmp.Compare(fa, ga), cmp.Compare(gc, fc), cmp.Compare(fl, gl), comparePools(f.pool, g.pool)) < 0
}

// find looks for the best fit of a run now. allowed says which nodes reservations leave to it.
// blocked is a fit that only reservations stand against.
func (w *world) find(r *forge.PendingRun, sh *shape, allowed func(*bin) bool) (found, blocked *fit) {
	claims := w.claimant[r.ID]
	for _, p := range sh.pools {
		var open, all []choice
		for _, b := range p.bins {
			c, ok := sh.choice(r, b, claims)
			if !ok {
				continue
			}
			all = append(all, c)
			if allowed(b) {
				open = append(open, c)
			}
		}
		if f := pick(p, open, r.Gang.Nodes); f != nil && (found == nil || f.better(*found)) {
			found = f
		}
		if blocked == nil {
			blocked = pick(p, all, r.Gang.Nodes)
		}
	}
	return found, blocked
}

func (sh *shape) choice(r *forge.PendingRun, b *bin, claims bool) (choice, bool) {
	if !sh.mayUse(b) || b.node.freeCPU < sh.need.cpus || b.node.freeMiB < sh.need.mib {
		return choice{}, false
	}
	c := choice{bin: b, avoided: sh.avoids(b), leftCPUs: b.node.freeCPU - sh.need.cpus, leftMiB: b.node.freeMiB - sh.need.mib}
	if claims {
		c.claimed = b.claimed(r.ID)
	}
	c.left = len(b.free) + len(c.claimed) - sh.need.slots
	if c.left < 0 {
		return choice{}, false
	}
	c.claimed = c.claimed[:min(len(c.claimed), sh.need.slots)]
	return c, true
}

func pick(p *pool, choices []choice, nodes int) *fit {
	switch {
	case len(choices) < nodes:
		return nil
	case nodes == 1:
		choices = []choice{slices.MinFunc(choices, compareChoices)}
	default:
		slices.SortFunc(choices, compareChoices)
		choices = choices[:nodes]
	}
	return &fit{p, choices}
}

// place takes the fit from the world and writes it down.
func (w *world) place(r *forge.PendingRun, f *fit) forge.Place {
	out := forge.Place{Run: r.ID, RunVersion: r.Version, Attempt: r.Attempt + 1, Cluster: f.pool.cluster.name}
	n := needOf(r.Gang)
	choices := slices.Clone(f.choices)
	slices.SortFunc(choices, func(a, b choice) int { return cmp.Compare(a.bin.node.Name, b.bin.node.Name) })
	for _, c := range choices {
		slots := slices.Concat(c.claimed, c.bin.free[:n.slots-len(c.claimed)])
		slices.Sort(slots)
		u := use{slots: slots, cpus: n.cpus, mib: n.mib}
		if r.TimeLimit > 0 {
			u.until = w.now.Add(r.TimeLimit)
		}
		c.bin.node.take(u)
		c.bin.countFree()
		out.Shares = append(out.Shares, forge.Share{Node: c.bin.node.Name, Slots: slots, CPUs: n.cpus, MemoryMiB: n.mib})
		out.Nodes = append(out.Nodes, forge.NodeVersion{Node: c.bin.node.Name, Version: c.bin.node.Version})
	}
	return out
}
