package client

import (
	"context"
	"net/http"
	"net/url"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// RegisterModel registers the output of a completed run, or weights that exist. It waits, and is followed by once, as ImportModel is.
func (c *Client) RegisterModel(ctx context.Context, r api.RegisterModelRequest, once Once) (forge.ModelVersion, error) {
	var out forge.ModelVersion
	err := c.askAs(ctx, once, http.MethodPost, "/v1/models/register", nil, r, &out)
	return out, err
}

// VerifyModel has forged read the bytes of NAME@X again. It waits, and is followed by once, as ImportModel is.
func (c *Client) VerifyModel(ctx context.Context, ref string, once Once) (api.ModelVerified, error) {
	var out api.ModelVerified
	r, err := forge.ParseRef(ref)
	if err != nil {
		return out, forge.Invalidf("name", "%w", err)
	}
	x := api.NewestVersion
	if ref != r.Name {
		x = ref[len(r.Name)+1:]
	}
	err = c.askAs(ctx, once, http.MethodPost, "/v1/models/"+url.PathEscape(r.Name)+"/versions/"+url.PathEscape(x)+"/verify", nil, nil, &out)
	return out, err
}
