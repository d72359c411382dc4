package scheduler

import (
	"cmp"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// world is the snapshot in a form that fitting works on; placing a gang takes from it.
type world struct {
	now      time.Time
	clusters []*cluster // by name
	pools    []*pool    // GPUs before CPU slots, then by cluster, then by type
	claimant map[forge.RunID]bool
	waiters  map[forge.RunID]*forge.PendingRun // the claimants that wait
	claims   map[forge.RunID][]kept
	stopping map[forge.RunID]bool // preempted in this plan
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
	slots   map[int]slot
	freeCPU int
	freeMiB int64
	uses    []use
}

func (n *node) ready() bool { return n.State == forge.NodeReady }

// slot is one schedulable device and who may have it.
type slot struct {
	bin   *bin
	sick  bool
	held  bool
	claim forge.RunID // "" when nobody's
	from  forge.RunID // the run that was stopped for the claim
}

// use is what one attempt holds of a node and until when at the latest.
type use struct {
	until    time.Time // zero: not known
	slots    []int
	cpus     int
	mib      int64
	by       *forge.ActiveAttempt // nil for what this plan places
	setAside forge.RunID          // not held yet: kept for this run, which GPUs are claimed for
}

// pool is all slots of one kind and type in one cluster: what one gang may be made of.
type pool struct {
	cluster *cluster
	kind    forge.GPUKind
	typ     string
	bins    []*bin // by node name
}

// bin is the part of a pool that lies on one node.
type bin struct {
	node    *node
	pool    *pool
	exist   int   // slots, sick ones too
	healthy int   // slots that are not sick
	free    []int // healthy, held by nobody, claimed by nobody; ascending
}

func newWorld(s forge.Snapshot) *world {
	w := &world{now: s.Now, claimant: map[forge.RunID]bool{}, waiters: map[forge.RunID]*forge.PendingRun{},
		claims: map[forge.RunID][]kept{}, stopping: map[forge.RunID]bool{}}
	byName := map[forge.ClusterName]*cluster{}
	nodeAt := map[nodeKey]*node{}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		c := byName[n.Cluster]
		if c == nil {
			c = &cluster{name: n.Cluster}
			byName[n.Cluster] = c
			w.clusters = append(w.clusters, c)
		}
		wn := &node{Node: n, cluster: c, slots: make(map[int]slot, len(n.GPUs)), freeCPU: n.CPUs, freeMiB: n.MemoryMiB}
		c.nodes = append(c.nodes, wn)
		nodeAt[nodeKey{n.Cluster, n.Name}] = wn
	}
	slices.SortFunc(w.clusters, func(a, b *cluster) int { return cmp.Compare(a.name, b.name) })
	for _, c := range w.clusters {
		slices.SortFunc(c.nodes, func(a, b *node) int { return cmp.Compare(a.Name, b.Name) })
		w.addPools(c)
	}
	slices.SortFunc(w.pools, comparePools)
	for _, p := range s.Paused {
		if c := byName[p.Cluster]; c != nil {
			c.paused, c.why = true, p.Reason
		}
	}
	for _, q := range s.Queues {
		if c := byName[q.Cluster]; c != nil {
			c.batch = true
			if q.Binding == forge.BindEager {
				c.queue = &queue{limit: q.MaxPending, of: map[owner]int{}}
			}
		}
	}
	for i := range s.Active {
		a := &s.Active[i]
		if c := byName[a.Cluster]; c != nil && c.queue != nil && a.Queued() {
			c.queue.add(owner{a.Tenant, a.User})
		}
		for _, sh := range a.Placement {
			if n := nodeAt[nodeKey{a.Cluster, sh.Node}]; n != nil {
				n.take(use{until: a.EndsBy, slots: sh.Slots, cpus: sh.CPUs, mib: sh.MemoryMiB, by: a})
			}
		}
	}
	for _, c := range s.Claims {
		w.claimant[c.For] = true
		if n := nodeAt[nodeKey{c.Cluster, c.Node}]; n != nil {
			w.keep(c.For, n, kept{n, c.Slot, c.From})
		}
	}
	if len(s.Claims) > 0 {
		for i := range s.Pending {
			if r := &s.Pending[i]; w.claimant[r.ID] {
				w.waiters[r.ID] = r
			}
		}
	}
	for _, p := range w.pools {
		for _, b := range p.bins {
			b.countFree()
		}
	}
	return w
}

type nodeKey struct {
	cluster forge.ClusterName
	node    forge.NodeName
}

func (w *world) addPools(c *cluster) {
	pools := map[forge.GPUKind]map[string]*pool{}
	for _, n := range c.nodes {
		for i := range n.GPUs {
			g := &n.GPUs[i]
			kinds := pools[g.Kind]
			if kinds == nil {
				kinds = map[string]*pool{}
				pools[g.Kind] = kinds
			}
			p := kinds[g.Type]
			if p == nil {
				p = &pool{cluster: c, kind: g.Kind, typ: g.Type}
				kinds[g.Type] = p
				w.pools = append(w.pools, p)
			}
			if len(p.bins) == 0 || p.bins[len(p.bins)-1].node != n {
				p.bins = append(p.bins, &bin{node: n, pool: p})
			}
			b := p.bins[len(p.bins)-1]
			b.exist++
			if g.Sick == "" {
				b.healthy++
			}
			n.slots[g.Slot] = slot{bin: b, sick: g.Sick != ""}
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
	return cmp.Or(cmp.Compare(a.cluster.name, b.cluster.name), cmp.Compare(a.typ, b.typ))
}

// take gives a part of the node to an attempt.
func (n *node) take(u use) {
	n.uses = append(n.uses, u)
	n.freeCPU -= u.cpus
	n.freeMiB -= u.mib
	for _, i := range u.slots {
		if sl, ok := n.slots[i]; ok {
			sl.held = true
			n.slots[i] = sl
		}
	}
}

func (b *bin) countFree() {
	b.free = b.free[:0]
	for i := range b.node.GPUs {
		n := b.node.GPUs[i].Slot
		if sl := b.node.slots[n]; sl.bin == b && !sl.sick && !sl.held && sl.claim == "" {
			b.free = append(b.free, n)
		}
	}
	slices.Sort(b.free)
}

// claimed lists the free slots that are kept for a run, ascending.
func (b *bin) claimed(run forge.RunID) []int {
	var out []int
	for i := range b.node.GPUs {
		n := b.node.GPUs[i].Slot
		if sl := b.node.slots[n]; sl.bin == b && !sl.sick && !sl.held && sl.claim == run {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
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

// holdsEmpty says whether the bin could hold the need with this many slots and nothing running.
func (b *bin) holdsEmpty(n need, slots int) bool {
	return slots >= n.slots && b.node.CPUs >= n.cpus && b.node.MemoryMiB >= n.mib
}
