package scheduler

import (
	"cmp"
	"slices"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// world is the snapshot in a form that fitting works on. It outlives a plan: changes are made in place, and what a plan tries out is
// taken back at its end (undo.go).
type world struct {
	clusters  []*cluster // by name
	byName    map[forge.ClusterName]*cluster
	pools     []*pool // GPUs before CPU slots, then by cluster, then by type
	nodes     map[nodeKey]*node
	claims    map[forge.RunID][]kept
	entries   map[forge.RunID]*entry
	accounts  map[forge.TenantID]*account
	presence  int // grows when a tenant comes or goes
	slab      []entry
	waiting   []*entry
	rows      []*row   // all of waiting but what is fresh, in order
	fresh     []*entry // what came since the last plan
	timed     []*entry // those of waiting that have only a time before which they do not start
	idle      map[holdKey]*idleness
	idles     []*idleness // by number
	freeIdle  []int32     // numbers that are free
	backlog   int64       // GPU time that waiting runs need, in milliseconds
	pinned    int         // runs that wait and may not be stopped once they run
	lineStale bool        // the rows are not in order
	promises  []*promised
	running   []*entry
	runners   []runner // of running, but for what has started, in the order of the last plan
	started   []*entry // since then
	shapes    map[shapeKey]*shape
	numbered  []*shape // by number
	plain     map[plainKey]*shape
	largest   map[perGPU]string // gangs that the nodes could hold if all were back and well, in words
	arrivals  arrivals
	undo      undo
}

type cluster struct {
	name     forge.ClusterName
	paused   bool
	why      string // of the pause
	nodes    []*node
	reserved *reservation
	queue    *queue // nil where forge's plan chooses the nodes
	batch    bool   // it has a batch system
}

type node struct {
	*forge.Node
	cluster *cluster
	slots   []*slot // by number; nil where there is none
	bins    []*bin
	freeCPU int
	freeMiB int64
	uses    []use // by run
	saved   int   // the plan that keeps what it was before
	// As room, small and lent of a bin.
	roomCPU, smallCPU, lentCPU int
	roomMiB, smallMiB, lentMiB int64
}

func (n *node) ready() bool { return n.State == forge.NodeReady }

func (n *node) slot(i int) *slot {
	if i < 0 || i >= len(n.slots) {
		return nil
	}
	return n.slots[i]
}

// slot is one schedulable device and who may have it.
type slot struct {
	n      int
	bin    *bin
	sick   bool
	island int // 0: not known
	numa   int // from 1; 0: not known
	held   bool
	claim  forge.RunID // "" when nobody's
	from   forge.RunID // the run that was stopped for the claim
}

func (s *slot) free() bool { return !s.sick && !s.held && s.claim == "" }

// use is what one attempt holds of a node and until when at the latest.
type use struct {
	until    time.Time // zero: not known
	slots    []int
	cpus     int
	mib      int64
	by       *entry      // nil for what this plan places
	setAside forge.RunID // not held yet: kept for this run, which GPUs are claimed for
}

// bin is the part of a pool that lies on one node.
type bin struct {
	node    *node
	pool    *pool
	at      int // index in pool.bins
	slots   []*slot
	exist   int // slots, sick ones too
	healthy int // slots that are not sick
	avail   int // healthy, held by nobody, claimed by nobody
	// For the repacking of one plan: what it may still give away, and what of that chosen runs hold that have no place yet.
	room, small int
	lent        int  // slots of runs that may be stopped
	doomed      int  // shares of those that may be stopped and were not chosen
	base        int  // room as it was surveyed
	moved       bool // since the survey
}

func newWorld(runs int) *world {
	return &world{byName: map[forge.ClusterName]*cluster{}, claims: map[forge.RunID][]kept{}, entries: make(map[forge.RunID]*entry, runs), slab: make([]entry, runs),
		accounts: map[forge.TenantID]*account{}, idle: map[holdKey]*idleness{}, shapes: map[shapeKey]*shape{}, plain: map[plainKey]*shape{}, largest: map[perGPU]string{}}
}

// build makes the part of the world that is not runs: nodes, clusters, pools.
func (w *world) build(nodes []forge.Node, paused []forge.PausedCluster, queues []forge.ClusterQueue) {
	w.nodes = make(map[nodeKey]*node, len(nodes))
	all := make([]node, len(nodes)) // side by side in memory, since plans go through all of them
	for i := range nodes {
		n := &nodes[i]
		c := w.byName[n.Cluster]
		if c == nil {
			c = &cluster{name: n.Cluster}
			w.byName[n.Cluster] = c
			w.clusters = append(w.clusters, c)
		}
		wn := &all[i]
		*wn = node{Node: n, cluster: c, freeCPU: n.CPUs, freeMiB: n.MemoryMiB, saved: -1}
		c.nodes = append(c.nodes, wn)
		w.nodes[nodeKey{n.Cluster, n.Name}] = wn
	}
	slices.SortFunc(w.clusters, func(a, b *cluster) int { return cmp.Compare(a.name, b.name) })
	for _, p := range paused {
		if c := w.byName[p.Cluster]; c != nil {
			c.paused, c.why = true, p.Reason
		}
	}
	for _, q := range queues {
		if c := w.byName[q.Cluster]; c != nil {
			c.batch = true
			if q.Binding == forge.BindEager {
				c.queue = &queue{limit: q.MaxPending, of: map[owner]int{}}
			}
		}
	}
	for _, c := range w.clusters {
		slices.SortFunc(c.nodes, func(a, b *node) int { return cmp.Compare(a.Name, b.Name) })
		w.addPools(c)
	}
	slices.SortFunc(w.pools, comparePools)
	for _, n := range w.nodes {
		slices.SortFunc(n.bins, func(x, y *bin) int { return comparePools(x.pool, y.pool) }) // not as its GPUs happen to be listed
	}
	for _, p := range w.pools {
		p.index()
	}
}

type nodeKey struct {
	cluster forge.ClusterName
	node    forge.NodeName
}

func (w *world) addPools(c *cluster) {
	var pools []*pool
	poolOf := func(g *forge.GPU) *pool {
		for _, p := range pools {
			if p.kind == g.Kind && p.typ == g.Type && p.mig == (g.MIG != "") {
				return p
			}
		}
		p := &pool{cluster: c, kind: g.Kind, typ: g.Type, mig: g.MIG != ""}
		pools = append(pools, p)
		w.pools = append(w.pools, p)
		return p
	}
	gpus := 0
	for _, n := range c.nodes {
		gpus += len(n.GPUs)
	}
	slots, bins := make([]slot, gpus), make([]bin, len(c.nodes)) // side by side in memory
	for _, n := range c.nodes {
		all := slots[:len(n.GPUs):len(n.GPUs)]
		slots = slots[len(n.GPUs):]
		n.slots = make([]*slot, 0, len(n.GPUs))
		for i := range n.GPUs {
			g := &n.GPUs[i]
			p := poolOf(g)
			if len(p.bins) == 0 || p.bins[len(p.bins)-1].node != n {
				if len(bins) == 0 { // a node has GPUs of several kinds
					bins = make([]bin, len(c.nodes))
				}
				b := &bins[0]
				bins = bins[1:]
				*b = bin{node: n, pool: p, at: len(p.bins), slots: make([]*slot, 0, len(n.GPUs)-i)}
				p.bins, n.bins = append(p.bins, b), append(n.bins, b)
			}
			b := p.bins[len(p.bins)-1]
			b.exist++
			if g.Sick == "" {
				b.healthy++
			}
			all[i] = slot{n: g.Slot, bin: b, sick: g.Sick != "", island: g.Island, numa: numaOf(g)}
			if g.Slot >= len(n.slots) {
				n.slots = slices.Grow(n.slots, g.Slot+1-len(n.slots))[:g.Slot+1]
			}
			n.slots[g.Slot] = &all[i]
			b.slots = append(b.slots, &all[i])
		}
		for _, b := range n.bins {
			slices.SortFunc(b.slots, func(x, y *slot) int { return cmp.Compare(x.n, y.n) })
			b.avail = b.healthy
		}
	}
}

func comparePools(a, b *pool) int {
	if a.kind != b.kind { // a device before what stands in for one
		if a.kind == forge.GPUDevice {
			return -1
		}
		if b.kind == forge.GPUDevice {
			return 1
		}
		return cmp.Compare(a.kind, b.kind)
	}
	mig := 0
	if a.mig != b.mig {
		if mig = 1; b.mig {
			mig = -1
		}
	}
	return cmp.Or(cmp.Compare(a.cluster.name, b.cluster.name), cmp.Compare(a.typ, b.typ), mig)
}

// take gives a part of the node to somebody.
func (w *world) take(n *node, u use) {
	w.keepBefore(n)
	n.move()
	n.freeCPU -= u.cpus
	n.freeMiB -= u.mib
	for _, i := range u.slots {
		if sl := n.slot(i); sl != nil {
			if sl.free() {
				sl.bin.setAvail(sl.bin.avail - 1)
			}
			sl.held = true
		}
	}
	id := u.run()
	i := len(n.uses)
	for i > 0 && n.uses[i-1].run() > id {
		i--
	}
	n.uses = slices.Insert(n.uses, i, u)
}

func (u *use) run() forge.RunID {
	if u.by != nil {
		return u.by.id
	}
	return u.setAside
}

// release takes back what a running entry holds of the world.
func (w *world) release(e *entry) {
	for _, sh := range e.act.Placement {
		n := w.nodes[nodeKey{e.act.Cluster, sh.Node}]
		if n == nil {
			continue
		}
		for i := range n.uses {
			u := &n.uses[i]
			if u.by != e {
				continue
			}
			n.move()
			n.freeCPU += u.cpus
			n.freeMiB += u.mib
			for _, k := range u.slots {
				if sl := n.slot(k); sl != nil {
					sl.held = slices.ContainsFunc(n.uses, func(o use) bool { return o.by != e && slices.Contains(o.slots, k) })
					if sl.free() {
						sl.bin.setAvail(sl.bin.avail + 1)
					}
				}
			}
			n.uses = slices.Delete(n.uses, i, i+1)
			break
		}
	}
}

// need is what one node must give to a gang.
type need struct {
	slots int
	cpus  int
	mib   int64
}

func needOf(g forge.Gang) need {
	return need{g.GPUsPerNode, g.CPUsPerNode(), g.MemoryMiBPerNode()}
}

// labels are those that a policy spreads gangs by, nearest first.
func labels(spread string) []string {
	return strings.FieldsFunc(spread, func(r rune) bool { return r == ',' || r == ' ' })
}
