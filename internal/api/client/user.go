package client

import (
	"context"
	"net/http"
	"net/url"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func userPath(user, rest string) string { return "/v1/users/" + url.PathEscape(user) + rest }

// CreateUser makes a user of the tenant.
func (c *Client) CreateUser(ctx context.Context, r api.CreateUserRequest) (forge.User, error) {
	var out forge.User
	err := c.ask(ctx, http.MethodPost, "/v1/users", nil, r, &out)
	return out, err
}

// Users lists users: one page.
func (c *Client) Users(ctx context.Context, l api.Listing) (api.List[forge.User], error) {
	var out api.List[forge.User]
	err := c.ask(ctx, http.MethodGet, "/v1/users", listingQuery(l), nil, &out)
	return out, err
}

// User shows a user, by id or name.
func (c *Client) User(ctx context.Context, user string) (forge.User, error) {
	var out forge.User
	err := c.ask(ctx, http.MethodGet, userPath(user, ""), nil, nil, &out)
	return out, err
}

// UpdateUser changes what r gives.
func (c *Client) UpdateUser(ctx context.Context, user string, r api.UpdateUserRequest) (forge.User, error) {
	var out forge.User
	err := c.ask(ctx, http.MethodPatch, userPath(user, ""), nil, r, &out)
	return out, err
}

// DisableUser ends all keys of a user until it is enabled again.
func (c *Client) DisableUser(ctx context.Context, user string, why forge.Why) (forge.User, error) {
	var out forge.User
	err := c.ask(ctx, http.MethodPost, userPath(user, "/disable"), nil, api.DisableUserRequest{Reason: why}, &out)
	return out, err
}

// EnableUser lets a disabled user in again.
func (c *Client) EnableUser(ctx context.Context, user string) (forge.User, error) {
	var out forge.User
	err := c.ask(ctx, http.MethodPost, userPath(user, "/enable"), nil, nil, &out)
	return out, err
}
