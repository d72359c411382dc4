package sim

import (
	"math"
	"slices"
)

// Figures is what came of a replay. Times are seconds.
type Figures struct {
	Policy       string  `json:"policy"`
	Jobs         int     `json:"jobs"`
	AvgJCT       float64 `json:"avg_jct_s"` // from submit to end
	P99JCT       float64 `json:"p99_jct_s"`
	Makespan     float64 `json:"makespan_s"`  // from the first submit to the end of the last run
	AvgQueue     float64 `json:"avg_queue_s"` // from submit to end, less the run's own time: waits, restarts, work done again
	P95Queue     float64 `json:"p95_queue_s"`
	MaxQueue     float64 `json:"max_queue_s"`
	Utilization  float64 `json:"utilization"` // part of all GPU time from the first submit to the last end that runs held
	Preemptions  int64   `json:"preemptions"`
	MaxPreempted int     `json:"max_preemptions_per_run"`
	LostGPU      float64 `json:"lost_gpu_s"` // work done in vain
	Events       int64   `json:"events"`
	Wall         float64 `json:"wall_s"`
}

func (e *engine) figures() Figures {
	f := Figures{Policy: e.policy.Preset, Jobs: len(e.runs), Preemptions: e.stats.preemptions, Events: e.stats.events}
	jct, queue := make([]int64, 0, len(e.runs)), make([]int64, 0, len(e.runs))
	var jcts, queues, last, lost int64
	first := int64(math.MaxInt64)
	for i := range e.runs {
		r := &e.runs[i]
		took := r.ended - r.submit
		jct, queue = append(jct, took), append(queue, took-r.need)
		jcts, queues = jcts+took, queues+took-r.need
		first, last = min(first, r.submit), max(last, r.ended)
		lost += r.lost * r.gpus
		f.MaxPreempted = max(f.MaxPreempted, r.stops)
	}
	slices.Sort(jct)
	slices.Sort(queue)
	n := float64(max(1, len(e.runs)))
	f.AvgJCT, f.AvgQueue = seconds(jcts)/n, seconds(queues)/n
	f.P99JCT, f.P95Queue, f.MaxQueue = seconds(percentile(jct, 99)), seconds(percentile(queue, 95)), seconds(percentile(queue, 100))
	f.Makespan, f.LostGPU = seconds(last-first), seconds(lost)
	if e.series != nil && last > first {
		f.Utilization = e.held / (float64(e.series.total) * float64(last-first))
	}
	return f
}

func seconds(ms int64) float64 { return float64(ms) / 1000 }

// percentile is the least value that p percent do not exceed.
func percentile(sorted []int64, p int) int64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}
