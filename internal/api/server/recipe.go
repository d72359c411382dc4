package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func (s *server) recipes() {
	operation(s, spec{
		id: "list-recipes", method: http.MethodGet, path: "/v1/recipes", tag: "recipes", role: forge.RoleViewer,
		summary: "List recipes", doc: "All of them, by name. They are the site's, and the same for every tenant. Memory is MiB per GPU.",
	}, func(ctx context.Context, p forge.Principal, _ *none) (api.List[api.RecipeRow], error) {
		items, err := s.Recipes.Recipes(ctx, p)
		return whole(items), err
	})
	operation(s, spec{
		id: "get-recipe", method: http.MethodGet, path: "/v1/recipes/{name}", tag: "recipes", role: forge.RoleViewer,
		summary: "Show a recipe", doc: "With its parameters in the order of its file, the metrics that its runs report, default resources and limits. Durations are Go's form, memory is MiB per GPU.",
		errors: []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *nameInput) (api.Recipe, error) {
		return s.Recipes.Recipe(ctx, p, in.Name)
	})
}
