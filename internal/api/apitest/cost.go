package apitest

import (
	"context"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// Costs implements api.Costs: tenant T1 has had two things, one of which nobody has priced; others had nothing.
func (f *Fake) Costs(_ context.Context, p forge.Principal, q api.CostQuery) (forge.Costs, error) {
	leave, err := f.enter("Costs")
	if err != nil {
		return forge.Costs{}, err
	}
	defer leave()
	if !q.Until.IsZero() && q.Until.Before(q.Since) {
		return forge.Costs{}, forge.Invalidf("until", "%s is before since", q.Until.Format(time.RFC3339))
	}
	out := forge.Costs{By: q.By, Since: q.Since, Until: q.Until, Currency: "EUR", Rows: []forge.CostRow{}}
	if p.Tenant != "T1" {
		return out, nil
	}
	var a, b, all forge.CostSum
	price, zero := 16.0, time.Unix(1_764_000_000, 0).UTC()
	had := func(s *forge.CostSum, price *float64, h int, reason forge.EndReason) {
		at := func(n int) time.Time { return zero.Add(time.Duration(n) * time.Hour) }
		s.Add(&forge.Attempt{State: forge.AttemptEnded, Reason: reason, PlacedAt: zero, StartedAt: zero, FirstStepAt: at(1), KeptAt: at(h / 2), LastStepAt: at(h), ExitedAt: at(h)}, 4, price, time.Time{}, time.Time{}, at(h))
	}
	for _, s := range []*forge.CostSum{&a, &all} {
		had(s, &price, 10, forge.EndCompleted)
		had(s, &price, 10, forge.EndNodeLost)
	}
	for _, s := range []*forge.CostSum{&b, &all} {
		had(s, nil, 6, forge.EndCompleted)
	}
	out.Rows = []forge.CostRow{{Key: "ada", Cost: a.Cost(1)}, {Key: "bob", Cost: b.Cost(1)}}
	out.Total = all.Cost(2)
	return out, nil
}

// RunCosts implements api.Costs: run 1 has had something.
func (f *Fake) RunCosts(_ context.Context, p forge.Principal, runs []forge.RunID) (map[forge.RunID]forge.Cost, error) {
	leave, err := f.enter("RunCosts")
	if err != nil {
		return nil, err
	}
	defer leave()
	out := map[forge.RunID]forge.Cost{}
	money := 12.34
	for _, r := range f.runs {
		if slices.Contains(runs, r.ID) && r.Tenant == p.Tenant && r.Number == 1 {
			out[r.ID] = forge.Cost{Runs: 1, Attempts: 1, GPUHours: 4, Money: &money, Useful: 4}
		}
	}
	return out, nil
}
