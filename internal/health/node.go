package health

import (
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Watch begins to remember a node.
func (t *Table) Watch() *Node { return &Node{t: t, gpus: map[string]*gpu{}, whole: newGPU()} }

// Node is what is remembered of one node's GPUs. It is for one goroutine. What it remembers is gone with it: whoever starts anew gives it the
// newest look and the events of the last day that were kept, and drops what it finds in them.
type Node struct {
	t     *Table
	gpus  map[string]*gpu
	whole *gpu // the node as a whole
	last  forge.GPULook
	seen  Seen
	gang  int
	good  time.Time // when the driver last answered
	from  time.Time // since when it has, without a gap
	boot  string
	again time.Time // when the machine was last seen to have been restarted, or its driver loaded anew
}

// gpu is what is remembered of one GPU.
type gpu struct {
	conditions map[string]*condition
	last       *forge.GPUReading // that it answered with
	lastAt     time.Time
	slow       map[int64]bool // minutes in which the hardware slowed it down
	links      bool
	wellSince  time.Time // zero: it is not well
	reset      time.Time // when it was last seen to have been reset
	gone       bool      // it was not there, or not reached, when it was last looked for
	seen       time.Time
	xids       []incident
	killed     []time.Time
}

func newGPU() *gpu { return &gpu{conditions: map[string]*condition{}, slow: map[int64]bool{}} }

// condition is one signal or XID of one GPU.
type condition struct {
	rule    forge.HealthRule
	event   bool // of XIDs, and not of readings
	xid     int
	uuid    string // of an XID: what it is about
	words   string // of when it began
	active  bool
	since   time.Time // beyond the threshold since; zero: it is not
	clear   time.Time // back since; zero: it is not
	overAt  time.Time // when it was last over
	count   int       // of XIDs
	lastXID time.Time
}

// Seen is what is known beside a look.
type Seen struct {
	Now      time.Time         // by the receiver's clock, if the look was made just now; zero: nothing is said of clocks
	Expected []string          // UUIDs that the node has; one that is not in a good look is missing
	Count    int               // how many GPUs the node should have; 0: not said
	Busy     map[string]bool   // UUIDs that attempts of ours hold: memory that is used on others is nobody's. nil: not known
	Foreign  map[string]string // who else uses a GPU, in words
	Stuck    []StuckProcess
}

// StuckProcess is a process that has ended and is still there, or that does not come back from the kernel.
type StuckProcess struct {
	UUID    string // of the GPU that it holds; "": none, or not known
	PID     int
	State   string // "zombie", "in the kernel"
	Command string
	For     time.Duration
}

// longestGap is how far looks may be apart for what is seen in both to have lasted between them.
const longestGap = 2 * time.Minute

// Gang says how many GPUs the run has whose GPUs these are: a fault between GPUs is none for a run on one. 0: not known.
func (n *Node) Gang(gpus int) { n.gang = gpus }

// Look judges a look. Only news are returned: conditions that began, and those that ended (Over). A look that does not say anything of a GPU
// changes nothing of what is held of it.
func (n *Node) Look(l forge.GPULook, s Seen) []forge.Finding {
	var out []forge.Finding
	n.restarted(l)
	if l.State == forge.NVMLOK {
		if l.At.Sub(n.good).Abs() > longestGap {
			n.from = l.At
		}
		n.good = l.At
		for _, uuid := range n.uuids(l, s) {
			out = append(out, n.look(uuid, l, s)...)
		}
	} else { // nothing is known, so nobody is well
		for _, g := range n.gpus {
			g.wellSince = time.Time{}
		}
	}
	out = append(out, n.whole.judge(n.t.node, &moment{look: l, seen: s}, "", time.Time{})...) // a state lasts until another is told
	out = append(out, n.quiet(l.At)...)
	n.last, n.seen = l, s
	n.forget(l.At)
	return out
}

// Tick is for times in which no look comes, as from a driver that hangs: what lasts has lasted longer.
func (n *Node) Tick(now time.Time) []forge.Finding {
	l, s := n.last, n.seen
	l.At, s.Now = now, time.Time{}
	if l.State == forge.NVMLOK || l.State == "" {
		return n.quiet(now)
	}
	return n.Look(l, s)
}

// uuids are the GPUs that are in a look, and those that should be, in one order.
func (n *Node) uuids(l forge.GPULook, s Seen) []string {
	var out []string
	parents := map[string]bool{}
	for _, g := range l.GPUs {
		out = append(out, g.UUID)
		parents[g.Parent] = true
	}
	for _, u := range s.Expected {
		if !slices.Contains(out, u) && !parents[u] {
			out = append(out, u)
		}
	}
	return out
}

func (n *Node) gpu(uuid string) *gpu {
	g := n.gpus[uuid]
	if g == nil {
		g = newGPU()
		n.gpus[uuid] = g
	}
	return g
}

func (n *Node) look(uuid string, l forge.GPULook, s Seen) []forge.Finding {
	g := n.gpu(uuid)
	m := &moment{look: l, seen: s, last: g.last, since: l.At.Sub(g.lastAt), ours: ours(uuid, l, s)}
	for _, r := range l.GPUs {
		if r.UUID == uuid {
			m.g, m.there = r, true
		}
	}
	g.notice(m)
	m.links = g.links
	signals := n.t.gpu
	if !m.there { // a GPU that is not there can only be missing
		signals = slices.DeleteFunc(slices.Clone(signals), func(s *signal) bool { return s.rule.Name != "gpu_missing" })
	}
	out := g.judge(signals, m, uuid, n.from)
	if m.answers() {
		g.last, g.lastAt = &m.g, l.At
	}
	return out
}

// ours says whether a run of ours has the GPU: itself, the GPU that it is a part of, or a part of it.
func ours(uuid string, l forge.GPULook, s Seen) bool {
	if s.Busy[uuid] {
		return true
	}
	return slices.ContainsFunc(l.GPUs, func(r forge.GPUReading) bool {
		return r.UUID == uuid && s.Busy[r.Parent] || r.Parent == uuid && s.Busy[r.UUID]
	})
}

// notice takes in what is remembered beside conditions.
func (g *gpu) notice(m *moment) {
	at := m.look.At
	g.seen = at
	if g.last != nil && m.there && newlyLoaded(*g.last, m.g) {
		g.reset = at
	}
	switch {
	case !m.there, m.g.Lost:
		g.gone = true
	case m.answers():
		if g.gone {
			g.reset, g.gone = at, false
		}
	}
	if m.g.LinksUp != nil && *m.g.LinksUp > 0 {
		g.links = true
	}
	if slowed(m.g) {
		g.slow[at.Unix()/60] = true
	}
	if !m.answers() {
		g.wellSince = time.Time{}
	} else if g.wellSince.IsZero() || at.Before(g.wellSince) {
		g.wellSince = at
	}
}

// newlyLoaded says whether counters that the driver begins anew after a reset have gone back, or it no longer wants one.
func newlyLoaded(was, is forge.GPUReading) bool {
	back := func(a, b *int64) bool { return a != nil && b != nil && *b < *a }
	return back(was.ECCUncorrected, is.ECCUncorrected) || back(was.ECCCorrected, is.ECCCorrected) ||
		was.EnergyJoules != nil && is.EnergyJoules != nil && *is.EnergyJoules < *was.EnergyJoules ||
		was.Recovery != nil && is.Recovery != nil && *was.Recovery != 0 && *is.Recovery == 0
}

// restarted notices a machine that was restarted, and a driver that was loaded anew.
func (n *Node) restarted(l forge.GPULook) {
	if l.Boot != "" {
		if n.boot != "" && n.boot != l.Boot {
			n.again = l.At
			for _, g := range n.gpus {
				g.reset = l.At
			}
		}
		n.boot = l.Boot
	}
	if l.State == forge.NVMLOK && n.last.State == forge.NVMLNoDriver || l.Driver != "" && n.last.Driver != "" && l.Driver != n.last.Driver {
		n.again = l.At
		for _, g := range n.gpus {
			g.reset = l.At
		}
	}
}

// judge moves the conditions of some signals on, and says what is new.
func (g *gpu) judge(signals []*signal, m *moment, uuid string, from time.Time) []forge.Finding {
	var out []forge.Finding
	now := m.look.At
	for _, s := range signals {
		lasts := s.rule.For
		if s.window { // what is counted over that time need not last for it
			g.forgetSlow(now, lasts)
			m.slow, lasts = len(g.slow), 0
		}
		v, words, known := s.measure(m)
		c := g.conditions[s.rule.Name]
		if !known || c == nil && !s.on(v) {
			continue
		}
		if c == nil {
			c = &condition{}
			g.conditions[s.rule.Name] = c
		}
		c.rule = s.rule
		switch began, over := c.step(s, v, lasts, now, from); {
		case began:
			c.words = words
			out = append(out, c.finding(now, uuid, words))
		case over:
			out = append(out, c.over(now, uuid, s.rule.Words))
		}
	}
	return out
}

// step is the hysteresis: a condition begins once what is measured was beyond its threshold for as long as its rule says, and is over once it
// was back for as long as the rule says. What was not looked at for a while has not lasted.
func (c *condition) step(s *signal, v float64, lasts time.Duration, now, from time.Time) (began, over bool) {
	if !c.active {
		if !s.on(v) {
			c.since = time.Time{}
			return false, false
		}
		c.since = begin(c.since, now, from)
		if now.Sub(c.since) < lasts {
			return false, false
		}
		c.active, c.clear = true, time.Time{}
		return true, false
	}
	if !s.off(v) {
		c.clear = time.Time{}
		return false, false
	}
	c.clear = begin(c.clear, now, from)
	if now.Sub(c.clear) < s.rule.ClearFor {
		return false, false
	}
	c.active, c.since, c.overAt = false, time.Time{}, now
	return false, true
}

// begin is since when something has lasted: not since before a gap, and not since later than now, where a clock was set back.
func begin(since, now, from time.Time) time.Time {
	if since.IsZero() || since.After(now) || since.Before(from) {
		return now
	}
	return since
}

func (c *condition) over(at time.Time, uuid, words string) forge.Finding {
	f := c.finding(at, uuid, "over: "+words)
	f.Over = true
	return f
}

func (c *condition) finding(at time.Time, uuid, words string) forge.Finding {
	return forge.Finding{At: at, Rule: c.rule.Name, Class: c.rule.Class, UUID: uuid, XID: c.xid, Run: c.rule.Run, Hold: c.rule.Hold, Words: words}
}

// forgetSlow drops the minutes that are no longer counted, and those that a clock that was set back has left in the future.
func (g *gpu) forgetSlow(now time.Time, window time.Duration) {
	to := now.Unix() / 60
	for m := range g.slow {
		if m <= to-int64(window/time.Minute) || m > to {
			delete(g.slow, m)
		}
	}
}

// forgetAfter is how long a GPU that is neither there nor expected is remembered.
const forgetAfter = 24 * time.Hour

func (n *Node) forget(now time.Time) {
	for uuid, g := range n.gpus {
		if now.Sub(g.seen) > forgetAfter && !g.held() {
			delete(n.gpus, uuid)
		}
	}
}

func (g *gpu) held() bool {
	for _, c := range g.conditions {
		if c.active {
			return true
		}
	}
	return false
}
