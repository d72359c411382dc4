package client

import (
	"context"
	"net/http"
	"net/url"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// CreateTenant makes a tenant.
func (c *Client) CreateTenant(ctx context.Context, r api.CreateTenantRequest) (forge.Tenant, error) {
	var out forge.Tenant
	err := c.ask(ctx, http.MethodPost, "/v1/tenants", nil, r, &out)
	return out, err
}

// Tenants lists tenants: one page.
func (c *Client) Tenants(ctx context.Context, l api.Listing) (api.List[forge.Tenant], error) {
	var out api.List[forge.Tenant]
	err := c.ask(ctx, http.MethodGet, "/v1/tenants", listingQuery(l), nil, &out)
	return out, err
}

// Tenant shows a tenant, by id or name.
func (c *Client) Tenant(ctx context.Context, tenant string) (forge.Tenant, error) {
	var out forge.Tenant
	err := c.ask(ctx, http.MethodGet, "/v1/tenants/"+url.PathEscape(tenant), nil, nil, &out)
	return out, err
}

// UpdateTenant changes what r gives.
func (c *Client) UpdateTenant(ctx context.Context, tenant string, r api.UpdateTenantRequest) (forge.Tenant, error) {
	var out forge.Tenant
	err := c.ask(ctx, http.MethodPatch, "/v1/tenants/"+url.PathEscape(tenant), nil, r, &out)
	return out, err
}

// WhoAmI says how the daemon sees who asks.
func (c *Client) WhoAmI(ctx context.Context) (api.WhoAmI, error) {
	var out api.WhoAmI
	err := c.ask(ctx, http.MethodGet, "/v1/whoami", nil, nil, &out)
	return out, err
}

// Doctor asks the daemon to look at what commonly breaks. It takes as long as the checks take.
func (c *Client) Doctor(ctx context.Context) ([]api.Check, error) {
	var out api.List[api.Check]
	err := c.askLong(ctx, http.MethodGet, "/v1/doctor", nil, nil, &out)
	return out.Items, err
}
