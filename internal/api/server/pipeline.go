package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func (s *server) pipelines() {
	acting(s, spec{
		id: "submit-pipeline", method: http.MethodPost, path: "/v1/pipelines", tag: "runs", role: forge.RoleMember, created: true,
		summary: "Submit a chain of runs",
		doc:     "All runs are checked and stored, or none. base, reward_model, model and after of a step may name another step as step:NAME; what is taken from a step is registered when it completes.",
		errors:  []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindConflict, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct{ Body api.PipelineRequest }) (api.SubmittedPipeline, error) {
		return s.Pipelines.SubmitPipeline(ctx, p, in.Body)
	}, s.Pipelines.Pipeline)
}
