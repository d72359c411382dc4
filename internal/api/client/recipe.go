package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/forge-ml/forge-ml/internal/api"
)

// Recipes lists what can be trained.
func (c *Client) Recipes(ctx context.Context) ([]api.RecipeRow, error) {
	var out api.List[api.RecipeRow]
	err := c.ask(ctx, http.MethodGet, "/v1/recipes", nil, nil, &out)
	return out.Items, err
}

// Recipe shows a recipe with its parameters.
func (c *Client) Recipe(ctx context.Context, name string) (api.Recipe, error) {
	var out api.Recipe
	err := c.ask(ctx, http.MethodGet, "/v1/recipes/"+url.PathEscape(name), nil, nil, &out)
	return out, err
}
