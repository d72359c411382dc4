package apitest

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// SetSamples sets what a run's policy wrote, oldest first.
func (f *Fake) SetSamples(run forge.RunID, items ...api.Sample) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.samples == nil {
		f.samples = map[forge.RunID][]api.Sample{}
	}
	f.samples[run] = items
}

// Samples implements api.Samples.
func (f *Fake) Samples(_ context.Context, p forge.Principal, run string, q api.SamplesQuery) (api.RunSamples, error) {
	leave, err := f.enter("Samples")
	if err != nil {
		return api.RunSamples{}, err
	}
	defer leave()
	r, err := f.find(p, run)
	if err != nil {
		return api.RunSamples{}, err
	}
	out := api.RunSamples{Run: r.Number, State: r.State}
	for _, s := range f.samples[r.ID] {
		if q.Step < 0 || s.Step == q.Step {
			out.Items = append(out.Items, s)
		}
	}
	if n := len(out.Items) - q.Last; n > 0 {
		out.Items, out.More = out.Items[n:], true
	}
	return out, nil
}
