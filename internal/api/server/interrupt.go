package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func (s *server) interrupts() {
	acting(s, spec{
		id: "interrupt-run", method: http.MethodPost, path: "/v1/runs/{run}/interrupt", tag: "runs", role: forge.RoleMember,
		summary: "Rehearse how a run resumes",
		doc:     "The run is asked to save as by a preemption or by its time limit, ends its attempt, and goes on by itself from what it saved. Nothing else is placed in its stead on purpose.",
		errors:  []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		RunInput
		Body *api.InterruptRequest
	}) (forge.Run, error) {
		as := forge.InterruptPreempt
		if in.Body != nil && in.Body.As != "" {
			as = in.Body.As
		}
		return s.Runs.InterruptRun(ctx, p, in.Run, as)
	}, s.runAgain)
	operation(s, spec{
		id: "get-run-seat", method: http.MethodGet, path: "/v1/runs/{run}/seat", tag: "runs", role: forge.RoleMember,
		summary: "Say where a rank runs", doc: "For a shell beside it, in its allocation. Only where the cluster has a batch system.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		RunInput
		Rank int `query:"rank" minimum:"0" maximum:"65535" doc:"Global rank"`
	}) (api.RunSeat, error) {
		return s.Runs.RunSeat(ctx, p, in.Run, in.Rank)
	})
}
