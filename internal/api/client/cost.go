package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// Costs says what was had in a period and what it cost.
func (c *Client) Costs(ctx context.Context, q api.CostQuery) (forge.Costs, error) {
	v := url.Values{"by": {string(q.By)}}
	for key, t := range map[string]time.Time{"since": q.Since, "until": q.Until} {
		if !t.IsZero() {
			v.Set(key, t.UTC().Format(time.RFC3339Nano))
		}
	}
	var out forge.Costs
	err := c.ask(ctx, http.MethodGet, "/v1/costs", v, nil, &out)
	return out, err
}
