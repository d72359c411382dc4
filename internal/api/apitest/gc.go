package apitest

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// GCPlan implements api.GC: one old checkpoint may go, and one stays.
func (f *Fake) GCPlan(_ context.Context, p forge.Principal, q api.GCQuery) (api.GCReport, error) {
	leave, err := f.enter("GCPlan")
	if err != nil {
		return api.GCReport{}, err
	}
	defer leave()
	return f.collected(p, q, false)
}

// GCRun implements api.GC.
func (f *Fake) GCRun(_ context.Context, p forge.Principal, q api.GCQuery) (api.GCReport, error) {
	leave, err := f.enter("GCRun")
	if err != nil {
		return api.GCReport{}, err
	}
	defer leave()
	return f.collected(p, q, true)
}

func (f *Fake) collected(p forge.Principal, q api.GCQuery, removed bool) (api.GCReport, error) {
	if q.Site && !p.Role.Includes(forge.RoleOperator) {
		return api.GCReport{}, forge.Errorf(forge.KindForbidden, "gc", "what all tenants have is for operators of the site")
	}
	if q.OlderThan == 0 {
		q.OlderThan = forge.Duration(api.DefaultGCAge)
	}
	return api.GCReport{At: f.now, OlderThan: q.OlderThan, Site: q.Site, Removed: removed, Bytes: 1 << 30, Count: 1,
		Goes:  []api.GCSum{{Kind: api.GCCheckpoint, Why: "a newer one is verified", Count: 1, Bytes: 1 << 30}},
		Stays: []api.GCSum{{Kind: api.GCCheckpoint, Why: "the newest verified one of its run", Count: 1, Bytes: 1 << 30}},
		Items: []api.GCItem{{Kind: api.GCCheckpoint, Path: "/runs/01/attempts/0001/checkpoints/checkpoint-20", Bytes: 1 << 30, Run: 1, Attempt: 1, Step: 20, Why: "a newer one is verified"}}}, nil
}
