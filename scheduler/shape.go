package scheduler

import (
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// shapeKey is all of a run that decides where it can run; equal shapes have equal fates.
type shapeKey struct {
	gang    forge.Gang
	cluster forge.ClusterName
	avoid   string
	batch   bool
}

func keyOfShape(r *forge.PendingRun) shapeKey {
	k := shapeKey{gang: r.Gang, cluster: r.Cluster, batch: r.Batch}
	if len(r.Avoid) > 0 {
		names := make([]string, len(r.Avoid))
		for i, n := range r.Avoid {
			names[i] = string(n)
		}
		slices.Sort(names)
		k.avoid = strings.Join(slices.Compact(names), "\n")
	}
	return k
}

// shape is where runs of a key could run, if the nodes as they are now were empty.
type shape struct {
	key         shapeKey
	need        need
	pools       []*pool    // candidates of forge's own plan, in the order of world.pools
	queues      []*cluster // candidates to be handed over to, by name
	avoid       []forge.NodeName
	lastResort  bool           // avoided nodes are used: no others could hold the gang
	code        forge.HoldCode // why it can run nowhere at present; "" when it can
	text        string
	failed      *forge.Held // it did not fit in this plan; its reason
	behind      map[behindKey]*forge.Held
	waitForNode bool // the nodes as they are could not hold it even when empty
}

// behindKey names a look at the reservations: how many there were, and how many of them a run of
// this time limit ends before. The sets are nested, so that the count says which.
type behindKey struct{ reservations, before int }

func (w *world) shape(s forge.Snapshot, r *forge.PendingRun, key shapeKey) *shape {
	sh := &shape{key: key, need: needOf(r.Gang), behind: map[behindKey]*forge.Held{}}
	if key.avoid != "" {
		for name := range strings.SplitSeq(key.avoid, "\n") {
			sh.avoid = append(sh.avoid, forge.NodeName(name))
		}
	}
	if r.Gang.Nodes < 1 || r.Gang.GPUsPerNode < 1 {
		sh.code, sh.text = forge.HoldNever, "asks for no GPUs; a gang has at least 1 node with 1 GPU"
		return sh
	}
	existing := w.existing(sh)
	if len(existing) == 0 {
		sh.code, sh.text = w.neverText(s, key)
		return sh
	}
	open := slices.DeleteFunc(slices.Clone(existing), func(p *pool) bool { return p.cluster.paused })
	if len(open) == 0 {
		sh.code, sh.text = forge.HoldPaused, pausedText(existing)
		return sh
	}
	if !slices.ContainsFunc(open, func(p *pool) bool { return slices.ContainsFunc(p.bins, func(b *bin) bool { return b.node.takes() }) }) {
		sh.code, sh.text = forge.HoldNoNodes, noneReadyText(open)
		return sh
	}
	usable := func() []*pool { return keep(open, func(p *pool) bool { return sh.usable(p) >= key.gang.Nodes }) }
	sh.pools = usable()
	if len(sh.pools) == 0 && len(sh.avoid) > 0 {
		sh.lastResort = true
		sh.pools = usable()
	}
	if len(sh.pools) == 0 {
		sh.pools, sh.waitForNode = open, true
	}
	return w.divide(sh, r)
}

// divide tells the clusters to hand over to from those that forge's plan places in.
func (w *world) divide(sh *shape, r *forge.PendingRun) *shape {
	all := sh.pools
	sh.pools = keep(all, func(p *pool) bool { return p.cluster.queue == nil })
	switch {
	case !sh.waitForNode:
		for _, p := range all {
			if p.cluster.queue != nil && !slices.Contains(sh.queues, p.cluster) {
				sh.queues = append(sh.queues, p.cluster)
			}
		}
	case len(sh.pools) == 0:
		sh.code = forge.HoldCapacity
		sh.text = "needs " + needText(r.Gang, all[0].kind, true) + "; the nodes that take work could not hold that even when empty" +
			w.outText(&shape{key: sh.key, avoid: sh.avoid, lastResort: sh.lastResort, pools: all}, namer(all))
	}
	return sh
}

// existing lists the pools that could hold the gang if every node were back and empty. CPU slots
// count only when there are no such GPUs.
func (w *world) existing(sh *shape) []*pool {
	var out []*pool
	for _, p := range w.pools {
		if sh.key.cluster != "" && p.cluster.name != sh.key.cluster || sh.key.batch && !p.cluster.batch {
			continue
		}
		if len(out) > 0 && out[0].kind != p.kind {
			break // world.pools has devices first
		}
		n := 0
		for _, b := range p.bins {
			if b.holdsEmpty(sh.need, b.exist) {
				n++
			}
		}
		if n >= sh.key.gang.Nodes {
			out = append(out, p)
		}
	}
	return out
}

// usable counts the nodes of a pool that could take a part of the gang if they were empty now.
func (sh *shape) usable(p *pool) int {
	n := 0
	for _, b := range p.bins {
		if sh.mayUse(b) && b.holdsEmpty(sh.need, b.counts()) {
			n++
		}
	}
	return n
}

func (sh *shape) mayUse(b *bin) bool {
	return b.node.takes() && (sh.lastResort || !sh.avoids(b))
}

func (sh *shape) avoids(b *bin) bool {
	return len(sh.avoid) > 0 && slices.Contains(sh.avoid, b.node.Name)
}

func keep(pools []*pool, want func(*pool) bool) []*pool {
	var out []*pool
	for _, p := range pools {
		if want(p) {
			out = append(out, p)
		}
	}
	return out
}
