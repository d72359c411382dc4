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
	where   string
	batch   bool
}

func keyOfShape(r *forge.PendingRun) shapeKey {
	k := shapeKey{gang: r.Gang, cluster: r.Cluster, batch: r.Batch}
	if r.Where != nil {
		k.where = r.Where.Key()
	}
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

// plainKey finds the shape of a run that avoids nothing without its constraints being put into words: thousands of runs share few.
type plainKey struct {
	gang    forge.Gang
	cluster forge.ClusterName
	where   *forge.Constraints
	batch   bool
}

// shape is where runs of a key could run, if the nodes as they are now were empty. It lasts as long as the nodes do.
type shape struct {
	key         shapeKey
	at          int32 // its number
	need        need
	where       *forge.Constraints
	pools       []*pool // candidates of forge's own plan, in the order of world.pools
	eligible    []set   // per pool of pools: the bins that may be used and could hold a part of the gang if empty
	existing    []*pool // that could hold the gang if every node were back and empty
	asks        map[*pool]set
	wanted      []set      // per pool: the bins that it may use, too small ones among them
	better      []set      // those of eligible that are not avoided
	queues      []*cluster // candidates to be handed over to, by name
	avoid       []forge.NodeName
	lastResort  bool           // avoided nodes are used: no others could hold the gang
	code        forge.HoldCode // why it can run nowhere at present; "" when it can
	text        string
	waitForNode bool   // the nodes as they are could not hold it even when empty
	out         string // in words, what would count and does not; "" before somebody asks
	said        said   // the last that was said of it
	never       bool   // nor if all were back and well: the same in whatever state they are

	plan   int         // what follows is of the plan with this number
	failed *forge.Held // it did not fit in this plan; its reason
	behind map[behindKey]*forge.Held
	told   int // to how many runs of it the reason was told in the last plan
	bounds map[bound]*forge.Held
}

// behindKey names a look at the reservations: how many there were, and how many of them a run of
// this time limit ends before. The sets are nested, so that the count says which.
type behindKey struct {
	reservations, before int
	yields               bool
}

// reset makes the shape ready for a plan.
func (sh *shape) reset(plan int) {
	if sh.plan == plan {
		return
	}
	sh.plan, sh.failed = plan, nil
	clear(sh.behind)
	clear(sh.bounds)
	if sh.code != "" {
		sh.failed = &forge.Held{Code: sh.code, Text: sh.text}
	}
}

// shapeOf is the shape of a waiting run.
func (pl *planner) shapeOf(e *entry) *shape {
	if e.shape == nil {
		e.shape = pl.w.shapeFor(pl.nodes, e.pend)
	}
	e.shape.reset(pl.w.undo.plan)
	return e.shape
}

// shapeFor finds the shape of a run, or makes it.
func (w *world) shapeFor(nodes []forge.Node, r *forge.PendingRun) *shape {
	plain := plainKey{r.Gang, r.Cluster, r.Where, r.Batch}
	if len(r.Avoid) == 0 {
		if sh := w.plain[plain]; sh != nil {
			return sh
		}
	}
	key := keyOfShape(r)
	sh := w.shapes[key]
	if sh == nil {
		sh = w.shape(nodes, r, key)
		sh.at = int32(len(w.numbered))
		w.shapes[key], w.numbered = sh, append(w.numbered, sh)
	}
	if len(r.Avoid) == 0 {
		w.plain[plain] = sh
	}
	return sh
}

func (w *world) shape(nodes []forge.Node, r *forge.PendingRun, key shapeKey) *shape {
	sh := &shape{key: key, need: needOf(r.Gang), where: r.Where, plan: -1, behind: map[behindKey]*forge.Held{}}
	if key.avoid != "" {
		for name := range strings.SplitSeq(key.avoid, "\n") {
			sh.avoid = append(sh.avoid, forge.NodeName(name))
		}
	}
	if r.Gang.Nodes < 1 || r.Gang.GPUsPerNode < 1 {
		sh.code, sh.text = forge.HoldNever, "asks for no GPUs; a gang has at least 1 node with 1 GPU"
		return sh
	}
	w.reshape(sh, nodes)
	return sh
}

// reshape finds where the shape could run, of new or since the nodes are others.
func (w *world) reshape(sh *shape, nodes []forge.Node) {
	if sh.never || sh.key.gang.Nodes < 1 || sh.key.gang.GPUsPerNode < 1 {
		sh.plan = -1
		return
	}
	sh.wanted = nil
	sh.plan, sh.pools, sh.eligible, sh.better, sh.queues, sh.lastResort, sh.code, sh.text, sh.waitForNode, sh.out, sh.said = -1, nil, nil, nil, nil, false, "", "", false, "", said{}
	if sh.existing == nil {
		sh.existing = w.existing(sh)
	}
	existing := sh.existing
	if len(existing) == 0 {
		sh.never = true
		sh.code, sh.text = w.neverText(nodes, sh.key, sh.where)
		return
	}
	open := slices.DeleteFunc(slices.Clone(existing), func(p *pool) bool { return p.cluster.paused })
	if len(open) == 0 {
		sh.code, sh.text = forge.HoldPaused, pausedText(existing)
		return
	}
	if !slices.ContainsFunc(open, func(p *pool) bool { return p.ready.any() }) {
		sh.code, sh.text = forge.HoldNoNodes, noneReadyText(open)
		return
	}
	usable := func() []*pool { return keep(open, func(p *pool) bool { return w.enough(sh, p, sh.usable(p)) }) }
	sh.pools = usable()
	if len(sh.pools) == 0 && slices.ContainsFunc(open, sh.shuns) {
		sh.lastResort = true
		sh.pools = usable()
	}
	if len(sh.pools) == 0 {
		sh.pools, sh.waitForNode = open, true
	}
	w.divide(sh)
	for _, p := range sh.pools {
		ok := sh.usable(p)
		sh.eligible, sh.better, sh.wanted = append(sh.eligible, ok), append(sh.better, sh.without(p, ok)), append(sh.wanted, sh.welcome(p))
	}
}

// counts says whether what a node is like matters to the shape.
func (sh *shape) counts(n *node) bool {
	return sh.code != "" || slices.ContainsFunc(n.bins, func(b *bin) bool {
		return slices.Contains(sh.existing, b.pool) && (sh.asked(b.pool).has(b.at) || !b.pool.ready.any())
	})
}

// enough says whether bins of a pool are as many as the gang has nodes; where they must share a label, with one value of it.
func (w *world) enough(sh *shape, p *pool, bins set) bool {
	if sh.where == nil || sh.where.Within == "" || sh.key.gang.Nodes == 1 {
		return bins.count() >= sh.key.gang.Nodes
	}
	n := map[string]int{}
	for i := range bins.in(bins) {
		if v, has := p.bins[i].node.Labels[sh.where.Within]; has {
			if n[v]++; n[v] >= sh.key.gang.Nodes {
				return true
			}
		}
	}
	return false
}

// divide tells the clusters to hand over to from those that forge's plan places in.
func (w *world) divide(sh *shape) {
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
		sh.text = "needs " + sh.needText(sh.key.gang, all[0].kind, true) + "; the nodes that take work could not hold that even when empty" +
			w.outText(&shape{key: sh.key, where: sh.where, avoid: sh.avoid, lastResort: sh.lastResort, pools: all}, namer(all))
	}
}

// existing lists the pools that could hold the gang if every node were back and empty. CPU slots
// count only when there are no such GPUs.
func (w *world) existing(sh *shape) []*pool {
	var out []*pool
	for _, p := range w.pools {
		if sh.key.cluster != "" && p.cluster.name != sh.key.cluster || sh.key.batch && !p.cluster.batch || !sh.likes(p) {
			continue
		}
		if len(out) > 0 && out[0].kind != p.kind {
			break // world.pools has devices first
		}
		if w.enough(sh, p, sh.asked(p).and(p.holding(sh.need, true))) {
			out = append(out, p)
		}
	}
	return out
}

// likes says whether GPUs of the pool's type are asked for, and could hold the gang together.
func (sh *shape) likes(p *pool) bool {
	if p.mig && sh.key.gang.GPUs() > 1 {
		return false
	}
	return sh.where == nil || len(sh.where.GPUTypes) == 0 || slices.ContainsFunc(sh.where.GPUTypes, func(t string) bool { return strings.EqualFold(t, p.typ) })
}

// asked are the bins that the run's constraints leave, whatever state their nodes are in: found once.
func (sh *shape) asked(p *pool) set {
	out, known := sh.asks[p]
	if !known {
		out = sh.ask(p)
		if sh.asks == nil {
			sh.asks = map[*pool]set{}
		}
		sh.asks[p] = out
	}
	return out
}

func (sh *shape) ask(p *pool) set {
	out := p.all.clone()
	c := sh.where
	if c.Empty() {
		return out
	}
	for k, v := range c.Labels {
		out = out.and(p.marked(k, v))
	}
	if c.GPUMemoryMiB > 0 {
		out = out.and(p.withMemory(c.GPUMemoryMiB))
	}
	return out.without(p.on(c.Exclude))
}

// on are the bins on these nodes.
func (p *pool) on(names []forge.NodeName) set {
	out := newSet(len(p.bins))
	for _, n := range names {
		if i := p.named(n); i >= 0 {
			out.add(i)
		}
	}
	return out
}

// shuns says whether there may be nodes of a pool that the run keeps away from while others could hold it: where it failed, and those that
// there is evidence against.
func (sh *shape) shuns(p *pool) bool { return len(sh.avoid) > 0 || p.suspect != nil }

// without leaves the nodes that the run keeps away from out.
func (sh *shape) without(p *pool, bins set) set {
	if p.suspect != nil {
		bins = bins.without(p.suspect)
	}
	if len(sh.avoid) > 0 {
		bins = bins.without(p.on(sh.avoid))
	}
	return bins
}

// welcome are the bins of a pool that the run may use as far as its constraints, its failures and their nodes go.
func (sh *shape) welcome(p *pool) set {
	out := sh.asked(p).and(p.ready)
	if sh.lastResort {
		return out
	}
	return sh.without(p, out)
}

// usable are the bins of a pool that could take a part of the gang if they were empty now.
func (sh *shape) usable(p *pool) set {
	return sh.welcome(p).and(p.holding(sh.need, p.cluster.queue != nil))
}

// of is the set of the bins of a pool that the shape may use.
func (sh *shape) of(p *pool) (eligible, better set) {
	i := slices.Index(sh.pools, p)
	return sh.eligible[i], sh.better[i]
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
