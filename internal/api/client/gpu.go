package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/forge-ml/forge-ml/internal/api"
)

// GPUs lists GPUs with what they are doing, by node.
func (c *Client) GPUs(ctx context.Context, q api.GPUQuery) ([]api.NodeGPUs, error) {
	var out api.List[api.NodeGPUs]
	v := url.Values{}
	setText(v, "cluster", q.Cluster)
	setText(v, "node", q.Node)
	setText(v, "run", q.Run)
	err := c.ask(ctx, http.MethodGet, "/v1/gpus", v, nil, &out)
	return out.Items, err
}

// GPUHistory says what a GPU was like since then.
func (c *Client) GPUHistory(ctx context.Context, uuid string, since time.Time) (api.GPUHistory, error) {
	var out api.GPUHistory
	v := url.Values{}
	if !since.IsZero() {
		v.Set("since", since.UTC().Format(time.RFC3339))
	}
	err := c.ask(ctx, http.MethodGet, "/v1/gpus/"+url.PathEscape(uuid)+"/history", v, nil, &out)
	return out, err
}
