package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func (s *server) models() {
	acting(s, spec{
		id: "import-model", method: http.MethodPost, path: "/v1/models/import", tag: "models", role: forge.RoleMember, created: true,
		summary: "Import a base model",
		doc:     "Hashes the weights once on the server's host; they stay where they are. Sizes are bytes. May take minutes.",
		errors:  []forge.Kind{forge.KindInvalid, forge.KindConflict},
	}, func(ctx context.Context, p forge.Principal, in *struct{ Body api.ImportModelRequest }) (forge.ModelVersion, error) {
		return s.Models.ImportModel(ctx, p, in.Body)
	}, s.Models.ModelVersion)
	operation(s, spec{
		id: "list-models", method: http.MethodGet, path: "/v1/models", tag: "models", role: forge.RoleViewer,
		summary: "List models", doc: "By name, with their versions.",
		errors: []forge.Kind{forge.KindInvalid},
	}, func(ctx context.Context, p forge.Principal, in *NamedInput) (api.List[forge.Model], error) {
		l, err := s.Models.Models(ctx, p, in.listing())
		return filled(l), err
	})
	operation(s, spec{
		id: "get-model", method: http.MethodGet, path: "/v1/models/{name}", tag: "models", role: forge.RoleViewer,
		summary: "Show a model", doc: "With all versions, oldest first, their stage and lineage. Sizes are bytes.",
		errors: []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *nameInput) (forge.Model, error) {
		return s.Models.Model(ctx, p, in.Name)
	})
}
