package scheduler

import (
	"slices"

	forge "github.com/forge-ml/forge-ml"
)

// View is the plan of a snapshot with what it rests on, for those who only ask. It is for one at a time: looking makes what planning
// left out.
type View struct {
	Snapshot forge.Snapshot
	Plan     forge.Plan
	pl       *Planner
	reserved map[forge.RunID]*forge.Reserved
}

// NewView plans.
func NewView(s forge.Snapshot, p Policy) *View {
	v := &View{Snapshot: s, pl: NewPlanner(p), reserved: map[forge.RunID]*forge.Reserved{}}
	v.pl.Load(s)
	q := v.pl.make(s.Now)
	q.reserving = func(e *entry, c *cluster, r *reservation) {
		if v.reserved[e.id] == nil {
			v.reserved[e.id] = &forge.Reserved{Cluster: c.name, At: r.at}
		}
	}
	q.run()
	q.reserving = nil
	v.Plan = q.plan
	return v
}

// Queue lists all that waited, next first: those that start in this plan included.
func (v *View) Queue() []*forge.PendingRun {
	out := make([]*forge.PendingRun, 0, len(v.pl.w.waiting))
	for _, c := range v.pl.last.candidates {
		if c.fate != fateRuns {
			out = append(out, c.e.pend)
		}
	}
	return out
}

// Position is the place of a run in Queue, from 1; 0 for one that does not wait.
func (v *View) Position(run forge.RunID) int {
	n := 0
	for _, c := range v.pl.last.candidates {
		if c.fate == fateRuns {
			continue
		}
		if n++; c.id == run {
			return n
		}
	}
	return 0
}

// at is where a run stands among all that waited and could be stopped; -1 for one that did neither.
func (v *View) at(run forge.RunID) int {
	return slices.IndexFunc(v.pl.last.candidates, func(c *spot) bool { return c.id == run })
}
