package server

import (
	"context"
	"net/http"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

type costsInput struct {
	By    forge.CostBy `query:"by" default:"user" enum:"tenant,user,model,recipe,run,cluster" doc:"What costs are added up by"`
	Since time.Time    `query:"since" doc:"Beginning of the period, RFC 3339; default 30 days ago"`
	Until time.Time    `query:"until" doc:"Its end; default now"`
}

func (s *server) costs() {
	operation(s, spec{
		id: "list-costs", method: http.MethodGet, path: "/v1/costs", tag: "costs", role: forge.RoleViewer,
		summary: "What runs cost", doc: "GPU-hours, their cost at the prices that were in force when GPUs were allocated, and what of it was useful, in a period. Of the own tenant; by tenant operators are told of all.",
		errors: []forge.Kind{forge.KindInvalid},
	}, func(ctx context.Context, p forge.Principal, in *costsInput) (forge.Costs, error) {
		c, err := s.Costs.Costs(ctx, p, api.CostQuery{By: in.By, Since: in.Since, Until: in.Until})
		if c.Rows == nil {
			c.Rows = []forge.CostRow{}
		}
		return c, err
	})
}
