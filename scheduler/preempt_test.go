package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

// busySnapshot draws full worlds in which much is preempted. It is drawn evenly: rapid's own draws prefer what is
// small, and an empty world preempts nothing.
func busySnapshot(t *rapid.T) forge.Snapshot {
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "world")*0x9E3779B97F4A7C15, 7))
	minutes := func(n int) time.Duration { return time.Duration(rng.IntN(n)) * time.Minute }
	s := forge.Snapshot{Revision: 1, Now: epoch}
	for i := range 1 + rng.IntN(4) {
		n := forge.Node{Cluster: "main", Name: forge.NodeName(fmt.Sprint("n", i)), CPUs: 4 + rng.IntN(5), MemoryMiB: 64 << 10, State: forge.NodeReady}
		if rng.IntN(6) == 0 {
			n.Cluster = "side"
		}
		for slot := range 1 + rng.IntN(4) {
			g := forge.GPU{Slot: slot, Kind: forge.GPUDevice, Type: "A100"}
			if rng.IntN(15) == 0 {
				g.Sick = "Xid 79"
			}
			n.GPUs = append(n.GPUs, g)
		}
		s.Nodes = append(s.Nodes, n)
	}
	for i := range 1 + rng.IntN(6) {
		s.Active = append(s.Active, forge.ActiveAttempt{Run: forge.RunID(fmt.Sprint("active-", i)), Number: 1, State: forge.AttemptRunning, Cluster: "main",
			Priority: 10 * rng.IntN(6), StartedAt: epoch.Add(-minutes(90)), SavedAt: epoch.Add(-minutes(90))})
		a := &s.Active[i]
		if rng.IntN(6) == 0 {
			a.Intent = forge.IntentCheckpointPreempt
		}
		if rng.IntN(6) == 0 {
			a.Preempted, a.PreemptedAt = 1+rng.IntN(3), epoch.Add(-minutes(20))
		}
		if rng.IntN(2) == 0 {
			a.EndsBy = epoch.Add(minutes(90))
		}
	}
	for _, n := range s.Nodes {
		cpus := n.CPUs
		for _, g := range n.GPUs {
			a := &s.Active[rng.IntN(len(s.Active))]
			if rng.IntN(5) == 0 || n.Cluster != a.Cluster {
				continue
			}
			if k := len(a.Placement); k == 0 || a.Placement[k-1].Node != n.Name {
				a.Placement = append(a.Placement, forge.Share{Node: n.Name})
			}
			sh := &a.Placement[len(a.Placement)-1]
			used := min(cpus, rng.IntN(3))
			cpus -= used
			sh.Slots, sh.CPUs = append(sh.Slots, g.Slot), sh.CPUs+used
		}
	}
	for i := range 1 + rng.IntN(5) {
		r := forge.PendingRun{ID: forge.RunID(fmt.Sprint("run-", i)), Priority: 10 * rng.IntN(11), SubmittedAt: epoch.Add(-minutes(60)),
			Gang: forge.Gang{Nodes: 1 + rng.IntN(2), GPUsPerNode: 1 + rng.IntN(3), CPUsPerGPU: rng.IntN(3)}}
		if rng.IntN(2) == 0 {
			r.TimeLimit = minutes(120)
		}
		s.Pending = append(s.Pending, r)
	}
	return s
}

func eitherSnapshot(t *rapid.T) forge.Snapshot {
	if rapid.Bool().Draw(t, "busy") {
		return busySnapshot(t)
	}
	return anySnapshot(t)
}

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
		a := forge.ActiveAttempt{Run: r.ID, Number: pl.Attempt, Tenant: r.Tenant, User: r.User, Priority: r.Priority, State: forge.AttemptRunning, Cluster: pl.Cluster,
			Placement: pl.Shares, PlacedAt: s.Now, StartedAt: s.Now, SubmittedAt: r.SubmittedAt, Gang: r.Gang, Where: r.Where, Pinned: r.Pinned, Eval: r.Eval, Work: r.Work}
		a.Work.AsOf = s.Now
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
		s, p := anyWorld(t), anyPolicy(t)
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
					t.Fatalf("%s is stopped for %s as well, whose claims stood\n%s\n%+v", v.Run, v.For, tell(plan), s)
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
