package scheduler

import (
	"slices"

	forge "github.com/forge-ml/forge-ml"
)

// undo takes back what a plan tried out: the world stands for what is, and a plan is only a wish until it is committed.
type undo struct {
	plan  int // number of the plan that is being made
	on    bool
	nodes []before
	kept  []keptBefore
	// counted are the runs that the plan counts among those that have something.
	counted []*entry
}

// keptBefore is what was claimed for a run.
type keptBefore struct {
	run  forge.RunID
	kept []kept
}

// before is a node as it was.
type before struct {
	node    *node
	freeCPU int
	freeMiB int64
	uses    []use
	slots   []slot
}

// begin starts a plan.
func (w *world) begin() {
	w.undo.plan++
	w.undo.on = true
}

// keepBefore remembers a node before its first change in a plan.
func (w *world) keepBefore(n *node) {
	if !w.undo.on || n.saved == w.undo.plan {
		return
	}
	n.saved = w.undo.plan
	b := before{node: n, freeCPU: n.freeCPU, freeMiB: n.freeMiB, uses: slices.Clone(n.uses), slots: make([]slot, len(n.slots))}
	for i, sl := range n.slots {
		if sl != nil {
			b.slots[i] = *sl
		}
	}
	w.undo.nodes = append(w.undo.nodes, b)
}

// setClaims changes what is claimed for a run.
func (w *world) setClaims(run forge.RunID, to []kept) {
	if w.undo.on {
		w.undo.kept = append(w.undo.kept, keptBefore{run, w.claims[run]})
	}
	if e := w.entries[run]; e != nil {
		if e.claims = len(to) > 0; e.inLine && !w.undo.on && !w.lineStale {
			w.refate(e)
		}
	}
	if len(to) == 0 {
		delete(w.claims, run)
		return
	}
	w.claims[run] = to
}

// end takes everything back.
func (w *world) end() {
	w.undo.on = false
	for i := len(w.undo.nodes) - 1; i >= 0; i-- {
		b := &w.undo.nodes[i]
		n := b.node
		n.move()
		n.freeCPU, n.freeMiB, n.uses, n.saved = b.freeCPU, b.freeMiB, b.uses, -1
		for j, sl := range n.slots {
			if sl != nil {
				sl.held, sl.claim, sl.from = b.slots[j].held, b.slots[j].claim, b.slots[j].from
			}
		}
		for _, bin := range n.bins {
			bin.countFree()
		}
	}
	for i := len(w.undo.kept) - 1; i >= 0; i-- {
		w.setClaims(w.undo.kept[i].run, w.undo.kept[i].kept)
	}
	for _, e := range w.undo.counted {
		uncount(e)
	}
	w.undo.counted = w.undo.counted[:0]
	w.undo.nodes, w.undo.kept = w.undo.nodes[:0], w.undo.kept[:0]
	for _, c := range w.clusters {
		c.reserved = nil
		if c.queue != nil {
			c.queue.forget()
		}
	}
}

func (b *bin) countFree() {
	n := 0
	for _, sl := range b.slots {
		if sl.free() {
			n++
		}
	}
	if n != b.avail {
		b.setAvail(n)
	}
}
