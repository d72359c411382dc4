package main

import (
	"context"
	"fmt"
	"math"
	"runtime"

	"github.com/forge-ml/forge-ml/scheduler"
)

var (
	curveRuns  = []int{1000, 10_000, 100_000, 1_000_000}
	curveNodes = []int{100, 1000, 10_000}
)

// planCurve is what a full plan costs as the queue and the site grow. The exponent is the steepest, over all sizes or over the last
// step, of straight lines in logarithms, the cost of n log n having its logarithm taken out: at most 1 is no worse than n log n, with 0.05 for noise. CPU time is counted, since it
// is a cost that is asked for, and a shared machine would bend the curve.
func planCurve(_ context.Context, e env) ([]figure, error) {
	fmt.Printf("  %-10s", "runs")
	for _, n := range curveNodes {
		fmt.Printf(" %14s", fmt.Sprint(n, " nodes"))
	}
	fmt.Println("   (ms of CPU of one full plan with all reasons)")
	costs := make([][]float64, len(curveNodes))
	for _, runs := range curveRuns {
		fmt.Printf("  %-10d", runs)
		for i, nodes := range curveNodes {
			w, err := drawWorld(3, runs, nodes, 2)
			if err != nil {
				return nil, err
			}
			s := w.planner.Snapshot(w.now)
			policy := w.policy
			w = nil
			var took []float64
			for range 3 {
				runtime.GC()
				used := cpuTime()
				scheduler.Plan(s, policy)
				took = append(took, ms(cpuTime()-used))
			}
			costs[i] = append(costs[i], median(took))
			fmt.Printf(" %14.1f", median(took))
		}
		fmt.Println()
	}
	worst := math.Inf(-1)
	for i, nodes := range curveNodes {
		x := make([]float64, len(curveRuns))
		y := make([]float64, len(curveRuns))
		for j, runs := range curveRuns {
			n := float64(runs)
			x[j], y[j] = math.Log(n), math.Log(costs[i][j]/math.Log2(n))
		}
		k := slope(x, y)
		last := slope(x[len(x)-2:], y[len(y)-2:]) // where what is the same for every queue weighs least
		worst = max(worst, k, last)
		fmt.Printf("  %d nodes: cost ~ n^%.2f log n, over the last step n^%.2f log n\n", nodes, k, last)
	}
	return []figure{atMost("plan_curve", worst, "exponent", "n log n", 1, 1.05)}, nil
}

// slope is that of the line with the least squares.
func slope(x, y []float64) float64 {
	var sx, sy, sxx, sxy float64
	for i := range x {
		sx, sy, sxx, sxy = sx+x[i], sy+y[i], sxx+x[i]*x[i], sxy+x[i]*y[i]
	}
	n := float64(len(x))
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}
