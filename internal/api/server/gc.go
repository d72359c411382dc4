package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func (s *server) garbage() {
	operation(s, spec{
		id: "plan-gc", method: http.MethodGet, path: "/v1/gc", tag: "gc", role: forge.RoleAdmin,
		summary: "Say what takes room and may go",
		doc:     "Of runs that ended long ago: attempts, checkpoints, outputs that were copied; copies of no version, old snapshots. With why each may go and why others stay. Sizes are bytes. Nothing is changed.",
		errors:  []forge.Kind{forge.KindInvalid, forge.KindUnavailable},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		OlderThan string `query:"older_than" doc:"Nothing goes of a run that ended later than so long ago: 30-0 or 720h; default 30 days"`
		Site      bool   `query:"site" doc:"Of all tenants; for operators"`
	}) (api.GCReport, error) {
		q := api.GCQuery{Site: in.Site}
		if in.OlderThan != "" {
			age, err := forge.ParseDuration(in.OlderThan)
			if err != nil {
				return api.GCReport{}, forge.Invalidf("older_than", "%w", err)
			}
			q.OlderThan = forge.Duration(age)
		}
		return s.GC.GCPlan(ctx, p, q)
	})
	acting(s, spec{
		id: "run-gc", method: http.MethodPost, path: "/v1/gc", tag: "gc", role: forge.RoleAdmin,
		summary: "Remove what may go",
		doc:     "What a plan of this moment names; each is looked at again right before it goes. Sizes are bytes. May take minutes; what it was cut off at is done by the next one.",
		errors:  []forge.Kind{forge.KindInvalid, forge.KindConflict, forge.KindUnavailable},
	}, func(ctx context.Context, p forge.Principal, in *struct{ Body api.GCQuery }) (api.GCReport, error) {
		return s.GC.GCRun(ctx, p, in.Body)
	}, func(context.Context, forge.Principal, string) (api.GCReport, error) {
		return api.GCReport{}, nil // never: it makes nothing that could be remembered, and a second one finds less
	})
}
