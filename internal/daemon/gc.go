package daemon

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// collector implements api.GC.
type collector struct{ d *Daemon }

func (s collector) GCPlan(ctx context.Context, p forge.Principal, q api.GCQuery) (api.GCReport, error) {
	return api.GCReport{}, forge.Errorf(forge.KindUnavailable, "gc", "not yet")
}

func (s collector) GCRun(ctx context.Context, p forge.Principal, q api.GCQuery) (api.GCReport, error) {
	return api.GCReport{}, forge.Errorf(forge.KindUnavailable, "gc", "not yet")
}
