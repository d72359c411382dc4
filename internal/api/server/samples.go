package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

type samplesInput struct {
	RunInput
	Step int64 `query:"step" minimum:"-1" default:"-1" doc:"Only samples of this step; -1 is any"`
	Last int   `query:"last" minimum:"1" maximum:"200" default:"5" doc:"Samples at most, the newest"`
}

func (s *server) samples() {
	operation(s, spec{
		id: "get-run-samples", method: http.MethodGet, path: "/v1/runs/{run}/samples", tag: "runs", role: forge.RoleViewer,
		summary: "Read what a run's policy wrote",
		doc:     "Of runs that learn from what they write (recipe rlhf): prompt, completion and reward, oldest first. Where attempts went over the same step, the newest counts. At most some MiB at the end of each attempt's samples are read.",
		errors:  []forge.Kind{forge.KindInvalid, forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *samplesInput) (api.RunSamples, error) {
		out, err := s.Samples.Samples(ctx, p, in.Run, api.SamplesQuery{Step: in.Step, Last: in.Last})
		if out.Items == nil {
			out.Items = []api.Sample{}
		}
		return out, err
	})
}
