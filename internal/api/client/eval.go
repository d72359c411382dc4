package client

import (
	"context"
	"io"
	"net/http"
	"net/url"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// Suites lists the suites of benchmarks.
func (c *Client) Suites(ctx context.Context) ([]api.SuiteRow, error) {
	var out api.List[api.SuiteRow]
	err := c.ask(ctx, http.MethodGet, "/v1/suites", nil, nil, &out)
	return out.Items, err
}

// Suite shows a suite with its benchmarks.
func (c *Client) Suite(ctx context.Context, name string) (api.Suite, error) {
	var out api.Suite
	err := c.ask(ctx, http.MethodGet, "/v1/suites/"+url.PathEscape(name), nil, nil, &out)
	return out, err
}

// Evals lists a page of evals, newest first.
func (c *Client) Evals(ctx context.Context, f api.EvalFilter) (api.List[forge.Eval], error) {
	q := url.Values{}
	setText(q, "model", f.Model)
	setText(q, "suite", f.Suite)
	setText(q, "cursor", f.Cursor)
	setInt(q, "limit", int64(f.Limit))
	var out api.List[forge.Eval]
	err := c.ask(ctx, http.MethodGet, "/v1/evals", q, nil, &out)
	return out, err
}

// Eval shows what a run found.
func (c *Client) Eval(ctx context.Context, run string) (api.EvalDetail, error) {
	var out api.EvalDetail
	err := c.ask(ctx, http.MethodGet, "/v1/evals/"+url.PathEscape(run), nil, nil, &out)
	return out, err
}

// CompareEvals holds a candidate against a baseline.
func (c *Client) CompareEvals(ctx context.Context, f api.CompareFilter) (api.EvalComparison, error) {
	q := url.Values{}
	setText(q, "baseline", f.Baseline)
	setText(q, "suite", f.Suite)
	setInt(q, "flips", int64(f.Flips))
	var out api.EvalComparison
	err := c.ask(ctx, http.MethodGet, api.EvalsPath+"/"+url.PathEscape(f.Candidate)+"/compare", q, nil, &out)
	return out, err
}

// ImportEval sends an eval that was made elsewhere: a gzip of an api.EvalHead and its samples. The digest is that of the body.
func (c *Client) ImportEval(ctx context.Context, sha256 string, size int64, open func() (io.ReadCloser, error)) (api.EvalDetail, error) {
	var out api.EvalDetail
	err := c.askLong(ctx, http.MethodPost, api.EvalsPath, url.Values{"sha256": {sha256}}, archive{api.EvalImportType, size, open}, &out)
	return out, err
}

// EvalSamples lists a page of the samples of one task under one filter.
func (c *Client) EvalSamples(ctx context.Context, run string, f api.SampleFilter) (api.List[api.EvalSample], error) {
	q := url.Values{}
	setText(q, "task", f.Task)
	setText(q, "filter", f.Filter)
	setText(q, "cursor", f.Cursor)
	setInt(q, "limit", int64(f.Limit))
	var out api.List[api.EvalSample]
	err := c.ask(ctx, http.MethodGet, "/v1/evals/"+url.PathEscape(run)+"/samples", q, nil, &out)
	return out, err
}
