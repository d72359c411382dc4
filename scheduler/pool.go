package scheduler

import (
	"iter"
	"math/bits"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// pool is all slots of one kind and type in one cluster: what one gang may be made of. Its bins are found by what they have free
// without looking at the others: a cluster of ten thousand full nodes costs no more than one of ten.
type pool struct {
	cluster *cluster
	kind    forge.GPUKind
	typ     string
	mig     bool   // MIG instances, whose ranks could not reach each other
	bins    []*bin // by node name
	most    int    // slots of the largest bin
	free    []set  // by avail: the bins that have so many
	counts  []int  // how many bins each of free has
	ready   set    // bins on nodes that take work
	failing bool   // some of the nodes had failures of late
	suspect set    // bins on nodes that there is evidence against; nil when there are none
	all     set
	ill     set     // bins with GPUs that are sick
	classes []class // every bin is in one
	holds   map[capable]set
	marks   map[string]set
	memory  map[int64]set
	room    vacancy            // for the repacking of one plan
	groups  map[string][]int32 // by label: which value each bin has, by number; 0 for none
}

// set is a set of the bins of one pool.
type set []uint64

func newSet(n int) set          { return make(set, (n+63)/64) }
func (s set) add(i int)         { s[i>>6] |= 1 << (i & 63) }
func (s set) remove(i int)      { s[i>>6] &^= 1 << (i & 63) }
func (s set) has(i int) bool    { return s[i>>6]&(1<<(i&63)) != 0 }
func (s set) clone() set        { return append(set(nil), s...) }
func (s set) and(t set) set     { return s.each(t, func(a, b uint64) uint64 { return a & b }) }
func (s set) without(t set) set { return s.each(t, func(a, b uint64) uint64 { return a &^ b }) }

func (s set) each(t set, f func(a, b uint64) uint64) set {
	out := make(set, len(s))
	for i := range s {
		out[i] = f(s[i], t[i])
	}
	return out
}

func (s set) count() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// common is how many there are in both.
func (s set) common(t set) int {
	n := 0
	for i, w := range s {
		n += bits.OnesCount64(w & t[i])
	}
	return n
}

// in goes through what is in both sets, ascending.
func (s set) in(t set) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, w := range s {
			for w &= t[i]; w != 0; w &= w - 1 {
				if !yield(i<<6 | bits.TrailingZeros64(w)) {
					return
				}
			}
		}
	}
}

// class is the bins of a pool that are alike as long as nothing runs.
type class struct {
	exist, healthy, cpus int
	mib                  int64
	bins                 set
}

// classed puts a bin into its class.
func (p *pool) classed(i int) {
	b := p.bins[i]
	like := class{exist: b.exist, healthy: b.healthy, cpus: b.node.CPUs, mib: b.node.MemoryMiB}
	for j := range p.classes {
		if c := &p.classes[j]; c.exist == like.exist && c.healthy == like.healthy && c.cpus == like.cpus && c.mib == like.mib {
			c.bins.add(i)
			return
		}
	}
	like.bins = newSet(len(p.bins))
	like.bins.add(i)
	p.classes = append(p.classes, like)
}

// any says whether there is something in it.
func (s set) any() bool { return slices.ContainsFunc(s, func(w uint64) bool { return w != 0 }) }

// capable names the bins that could meet a need if nothing ran; with sick GPUs counted or without.
type capable struct {
	need
	sick bool
}

// holding are the bins that could meet a need if nothing ran; with sick GPUs counted or without. Who asks changes nothing in them.
func (p *pool) holding(n need, sick bool) set {
	out, known := p.holds[capable{n, sick}]
	if known {
		return out
	}
	out = newSet(len(p.bins))
	if p.holds == nil {
		p.holds = map[capable]set{}
	}
	p.holds[capable{n, sick}] = out
	for _, c := range p.classes {
		slots := c.healthy
		if sick {
			slots = c.exist
		}
		if slots >= n.slots && c.cpus >= n.cpus && c.mib >= n.mib {
			for i, w := range c.bins {
				out[i] |= w
			}
		}
	}
	return out
}

// named is where the bin on a node is; -1: there is none.
func (p *pool) named(n forge.NodeName) int {
	i, found := slices.BinarySearchFunc(p.bins, n, func(b *bin, n forge.NodeName) int { return strings.Compare(string(b.node.Name), string(n)) })
	if !found {
		return -1
	}
	return i
}

// index makes the sets of a pool whose bins are all there.
func (p *pool) index() {
	p.most, p.classes, p.failing, p.suspect = 0, nil, false, nil
	clear(p.holds)
	p.room.valid = false
	for _, b := range p.bins {
		p.most = max(p.most, b.healthy)
	}
	p.free, p.counts = make([]set, p.most+1), make([]int, p.most+1)
	for i := range p.free {
		p.free[i] = newSet(len(p.bins))
	}
	p.ready, p.all, p.ill, p.marks = newSet(len(p.bins)), newSet(len(p.bins)), newSet(len(p.bins)), map[string]set{}
	for i, b := range p.bins {
		p.all.add(i)
		p.classed(i)
		if b.exist != b.healthy {
			p.ill.add(i)
		}
		p.free[b.avail].add(i)
		p.counts[b.avail]++
		if b.node.takes() {
			p.ready.add(i)
		}
		p.failing = p.failing || b.node.Failures > 0
		if b.node.Suspect != "" {
			if p.suspect == nil {
				p.suspect = newSet(len(p.bins))
			}
			p.suspect.add(i)
		}
	}
}

// marked are the bins on nodes with a label.
func (p *pool) marked(key, value string) set {
	k := key + "\x00" + value
	s, ok := p.marks[k]
	if !ok {
		s = newSet(len(p.bins))
		for i, b := range p.bins {
			if v, has := b.node.Labels[key]; has && v == value {
				s.add(i)
			}
		}
		if p.marks == nil {
			p.marks = map[string]set{}
		}
		p.marks[k] = s
	}
	return s
}

// withMemory are the bins all of whose well GPUs have so much memory.
func (p *pool) withMemory(mib int64) set {
	if s, ok := p.memory[mib]; ok {
		return s
	}
	s := newSet(len(p.bins))
	for i, b := range p.bins {
		ok := true
		for j := range b.node.GPUs {
			g := &b.node.GPUs[j]
			ok = ok && (g.Kind != p.kind || g.Type != p.typ || p.mig != (g.MIG != "") || g.MemoryMiB >= mib)
		}
		if ok {
			s.add(i)
		}
	}
	if p.memory == nil {
		p.memory = map[int64]set{}
	}
	p.memory[mib] = s
	return s
}

func (b *bin) setAvail(n int) {
	p := b.pool
	if p.free != nil {
		p.free[b.avail].remove(b.at)
		p.counts[b.avail]--
		p.free[n].add(b.at)
		p.counts[n]++
	}
	b.move()
	b.avail = n
}

// grouped numbers the values that the nodes of the bins have of a label.
func (p *pool) grouped(label string) []int32 {
	ids, ok := p.groups[label]
	if ok {
		return ids
	}
	ids = make([]int32, len(p.bins))
	at := map[string]int32{"": 0}
	for i, b := range p.bins {
		v := b.node.Labels[label]
		id, seen := at[v]
		if !seen {
			id = int32(len(at))
			at[v] = id
		}
		ids[i] = id
	}
	if p.groups == nil {
		p.groups = map[string][]int32{}
	}
	p.groups[label] = ids
	return ids
}
