package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/health"
	"github.com/forge-ml/forge-ml/nvml"
	"github.com/forge-ml/forge-ml/store"
)

// gpuHealth judges what is seen of GPUs by the rules in force, and carries out what they say of hardware: it holds back, and lets back. What runs is
// not touched from here: the shim beside it ends it. What is decided is in the tables before anything else happens; what could not be written waits.
type gpuHealth struct {
	d *Daemon

	mu      sync.Mutex
	rules   forge.HealthRules
	table   *health.Table
	nodes   map[nodeKey]*health.Node  // that forged sees whole
	jobs    map[jobNode]*health.Node  // what a shim sees of a node
	last    forge.GPULook             // forged's own; At is its own clock's too
	kept    time.Time                 // when it was last put on disk
	told    map[tellKey]time.Time     // the newest that is in the history, by the clock that the node has
	primed  map[nodeKey]bool          // told has what the tables had
	unsaved map[nodeKey][]*healthNews // oldest first
	beside  map[nodeKey]health.Seen   // what others have found out: Foreign and Stuck
	outside map[outsideKey]time.Time  // when a batch system was last asked to drain, and may be again
}

// jobNode is one shim: node index of an attempt.
type jobNode struct {
	run     forge.RunID
	attempt int
	index   int
}

type tellKey struct {
	nodeKey
	uuid, rule string
	xid        int
}

type outsideKey struct {
	nodeKey
	uuid, rule string
}

type healthNews struct{ store.HealthNews }

const (
	sameEvent   = 2 * time.Second // told by two, it is one
	maxUnsaved  = 512             // news of a node that wait for the database
	lookFile    = "gpu-look.json"
	lookKept    = time.Minute
	maxLookFile = 1 << 20
	rememberFor = 24 * time.Hour
)

func newGPUHealth(d *Daemon) *gpuHealth {
	return &gpuHealth{d: d, nodes: map[nodeKey]*health.Node{}, jobs: map[jobNode]*health.Node{}, told: map[tellKey]time.Time{}, primed: map[nodeKey]bool{},
		unsaved: map[nodeKey][]*healthNews{}, beside: map[nodeKey]health.Seen{}, outside: map[outsideKey]time.Time{}}
}

// watch is forged's own newest look at this host; the zero value before the first.
func (g *gpuHealth) watch() forge.GPULook {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last
}

// follow takes up the rules in force. With other rules everything is looked at anew.
func (g *gpuHealth) follow() {
	rules := g.d.live().health
	if g.table != nil && reflect.DeepEqual(rules, g.rules) {
		return
	}
	table, err := health.New(rules)
	if err != nil { // the reload checked it
		g.d.log.Error().Err(err).Msg("rules of GPU health not in force")
		return
	}
	g.rules, g.table = rules, table
	clear(g.nodes)
	clear(g.jobs)
}

// node is what is remembered of one that forged sees whole; with what came before it began to.
func (g *gpuHealth) node(ctx context.Context, at nodeKey) *health.Node {
	g.follow()
	n := g.nodes[at]
	if n != nil {
		return n
	}
	n = g.table.Watch()
	g.nodes[at] = n
	events, err := g.d.db.XIDsSince(ctx, at.cluster, at.node, time.Now().Add(-rememberFor))
	if err != nil {
		g.d.log.Warn().Err(err).Msg("what happened to GPUs before is not known")
	}
	for _, e := range events { // acted upon when they came
		n.EventOf(forge.GPUEvent{At: e.At, UUID: e.UUID, Kind: forge.GPUEventXID, XID: e.XID, Count: e.Count}, e.Run)
	}
	return n
}

func (g *gpuHealth) known(at nodeKey) forge.Node {
	for _, n := range g.d.world.nodesOf(at.cluster) {
		if n.Name == at.node {
			return n
		}
	}
	return forge.Node{Cluster: at.cluster, Name: at.node}
}

// expected are the GPUs that a node has, whether they are there or not.
func expected(n forge.Node) []string {
	var out []string
	for _, x := range n.GPUs {
		if x.UUID != "" {
			out = append(out, x.UUID)
		}
	}
	return out
}

// busy are the GPUs of a node that attempts of ours hold.
func (g *gpuHealth) busy(n forge.Node) map[string]bool {
	out := map[string]bool{}
	for _, a := range g.d.world.open() {
		if a.Cluster != n.Cluster || !a.State.Open() {
			continue
		}
		for _, s := range a.Placement {
			if s.Node != n.Name {
				continue
			}
			for _, x := range n.GPUs {
				if x.UUID != "" && slices.Contains(s.Slots, x.Slot) {
					out[x.UUID] = true
				}
			}
		}
	}
	return out
}

// setBeside says what is known of a node beside looks: who else uses a GPU, by UUID and in words, and processes that are stuck.
func (g *gpuHealth) setBeside(at nodeKey, foreign map[string]string, stuck []health.StuckProcess) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.beside[at] = health.Seen{Foreign: foreign, Stuck: stuck}
}

// holder is the attempt of ours that has a GPU.
func (g *gpuHealth) holder(n forge.Node, uuid string) job {
	for _, a := range g.d.world.open() {
		if a.Cluster != n.Cluster || !a.State.Open() {
			continue
		}
		for _, s := range a.Placement {
			if s.Node == n.Name && slices.ContainsFunc(n.GPUs, func(x forge.GPU) bool {
				return (x.UUID == uuid || x.Parent == uuid) && slices.Contains(s.Slots, x.Slot)
			}) {
				return job{a.Run, a.Number}
			}
		}
	}
	return job{}
}

// news takes in what forged's own watcher tells.
func (g *gpuHealth) news(ctx context.Context, n nvml.News, now time.Time) {
	if l := n.Look; l != nil {
		g.mu.Lock()
		was := g.last
		g.last = *l
		g.mu.Unlock()
		if l.State == forge.NVMLOK {
			g.keepLook(now, false)
		}
		for _, node := range g.d.watchedNodes() {
			g.ownLook(ctx, node, *l, was, now)
		}
		if was.State != l.State && !(was.State == "" && l.State == forge.NVMLOK) {
			g.d.wg.Go(func() { g.d.askNodes(ctx, func(c *Cluster) bool { return c.GPUs != nil }) }) // nothing is placed on guesses from here on; or it is again
		}
	}
	for _, e := range n.Events {
		for _, node := range g.d.watchedNodes() {
			at := nodeKey{node.Cluster, node.Name}
			g.d.showEvent(at, e)
			has := g.holder(node, e.UUID)
			g.mu.Lock()
			found := g.node(ctx, at).EventOf(e, has.run)
			g.add(ctx, at, found, has, true, now)
			g.mu.Unlock()
		}
	}
	g.save(ctx)
}

func (g *gpuHealth) ownLook(ctx context.Context, node forge.Node, l, was forge.GPULook, now time.Time) {
	at := nodeKey{node.Cluster, node.Name}
	g.d.showLook(at, "", l)
	if was.State != l.State && (was.State != "" || l.State != forge.NVMLOK) && (node.HasUUIDs() || l.State == forge.NVMLOK) {
		g.tellState(ctx, at, l, was)
	}
	if c := g.d.live().clusters[at.cluster]; c != nil && node.HasUUIDs() {
		g.setBeside(at, g.d.foreignUse(ctx, c, at, l), nil)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.State == forge.NVMLNoDriver && !node.HasUUIDs() { // a host without GPUs
		return
	}
	h := g.node(ctx, at)
	seen := g.beside[at]
	seen.Now, seen.Expected, seen.Busy = now, expected(node), g.busy(node)
	if c := g.d.live().clusters[at.cluster]; c != nil && c.GPUs != nil {
		seen.Count = int(c.GPUs.want.Load())
	}
	g.add(ctx, at, h.Look(l, seen), job{}, true, now)
	if l.State == forge.NVMLOK {
		g.letBack(ctx, at, h, node.Holds, l.At)
	}
}

// tellState says once that NVML can be relied on no longer, or again.
func (g *gpuHealth) tellState(ctx context.Context, at nodeKey, l, was forge.GPULook) {
	words := fmt.Sprintf("NVML is %s, after %s", l.State, was.State)
	if was.State == "" {
		words = fmt.Sprintf("NVML is %s", l.State)
	}
	if l.Detail != "" {
		words += ": " + l.Detail
	}
	err := g.d.db.TellWatch(ctx, at.cluster, at.node, l.State, words)
	if err != nil && ctx.Err() == nil {
		g.d.log.Warn().Err(err).Str("node", string(at.node)).Msg("a change of NVML's state is not recorded")
	}
}

// job is the attempt that an observation belongs to; the zero value: the node as a whole.
type job struct {
	run     forge.RunID
	attempt int
}

// add takes findings to be written. live says that nobody else can have told of them before; what a shim has left may be known already. The lock is held.
func (g *gpuHealth) add(ctx context.Context, at nodeKey, found []forge.Finding, j job, live bool, now time.Time) {
	if len(found) == 0 {
		return
	}
	g.prime(ctx, at)
	news := &healthNews{}
	for _, f := range found {
		k := tellKey{at, f.UUID, f.Rule, f.XID}
		if f.Over {
			news.Over = append(news.Over, forge.NodeHold{UUID: f.UUID, Rule: f.Rule, OverAt: now})
			news.Events = append(news.Events, eventOf(f, j))
			continue
		}
		newest := g.told[k]
		if !live && !newest.IsZero() && !f.At.After(newest.Add(sameEvent)) {
			continue
		}
		if f.At.After(newest) {
			g.told[k] = f.At
		}
		news.finding(f, j, now)
	}
	g.queue(at, news)
}

func (n *healthNews) finding(f forge.Finding, j job, now time.Time) {
	n.Events = append(n.Events, eventOf(f, j))
	if f.Hold.Keeps() {
		n.Holds = append(n.Holds, forge.NodeHold{UUID: f.UUID, Rule: f.Rule, Act: f.Hold, Reason: f.Words, At: now})
	}
}

func eventOf(f forge.Finding, j job) forge.NodeEvent {
	e := forge.NodeEvent{At: f.At, Kind: forge.NodeEventFound, UUID: f.UUID, Rule: f.Rule, XID: f.XID, Count: f.Count, Words: f.Words, Run: j.run, Attempt: j.attempt}
	if f.Over {
		e.Kind = forge.NodeEventOver
	}
	return e
}

func (g *gpuHealth) queue(at nodeKey, n *healthNews) {
	if len(n.Events)+len(n.Holds)+len(n.Over) == 0 {
		return
	}
	list := append(g.unsaved[at], n)
	if len(list) > maxUnsaved { // the database has not been written for long: what holds is never let go of, what tells is
		list[1].Holds, list[1].Over = append(list[0].Holds, list[1].Holds...), append(list[0].Over, list[1].Over...)
		list = list[1:]
	}
	g.unsaved[at] = list
}

// prime learns what the tables know, once for a node.
func (g *gpuHealth) prime(ctx context.Context, at nodeKey) {
	if g.primed[at] {
		return
	}
	list, err := g.d.db.Told(ctx, at.cluster, at.node)
	if err != nil {
		g.d.log.Warn().Err(err).Msg("the history of a node is not known")
		return
	}
	for _, t := range list {
		k := tellKey{at, t.UUID, t.Rule, t.XID}
		if t.At.After(g.told[k]) {
			g.told[k] = t.At
		}
	}
	g.primed[at] = true
}

// save writes what waits, a node's in order. What cannot be written stays.
func (g *gpuHealth) save(ctx context.Context) {
	for {
		g.mu.Lock()
		var at nodeKey
		var n *healthNews
		for k, list := range g.unsaved {
			at, n = k, list[0]
			break
		}
		g.mu.Unlock()
		if n == nil {
			return
		}
		fresh, err := g.d.db.RecordHealth(ctx, at.cluster, at.node, n.HealthNews)
		if err != nil {
			if ctx.Err() == nil {
				g.d.log.Warn().Err(err).Str("node", string(at.node)).Msg("what was found of GPUs is not recorded yet; it is tried again")
			}
			return
		}
		for _, h := range fresh {
			g.d.log.Warn().Str("cluster", string(at.cluster)).Str("node", string(at.node)).Str("gpu", h.UUID).Str("rule", h.Rule).Str("hold", string(h.Act)).Msg(h.Reason)
		}
		g.mu.Lock()
		if list := g.unsaved[at]; len(list) > 0 && list[0] == n {
			if list = list[1:]; len(list) == 0 {
				delete(g.unsaved, at)
			} else {
				g.unsaved[at] = list
			}
		}
		g.mu.Unlock()
	}
}

// letBack lets back what is well again. Only what a rule holds is asked about.
func (g *gpuHealth) letBack(ctx context.Context, at nodeKey, h *health.Node, holds []forge.NodeHold, now time.Time) {
	for _, x := range holds {
		if x.Rule == "" || len(g.unsaved[at]) > 0 {
			continue
		}
		if ok, _ := h.MayReturn(x.Act, x.UUID, x.At, now); !ok {
			continue
		}
		words := "what held it is over, and it is well"
		if x.Act != forge.HoldDrain {
			words = "it was reset since, and it is well"
		}
		if _, err := g.d.db.LetBack(ctx, at.cluster, at.node, x.UUID, x.Rule, words); err != nil {
			if ctx.Err() == nil {
				g.d.log.Warn().Err(err).Str("node", string(at.node)).Msg("a GPU is not let back yet; it is tried again")
			}
			return
		}
		g.takeBackOutside(ctx, at, x)
	}
}

// whyHeld is what a hold still waits for; "": nobody can say from here.
func (g *gpuHealth) whyHeld(at nodeKey, h forge.NodeHold, now time.Time) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.nodes[at]
	if n == nil || h.Rule == "" {
		return ""
	}
	_, why := n.MayReturn(h.Act, h.UUID, h.At, now)
	return why
}

// tick does what is due.
func (g *gpuHealth) tick(ctx context.Context, now time.Time) {
	g.mu.Lock()
	g.follow()
	for at, n := range g.nodes {
		g.add(ctx, at, n.Tick(now), job{}, true, now)
	}
	g.mu.Unlock()
	g.save(ctx)
	g.tellOutside(ctx, now)
}

// keepLook puts the newest good look on disk, so that a forged that starts again can tell what has been reset meanwhile.
func (g *gpuHealth) keepLook(now time.Time, must bool) {
	g.mu.Lock()
	l, due := g.last, now.Sub(g.kept) >= lookKept
	if due || must {
		g.kept = now
	}
	g.mu.Unlock()
	if l.State != forge.NVMLOK || !due && !must {
		return
	}
	b, err := json.Marshal(l)
	if err == nil {
		err = putWhole(filepath.Join(g.d.live().cfg.StateDir, lookFile), b)
	}
	if err != nil {
		g.d.log.Warn().Err(err).Msg("the newest look at the GPUs is not kept")
	}
}

// remember reads it.
func (g *gpuHealth) remember(ctx context.Context) {
	b, err := readBounded(filepath.Join(g.d.live().cfg.StateDir, lookFile), maxLookFile)
	var l forge.GPULook
	if err != nil || json.Unmarshal(b, &l) != nil || l.At.After(time.Now()) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, n := range g.d.watchedNodes() { // what is found in it was found before
		at := nodeKey{n.Cluster, n.Name}
		g.node(ctx, at).Look(l, health.Seen{Expected: expected(n)})
	}
}
