package health

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

const (
	// sameEvent is how far apart two words of one XID may be that two of forge's own processes heard of the same.
	sameEvent = 2 * time.Second
	// incidentGap is how long a GPU has to say nothing for the next XID to be another incident: an error comes with others of its kind.
	incidentGap = time.Minute
	// killWindow is how long after our own kill the driver may still clean up.
	killWindow = 30 * time.Second
	// maxIncidents bounds what is remembered of one GPU.
	maxIncidents = 256
)

// incident is an XID that came, with all that came of the same within a minute.
type incident struct {
	xid         int
	class       string
	run         forge.RunID
	first, last time.Time
}

// Event judges a word of the driver about a GPU that no run of ours is known to have.
func (n *Node) Event(e forge.GPUEvent) []forge.Finding { return n.EventOf(e, "") }

// EventOf judges a word of the driver about a GPU that a run has. The same XID within two seconds is the same word, heard twice; of the same run
// within a minute it is no news. After XID 154 and a recovery action that changed the caller looks at once: the reading decides.
func (n *Node) EventOf(e forge.GPUEvent, run forge.RunID) []forge.Finding {
	if e.Kind != forge.GPUEventXID {
		return nil
	}
	g := n.gpu(e.UUID)
	if g.seen.Before(e.At) {
		g.seen = e.At
	}
	if e.XID == 45 && slices.ContainsFunc(g.killed, func(at time.Time) bool { return e.At.After(at.Add(-sameEvent)) && e.At.Sub(at) <= killWindow }) {
		return nil
	}
	r := n.t.XID(e.XID)
	name := xidName(e.XID)
	c := g.conditions[name]
	if c == nil {
		c = &condition{}
		g.conditions[name] = c
	}
	c.rule, c.xid, c.event = r, e.XID, true
	c.rule.Name = name
	c.count += max(1, e.Count)
	if c.lastXID.Before(e.At) {
		c.lastXID = e.At
	}
	before := g.before(e)
	if !g.happened(e, run, r.Class) {
		return nil
	}
	c.active, c.uuid, c.words = true, n.instance(e, r), xidSays(e, r, before)
	f := c.finding(e.At, c.uuid, c.words)
	f.Count = e.Count
	if r.Class == classLink && n.gang == 1 {
		f.Run = forge.RunGoesOn
	}
	return append([]forge.Finding{f}, n.escalate(g, e)...)
}

// LookNow says whether what the driver said is of no use without a reading.
func LookNow(e forge.GPUEvent) bool { return e.Kind == forge.GPUEventRecovery || e.XID == 154 }

// Killed says that we have ended, or are about to end, what used a GPU: that the driver cleans up after it is no fault.
func (n *Node) Killed(uuid string, at time.Time) {
	g := n.gpu(uuid)
	g.killed = append(g.killed, at)
	if len(g.killed) > 16 {
		g.killed = slices.Delete(g.killed, 0, 1)
	}
}

// happened notes an XID; false: it is one that was noted.
func (g *gpu) happened(e forge.GPUEvent, run forge.RunID, class string) bool {
	for i := range g.xids {
		x := &g.xids[i]
		if x.xid != e.XID {
			continue
		}
		twice := !e.At.Before(x.first.Add(-sameEvent)) && !e.At.After(x.last.Add(sameEvent))
		goesOn := (x.run == run || x.run == "" || run == "") && !e.At.Before(x.first) && e.At.Sub(x.last) < incidentGap
		if !twice && !goesOn {
			continue
		}
		if x.last.Before(e.At) {
			x.last = e.At
		}
		x.run = cmp.Or(x.run, run)
		return false
	}
	g.xids = append(g.xids, incident{xid: e.XID, class: class, run: run, first: e.At, last: e.At})
	slices.SortStableFunc(g.xids, func(a, b incident) int { return a.first.Compare(b.first) })
	if len(g.xids) > maxIncidents {
		g.xids = slices.Delete(g.xids, 0, 1)
	}
	return true
}

// before is the XID that came just before another on the same GPU; 0: none did.
func (g *gpu) before(e forge.GPUEvent) int {
	for _, x := range slices.Backward(g.xids) {
		if x.xid != e.XID && !x.first.After(e.At) && e.At.Sub(x.last) < incidentGap {
			return x.xid
		}
	}
	return 0
}

func xidSays(e forge.GPUEvent, r forge.HealthRule, before int) string {
	s := fmt.Sprintf("XID %d: %s", e.XID, r.Words)
	if e.Count > 1 {
		s += fmt.Sprintf(", %d times", e.Count)
	}
	if e.MIGID != nil {
		s += fmt.Sprintf(", in MIG instance %d", *e.MIGID)
	}
	if e.XID == 45 && before != 0 {
		s += fmt.Sprintf("; it follows XID %d", before)
	}
	return s
}

// instance is the UUID that an event is about: the MIG instance's, if it names one that is known and what follows is not the whole GPU's affair.
func (n *Node) instance(e forge.GPUEvent, r forge.HealthRule) string {
	if e.MIGID != nil && r.Hold != forge.HoldGPU && r.Hold != forge.HoldNode {
		for _, g := range n.last.GPUs {
			if g.Parent == e.UUID && g.MIGID != nil && *g.MIGID == *e.MIGID {
				return g.UUID
			}
		}
	}
	return e.UUID
}

// escalate asks the rules that are about more than one XID.
func (n *Node) escalate(g *gpu, e forge.GPUEvent) []forge.Finding {
	var out []forge.Finding
	many, runs := n.t.manyRuns, g.runsOf([]int{13, 31}, e.At, n.t.manyRuns.rule.For)
	if (e.XID == 13 || e.XID == 31) && many.on(float64(runs)) {
		out = g.escalated(out, many, e, fmt.Sprintf("XID 13 or 31 in %d different runs within %s", runs, many.rule.For))
	}
	again, times := n.t.again, g.incidents(classGPU, e.At, n.t.again.rule.For)
	if n.t.XID(e.XID).Class == classGPU && again.on(float64(times)) {
		out = g.escalated(out, again, e, fmt.Sprintf("XID %d is the GPU's fault no. %d within %s", e.XID, times, again.rule.For))
	}
	return out
}

func (g *gpu) escalated(out []forge.Finding, s *signal, e forge.GPUEvent, words string) []forge.Finding {
	c := g.conditions[s.rule.Name]
	if c == nil {
		c = &condition{}
		g.conditions[s.rule.Name] = c
	}
	c.rule, c.event = s.rule, true
	if c.lastXID.Before(e.At) {
		c.lastXID = e.At
	}
	if c.active {
		return out
	}
	c.active, c.uuid, c.words = true, e.UUID, words
	f := c.finding(e.At, e.UUID, words)
	f.XID = e.XID
	return append(out, f)
}

// runsOf is how many different runs met these XIDs.
func (g *gpu) runsOf(xids []int, at time.Time, window time.Duration) int {
	runs := map[forge.RunID]bool{}
	for _, x := range g.xids {
		if x.run != "" && slices.Contains(xids, x.xid) && at.Sub(x.last) <= window {
			runs[x.run] = true
		}
	}
	return len(runs)
}

// incidents is how often the GPU had XIDs of a class: those that come within a minute of each other are one fault.
func (g *gpu) incidents(class string, at time.Time, window time.Duration) int {
	n, last := 0, time.Time{}
	for _, x := range g.xids {
		if x.class != class || at.Sub(x.last) > window {
			continue
		}
		if n == 0 || x.first.Sub(last) >= incidentGap {
			n++
		}
		if last.Before(x.last) {
			last = x.last
		}
	}
	return n
}

// quiet ends what XIDs began, once none of the kind has come for as long as the rule says.
func (n *Node) quiet(now time.Time) []forge.Finding {
	var out []forge.Finding
	for _, uuid := range slices.Sorted(maps.Keys(n.gpus)) {
		g := n.gpus[uuid]
		for _, name := range slices.Sorted(maps.Keys(g.conditions)) {
			c := g.conditions[name]
			if !c.event || !c.active {
				continue
			}
			if c.lastXID.After(now.Add(incidentGap)) { // a clock was set back
				c.lastXID = now
			}
			if now.Sub(c.lastXID) < c.rule.ClearFor {
				continue
			}
			c.active, c.overAt = false, now
			if c.rule.Hold != forge.HoldNothing {
				f := c.over(now, c.uuid, fmt.Sprintf("%s; not again for %s", c.rule.Words, c.rule.ClearFor))
				f.Count, c.count = c.count, 0
				out = append(out, f)
			}
		}
	}
	return out
}
