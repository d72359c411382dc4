package apitest

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/recipes"
)

// Recipes implements api.Recipes: the built-in ones.
func (f *Fake) Recipes(context.Context, forge.Principal) ([]api.RecipeRow, error) {
	leave, err := f.enter("Recipes")
	if err != nil {
		return nil, err
	}
	defer leave()
	l, err := recipes.Builtin()
	if err != nil {
		return nil, err
	}
	var out []api.RecipeRow
	for _, name := range l.Names() {
		r, err := l.Get(name)
		if err != nil {
			return nil, err
		}
		out = append(out, api.RecipeRowOf(r, false))
	}
	return out, nil
}

// Recipe implements api.Recipes.
func (f *Fake) Recipe(_ context.Context, _ forge.Principal, name string) (api.Recipe, error) {
	leave, err := f.enter("Recipe")
	if err != nil {
		return api.Recipe{}, err
	}
	defer leave()
	l, err := recipes.Builtin()
	if err != nil {
		return api.Recipe{}, err
	}
	r, err := l.Get(name)
	return api.RecipeOf(r, false), err
}
