package store

import (
	"fmt"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// place places a run, or puts it on hold: then there is no attempt, and no error.
func (a *applying) place(p forge.Place) (forge.Attempt, error) {
	none := forge.Attempt{}
	r, err := a.waiting(p.Run)
	if err != nil {
		return none, err
	}
	if r.Version != p.RunVersion || r.Attempt+1 != p.Attempt {
		return none, stale("%s changed since the plan was made", r.name())
	}
	if err := a.formed(r, p); err != nil {
		return none, err
	}
	l, err := a.load(p.Cluster)
	if err != nil {
		return none, err
	}
	if l.paused != "" {
		return none, stale("cluster %s is paused: %s", p.Cluster, l.paused)
	}
	for _, s := range p.Shares {
		if err := a.checkShare(r, l, p.Cluster, s); err != nil {
			return none, err
		}
	}
	names, lacks, err := a.pins(r)
	if err != nil {
		return none, err
	}
	if lacks != "" {
		return none, a.holdRun(r, forge.Hold{Reason: lacks})
	}
	attempt, err := a.insertAttempt(r, p)
	if err != nil {
		return none, err
	}
	return attempt, a.pinned(r, names)
}

// waiting loads a run that may be placed, or refuses.
func (a *applying) waiting(id forge.RunID) (*runRow, error) {
	r, err := a.run(id)
	switch {
	case forge.KindOf(err) == forge.KindNotFound && err != nil:
		return nil, broken("there is no run %s", id)
	case err != nil:
		return nil, err
	case r.State != forge.RunPending:
		return nil, stale("%s is %s", r.name(), r.State)
	case r.HoldBy != "":
		return nil, stale("%s is on hold: %s", r.name(), r.HoldReason)
	case r.Cancel != forge.CancelNone:
		return nil, stale("%s was asked to stop", r.name())
	}
	return r, nil
}

// formed holds that a gang is placed whole, or that its cluster's own queue chooses all of its nodes.
func (a *applying) formed(r *runRow, p forge.Place) error {
	if !p.HandOver {
		return wholeGang(r, p.Shares)
	}
	if len(p.Shares) > 0 {
		return broken("%s is handed over to cluster %s, and the plan names nodes of it", r.name(), p.Cluster)
	}
	if l, err := a.load(p.Cluster); err != nil || len(l.nodes) > 0 {
		return err
	}
	return broken("cluster %s has no nodes", p.Cluster)
}

// wholeGang holds invariant 4: all of the gang or nothing of it.
func wholeGang(r *runRow, shares []forge.Share) error {
	if len(shares) != r.Nodes {
		return broken("%s needs %d nodes; the plan has %d", r.name(), r.Nodes, len(shares))
	}
	seen := map[forge.NodeName]bool{}
	for _, s := range shares {
		if len(s.Slots) != r.GPUs {
			return broken("%s needs %d GPUs a node; the plan has %d on %s", r.name(), r.GPUs, len(s.Slots), s.Node)
		}
		if seen[s.Node] {
			return broken("the plan for %s names node %s twice", r.name(), s.Node)
		}
		seen[s.Node] = true
	}
	return nil
}

func (a *applying) checkShare(r *runRow, l *clusterLoad, cluster forge.ClusterName, s forge.Share) error {
	n, ok := l.nodes[s.Node]
	if !ok {
		return broken("there is no node %s in cluster %s", s.Node, cluster)
	}
	if n.State != forge.NodeReady {
		return stale("node %s is %s: %s", n.Name, n.State, n.Reason)
	}
	for _, slot := range s.Slots {
		i, found := 0, false
		for i = range n.GPUs {
			if found = n.GPUs[i].Slot == slot; found {
				break
			}
		}
		if !found {
			return stale("node %s has no slot %d", n.Name, slot)
		}
		if n.GPUs[i].Sick != "" {
			return stale("slot %d of %s is sick: %s", slot, n.Name, n.GPUs[i].Sick)
		}
	}
	if used := l.cpus[s.Node]; used+s.CPUs > n.CPUs {
		return stale("node %s has %d of %d CPUs free; %s needs %d", n.Name, n.CPUs-used, n.CPUs, r.name(), s.CPUs)
	}
	if used := l.memory[s.Node]; used+s.MemoryMiB > n.MemoryMiB {
		return stale("node %s has %s of %s memory free; %s needs %s", n.Name, forge.FormatMiB(n.MemoryMiB-used), forge.FormatMiB(n.MemoryMiB), r.name(), forge.FormatMiB(s.MemoryMiB))
	}
	others, err := a.claims(`cluster = ? AND node = ? AND for_run <> ?`, string(cluster), string(s.Node), string(r.ID))
	if err != nil {
		return err
	}
	for _, o := range others {
		if slices.Contains(s.Slots, o.Slot) {
			return stale("slot %d of %s is claimed for another run", o.Slot, s.Node)
		}
	}
	return nil
}

func (a *applying) insertAttempt(r *runRow, p forge.Place) (forge.Attempt, error) {
	none := forge.Attempt{}
	placement, err := encode(len(p.Shares), p.Shares)
	if err != nil {
		return none, err
	}
	row := &attemptRow{Run: r.ID, Number: p.Attempt, State: forge.AttemptPlaced, Cluster: p.Cluster, Placement: placement, PlacedAt: stampOf(a.now), HandedOver: p.HandOver, Version: 1}
	if row.Price, err = a.priceOf(r, p); err != nil {
		return none, err
	}
	row.GPUs = gpusOf(p.Shares)
	if a.opt.RunDir != nil {
		row.RunDir = clean(a.opt.RunDir(r.ID, p.Cluster))
	}
	if err := a.tx.insertAttempt(row); err != nil {
		return none, err
	}
	for _, s := range p.Shares {
		for _, slot := range s.Slots {
			if _, err := a.exec(`INSERT INTO allocations (cluster, node, slot, run, attempt) VALUES (?, ?, ?, ?, ?)`,
				string(p.Cluster), string(s.Node), slot, string(r.ID), p.Attempt); err != nil {
				return none, err
			}
		}
	}
	if err := a.emitAttempt(row); err != nil {
		return none, err
	}
	// The gang starts: what was claimed for it is either in the placement or not needed any more.
	if err := a.dropClaims(claimsFor, string(r.ID)); err != nil {
		return none, err
	}
	r.Attempt, r.NotBefore = p.Attempt, 0
	placed := forge.Event{Type: forge.EventRunHandedOver, Attempt: p.Attempt,
		Message: fmt.Sprintf("attempt %d of %s is handed over to cluster %s, whose own queue decides when and where it starts", p.Attempt, r.name(), p.Cluster)}
	if !p.HandOver {
		r.State = forge.RunProvisioning
		placed.Type, placed.Message = forge.EventRunPlaced, fmt.Sprintf("attempt %d of %s placed on %s", p.Attempt, r.name(), where(p.Shares))
	}
	if err := a.saveRun(r); err != nil {
		return none, err
	}
	if err := a.outbox(OutboxLaunch, r.ID, p.Attempt, forge.IntentNone); err != nil {
		return none, err
	}
	if err := a.runEvent(r, placed); err != nil {
		return none, err
	}
	return row.forge()
}

func where(shares []forge.Share) string {
	var parts []string
	for _, s := range shares {
		parts = append(parts, fmt.Sprintf("%s %v", s.Node, s.Slots))
	}
	return strings.Join(parts, ", ")
}
