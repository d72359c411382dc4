package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

type progressInput struct {
	Key string `path:"key" minLength:"1" maxLength:"128" pattern:"^[ -~]+$" doc:"Idempotency-Key of the request"`
}

func (s *server) progress() {
	operation(s, spec{
		id: "get-progress", method: http.MethodGet, path: "/v1/progress/{key}", tag: "progress", role: forge.RoleMember,
		summary: "Say how far a registration is",
		doc: "While a request of one's own to register a dataset or import a model is carried out, by the Idempotency-Key that it was sent with. " +
			"Not found before, afterwards and for anyone else. Sizes are bytes.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *progressInput) (api.Progress, error) {
		return s.Progress.Progress(ctx, p, in.Key)
	})
}
