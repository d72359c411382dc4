package scheduler_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

// carriedOut is the snapshot after a plan was committed: what was placed runs, what was preempted is
// leaving, and the claims of each run that something was preempted for are those of the plan.
func carriedOut(s forge.Snapshot, p forge.Plan) forge.Snapshot {
	s = clone(s)
	s.Revision++
	drop := func(run forge.RunID) {
		s.Claims = slices.DeleteFunc(s.Claims, func(c forge.Claim) bool { return c.For == run })
	}
	for _, pl := range p.Place {
		i := slices.IndexFunc(s.Pending, func(r forge.PendingRun) bool { return r.ID == pl.Run })
		r := s.Pending[i]
		s.Pending = slices.Delete(s.Pending, i, i+1)
		a := forge.ActiveAttempt{Run: r.ID, Number: pl.Attempt, Priority: r.Priority, State: forge.AttemptRunning, Cluster: pl.Cluster,
			Placement: pl.Shares, PlacedAt: s.Now, StartedAt: s.Now}
		if r.TimeLimit > 0 {
			a.EndsBy = s.Now.Add(r.TimeLimit)
		}
		s.Active = append(s.Active, a)
		drop(r.ID)
	}
	for i, v := range p.Preempt {
		if i == 0 || p.Preempt[i-1].For != v.For {
			drop(v.For)
		}
		for _, c := range v.Claims {
			for _, old := range s.Claims {
				if old.Cluster == c.Cluster && old.Node == c.Node && old.Slot == c.Slot {
					drop(old.For) // a gang is whole or not at all
				}
			}
			s.Claims = append(s.Claims, c)
		}
		for j := range s.Active {
			if s.Active[j].Run == v.Run && s.Active[j].Intent == "" {
				s.Active[j].Intent = forge.IntentCheckpointPreempt
			}
		}
	}
	return s
}

// TestWhoeverIsPreemptedForStartsWhenTheStoppedHaveLeft follows plans until all that was stopped has left: in every
// plan on the way nothing more is stopped for the same run, nobody else takes its room, and in the end it starts.
func TestWhoeverIsPreemptedForStartsWhenTheStoppedHaveLeft(t *testing.T) {
	preemptions, several := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		s, p := anySnapshot(t), anyPolicy(t)
		plan := scheduler.Plan(s, p)
		waiting := map[forge.RunID]bool{}
		for _, v := range plan.Preempt {
			if waiting[v.For] {
				several++
			}
			waiting[v.For] = true
		}
		preemptions += len(waiting)
		if len(waiting) == 0 {
			return
		}
		for range 20 {
			s = carriedOut(s, plan)
			// One of those who are leaving leaves.
			var leaving []int
			for i, a := range s.Active {
				if a.Leaving() {
					leaving = append(leaving, i)
				}
			}
			if len(leaving) > 0 {
				i := rapid.SampledFrom(leaving).Draw(t, "leaves")
				s.Active = slices.Delete(s.Active, i, i+1)
			}
			plan = scheduler.Plan(s, p)
			if err := scheduler.CheckPlan(s, p, plan); err != nil {
				t.Fatalf("%v\n%s", err, tell(plan))
			}
			overruled := map[forge.RunID]bool{}
			for _, v := range plan.Preempt {
				for _, c := range v.Claims {
					for _, old := range s.Claims {
						if old.Cluster == c.Cluster && old.Node == c.Node && old.Slot == c.Slot && old.For != c.For {
							overruled[old.For] = true
						}
					}
				}
			}
			for run := range overruled {
				delete(waiting, run)
			}
			for _, v := range plan.Preempt {
				if waiting[v.For] {
					t.Fatalf("%s is stopped for %s as well, whose claims stood\n%s", v.Run, v.For, tell(plan))
				}
			}
			for _, pl := range plan.Place {
				delete(waiting, pl.Run)
			}
			if len(waiting) == 0 {
				return
			}
		}
		t.Fatalf("%v never started\n%s", waiting, tell(plan))
	})
	t.Logf("%d runs had something stopped for them, %d stops beyond the first", preemptions, several)
	if preemptions == 0 {
		t.Error("nothing was ever preempted: the property was not tested")
	}
}
