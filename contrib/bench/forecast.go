package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler/sim"
)

const (
	forecastCluster = "8x8"
	forecastRuns    = 1000
	forecastLoad    = 1.1
	forecastSeed    = 7
	forecastLooks   = 60  // moments of the trace at which the queue is played on
	forecastEach    = 20  // samples, as forged takes
	forecastNominal = 0.8 // of the intervals
)

// look is what was expected at one moment of a trace.
type look struct {
	at   time.Time
	runs []sim.Expected
}

// forecasts replays a trace, says at moments of it when each run that waits will start, from nothing but the snapshot that the planner had, and
// holds that against when it did. Runs that come later and failures of estimates are part of the error: a forecast knows neither.
func forecasts(ctx context.Context, e env) ([]figure, error) {
	cluster, err := sim.ParseCluster(forecastCluster)
	if err != nil {
		return nil, err
	}
	jobs, err := sim.Generate(sim.GenerateOptions{Jobs: forecastRuns, Seed: forecastSeed, Cluster: cluster, Load: forecastLoad})
	if err != nil {
		return nil, err
	}
	policy, err := sim.Policy("default")
	if err != nil {
		return nil, err
	}
	o := sim.Options{Cluster: cluster, Policy: policy, Estimates: sim.EstimatesProgress, RestartCost: 30 * time.Second, GraceOK: 1, Seed: forecastSeed}
	var looks []look
	starts := map[forge.RunID][]time.Time{}
	begin, end := jobs[0].Submit, jobs[len(jobs)-1].Submit
	var first, next time.Time
	every := time.Duration((end-begin)/forecastLooks) * time.Millisecond
	var broken error
	o.Watch = func(s forge.Snapshot, p forge.Plan) {
		for _, pl := range p.Place {
			starts[pl.Run] = append(starts[pl.Run], s.Now)
		}
		if first.IsZero() {
			first, next = s.Now, s.Now.Add(every)
		}
		if broken != nil || s.Now.Before(next) || len(looks) >= forecastLooks || len(s.Pending) == 0 {
			return
		}
		next = s.Now.Add(every)
		f, err := sim.Forecast(ctx, s, policy, sim.ForecastOptions{Samples: forecastEach, Seed: 1})
		if err != nil {
			broken = err
			return
		}
		waiting := slices.DeleteFunc(f.Runs, func(x sim.Expected) bool { // what starts at once needs no forecast
			return slices.ContainsFunc(p.Place, func(pl forge.Place) bool { return pl.Run == x.Run })
		})
		looks = append(looks, look{s.Now, waiting})
	}
	if _, err := sim.Replay(ctx, jobs, o); err != nil || broken != nil {
		return nil, errors.Join(err, broken)
	}
	var errs, waits []float64
	within, early, late, total := 0, 0, 0, 0
	for _, l := range looks {
		for _, x := range l.runs {
			i := slices.IndexFunc(starts[x.Run], func(at time.Time) bool { return !at.Before(l.at) })
			if i < 0 || x.Start.IsZero() {
				continue
			}
			happened := starts[x.Run][i]
			errs = append(errs, happened.Sub(x.Start).Abs().Minutes())
			waits = append(waits, happened.Sub(l.at).Minutes())
			total++
			if low, high := x.Low.Add(-time.Second), x.High.Add(time.Second); !happened.Before(low) && (x.High.IsZero() || !happened.After(high)) {
				within++
			} else if happened.Before(low) {
				early++
			} else {
				late++
			}
		}
	}
	if total == 0 {
		return nil, errors.New("nothing waited at any moment that was looked at")
	}
	if e.verbose {
		fmt.Printf("forecast: %d moments, %d expected starts, %d within, %d earlier, %d later; error mean %.1f min, p90 %.1f min; wait still ahead mean %.1f min\n", len(looks), total, within, early, late, mean(errs), percentile(errs, 90), mean(waits))
	}
	return []figure{
		atMost("forecast_median_error", median(errs), "min", "median-wait-ahead", median(waits), 0.5),
		atLeast("forecast_coverage", float64(within)/float64(total), "part", "nominal", forecastNominal, 0.75),
	}, nil
}

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}
