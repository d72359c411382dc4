package api

import (
	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/recipes"
)

// RecipeRow is a recipe in a listing.
type RecipeRow struct {
	Name     string              `json:"name"`
	Doc      string              `json:"doc"`
	Kind     recipes.Kind        `json:"kind,omitempty" doc:"eval: its runs count in the quota class of evals; absent: train"`
	Launch   forge.LaunchMode    `json:"launch"`
	Datasets []forge.DatasetKind `json:"datasets,omitempty" doc:"Kinds of dataset that it accepts"`
	Gang     forge.Gang          `json:"gang" doc:"Default resources"`
	Params   int                 `json:"params" doc:"How many parameters it has"`
	Site     bool                `json:"site" doc:"The site's own, and not built in"`
}

// Recipe is a recipe with all that may be set.
type Recipe struct {
	recipes.Recipe
	Site bool `json:"site" doc:"The site's own, and not built in"`
}

// RecipeOf shows a recipe of a library.
func RecipeOf(r recipes.Recipe, site bool) Recipe {
	if r.Params == nil {
		r.Params = []recipes.Param{}
	}
	return Recipe{Recipe: r, Site: site}
}

// RecipeRowOf is what a listing shows of it.
func RecipeRowOf(r recipes.Recipe, site bool) RecipeRow {
	return RecipeRow{Name: r.Name, Doc: r.Doc, Kind: r.Kind, Launch: r.Launch, Datasets: r.Datasets, Gang: r.Gang, Params: len(r.Params), Site: site}
}
