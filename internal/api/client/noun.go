package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func listingQuery(l api.Listing) url.Values {
	q := url.Values{}
	setInt(q, "limit", int64(l.Limit))
	setText(q, "cursor", l.Cursor)
	setText(q, "sort", l.Sort)
	setText(q, "name", l.Name)
	setText(q, "kind", l.Kind)
	return q
}

func setInt(q url.Values, key string, n int64) {
	if n != 0 {
		q.Set(key, strconv.FormatInt(n, 10))
	}
}

func setText(q url.Values, key, v string) {
	if v != "" {
		q.Set(key, v)
	}
}

// ImportModel registers base weights. It waits, and is followed by once, as AddDataset is.
func (c *Client) ImportModel(ctx context.Context, r api.ImportModelRequest, once Once) (forge.ModelVersion, error) {
	var out forge.ModelVersion
	err := c.askAs(ctx, once, http.MethodPost, "/v1/models/import", nil, r, &out)
	return out, err
}

// Progress says how far a registration is that was sent under this key and has not been answered yet.
func (c *Client) Progress(ctx context.Context, once Once) (api.Progress, error) {
	var out api.Progress
	err := c.ask(ctx, http.MethodGet, "/v1/progress/"+url.PathEscape(string(once)), nil, nil, &out)
	return out, err
}

// Models lists models by name: one page.
func (c *Client) Models(ctx context.Context, l api.Listing) (api.List[forge.Model], error) {
	var out api.List[forge.Model]
	err := c.ask(ctx, http.MethodGet, "/v1/models", listingQuery(l), nil, &out)
	return out, err
}

// Model shows a model with its versions.
func (c *Client) Model(ctx context.Context, name string) (forge.Model, error) {
	var out forge.Model
	err := c.ask(ctx, http.MethodGet, "/v1/models/"+url.PathEscape(name), nil, nil, &out)
	return out, err
}

// Every pages through a listing until it ends; page asks for one page.
func Every[T any](ctx context.Context, l api.Listing, page func(context.Context, api.Listing) (api.List[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		l.Limit = api.MaxLimit
		for {
			got, err := page(ctx, l)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, it := range got.Items {
				if !yield(it, nil) {
					return
				}
			}
			if l.Cursor = got.Next; l.Cursor == "" {
				return
			}
		}
	}
}

// CreateKey makes a key; the secret is in this answer only.
func (c *Client) CreateKey(ctx context.Context, r api.CreateKeyRequest) (api.CreatedKey, error) {
	var out api.CreatedKey
	err := c.ask(ctx, http.MethodPost, "/v1/keys", nil, r, &out)
	return out, err
}

// Keys lists keys: one page.
func (c *Client) Keys(ctx context.Context, l api.Listing) (api.List[forge.Key], error) {
	var out api.List[forge.Key]
	err := c.ask(ctx, http.MethodGet, "/v1/keys", listingQuery(l), nil, &out)
	return out, err
}

// Key shows a key, never its secret.
func (c *Client) Key(ctx context.Context, id string) (forge.Key, error) {
	var out forge.Key
	err := c.ask(ctx, http.MethodGet, "/v1/keys/"+url.PathEscape(id), nil, nil, &out)
	return out, err
}

// RotateKey replaces a key; the new secret is in this answer only.
func (c *Client) RotateKey(ctx context.Context, id string, overlap time.Duration) (api.CreatedKey, error) {
	var out api.CreatedKey
	err := c.ask(ctx, http.MethodPost, "/v1/keys/"+url.PathEscape(id)+"/rotate", nil, api.RotateKeyRequest{Overlap: forge.Duration(overlap)}, &out)
	return out, err
}

// RevokeKey revokes a key at once.
func (c *Client) RevokeKey(ctx context.Context, id string, why forge.Why) (forge.Key, error) {
	var out forge.Key
	err := c.ask(ctx, http.MethodPost, "/v1/keys/"+url.PathEscape(id)+"/revoke", nil, api.RevokeKeyRequest{Reason: why}, &out)
	return out, err
}

// LoginMunge turns a munge credential for this server into a key.
func (c *Client) LoginMunge(ctx context.Context, credential string) (api.CreatedKey, error) {
	var out api.CreatedKey
	err := c.ask(ctx, http.MethodPost, "/v1/login/munge", nil, api.LoginMungeRequest{Credential: credential}, &out)
	return out, err
}

// Nodes lists nodes with what is free.
func (c *Client) Nodes(ctx context.Context) ([]api.NodeView, error) {
	var out api.List[api.NodeView]
	err := c.ask(ctx, http.MethodGet, "/v1/nodes", nil, nil, &out)
	return out.Items, err
}

// Clusters lists clusters with what is free.
func (c *Client) Clusters(ctx context.Context) ([]api.ClusterView, error) {
	var out api.List[api.ClusterView]
	err := c.ask(ctx, http.MethodGet, "/v1/clusters", nil, nil, &out)
	return out.Items, err
}

// ResumeCluster lets a paused cluster take work again.
func (c *Client) ResumeCluster(ctx context.Context, name string) (api.ClusterView, error) {
	var out api.ClusterView
	err := c.ask(ctx, http.MethodPost, "/v1/clusters/"+url.PathEscape(name)+"/resume", nil, nil, &out)
	return out, err
}

// CheckCluster looks at a cluster with jobs on it. It takes as long as the jobs take.
func (c *Client) CheckCluster(ctx context.Context, name string, days int) ([]api.Check, error) {
	var out api.List[api.Check]
	q := url.Values{}
	setInt(q, "days", int64(days))
	err := c.askLong(ctx, http.MethodGet, "/v1/clusters/"+url.PathEscape(name)+"/check", q, nil, &out)
	return out.Items, err
}

// Node shows a node with what went wrong on it. cluster may be empty where the name alone is clear.
func (c *Client) Node(ctx context.Context, cluster, node string) (api.NodeDetail, error) {
	var out api.NodeDetail
	err := c.ask(ctx, http.MethodGet, "/v1/nodes/"+url.PathEscape(node), inCluster(cluster), nil, &out)
	return out, err
}

// DrainNode keeps new work away from a node.
func (c *Client) DrainNode(ctx context.Context, cluster, node, reason string) (api.NodeChanged, error) {
	var out api.NodeChanged
	err := c.ask(ctx, http.MethodPost, "/v1/nodes/"+url.PathEscape(node)+"/drain", inCluster(cluster), api.DrainRequest{Reason: reason}, &out)
	return out, err
}

// UndrainNode lets it take work again.
func (c *Client) UndrainNode(ctx context.Context, cluster, node string) (api.NodeChanged, error) {
	var out api.NodeChanged
	err := c.ask(ctx, http.MethodPost, "/v1/nodes/"+url.PathEscape(node)+"/undrain", inCluster(cluster), nil, &out)
	return out, err
}

// DrainGPU keeps new work away from one GPU, by its UUID or the number of its slot.
func (c *Client) DrainGPU(ctx context.Context, at api.NodeAt, reason string) (api.NodeChanged, error) {
	var out api.NodeChanged
	err := c.ask(ctx, http.MethodPost, "/v1/nodes/"+url.PathEscape(at.Node)+"/drain", ofGPU(at), api.DrainRequest{Reason: reason}, &out)
	return out, err
}

// UndrainGPU lets it take work again, or forgets one that is missing.
func (c *Client) UndrainGPU(ctx context.Context, at api.NodeAt) (api.NodeChanged, error) {
	var out api.NodeChanged
	err := c.ask(ctx, http.MethodPost, "/v1/nodes/"+url.PathEscape(at.Node)+"/undrain", ofGPU(at), nil, &out)
	return out, err
}

// NodeEvents is one page of what happened to a node, oldest first.
func (c *Client) NodeEvents(ctx context.Context, at api.NodeAt, q api.NodeEventQuery) ([]forge.NodeEvent, error) {
	var out api.List[forge.NodeEvent]
	v := inCluster(at.Cluster)
	setInt(v, "limit", int64(q.Limit))
	setInt(v, "cursor", q.After)
	if !q.Since.IsZero() {
		v.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	err := c.ask(ctx, http.MethodGet, "/v1/nodes/"+url.PathEscape(at.Node)+"/events", v, nil, &out)
	return out.Items, err
}

func ofGPU(at api.NodeAt) url.Values {
	q := inCluster(at.Cluster)
	q.Set("gpu", at.GPU)
	return q
}

func inCluster(name string) url.Values {
	q := url.Values{}
	if name != "" {
		q.Set("cluster", name)
	}
	return q
}

// Queue shows what waits and runs, as much as the server gives at once.
func (c *Client) Queue(ctx context.Context) (api.Queue, error) { return c.QueueHead(ctx, 0) }

// QueueHead is Queue of at most limit entries: a screen that is drawn anew every two seconds needs no more
// than it can hold.
func (c *Client) QueueHead(ctx context.Context, limit int) (api.Queue, error) {
	var out api.Queue
	q := url.Values{}
	setInt(q, "limit", int64(limit))
	err := c.ask(ctx, http.MethodGet, "/v1/queue", q, nil, &out)
	return out, err
}

// Version says which forged answers.
func (c *Client) Version(ctx context.Context) (api.Version, error) {
	var out api.Version
	err := c.ask(ctx, http.MethodGet, "/v1/version", nil, nil, &out)
	return out, err
}

func joinStates(states []forge.RunState) string {
	s := make([]string, len(states))
	for i := range states {
		s[i] = string(states[i])
	}
	return strings.Join(s, ",")
}
