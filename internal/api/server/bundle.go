package server

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func (s *server) bundles() {
	operation(s, spec{
		id: "get-run-bundle", method: http.MethodGet, path: "/v1/runs/{run}/bundle", tag: "runs", role: forge.RoleViewer,
		summary: "Say what a run is made from",
		doc: "Everything that another site needs to run it again: the resolved spec, the recipe, digests of its inputs, the code that ran. Inputs are named by their digests; they are not in it. " +
			"Durations are Go's form, memory is MiB per GPU.",
		errors: []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *RunInput) (api.Bundle, error) {
		return s.Bundles.Bundle(ctx, p, in.Run)
	})
	streaming(s, spec{
		id: "get-run-source", method: http.MethodGet, path: "/v1/runs/{run}/source", tag: "runs", role: forge.RoleMember,
		summary: "Read the working directory that a run came with",
		doc:     "The archive as it was uploaded; its digest is in the run's spec.",
		errors:  []forge.Kind{forge.KindNotFound, forge.KindPrecondition},
		responses: map[string]*huma.Response{"200": {Description: "A gzip of a tar",
			Content: map[string]*huma.MediaType{api.SnapshotType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}},
	}, func(ctx context.Context, p forge.Principal, in *RunInput) (func(huma.Context), error) {
		archive, size, err := s.Bundles.Source(ctx, p, in.Run)
		if err != nil {
			return nil, err
		}
		return func(c huma.Context) {
			defer archive.Close()
			c.SetHeader("Content-Type", api.SnapshotType)
			c.SetHeader("Content-Length", strconv.FormatInt(size, 10))
			if rc, ok := c.BodyWriter().(http.ResponseWriter); ok {
				_ = http.NewResponseController(rc).SetWriteDeadline(time.Now().Add(uploadTimeout))
			}
			_, _ = io.Copy(c.BodyWriter(), archive) // who reads less than was announced knows that it was cut off
		}, nil
	})
}
