package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func (s *server) holds() {
	acting(s, spec{
		id: "hold-run", method: http.MethodPost, path: "/v1/runs/{run}/hold", tag: "runs", role: forge.RoleMember,
		summary: "Put a waiting run on hold", doc: "It is not placed until it is released. Only a pending run without an open attempt can be held.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		RunInput
		Body *api.HoldRequest
	}) (forge.Run, error) {
		reason := ""
		if in.Body != nil {
			reason = in.Body.Reason
		}
		return s.Holds.HoldRun(ctx, p, in.Run, reason)
	}, s.runAgain)
	acting(s, spec{
		id: "release-run", method: http.MethodPost, path: "/v1/runs/{run}/release", tag: "runs", role: forge.RoleMember,
		summary: "Let a held run go on",
		doc:     "From its last verified checkpoint. Its count of fruitless attempts, its back-off and the nodes that it avoids start anew.",
		errors:  []forge.Kind{forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *RunInput) (forge.Run, error) {
		return s.Holds.ReleaseRun(ctx, p, in.Run)
	}, s.runAgain)
}
