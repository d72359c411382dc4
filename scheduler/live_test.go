package scheduler_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

// life plays plans on a small world: those who are stopped leave and wait again, with what they had and how often they were stopped.
type life struct {
	s       forge.Snapshot
	p       scheduler.Policy
	stopped map[forge.RunID]int
	last    map[forge.RunID]time.Time
}

// plan makes a plan, has it judged, and carries it out.
func (l *life) plan(t failer) forge.Plan {
	plan := scheduler.Plan(l.s, l.p)
	if err := scheduler.CheckPlan(l.s, l.p, plan); err != nil {
		t.Fatalf("%v\n%s\n%+v\n%s", err, tell(plan), l.p, describe(l.s))
	}
	l.s = carriedOut(l.s, plan)
	for i := range l.s.Active {
		a := &l.s.Active[i]
		if a.PlacedAt.Equal(l.s.Now) {
			a.Preempted, a.PreemptedAt = l.stopped[a.Run], l.last[a.Run]
		}
	}
	return plan
}

type failer interface {
	Fatalf(format string, args ...any)
}

// leave has all who are stopping leave; those who were preempted wait again.
func (l *life) leave() {
	var stay []forge.ActiveAttempt
	for _, a := range l.s.Active {
		if !a.Leaving() {
			stay = append(stay, a)
			continue
		}
		if a.Intent != forge.IntentCheckpointPreempt {
			continue
		}
		l.stopped[a.Run] = a.Preempted + 1
		l.last[a.Run] = l.s.Now
		r := forge.PendingRun{ID: a.Run, Tenant: a.Tenant, User: a.User, Attempt: a.Number, Priority: a.Priority, SubmittedAt: a.SubmittedAt, Gang: a.Gang, Where: a.Where, Pinned: a.Pinned, Eval: a.Eval, Work: a.Work}
		if !a.StartedAt.IsZero() {
			r.Work.Ran += l.s.Now.Sub(a.StartedAt)
		}
		if !a.Work.AsOf.IsZero() {
			r.Work.Left = max(0, r.Work.Left-l.s.Now.Sub(a.Work.AsOf))
		}
		r.Work.AsOf = time.Time{}
		if r.Gang.Nodes > 0 {
			l.s.Pending = append(l.s.Pending, r)
		}
	}
	l.s.Active = stay
}

// TestStoppingComesToAnEnd: at one instant, with everybody who is stopped leaving at once and waiting again, plans come to an end; and a plan of a
// world in which the one before was carried out, and nothing else happened, stops nobody more for the same run.
func TestStoppingComesToAnEnd(t *testing.T) {
	stops := 0
	rapid.Check(t, func(t *rapid.T) {
		s := anyWorld(t)
		s.Claims = nil
		l := &life{s: s, p: anyPolicy(t), stopped: map[forge.RunID]int{}, last: map[forge.RunID]time.Time{}}
		for round := 0; ; round++ {
			before := l.s
			plan := l.plan(t)
			stops += len(plan.Preempt)
			if len(plan.Preempt) == 0 {
				return
			}
			for_ := map[forge.RunID]bool{}
			for _, v := range plan.Preempt {
				for_[v.For] = true
			}
			for _, v := range scheduler.Plan(l.s, l.p).Preempt {
				if for_[v.For] {
					t.Fatalf("%s is stopped for %s as well, and nothing happened since\n%s\n%+v\n%s", v.Run, v.For, tell(plan), l.p, describe(before))
				}
			}
			if round == 40 {
				t.Fatalf("still stops runs after %d plans\n%s\n%+v\n%s", round, tell(plan), l.p, describe(before))
			}
			l.leave()
		}
	})
	if stops == 0 {
		t.Error("nothing was ever stopped: the property was not tested")
	}
}

// TestAgeingRunsGetTheirPart: under a stream of short runs that alone would fill the cluster for ever, those who have waited too long get at least
// AgeShare of all GPU time in any 24 hours in which some of them wait.
func TestAgeingRunsGetTheirPart(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: seconds of planning")
	}
	for _, blind := range []bool{false, true} {
		for _, width := range []int{2, 3} { // a part that widths do not divide is exceeded, not missed: 20 GPUs, a tenth
			t.Run(fmt.Sprintf("nothing known: %v, of %d GPUs each", blind, width), func(t *testing.T) { ageing(t, preset("default"), blind, width, 0.1) })
		}
	}
}

func ageing(t *testing.T, p scheduler.Policy, blind bool, width int, want float64) {
	p.AgeAfter = 24 * time.Hour
	s := forge.Snapshot{Now: epoch}
	for i := range 4 {
		n := forge.Node{Cluster: "main", Name: forge.NodeName(fmt.Sprint("n", i)), CPUs: 64, MemoryMiB: 512 << 10, State: forge.NodeReady}
		for slot := range 5 {
			n.GPUs = append(n.GPUs, forge.GPU{Slot: slot, Kind: forge.GPUDevice, Type: "H100"})
		}
		s.Nodes = append(s.Nodes, n)
	}
	work := func(left time.Duration, gpus int) forge.Work {
		w := forge.Work{Left: left, Known: !blind}
		if blind {
			w.Rank = forge.GPUTimeOf(left, gpus)
		}
		return w
	}
	for i := range 6 {
		s.Pending = append(s.Pending, forge.PendingRun{ID: forge.RunID(fmt.Sprint("old-", i)), SubmittedAt: epoch.Add(-48*time.Hour + time.Duration(i)*time.Hour), Priority: 50,
			Gang: forge.Gang{Nodes: 1, GPUsPerNode: width}, Work: work(400*time.Hour, width)})
	}
	l := &life{s: s, p: p, stopped: map[forge.RunID]int{}, last: map[forge.RunID]time.Time{}}
	const step = 10 * time.Minute
	var got []float64 // GPU time of old runs in each step
	for i := range 6 * 24 * 4 {
		l.s.Now = epoch.Add(time.Duration(i) * step)
		l.s.Active = slices.DeleteFunc(l.s.Active, func(a forge.ActiveAttempt) bool { return l.s.Now.Sub(a.Work.AsOf) >= a.Work.Left })
		for k := range 4 { // two hours of one GPU each, 24 GPUs' worth at all times
			if waiting := len(l.s.Pending); waiting < 40 {
				l.s.Pending = append(l.s.Pending, forge.PendingRun{ID: forge.RunID(fmt.Sprintf("new-%04d-%d", i, k)), SubmittedAt: l.s.Now, Priority: 50,
					Gang: forge.Gang{Nodes: 1, GPUsPerNode: 1}, Work: work(2*time.Hour, 1)})
			}
		}
		slices.SortFunc(l.s.Pending, func(a, b forge.PendingRun) int { return cmp.Compare(a.ID, b.ID) })
		for range 3 {
			l.plan(t)
			l.leave()
		}
		sum := 0.0
		for _, a := range l.s.Active {
			if a.Run[0] == 'o' {
				sum += float64(a.Gang.GPUs())
			}
		}
		got = append(got, sum/20)
	}
	for from := 0; from+144 <= len(got); from++ {
		sum := 0.0
		for _, g := range got[from : from+144] {
			sum += g / 144
		}
		if sum < want-1e-9 {
			t.Fatalf("in the 24 hours from hour %.1f those who waited too long get %.3f of the GPUs, want %.3f", float64(from)/6, sum, want)
		}
	}
}
