package daemon

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// recipeBook implements api.Recipes. A recipe is the site's and no tenant's: everybody with a key sees all.
type recipeBook struct{ d *Daemon }

func (s recipeBook) Recipes(context.Context, forge.Principal) ([]api.RecipeRow, error) {
	l := s.d.live().recipes
	var out []api.RecipeRow
	for _, name := range l.Names() {
		r, err := l.Get(name)
		if err != nil {
			return nil, err
		}
		out = append(out, api.RecipeRowOf(r, l.Site(name)))
	}
	return out, nil
}

func (s recipeBook) Recipe(_ context.Context, _ forge.Principal, name string) (api.Recipe, error) {
	l := s.d.live().recipes
	r, err := l.Get(name)
	return api.RecipeOf(r, l.Site(name)), err
}
