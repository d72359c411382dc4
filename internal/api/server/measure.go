package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func (s *server) measures() {
	acting(s, spec{
		id: "add-run-metrics", method: http.MethodPost, path: "/v1/runs/{run}/metrics", tag: "runs", role: forge.RoleMember,
		summary: "Bring metrics of a run",
		doc: "For a run whose program writes no metrics file; on the disk before it is answered, all of it or nothing. Steps are optimizer steps. Of one attempt the keys of a step are joined, and of a key the value " +
			"that came last stands; a newer attempt replaces the step. A batch may be sent again and leaves the same, so that its Idempotency-Key is not kept. At most 1,000 points and 20,000 values.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindConflict, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		RunInput
		Body api.AddMetricsRequest
	}) (api.MetricsAdded, error) {
		return s.Measures.AddMetrics(ctx, p, in.Run, in.Body)
	}, func(context.Context, forge.Principal, string) (api.MetricsAdded, error) {
		return api.MetricsAdded{}, nil // never: nothing is remembered of it
	})
}
