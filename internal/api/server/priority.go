package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func (s *server) priorities() {
	operation(s, spec{
		id: "get-run-priority", method: http.MethodGet, path: "/v1/runs/{run}/priority", tag: "runs", role: forge.RoleMember,
		summary: "Say what another priority would do", doc: "By the plan of now; nothing is changed.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		RunInput
		Priority int `query:"priority" required:"true" minimum:"0" maximum:"100" doc:"The other priority, 0 to 100, higher first"`
	}) (api.PriorityEffect, error) {
		return s.Priority.PriorityEffect(ctx, p, in.Run, in.Priority)
	})
	acting(s, spec{
		id: "set-run-priority", method: http.MethodPost, path: "/v1/runs/{run}/priority", tag: "runs", role: forge.RoleMember,
		summary: "Change the priority of a waiting run",
		doc:     "Within what one may ask for. Also of a run that the queue of a cluster's batch system has: that is told. What the run does stays as it was submitted.",
		errors:  []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		RunInput
		Body api.PriorityRequest
	}) (forge.Run, error) {
		return s.Priority.SetPriority(ctx, p, in.Run, in.Body.Priority)
	}, s.runAgain)
}
