package daemon

import (
	"slices"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

// full says that no well slot of a ready node is free, so that no plan could place anything. It
// is looked at before a snapshot is made: under a flood of submissions to a busy cluster nearly
// every plan would come out empty, after copying the whole queue.
func (d *world) full() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	free := map[nodeKey]int{}
	for k, n := range d.nodes {
		if n.State != forge.NodeReady {
			continue
		}
		for _, g := range n.GPUs {
			if g.Sick == "" {
				free[k]++
			}
		}
	}
	for _, a := range d.attempts {
		if !a.State.Open() {
			continue
		}
		for _, s := range a.Placement {
			free[nodeKey{a.Cluster, s.Node}] -= d.well(nodeKey{a.Cluster, s.Node}, s.Slots)
		}
	}
	for _, n := range free {
		if n > 0 {
			return false
		}
	}
	return true
}

// preemptible says whether any run waits for which the policy could have one stopped that runs and was not asked
// to leave; most full clusters are let alone by that. The stamp changes with whatever could let such a run preempt: a flood
// of submissions of low priority does not have the whole queue copied for one that waits in vain.
func (d *world) preemptible(p scheduler.Policy) (at stamp, ok bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	inOrder := p.PreemptInOrder || d.guaranteed()
	if p.PreemptGap <= 0 && !inOrder {
		return stamp{}, false
	}
	at = stamp{moved: d.moved, lowest: forge.MaxPriority + 1}
	for _, a := range d.attempts {
		if a.State.Open() && a.Intent == forge.IntentNone && a.State != forge.AttemptStopping && !d.runs[a.Run].Spec.Pinned {
			at.lowest = min(at.lowest, d.runs[a.Run].Spec.Priority)
		}
	}
	from := at.lowest + p.PreemptGap
	if inOrder && at.lowest <= forge.MaxPriority {
		from = forge.MinPriority // by the order, not by class
	}
	for c := from; c <= forge.MaxPriority; c++ {
		ok = ok || d.queued[c] > 0
		at.touched += d.touched[c]
	}
	return at, ok
}

// guaranteed says whether any tenant has a quota that it may take back.
func (d *world) guaranteed() bool {
	for _, t := range d.ents.tenants {
		if t.Quota.GPUs > 0 {
			return true
		}
	}
	return false
}

// stamp tells worlds apart, as far as preemption goes.
type stamp struct {
	moved, touched int64
	lowest         int   // priority of what could be preempted
	handable       int64 // of those who could be handed over
}

// well counts the slots of a node that full counted as there.
func (d *world) well(k nodeKey, slots []int) int {
	n := 0
	for _, g := range d.nodes[k].GPUs {
		if g.Sick == "" && slices.Contains(slots, g.Slot) {
			n++
		}
	}
	return n
}
