package main

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

const (
	planWaiting = 100_000
	planNodes   = 10_000
	planRounds  = 3
	planEvents  = 400
	planSettle  = 12   // plans are carried out before, at most
	planSorts   = 10.0 // a full plan may cost as much as so many sorts of as many pairs
)

// sortTime is how long sorting as many pairs as runs wait takes on this machine.
func sortTime(n int) time.Duration {
	type pair struct {
		key float64
		id  uint64
	}
	rng := rand.New(rand.NewPCG(1, 2))
	pairs := make([]pair, n)
	for i := range pairs {
		pairs[i] = pair{rng.Float64(), rng.Uint64()}
	}
	began := time.Now()
	slices.SortFunc(pairs, func(a, b pair) int {
		if c := cmp.Compare(a.key, b.key); c != 0 {
			return c
		}
		return cmp.Compare(a.id, b.id)
	})
	return time.Since(began)
}

// planFull is one plan from nothing: the snapshot is read, everything is ordered and placed, and each run that waits gets its reason. Rounds of
// sorts and plans alternate, so that a slow moment of the machine hits both.
func planFull(_ context.Context, e env) ([]figure, error) {
	w, err := drawWorld(1, planWaiting, planNodes, planSettle)
	if err != nil {
		return nil, err
	}
	s := w.planner.Snapshot(w.now)
	var plans, cpu, sorts []float64
	var plan forge.Plan
	for range planRounds {
		for range 3 {
			sorts = append(sorts, ms(sortTime(planWaiting)))
		}
		runtime.GC()
		began, used := time.Now(), cpuTime()
		plan = scheduler.Plan(s, w.policy)
		plans, cpu = append(plans, ms(time.Since(began))), append(cpu, ms(cpuTime()-used))
	}
	if told := reasons(plan) + len(plan.Place); told < planWaiting {
		return nil, fmt.Errorf("%d of %d runs were told why they wait or where they start", told, planWaiting)
	}
	if e.verbose {
		fmt.Printf("  %d start, %d are stopped, %d reasons; plans %.4g ms, of CPU %.4g ms, sorts %.4g ms\n", len(plan.Place), len(plan.Preempt), len(plan.Hold), plans, cpu, sorts)
	}
	return []figure{atMost("plan_full", median(plans), "ms", "sort-100k", median(sorts), planSorts)}, nil
}

// cpuTime is what this process has used of its cores, so that a shared machine can be told from a slow plan.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func reasons(p forge.Plan) int {
	n := 0
	for _, h := range p.Hold {
		n += len(h.Runs)
	}
	return n
}

// planIncremental is a plan after each of many events, one at a time, in a world that has settled; what a plan decides is carried out
// before the next event. The time is that of the change and of the plan with the reasons of all that wait.
func planIncremental(_ context.Context, e env) ([]figure, error) {
	w, err := drawWorld(2, planWaiting, planNodes, planSettle)
	if err != nil {
		return nil, err
	}
	w.settle(20)
	took := map[string][]float64{}
	var all, cpu []float64
	kinds := []string{"arrival", "end", "progress", "node"}
	runtime.GC()
	for i := range planEvents {
		kind := kinds[i%len(kinds)]
		w.now = w.now.Add(time.Second)
		happen := w.event(kind)
		began, used := time.Now(), cpuTime()
		happen()
		plan := w.planner.Plan(w.now)
		d := ms(time.Since(began))
		took[kind], all, cpu = append(took[kind], d), append(all, d), append(cpu, ms(cpuTime()-used))
		if told := reasons(plan) + len(plan.Place); told < len(w.pending)*9/10 {
			return nil, fmt.Errorf("%d of %d runs were told why they wait or where they start", told, len(w.pending))
		}
		w.carryOut(plan)
	}
	slow := ""
	for _, k := range kinds {
		if slow == "" || percentile(took[k], 99) > percentile(took[slow], 99) {
			slow = k
		}
		if e.verbose {
			fmt.Printf("  after %-8s p50 %.2f ms, p99 %.2f ms\n", k, percentile(took[k], 50), percentile(took[k], 99))
		}
	}
	if e.verbose {
		fmt.Printf("  of CPU p50 %.2f ms, p99 %.2f ms\n", percentile(cpu, 50), percentile(cpu, 99))
	}
	fmt.Printf("  slowest after: %s (p99 %.2f ms); all p50 %.2f ms\n", slow, percentile(took[slow], 99), percentile(all, 50))
	return []figure{atMost("plan_incremental", percentile(all, 99), "ms", "limit", 5, 1)}, nil
}

// event readies one event; what it does is done, and timed, later.
func (w *world) event(kind string) func() {
	switch kind {
	case "arrival":
		return w.arrive
	case "end":
		id := w.any()
		return func() { w.end(id) }
	case "progress":
		a := w.active[w.any()]
		a.Work = forge.Work{Left: time.Duration(float64(a.Work.Left) * (0.8 + 0.4*w.rng.Float64())).Round(time.Second), AsOf: w.now, Known: true, Source: forge.WorkProgress}
		w.active[a.Run] = a
		return func() { w.planner.Change(scheduler.Change{Active: &a}) }
	}
	n := &w.nodes[w.rng.IntN(len(w.nodes))]
	x := *n
	if x.Version++; x.State == forge.NodeReady {
		x.State, x.Reason = forge.NodeDrained, "drained by op: firmware"
	} else {
		x.State, x.Reason = forge.NodeReady, ""
	}
	*n = x
	return func() { w.planner.Change(scheduler.Change{Node: &x}) }
}

// any is one of the runs that run, by the seed alone.
func (w *world) any() forge.RunID {
	if len(w.order) == 0 {
		w.order = w.running()
	}
	for {
		id := w.order[0]
		w.order = w.order[1:]
		if _, runs := w.active[id]; runs {
			return id
		}
	}
}
