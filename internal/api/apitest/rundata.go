package apitest

import (
	"context"
	"maps"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// Why implements api.RunData.
func (f *Fake) Why(_ context.Context, p forge.Principal, run string) (api.Why, error) {
	leave, err := f.enter("Why")
	if err != nil {
		return api.Why{}, err
	}
	defer leave()
	r, err := f.find(p, run)
	if err != nil {
		return api.Why{}, err
	}
	w, ok := f.whys[r.ID]
	if !ok {
		w = api.Why{Sentence: "nothing is known"}
	}
	w.Run, w.State = r.Number, r.State
	return w, nil
}

// Log implements api.RunData.
func (f *Fake) Log(_ context.Context, p forge.Principal, run string, q api.LogQuery) (api.LogChunk, error) {
	leave, err := f.enter("Log")
	if err != nil {
		return api.LogChunk{}, err
	}
	defer leave()
	r, err := f.find(p, run)
	if err != nil {
		return api.LogChunk{}, err
	}
	if n := r.Spec.Gang.GPUs(); q.Rank >= max(1, n) {
		return api.LogChunk{}, forge.Invalidf("rank", "run %d has ranks 0 to %d", r.Number, n-1)
	}
	c := api.LogChunk{Attempt: q.Attempt, Rank: q.Rank, Stream: q.Stream, Next: q.Offset, State: r.State}
	if c.Attempt == 0 {
		c.Attempt = r.Attempt
	}
	if c.Attempt == 0 {
		c.End = r.State.Terminal()
		return c, nil
	}
	text := f.logs[logName{r.ID, c.Attempt, q.Rank, q.Stream}]
	rest := text[min(q.Offset, int64(len(text))):]
	c.Data = rest[:min(q.Max, len(rest))]
	c.Next += int64(len(c.Data))
	i := slices.IndexFunc(r.Attempts, func(a forge.Attempt) bool { return a.Number == c.Attempt })
	c.End = len(c.Data) == len(rest) && i >= 0 && r.Attempts[i].State == forge.AttemptEnded
	if r.Attempt > c.Attempt {
		c.Newer = c.Attempt + 1
	}
	return c, nil
}

// Metrics implements api.RunData.
func (f *Fake) Metrics(_ context.Context, p forge.Principal, run string, q api.MetricsQuery) (api.Metrics, error) {
	leave, err := f.enter("Metrics")
	if err != nil {
		return api.Metrics{}, err
	}
	defer leave()
	r, err := f.find(p, run)
	if err != nil {
		return api.Metrics{}, err
	}
	m := f.metrics[r.ID]
	if len(q.Keys) > 0 {
		curves := map[string][]forge.MetricBucket{}
		for _, k := range q.Keys {
			if c, ok := m.Curves[k]; ok {
				curves[k] = c
			}
		}
		m.Curves = curves
	}
	return m, nil
}

// AddMetrics implements api.Measures: what comes is counted, and the run's last values follow.
func (f *Fake) AddMetrics(_ context.Context, p forge.Principal, run string, q api.AddMetricsRequest) (api.MetricsAdded, error) {
	leave, err := f.enter("AddMetrics")
	if err != nil {
		return api.MetricsAdded{}, err
	}
	defer leave()
	r, err := f.findOwn(p, "metrics.add", run)
	switch {
	case err != nil:
		return api.MetricsAdded{}, err
	case q.Attempt < r.Attempt:
		return api.MetricsAdded{}, forge.Errorf(forge.KindConflict, "metrics.add", "attempt %d of run %d is superseded by attempt %d", q.Attempt, r.Number, r.Attempt)
	case q.Attempt > r.Attempt:
		return api.MetricsAdded{}, forge.Errorf(forge.KindNotFound, "metrics.add", "run %d has no attempt %d", r.Number, q.Attempt)
	}
	m := f.metrics[r.ID]
	m.Last = maps.Clone(m.Last)
	if m.Last == nil {
		m.Last = map[string]float64{}
	}
	out := api.MetricsAdded{Run: r.Number, Attempt: q.Attempt, Points: len(q.Points)}
	for _, point := range q.Points {
		for k, v := range point.Values {
			if v == nil {
				out.Dropped++
				continue
			}
			out.Values++
			m.Last[k] = *v
		}
	}
	f.metrics[r.ID] = m
	return out, nil
}

// Checkpoints implements api.RunData.
func (f *Fake) Checkpoints(_ context.Context, p forge.Principal, run string) ([]forge.Checkpoint, error) {
	leave, err := f.enter("Checkpoints")
	if err != nil {
		return nil, err
	}
	defer leave()
	r, err := f.find(p, run)
	if err != nil {
		return nil, err
	}
	return f.saves[r.ID], nil
}

// Queue implements api.RunData.
func (f *Fake) Queue(_ context.Context, _ forge.Principal, limit int) (api.Queue, error) {
	leave, err := f.enter("Queue")
	if err != nil {
		return api.Queue{}, err
	}
	defer leave()
	if f.queue == nil {
		return api.Queue{}, nil
	}
	q := *f.queue
	if n := len(q.Entries); n > limit {
		q.Entries, q.More = q.Entries[:limit], n-limit
	}
	return q, nil
}

// WhatIf implements api.RunData: one run waits, and starts an hour sooner where nodes are added, an hour later where one is drained.
func (f *Fake) WhatIf(_ context.Context, p forge.Principal, q api.WhatIfQuery) (api.WhatIf, error) {
	leave, err := f.enter("WhatIf")
	if err != nil {
		return api.WhatIf{}, err
	}
	defer leave()
	policy := "default"
	if q.Policy != "" {
		policy = q.Policy
	}
	if !slices.Contains([]string{"default", "fair", "fifo", "las", "srsf"}, policy) {
		return api.WhatIf{}, forge.Invalidf("policy", "%q is not a policy", policy)
	}
	hour := len(q.Drain) - len(q.AddNodes)
	start := time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)
	out := api.WhatIf{Now: api.AheadFigures{Policy: "default", GPUs: 8, Waiting: 1, Start: 1, AvgWaitS: 7200, P95WaitS: 7200, MaxWaitS: 7200}}
	out.Then = out.Now
	out.Then.Policy, out.Then.AvgWaitS = policy, float64(7200+3600*hour)
	out.Then.P95WaitS, out.Then.MaxWaitS = out.Then.AvgWaitS, out.Then.AvgWaitS
	r := api.WhatIfRun{Run: 4, GPUs: 1, Now: start, Then: start.Add(time.Duration(hour) * time.Hour)}
	if p.Role == forge.RoleOperator {
		r.Tenant = p.Tenant
	}
	out.Runs = []api.WhatIfRun{r}
	out.Others = api.Effect{Sooner: max(0, -hour), Later: max(0, hour), Most: forge.Duration(time.Duration(max(0, hour)) * time.Hour)}
	return out, nil
}
