package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// Reasons are read by members of every tenant: they name nodes and amounts, never another
// tenant's run, user or number.

// shownNodes bounds how many nodes a reason names.
const shownNodes = 3

// needText says what a gang asks for: "4 GPUs on each of 2 nodes"; with CPUs and memory where
// those are what it lacks.
func needText(g forge.Gang, kind forge.GPUKind, whole bool) string {
	text := count(g.GPUsPerNode, slotWord(kind))
	if whole && (g.CPUsPerGPU > 0 || g.MemoryMiBPerGPU > 0) {
		var with []string
		if g.CPUsPerGPU > 0 {
			with = append(with, count(g.CPUsPerNode(), "CPU"))
		}
		if g.MemoryMiBPerGPU > 0 {
			with = append(with, forge.FormatMiB(g.MemoryMiBPerNode())+" of memory")
		}
		text += " with " + strings.Join(with, " and ")
	}
	if g.Nodes == 1 {
		return text + " on one node"
	}
	return fmt.Sprintf("%s on each of %d nodes", text, g.Nodes)
}

// needText adds what a shape's constraints ask for.
func (sh *shape) needText(g forge.Gang, kind forge.GPUKind, whole bool) string {
	text := needText(g, kind, whole)
	c := sh.where
	if c.Empty() {
		return text
	}
	var with []string
	if len(c.GPUTypes) > 0 {
		with = append(with, "type "+strings.Join(slices.Sorted(slices.Values(c.GPUTypes)), " or "))
	}
	if c.GPUMemoryMiB > 0 {
		with = append(with, forge.FormatMiB(c.GPUMemoryMiB)+" of GPU memory")
	}
	for _, k := range slices.Sorted(maps.Keys(c.Labels)) {
		with = append(with, k+"="+c.Labels[k])
	}
	if c.Within != "" && g.Nodes > 1 {
		with = append(with, "one "+c.Within)
	}
	if len(c.Exclude) > 0 {
		with = append(with, "without "+count(len(c.Exclude), "excluded node"))
	}
	return text + " (" + strings.Join(with, ", ") + ")"
}

// boundHold says which bound a run would break. It names no other run, and whose bound it is.
func (pl *planner) boundHold(sh *shape, x bound) *forge.Held {
	if h := sh.bounds[x]; h != nil {
		return h
	}
	code := forge.HoldLimit
	if x.spent != "" {
		code = forge.HoldBudget
	}
	h := pl.held(code, func() string {
		if x.spent != "" {
			return x.spent
		}
		return fmt.Sprintf("its %s may have %d %s and has %d; it starts when there is room below that", x.whose, x.limit, x.what, x.has)
	})
	if sh.bounds == nil {
		sh.bounds = map[bound]*forge.Held{}
	}
	sh.bounds[x] = h
	return h
}

func slotWord(kind forge.GPUKind) string {
	if kind == forge.GPUCPUSlot {
		return "CPU slot"
	}
	return "GPU"
}

func count(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// capacityText says what a run needs and what is there: "needs 4 GPUs on each of 2 nodes; most
// free now: 3 on gpu-1, 1 on gpu-2".
func (pl *planner) capacityText(e *entry, sh *shape) string {
	usable, short := pl.freest(e, sh)
	saw := said{short: short}
	for i, b := range usable {
		saw.free[i] = seen{b, pl.w.freeNow(e.pend, b)}
	}
	if sh.said.text == "" || sh.said.short != short || sh.said.free != saw.free {
		saw.text = pl.w.capacityText(e.pend.Gang, sh, saw)
		sh.said = saw
	}
	return sh.said.text
}

// said is what was said of a shape, and what it says: mostly it is the same from plan to plan.
type said struct {
	free  [shownNodes]seen
	short bool
	text  string
}

// seen is a bin and what it had.
type seen struct {
	bin *bin
	has avail
}

func (w *world) capacityText(g forge.Gang, sh *shape, saw said) string {
	var t strings.Builder
	kind := sh.pools[0].kind
	names := namer(sh.pools)
	t.WriteString("needs " + sh.needText(g, kind, saw.short))
	if sh.waitForNode {
		t.WriteString("; the nodes that are ready could not hold that even when empty")
	}
	between := "; most free now: "
	for _, x := range saw.free {
		if x.bin == nil {
			break
		}
		t.WriteString(between + strconv.Itoa(x.has.slots) + " on " + names(x.bin))
		if between = ", "; x.has.slots >= sh.need.slots {
			t.WriteString(shortOf(x.bin.node, sh.need))
		}
	}
	if sh.out == "" {
		sh.out = w.outText(sh, names) + " "
	}
	t.WriteString(sh.out[:len(sh.out)-1])
	return t.String()
}

// freest are the few bins that have the most free for a run, and whether any that has enough GPUs lacks CPUs or memory.
func (pl *planner) freest(e *entry, sh *shape) (top []*bin, short bool) {
	lacks := func(b *bin) bool { return b.node.freeCPU < sh.need.cpus || b.node.freeMiB < sh.need.mib }
	most := 0
	bins := make([]set, len(sh.pools))
	for i, p := range sh.pools {
		bins[i], most = sh.wanted[i], max(most, p.most)
	}
	if _, claims := pl.w.claims[e.id]; claims { // what is kept for it counts as free, and no set knows of it
		slots := func(b *bin) int { return pl.w.freeNow(e.pend, b).slots }
		for i, p := range sh.pools {
			for j := range bins[i].in(bins[i]) {
				top = append(top, p.bins[j])
			}
		}
		slices.SortStableFunc(top, func(a, b *bin) int { return cmp.Compare(slots(b), slots(a)) })
		short = slices.ContainsFunc(top, func(b *bin) bool { return slots(b) >= sh.need.slots && lacks(b) })
		return top[:min(shownNodes, len(top))], short
	}
	for f := most; f >= 0 && (len(top) < shownNodes || f >= sh.need.slots && !short); f-- {
		for i, p := range sh.pools {
			if f > p.most || p.counts[f] == 0 {
				continue
			}
			for j := range p.free[f].in(bins[i]) {
				if len(top) < shownNodes {
					top = append(top, p.bins[j])
				}
				short = short || f >= sh.need.slots && lacks(p.bins[j])
				if len(top) == shownNodes && (short || f < sh.need.slots) {
					break
				}
			}
		}
	}
	return top, short
}

// shortOf says which of CPUs and memory a node with enough GPUs lacks.
func shortOf(n *node, want need) string {
	var parts []string
	if n.freeCPU < want.cpus {
		parts = append(parts, fmt.Sprintf("%d of %s", max(0, n.freeCPU), count(want.cpus, "CPU")))
	}
	if n.freeMiB < want.mib {
		parts = append(parts, fmt.Sprintf("%s of %s memory", forge.FormatMiB(max(0, n.freeMiB)), forge.FormatMiB(want.mib)))
	}
	if len(parts) == 0 {
		return ""
	}
	return " (but only " + strings.Join(parts, " and ") + ")"
}

// outText names what would count and does not: nodes that are not ready, that are avoided,
// sick GPUs.
func (w *world) outText(sh *shape, names func(*bin) string) string {
	var down, avoided listed
	sick := 0
	for _, p := range sh.pools {
		asked, welcome := sh.asked(p), sh.welcome(p)
		down.add(p, asked.without(p.ready), func(b *bin) string { return names(b) + " (" + stateText(b.node) + ")" })
		avoided.add(p, asked.and(p.ready).without(welcome), names)
		for _, c := range p.classes {
			sick += (c.exist - c.healthy) * c.bins.common(welcome)
		}
	}
	var t strings.Builder
	if down.n > 0 {
		t.WriteString("; not ready: " + down.text())
	}
	if avoided.n > 0 {
		t.WriteString("; avoided after a failure there: " + avoided.text())
	}
	if sh.lastResort {
		t.WriteString("; avoided nodes count again, since no others could hold it")
	}
	if sick > 0 {
		t.WriteString("; sick: " + count(sick, slotWord(sh.pools[0].kind)))
	}
	return t.String()
}

func stateText(n *node) string {
	if n.Reason == "" {
		return string(n.State)
	}
	return fmt.Sprintf("%s: %s", n.State, n.Reason)
}

// listed is how many there are, and the names of the first.
type listed struct {
	n     int
	names []string
}

func (l *listed) add(p *pool, bins set, name func(*bin) string) {
	l.n += bins.count()
	for i := range bins.in(bins) {
		if len(l.names) == shownNodes {
			return
		}
		l.names = append(l.names, name(p.bins[i]))
	}
}

func (l *listed) text() string {
	if l.n > len(l.names) {
		return fmt.Sprintf("%s and %d more", strings.Join(l.names, ", "), l.n-len(l.names))
	}
	return strings.Join(l.names, ", ")
}

func some(items []string) string {
	if more := len(items) - shownNodes; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(items[:shownNodes], ", "), more)
	}
	return strings.Join(items, ", ")
}

// namer names bins as short as the pools allow: the cluster is named where there are several,
// the type where a cluster has several.
func namer(pools []*pool) func(*bin) string {
	clusters, types := map[*cluster]bool{}, map[string]bool{}
	for _, p := range pools {
		clusters[p.cluster] = true
		types[p.typ] = true
	}
	return func(b *bin) string {
		name := string(b.node.Name)
		if len(clusters) > 1 {
			name = string(b.node.cluster.name) + "/" + name
		}
		if len(types) > 1 {
			name += " (" + b.pool.typ + ")"
		}
		return name
	}
}

// headText says what a reservation promises.
func headText(res *reservation) string {
	if res.at.IsZero() {
		return "; it is next, and nothing behind it takes what it waits for; when that comes free is not known, since not all of what holds it has a time limit"
	}
	return "; it is next and can start at the latest about " + clock(res.at) + ", by the time limits of what runs now"
}

func behindText(r *forge.PendingRun, blocked *fit) string {
	res := blocked.pool.cluster.reserved
	text := fmt.Sprintf("would fit now on %s, but a run ahead of it waits there for %s",
		blocked.choices[0].bin.node.Name, needText(res.gang, blocked.pool.kind, false))
	switch {
	case res.at.IsZero():
		return text + ", and this one would take what comes free for that"
	case r.TimeLimit > 0:
		return text + " and can start about " + clock(res.at) + "; a shorter time limit, one that ends before then, would let this one start now"
	}
	return text + " and can start about " + clock(res.at) + "; a time limit that ends before then would let this one start now"
}

func (pl *planner) notTriedText() string {
	if pl.p.MaxBackfillTries == 0 {
		return "waits for its turn: a run ahead of it waits, and this site starts runs strictly in order"
	}
	return fmt.Sprintf("waits for its turn: a run ahead of it waits, and the %d kinds of run that this site tries behind one were tried", pl.p.MaxBackfillTries)
}

func pausedText(pools []*pool) string {
	var parts []string
	for _, p := range pools {
		text := fmt.Sprintf("cluster %s is paused", p.cluster.name)
		if p.cluster.why != "" {
			text += ": " + p.cluster.why
		}
		if !slices.Contains(parts, text) {
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, "; ")
}

func noneReadyText(pools []*pool) string {
	names := namer(pools)
	var down []string
	for _, p := range pools {
		for _, b := range p.bins {
			down = append(down, names(b)+" ("+stateText(b.node)+")")
		}
	}
	return "no node is ready: " + some(down)
}

// perGPU is all that the largest gang depends on.
type perGPU struct {
	cluster forge.ClusterName
	cpus    int
	mib     int64
	many    bool // more than one GPU
}

// neverText tells "there is nothing" from "nothing is large enough".
func (w *world) neverText(nodes []forge.Node, key shapeKey, where *forge.Constraints) (forge.HoldCode, string) {
	if key.batch && !slices.ContainsFunc(w.clusters, func(c *cluster) bool { return c.batch && (key.cluster == "" || c.name == key.cluster) }) {
		if key.cluster != "" {
			return forge.HoldNever, fmt.Sprintf("asks for words of a batch system (partition, account, …), and cluster %s has none", key.cluster)
		}
		return forge.HoldNever, "asks for words of a batch system (partition, account, …), and no cluster has one"
	}
	if !slices.ContainsFunc(nodes, func(n forge.Node) bool { return key.cluster == "" || n.Cluster == key.cluster }) {
		if key.cluster != "" {
			return forge.HoldNoNodes, fmt.Sprintf("cluster %s has no nodes", key.cluster)
		}
		return forge.HoldNoNodes, "there are no nodes"
	}
	per := perGPU{key.cluster, key.gang.CPUsPerGPU, key.gang.MemoryMiBPerGPU, key.gang.GPUs() > 1}
	largest, ok := w.largest[per]
	if !ok {
		_, largest = Fits(nodes, key.gang, key.cluster)
		w.largest[per] = largest
	}
	wherever := "fits no cluster"
	if key.cluster != "" {
		wherever = fmt.Sprintf("does not fit cluster %s", key.cluster)
	}
	return forge.HoldNever, fmt.Sprintf("%s: needs %s; %s", wherever, (&shape{where: where}).needText(key.gang, forge.GPUDevice, true), largest)
}
