package scheduler

import (
	"fmt"
	"slices"
	"sort"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// holding is a share of a node that somebody has.
type holding struct {
	run    forge.RunID
	endsBy time.Time
	share  forge.Share
}

// scene is who has what, node by node. Whether one run fits is asked once for each victim of a plan, and there may be
// thousands: to go through all attempts for each node took minutes, in which nothing was planned.
type scene map[checkNode][]holding

func sceneOf(lists ...[]forge.ActiveAttempt) scene {
	s := scene{}
	for _, there := range lists {
		for _, a := range there {
			for _, sh := range a.Placement {
				at := checkNode{a.Cluster, sh.Node}
				s[at] = append(s[at], holding{a.Run, a.EndsBy, sh})
			}
		}
	}
	return s
}

// view is some scenes, and what of a holding is left in them; a nil left leaves everything.
type view struct {
	scenes []scene
	left   func(at checkNode, h holding) (forge.Share, bool)
}

func viewOf(lists ...[]forge.ActiveAttempt) view { return view{scenes: []scene{sceneOf(lists...)}} }

// asPlanned is what holds room once the plan is carried out and nobody has left yet.
func (c *checker) asPlanned() scene {
	if c.planned == nil {
		there := slices.Clone(c.s.Active)
		for _, p := range c.plan.Place {
			there = append(there, forge.ActiveAttempt{Run: p.Run, Cluster: p.Cluster, Placement: p.Shares})
		}
		c.planned = sceneOf(there)
	}
	return c.planned
}

// asKept is what is set aside for runs that wait until others have stopped.
func (c *checker) asKept() scene {
	if c.keeps == nil {
		var there []forge.ActiveAttempt
		for run, a := range c.setAside {
			a.Run = run
			there = append(there, a)
		}
		c.keeps = sceneOf(there)
	}
	return c.keeps
}

// room is what a node lacks or has.
type room struct {
	slots, cpus int
	mib         int64
}

// roomOn is what a node has for a run, in a view. at zero means now; otherwise those that end by then are gone.
func (c *checker) roomOn(r forge.PendingRun, t gangType, n forge.Node, v view, at time.Time) room {
	out := room{0, n.CPUs, n.MemoryMiB}
	here := checkNode{n.Cluster, n.Name}
	busy := map[int]bool{}
	for _, s := range v.scenes {
		for _, h := range s[here] {
			if !at.IsZero() && !h.endsBy.IsZero() && !h.endsBy.After(at) {
				continue
			}
			c.looks++
			sh, has := h.share, true
			if v.left != nil {
				sh, has = v.left(here, h)
			}
			if !has {
				continue
			}
			out.cpus -= sh.CPUs
			out.mib -= sh.MemoryMiB
			for _, slot := range sh.Slots {
				busy[slot] = true
			}
		}
	}
	for _, g := range n.GPUs {
		claimant, claimed := c.claims[checkSlot{here, g.Slot}]
		if t.is(g) && g.Sick == "" && !busy[g.Slot] && (!claimed || claimant == r.ID) {
			out.slots++
		}
	}
	return out
}

func (c *checker) lacks(r forge.PendingRun, t gangType, n forge.Node, v view) room {
	has := c.roomOn(r, t, n, v, time.Time{})
	return room{max(0, r.Gang.GPUsPerNode-has.slots), max(0, r.Gang.CPUsPerNode()-has.cpus), max(0, r.Gang.MemoryMiBPerNode()-has.mib)}
}

// startOf is the first time at which something ends and the run fits. Later there is never less room, as nobody comes.
func (c *checker) startOf(r forge.PendingRun, choices map[gangType][]forge.Node, v view) (time.Time, bool) {
	times := []time.Time{c.s.Now}
	for _, s := range v.scenes {
		for _, there := range s {
			for _, h := range there {
				if h.endsBy.After(c.s.Now) {
					times = append(times, h.endsBy)
				}
			}
		}
	}
	sort.Slice(times, func(i, j int) bool { return times[i].Before(times[j]) })
	first := sort.Search(len(times), func(i int) bool {
		_, fits := c.fitsIn(r, choices, v, times[i])
		return fits
	})
	if first == len(times) {
		return time.Time{}, false
	}
	return times[first], true
}

// fitsIn says whether, and in which type, the run fits on some nodes in a view.
func (c *checker) fitsIn(r forge.PendingRun, choices map[gangType][]forge.Node, v view, at time.Time) (gangType, bool) {
	for _, t := range c.typesOf() {
		if fit := c.withRoom(r, t, choices[t], v, at); len(fit) > 0 && areEnough(r, fit) {
			return t, true
		}
	}
	return gangType{}, false
}

// withRoom lists the nodes that have room for a share of the gang in a view.
func (c *checker) withRoom(r forge.PendingRun, t gangType, nodes []forge.Node, v view, at time.Time) (fit []forge.Node) {
	for _, n := range nodes {
		has := c.roomOn(r, t, n, v, at)
		if has.slots >= r.Gang.GPUsPerNode && has.cpus >= r.Gang.CPUsPerNode() && has.mib >= r.Gang.MemoryMiBPerNode() {
			fit = append(fit, n)
		}
	}
	return fit
}

// fitNow lists where a share of the gang fits once the plan is carried out, with nobody gone and beside all that is set aside, but for some nodes.
// Runs that ask for the same find the same there, unless GPUs are claimed for one of them.
func (c *checker) fitNow(r forge.PendingRun, but map[gangType][]forge.Node) map[gangType][]forge.Node {
	look := func() map[gangType][]forge.Node {
		v, out := view{scenes: []scene{c.asPlanned(), c.asKept()}}, map[gangType][]forge.Node{}
		for t, nodes := range c.choices(r) {
			out[t] = c.withRoom(r, t, nodes, v, time.Time{})
		}
		return out
	}
	var all map[gangType][]forge.Node
	if c.claimants == nil {
		c.claimants = map[forge.RunID]bool{}
		for _, run := range c.claims {
			c.claimants[run] = true
		}
	}
	if c.claimants[r.ID] {
		all = look()
	} else {
		all = remembered(c.fit, r, look)
	}
	out := map[gangType][]forge.Node{}
	for t, nodes := range all {
		out[t] = slices.DeleteFunc(slices.Clone(nodes), func(n forge.Node) bool {
			return slices.ContainsFunc(but[t], func(b forge.Node) bool { return b.Name == n.Name && b.Cluster == n.Cluster })
		})
	}
	return out
}

// withoutThem is what is held when these victims are gone, of which only what is claimed is free.
func (c *checker) withoutThem(r forge.PendingRun, gone []forge.Preempt) (v view, claims map[checkSlot]bool) {
	claims = map[checkSlot]bool{}
	stopped := map[forge.RunID]bool{}
	for _, p := range gone {
		stopped[p.Run] = true
		for _, cl := range p.Claims {
			claims[checkSlot{checkNode{cl.Cluster, cl.Node}, cl.Slot}] = true
		}
	}
	return view{scenes: []scene{c.asPlanned()}, left: func(at checkNode, h holding) (forge.Share, bool) {
		if stopped[h.run] {
			return unclaimed(at, h.share, claims), true
		}
		_, kept := c.setAside[h.run]
		return h.share, !kept || h.run != r.ID
	}}, claims
}

// fitsWithout says whether the gang fits when these victims are gone, on the nodes that they are on, with those that have room elsewhere,
// beside what is set aside for others.
func (c *checker) fitsWithout(r forge.PendingRun, there, elsewhere map[gangType][]forge.Node, gone []forge.Preempt) bool {
	v, _ := c.withoutThem(r, gone)
	v.scenes = append(v.scenes, c.asKept())
	for _, t := range c.typesOf() {
		fit := append(c.withRoom(r, t, there[t], v, time.Time{}), elsewhere[t]...)
		if len(fit) > 0 && areEnough(r, fit) {
			return true
		}
	}
	return false
}

// fitsOnClaims says whether the gang fits on claimed slots only when these victims are gone.
func (c *checker) fitsOnClaims(r forge.PendingRun, choices map[gangType][]forge.Node, gone []forge.Preempt) bool {
	v, claims := c.withoutThem(r, gone)
	on := map[checkNode]bool{}
	for s := range claims {
		on[s.at] = true
	}
	for t, nodes := range choices {
		var fit []forge.Node
		for _, n := range nodes {
			if !on[checkNode{n.Cluster, n.Name}] || c.claimedOn(t, n, claims) < r.Gang.GPUsPerNode {
				continue
			}
			has := c.roomOn(r, t, n, v, time.Time{})
			if has.cpus >= r.Gang.CPUsPerNode() && has.mib >= r.Gang.MemoryMiBPerNode() {
				fit = append(fit, n)
			}
		}
		if areEnough(r, fit) {
			return true
		}
	}
	return false
}

// unclaimed is what a victim still blocks of a node: the slots that nobody claimed, and all that it has there where nothing of it is
// claimed. Elsewhere its CPUs and memory go.
func unclaimed(at checkNode, sh forge.Share, claims map[checkSlot]bool) forge.Share {
	mine := func(slot int) bool { return claims[checkSlot{at, slot}] }
	if !slices.ContainsFunc(sh.Slots, mine) {
		return sh
	}
	rest := forge.Share{Node: sh.Node}
	for _, slot := range sh.Slots {
		if !mine(slot) {
			rest.Slots = append(rest.Slots, slot)
		}
	}
	return rest
}

// askedFor is what a run asks of its nodes: runs that ask for the same have the same nodes to choose from.
type askedFor struct {
	gang         forge.Gang
	cluster      forge.ClusterName
	batch        bool
	where, avoid string
}

func asked(r forge.PendingRun) askedFor {
	a := askedFor{gang: r.Gang, cluster: r.Cluster, batch: r.Batch}
	if r.Where != nil {
		a.where = fmt.Sprintf("%+v", *r.Where)
	}
	if len(r.Avoid) > 0 {
		a.avoid = fmt.Sprintf("%q", r.Avoid)
	}
	return a
}

// remembered answers a question about what a run asks for once a plan.
func remembered[V any](known map[askedFor]V, r forge.PendingRun, find func() V) V {
	key := asked(r)
	v, ok := known[key]
	if !ok {
		v = find()
		known[key] = v
	}
	return v
}
