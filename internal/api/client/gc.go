package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/forge-ml/forge-ml/internal/api"
)

// GCPlan says what takes room and may go. It looks at the disk, which may take minutes.
func (c *Client) GCPlan(ctx context.Context, r api.GCQuery) (api.GCReport, error) {
	var out api.GCReport
	q := url.Values{}
	if r.OlderThan != 0 {
		q.Set("older_than", r.OlderThan.String())
	}
	if r.Site {
		q.Set("site", "true")
	}
	err := c.askLong(ctx, http.MethodGet, "/v1/gc", q, nil, &out)
	return out, err
}

// GCRun removes what may go.
func (c *Client) GCRun(ctx context.Context, r api.GCQuery) (api.GCReport, error) {
	var out api.GCReport
	err := c.askLong(ctx, http.MethodPost, "/v1/gc", nil, r, &out)
	return out, err
}
