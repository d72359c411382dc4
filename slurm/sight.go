package slurm

import (
	"maps"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// copyRecords takes over what shims and ranks have left.
func (s sight) copyRecords(o *forge.Observation) {
	r := s.records
	var first *rundir.Exit
	var exits []rundir.Exit
	for _, node := range slices.Sorted(maps.Keys(r.Exits)) {
		x := r.Exits[node]
		o.Exits, exits = append(o.Exits, x.Ranks...), append(exits, x)
		if first == nil || rundir.Tells(x, *first) {
			first = &x
		}
	}
	if first != nil {
		o.Cause, o.Detail, o.ByUID = first.Cause, first.Detail, first.ByUID
	}
	rundir.Explain(o, exits, first)
	o.Exits = append(o.Exits, r.Ranks...)
	o.Status, o.Resume, o.Output = r.Status, r.Resume, r.Output
	if r.Launched == nil || len(r.Live) < len(r.Launched.PerNode) {
		return // not all ranks have started
	}
	for _, l := range r.Live {
		if l.StartedAt.After(o.StartedAt) {
			o.StartedAt = l.StartedAt
		}
	}
}

// placement is where it really is: the nodes as soon as Slurm has chosen them, their GPUs once the shims have said which.
func (s sight) placement() []forge.Share {
	l := s.records.Launched
	if l == nil {
		return nil
	}
	share := func(node forge.NodeName, slots []int) forge.Share {
		return forge.Share{Node: node, Slots: slots, CPUs: l.Gang.CPUsPerNode(), MemoryMiB: l.Gang.MemoryMiBPerNode()}
	}
	var out []forge.Share
	for node := range l.PerNode {
		live, ok := s.records.Live[node]
		if !ok || live.Node == "" {
			out = nil
			break
		}
		out = append(out, share(live.Node, live.Slots))
	}
	if out != nil {
		return out
	}
	if s.job == nil || s.job.phase() == phaseWaiting {
		return nil
	}
	hosts, err := expandHosts(s.job.Nodes)
	if err != nil || len(hosts) != len(l.PerNode) {
		return nil
	}
	for _, h := range hosts {
		out = append(out, share(forge.NodeName(h), nil))
	}
	return out
}

// batch is what people are shown.
func (s sight) batch() *forge.BatchJob {
	j := s.job
	if j == nil {
		if b := s.records.Batch; b != nil && b.JobID != "" {
			state := "SUBMITTED"
			if s.complete() {
				state = "COMPLETING"
			}
			return &forge.BatchJob{ID: b.JobID, State: state, SubmittedAt: b.At}
		}
		return nil
	}
	b := &forge.BatchJob{ID: j.ID, Name: j.Name, State: j.State, Reason: j.Reason, Partition: j.Partition, SubmittedAt: j.Submitted}
	switch p := j.phase(); {
	case p == phaseOver:
		b.StartedAt, b.EndedAt = j.Started, j.Ended
	case s.complete():
		b.State, b.Reason = "COMPLETING", "" // Slurm's last word is older than the shims'
		if p != phaseWaiting {
			b.StartedAt = j.Started
		}
	case p == phaseWaiting:
		b.EstimatedStart = j.Started.Truncate(time.Minute) // it moves a little with every round of Slurm's planning
	default:
		b.StartedAt = j.Started
	}
	return b
}
