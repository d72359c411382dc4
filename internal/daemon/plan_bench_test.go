package daemon

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
	"github.com/forge-ml/forge-ml/store"
)

// BenchmarkDecide is what an event costs the plan loop up to the transaction, on 800 GPUs that are taken with 50,000 runs of 100 tenants behind:
// one more that is submitted, and one that ends, after which another starts. "nothing" is the planning that has nothing kept warm.
func BenchmarkDecide(b *testing.B) {
	for _, how := range []string{"warm", "nothing"} {
		b.Run("submit/"+how, func(b *testing.B) { benchDecide(b, how == "warm", false) })
		b.Run("end/"+how, func(b *testing.B) { benchDecide(b, how == "warm", true) })
	}
}

func benchDecide(b *testing.B, warm, ends bool) {
	p, err := scheduler.Preset("default")
	if err != nil {
		b.Fatal(err)
	}
	d := &Daemon{log: zerolog.Nop(), world: newWorld(store.World{}, nil)}
	d.settings.Store(&settings{policy: p})
	now := time.Unix(1_000_000, 0)
	d.world.learn(p, past{}, now)
	for i := range 100 {
		n := fakeNode(8)
		n.Name = forge.NodeName(fmt.Sprintf("n%03d", i))
		d.world.apply([]forge.Delta{{Node: &n}})
	}
	n := 0
	submit := func() {
		n++
		r := forge.Run{ID: forge.RunID(fmt.Sprintf("r%09d", n)), Number: int64(n), Version: 1, Tenant: forge.TenantID(fmt.Sprint("t", n%100)), User: "ada", State: forge.RunPending, SubmittedAt: now.Add(time.Duration(n) * time.Millisecond),
			Spec: script(1+n%4, func(s *forge.RunSpec) { s.Priority, s.TimeLimit = 40+n%3*10, forge.Duration(time.Hour) })}
		if n <= 800 { // those that run: nobody stops them, and whether anybody could is looked at each time
			r.Spec.Priority, r.Spec.Gang.GPUsPerNode = forge.MaxPriority, 1
		}
		d.world.apply([]forge.Delta{{Run: &r}})
	}
	var running []forge.RunID
	var took []time.Duration
	plan := func() {
		now = now.Add(time.Millisecond)
		began := time.Now()
		var plan forge.Plan
		if warm {
			plan = d.decide(b.Context(), now)
		} else {
			s := d.world.snapshot(now)
			if plan = scheduler.Plan(s, p); len(plan.Place)+len(plan.Preempt) > 0 {
				if err := scheduler.CheckPlan(s, p, plan); err != nil {
					b.Fatal(err)
				}
			}
		}
		took = append(took, time.Since(began))
		for _, x := range plan.Place {
			a := forge.Attempt{Run: x.Run, Number: x.Attempt, State: forge.AttemptRunning, Cluster: x.Cluster, Placement: x.Shares, PlacedAt: now, StartedAt: now}
			r, _ := d.world.run(x.Run)
			r.State, r.Attempt = forge.RunRunning, x.Attempt
			d.world.apply([]forge.Delta{{Attempt: &a}, {Run: &r}})
			running = append(running, x.Run)
		}
	}
	for range 800 {
		submit()
	}
	plan()
	for range 50_000 {
		submit()
	}
	plan()
	plan()
	took = nil
	for b.Loop() {
		if !ends {
			submit()
		} else if len(running) > 0 {
			a, _ := d.world.attempt(running[0])
			r, _ := d.world.run(running[0])
			running = running[1:]
			a.State, a.ExitedAt, a.EndedAt = forge.AttemptEnded, now, now
			r.State, r.EndedAt = forge.RunCompleted, now
			d.world.apply([]forge.Delta{{Attempt: &a}, {Run: &r}})
		}
		plan()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms/plan")
}
