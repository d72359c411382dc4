package health

import (
	"fmt"
	"maps"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// MayReturn says whether a GPU (or a node, uuid "") that was held back is well: its condition is over, and where its rule asks for a reset there was
// one since. why is what is still missing. Of a GPU in MIG mode uuid may be the GPU's or an instance's.
func (n *Node) MayReturn(hold forge.HoldAct, uuid string, since, now time.Time) (ok bool, why string) {
	if hold == forge.HoldNothing || hold == forge.HoldWarn {
		return true, ""
	}
	switch {
	case n.last.At.IsZero():
		return false, "nothing has been seen of it yet"
	case n.last.State != forge.NVMLOK:
		return false, fmt.Sprintf("the driver does not answer (%s): %s", n.last.State, n.last.Detail)
	case now.Sub(n.last.At) > longestGap:
		return false, fmt.Sprintf("nothing has been seen of it for %s", now.Sub(n.last.At).Round(time.Second))
	}
	if hold == forge.HoldNode {
		return n.nodeMayReturn(since, now)
	}
	parts := n.parts(uuid)
	if len(parts) == 0 {
		return false, "it is not among the GPUs that the driver has"
	}
	for _, p := range parts {
		if why := n.unwell(p, now); why != "" {
			return false, why
		}
	}
	if hold == forge.HoldGPU && !n.resetSince(append(parts, uuid), since) {
		return false, fmt.Sprintf("no reset has been seen since %s", since.UTC().Format(time.RFC3339))
	}
	return true, ""
}

// parts are the readings that a UUID stands for: its own, or those of its instances.
func (n *Node) parts(uuid string) []string {
	var own, instances []string
	for _, g := range n.last.GPUs {
		switch uuid {
		case g.UUID:
			own = append(own, g.UUID)
		case g.Parent:
			instances = append(instances, g.UUID)
		}
	}
	return append(own, instances...)
}

// unwell is what is wrong with a GPU, or with the one that it is a part of; empty: it has been well for long enough.
func (n *Node) unwell(uuid string, now time.Time) string {
	g := n.gpus[uuid]
	if g == nil || g.wellSince.IsZero() {
		if g != nil && !g.gone && len(g.conditions) == 0 {
			return "it does not answer"
		}
		return "it does not answer as it should"
	}
	i := slices.IndexFunc(n.last.GPUs, func(r forge.GPUReading) bool { return r.UUID == uuid })
	whole := n.gpus[n.last.GPUs[i].Parent]
	for _, of := range []*gpu{g, whole} {
		if of == nil {
			continue
		}
		if why := of.suffers(now, n.t.settle); why != "" {
			return why
		}
	}
	since := g.wellSince
	if since.Before(n.from) {
		since = n.from
	}
	if d := now.Sub(since); d < n.t.settle {
		return fmt.Sprintf("it has answered for %s; it has to for %s", d.Round(time.Second), n.t.settle)
	}
	return ""
}

// suffers is a condition that keeps a GPU back, or did until just now.
func (g *gpu) suffers(now time.Time, settle time.Duration) string {
	for _, name := range slices.Sorted(maps.Keys(g.conditions)) {
		c := g.conditions[name]
		switch {
		case c.rule.Hold == forge.HoldNothing, c.rule.Hold == forge.HoldWarn:
		case c.active:
			return fmt.Sprintf("%s: %s", name, c.words)
		case !c.since.IsZero():
			return fmt.Sprintf("%s: it begins again", name)
		case !c.overAt.IsZero() && now.Sub(c.overAt) < settle:
			return fmt.Sprintf("%s has been over for %s; it has to be for %s", name, now.Sub(c.overAt).Round(time.Second), settle)
		}
	}
	return ""
}

// resetSince says whether one of these was seen to have been reset. A part is reset with the whole.
func (n *Node) resetSince(uuids []string, since time.Time) bool {
	return slices.ContainsFunc(uuids, func(u string) bool { return n.gpus[u] != nil && n.gpus[u].reset.After(since) })
}

// nodeMayReturn asks that every GPU is well, and that the machine was restarted since: its own word for that, or every GPU was reset, as when
// the driver is loaded anew.
func (n *Node) nodeMayReturn(since, now time.Time) (bool, string) {
	if why := n.whole.suffers(now, n.t.settle); why != "" {
		return false, why
	}
	all := n.again.After(since)
	anew := len(n.last.GPUs) > 0
	for _, u := range n.uuids(n.last, n.seen) {
		if len(n.parts(u)) == 0 {
			return false, u + " is not among the GPUs that the driver has"
		}
		if why := n.unwell(u, now); why != "" {
			return false, u + ": " + why
		}
		anew = anew && n.resetSince([]string{u}, since)
	}
	if !all && !anew {
		return false, fmt.Sprintf("the machine has not been restarted, nor its driver loaded anew, since %s", since.UTC().Format(time.RFC3339))
	}
	return true, ""
}
