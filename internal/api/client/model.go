package client

import (
	"context"
	"net/http"
	"net/url"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func modelPath(name string) string { return "/v1/models/" + url.PathEscape(name) }

// modelVersionPath takes NAME (the newest), NAME@NUMBER, NAME@STAGE or NAME@ALIAS.
func modelVersionPath(ref string) (string, error) {
	r, err := forge.ParseRef(ref)
	if err != nil {
		return "", forge.Invalidf("name", "%w", err)
	}
	version := "latest"
	if x := r.String(); len(x) > len(r.Name) {
		version = x[len(r.Name)+1:]
	}
	return modelPath(r.Name) + "/versions/" + url.PathEscape(version), nil
}

// PromoteModel asks the gate of a version's next stage, and moves it there. It waits while bytes are hashed, and is followed by once. A gate that
// has not passed is KindPrecondition with a forge.GateRefusal in its chain.
func (c *Client) PromoteModel(ctx context.Context, ref string, r api.PromoteRequest, once Once) (api.Promotion, error) {
	var out api.Promotion
	path, err := modelVersionPath(ref)
	if err == nil {
		err = c.askAs(ctx, once, http.MethodPost, path+"/promote", nil, r, &out)
	}
	return out, err
}

// RollBackModel brings a version back to production. It waits as PromoteModel does.
func (c *Client) RollBackModel(ctx context.Context, name string, r api.RollbackRequest, once Once) (forge.StageChange, error) {
	var out forge.StageChange
	err := c.askAs(ctx, once, http.MethodPost, modelPath(name)+"/rollback", nil, r, &out)
	return out, err
}

// ArchiveModel takes a version out of its stage.
func (c *Client) ArchiveModel(ctx context.Context, ref string, r api.ArchiveRequest) (forge.StageChange, error) {
	var out forge.StageChange
	path, err := modelVersionPath(ref)
	if err == nil {
		err = c.ask(ctx, http.MethodPost, path+"/archive", nil, r, &out)
	}
	return out, err
}

// ModelHistory lists who moved which version where, oldest first: one page.
func (c *Client) ModelHistory(ctx context.Context, name string, l api.Listing) (api.List[forge.StageChange], error) {
	var out api.List[forge.StageChange]
	err := c.ask(ctx, http.MethodGet, modelPath(name)+"/history", listingQuery(l), nil, &out)
	return out, err
}

// VerifyModelHistory has the whole history hashed anew.
func (c *Client) VerifyModelHistory(ctx context.Context, name string) (forge.HistoryCheck, error) {
	var out forge.HistoryCheck
	err := c.ask(ctx, http.MethodGet, modelPath(name)+"/history/check", nil, nil, &out)
	return out, err
}

// ModelAliases lists the names of a model's versions.
func (c *Client) ModelAliases(ctx context.Context, name string) ([]forge.ModelAlias, error) {
	var out api.List[forge.ModelAlias]
	err := c.ask(ctx, http.MethodGet, modelPath(name)+"/aliases", nil, nil, &out)
	return out.Items, err
}

// SetModelAlias lets a name point to a version.
func (c *Client) SetModelAlias(ctx context.Context, ref, alias string) (forge.ModelAlias, error) {
	var out forge.ModelAlias
	path, err := modelVersionPath(ref)
	if err == nil {
		err = c.ask(ctx, http.MethodPost, path+"/aliases", nil, api.AliasRequest{Alias: alias}, &out)
	}
	return out, err
}

// RemoveModelAlias takes a name away.
func (c *Client) RemoveModelAlias(ctx context.Context, name, alias string) (forge.ModelAlias, error) {
	var out forge.ModelAlias
	err := c.ask(ctx, http.MethodPost, modelPath(name)+"/aliases/"+url.PathEscape(alias)+"/remove", nil, nil, &out)
	return out, err
}

// Gates lists what the site asks of models before they enter a stage.
func (c *Client) Gates(ctx context.Context) ([]api.GateRow, error) {
	var out api.List[api.GateRow]
	err := c.ask(ctx, http.MethodGet, "/v1/gates", nil, nil, &out)
	return out.Items, err
}

// Gate shows what is asked of one model; default: of those without gates of their own.
func (c *Client) Gate(ctx context.Context, name string) (api.GateRow, error) {
	var out api.GateRow
	err := c.ask(ctx, http.MethodGet, "/v1/gates/"+url.PathEscape(name), nil, nil, &out)
	return out, err
}
