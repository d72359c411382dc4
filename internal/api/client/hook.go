package client

import (
	"context"
	"net/http"
	"net/url"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func hookPath(h api.HookName, rest string) string {
	return "/v1/hooks/" + url.PathEscape(h.Hook) + rest
}

func siteQuery(site bool) url.Values {
	q := url.Values{}
	if site {
		q.Set("site", "true")
	}
	return q
}

func hookQuery(l api.HookListing) url.Values {
	q := listingQuery(l.Listing)
	if l.Site {
		q.Set("site", "true")
	}
	setText(q, "state", string(l.State))
	return q
}

// CreateHook makes a hook; the secret of a webhook is in this answer only.
func (c *Client) CreateHook(ctx context.Context, r api.CreateHookRequest) (api.CreatedHook, error) {
	var out api.CreatedHook
	err := c.ask(ctx, http.MethodPost, "/v1/hooks", nil, r, &out)
	return out, err
}

// Hooks lists hooks: one page.
func (c *Client) Hooks(ctx context.Context, l api.HookListing) (api.List[forge.Hook], error) {
	var out api.List[forge.Hook]
	err := c.ask(ctx, http.MethodGet, "/v1/hooks", hookQuery(l), nil, &out)
	return out, err
}

// Hook shows a hook, by id or name.
func (c *Client) Hook(ctx context.Context, h api.HookName) (forge.Hook, error) {
	var out forge.Hook
	err := c.ask(ctx, http.MethodGet, hookPath(h, ""), siteQuery(h.Site), nil, &out)
	return out, err
}

// RemoveHook ends a hook and forgets what was on its way to it.
func (c *Client) RemoveHook(ctx context.Context, h api.HookName) (forge.Hook, error) {
	return c.changeHook(ctx, h, "/remove")
}

// PauseHook keeps what comes for a hook until it is resumed.
func (c *Client) PauseHook(ctx context.Context, h api.HookName) (forge.Hook, error) {
	return c.changeHook(ctx, h, "/pause")
}

// ResumeHook lets a paused hook go on.
func (c *Client) ResumeHook(ctx context.Context, h api.HookName) (forge.Hook, error) {
	return c.changeHook(ctx, h, "/resume")
}

func (c *Client) changeHook(ctx context.Context, h api.HookName, act string) (forge.Hook, error) {
	var out forge.Hook
	err := c.ask(ctx, http.MethodPost, hookPath(h, act), siteQuery(h.Site), nil, &out)
	return out, err
}

// TestHook sends a test and waits for how it went.
func (c *Client) TestHook(ctx context.Context, h api.HookName) (forge.HookDelivery, error) {
	var out forge.HookDelivery
	err := c.askLong(ctx, http.MethodPost, hookPath(h, "/test"), siteQuery(h.Site), nil, &out)
	return out, err
}

// HookDeliveries lists what was sent to a hook and what waits, newest first: one page.
func (c *Client) HookDeliveries(ctx context.Context, h api.HookName, l api.HookListing) (api.List[forge.HookDelivery], error) {
	l.Site = h.Site
	var out api.List[forge.HookDelivery]
	err := c.ask(ctx, http.MethodGet, hookPath(h, "/deliveries"), hookQuery(l), nil, &out)
	return out, err
}
