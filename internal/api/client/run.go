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

func runPath(run, rest string) string { return "/v1/runs/" + url.PathEscape(run) + rest }

// submitTimeout is longer than forged has a tokenizer look at rows.
const submitTimeout = 90 * time.Second

// SubmitRun submits a run.
func (c *Client) SubmitRun(ctx context.Context, r api.SubmitRunRequest) (api.Submitted, error) {
	var out api.Submitted
	ctx, cancel := context.WithTimeout(ctx, max(c.opts.Timeout, submitTimeout))
	defer cancel()
	err := c.askLong(ctx, http.MethodPost, "/v1/runs", nil, r, &out)
	return out, err
}

// SubmitPipeline submits a chain of runs.
func (c *Client) SubmitPipeline(ctx context.Context, q api.PipelineRequest) (api.SubmittedPipeline, error) {
	var out api.SubmittedPipeline
	ctx, cancel := context.WithTimeout(ctx, max(c.opts.Timeout, submitTimeout*time.Duration(max(1, len(q.Steps)))))
	defer cancel()
	err := c.askLong(ctx, http.MethodPost, "/v1/pipelines", nil, q, &out)
	return out, err
}

// EstimateRun says what a run would take.
func (c *Client) EstimateRun(ctx context.Context, r api.SubmitRunRequest) (api.Estimate, error) {
	var out api.Estimate
	err := c.ask(ctx, http.MethodPost, "/v1/estimates", nil, r, &out)
	return out, err
}

// Run shows a run with its attempts.
func (c *Client) Run(ctx context.Context, run string) (api.RunDetail, error) {
	var out api.RunDetail
	err := c.ask(ctx, http.MethodGet, runPath(run, ""), nil, nil, &out)
	return out, err
}

func filterQuery(f api.RunFilter) url.Values {
	q := url.Values{}
	setText(q, "state", joinStates(f.States))
	setText(q, "user", f.User)
	setText(q, "recipe", f.Recipe)
	setText(q, "name", f.Name)
	setText(q, "model", f.Model)
	setText(q, "pipeline", f.Pipeline)
	setText(q, "batch_job", f.Batch)
	setTime(q, "since", f.Since)
	setTime(q, "until", f.Until)
	setText(q, "sort", f.Sort)
	setInt(q, "limit", int64(f.Limit))
	setText(q, "cursor", f.Cursor)
	return q
}

func setTime(q url.Values, key string, t time.Time) {
	if !t.IsZero() {
		q.Set(key, t.UTC().Format(time.RFC3339Nano))
	}
}

// Runs lists runs, newest first: one page.
func (c *Client) Runs(ctx context.Context, f api.RunFilter) (api.List[forge.Run], error) {
	var out api.List[forge.Run]
	err := c.ask(ctx, http.MethodGet, "/v1/runs", filterQuery(f), nil, &out)
	return out, err
}

// RunRows lists runs without their specs, newest first: one page.
func (c *Client) RunRows(ctx context.Context, f api.RunFilter) (api.List[api.RunRow], error) {
	var out api.List[api.RunRow]
	err := c.ask(ctx, http.MethodGet, "/v1/runs/rows", filterQuery(f), nil, &out)
	return out, err
}

// rowPage is the page size of EveryRunRow: while one page is decoded and printed here, the
// server makes the next.
const rowPage = 2500

// EveryRunRow yields rows of runs until f.Limit of them came, or all when it is 0.
func (c *Client) EveryRunRow(ctx context.Context, f api.RunFilter) iter.Seq2[api.RunRow, error] {
	return everyRun(ctx, f, rowPage, c.RunRows)
}

// EveryRunRowWithCost is EveryRunRow with what each run has had and what it cost.
func (c *Client) EveryRunRowWithCost(ctx context.Context, f api.RunFilter) iter.Seq2[api.RunRow, error] {
	return everyRun(ctx, f, rowPage, func(ctx context.Context, f api.RunFilter) (out api.List[api.RunRow], err error) {
		q := filterQuery(f)
		q.Set("cost", "true")
		err = c.ask(ctx, http.MethodGet, "/v1/runs/rows", q, nil, &out)
		return out, err
	})
}

// EveryRun yields whole runs until f.Limit of them came, or all when it is 0.
func (c *Client) EveryRun(ctx context.Context, f api.RunFilter) iter.Seq2[forge.Run, error] {
	return everyRun(ctx, f, api.MaxLimit, c.Runs)
}

func everyRun[T any](ctx context.Context, f api.RunFilter, size int,
	page func(context.Context, api.RunFilter) (api.List[T], error)) iter.Seq2[T, error] {
	type result struct {
		api.List[T]
		err error
	}
	return func(yield func(T, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		left := f.Limit
		fetch := func(cursor string) chan result {
			q := f
			q.Cursor, q.Limit = cursor, size
			if left > 0 {
				q.Limit = min(size, left)
			}
			out := make(chan result, 1) // buffered: nobody may wait for it any more
			go func() {
				l, err := page(ctx, q)
				out <- result{l, err}
			}()
			return out
		}
		next := fetch(f.Cursor)
		for next != nil {
			got := <-next
			if got.err != nil {
				var none T
				yield(none, got.err)
				return
			}
			if left > 0 {
				left -= len(got.Items)
			}
			next = nil
			if got.Next != "" && (f.Limit == 0 || left > 0) {
				next = fetch(got.Next)
			}
			for _, it := range got.Items {
				if !yield(it, nil) {
					return
				}
			}
		}
	}
}

// CancelRun asks a run to stop.
func (c *Client) CancelRun(ctx context.Context, run string, mode forge.CancelMode) (forge.Run, error) {
	var out forge.Run
	err := c.ask(ctx, http.MethodPost, runPath(run, "/cancel"), nil, api.CancelRequest{Mode: mode}, &out)
	return out, err
}

// InterruptRun asks a run to save as by a preemption or its time limit, and to go on by itself.
func (c *Client) InterruptRun(ctx context.Context, run string, as forge.InterruptAs) (forge.Run, error) {
	var out forge.Run
	err := c.ask(ctx, http.MethodPost, runPath(run, "/interrupt"), nil, api.InterruptRequest{As: as}, &out)
	return out, err
}

// RunSeat says where a rank runs.
func (c *Client) RunSeat(ctx context.Context, run string, rank int) (api.RunSeat, error) {
	var out api.RunSeat
	err := c.ask(ctx, http.MethodGet, runPath(run, "/seat"), url.Values{"rank": {strconv.Itoa(rank)}}, nil, &out)
	return out, err
}

// PriorityEffect says what another priority would do, and changes nothing.
func (c *Client) PriorityEffect(ctx context.Context, run string, priority int) (api.PriorityEffect, error) {
	var out api.PriorityEffect
	err := c.ask(ctx, http.MethodGet, runPath(run, "/priority"), url.Values{"priority": {strconv.Itoa(priority)}}, nil, &out)
	return out, err
}

// SetPriority changes the priority of a waiting run.
func (c *Client) SetPriority(ctx context.Context, run string, priority int) (forge.Run, error) {
	var out forge.Run
	err := c.ask(ctx, http.MethodPost, runPath(run, "/priority"), nil, api.PriorityRequest{Priority: priority}, &out)
	return out, err
}

// HoldRun keeps a waiting run from being placed.
func (c *Client) HoldRun(ctx context.Context, run, reason string) (forge.Run, error) {
	var out forge.Run
	err := c.ask(ctx, http.MethodPost, runPath(run, "/hold"), nil, api.HoldRequest{Reason: reason}, &out)
	return out, err
}

// ReleaseRun lets a held run go on.
func (c *Client) ReleaseRun(ctx context.Context, run string) (forge.Run, error) {
	var out forge.Run
	err := c.ask(ctx, http.MethodPost, runPath(run, "/release"), nil, nil, &out)
	return out, err
}

// RetryRun submits the same run again.
func (c *Client) RetryRun(ctx context.Context, run string) (api.Submitted, error) {
	var out api.Submitted
	err := c.ask(ctx, http.MethodPost, runPath(run, "/retry"), nil, nil, &out)
	return out, err
}

// Why says why a run is where it is.
func (c *Client) Why(ctx context.Context, run string) (api.Why, error) {
	var out api.Why
	err := c.ask(ctx, http.MethodGet, runPath(run, "/why"), nil, nil, &out)
	return out, err
}

// Log reads a piece of a rank's output.
func (c *Client) Log(ctx context.Context, run string, l api.LogQuery) (api.LogChunk, error) {
	q := url.Values{}
	setInt(q, "rank", int64(l.Rank))
	setInt(q, "attempt", int64(l.Attempt))
	setText(q, "stream", l.Stream)
	setInt(q, "offset", l.Offset)
	setInt(q, "max", int64(l.Max))
	var out api.LogChunk
	err := c.ask(ctx, http.MethodGet, runPath(run, "/log"), q, nil, &out)
	return out, err
}

// Metrics reads a run's curves.
func (c *Client) Metrics(ctx context.Context, run string, m api.MetricsQuery) (api.Metrics, error) {
	q := url.Values{}
	setText(q, "keys", strings.Join(m.Keys, ","))
	setInt(q, "from", m.From)
	setInt(q, "to", m.To)
	setInt(q, "points", int64(m.Points))
	var out api.Metrics
	err := c.ask(ctx, http.MethodGet, runPath(run, "/metrics"), q, nil, &out)
	return out, err
}

// AddMetrics brings points of a run's curves. The same batch may be sent again.
func (c *Client) AddMetrics(ctx context.Context, run string, r api.AddMetricsRequest) (api.MetricsAdded, error) {
	var out api.MetricsAdded
	err := c.ask(ctx, http.MethodPost, runPath(run, "/metrics"), nil, r, &out)
	return out, err
}

// Samples reads what a run's policy wrote.
func (c *Client) Samples(ctx context.Context, run string, s api.SamplesQuery) (api.RunSamples, error) {
	q := url.Values{"step": {strconv.FormatInt(s.Step, 10)}}
	setInt(q, "last", int64(s.Last))
	var out api.RunSamples
	err := c.ask(ctx, http.MethodGet, runPath(run, "/samples"), q, nil, &out)
	return out, err
}

// Checkpoints lists a run's checkpoints, highest step first.
func (c *Client) Checkpoints(ctx context.Context, run string) ([]forge.Checkpoint, error) {
	var out api.List[forge.Checkpoint]
	err := c.ask(ctx, http.MethodGet, runPath(run, "/checkpoints"), nil, nil, &out)
	return out.Items, err
}

// RunEvents lists a run's events after a seq, oldest first: one page of at most limit.
func (c *Client) RunEvents(ctx context.Context, run string, after int64, limit int) ([]forge.Event, error) {
	q := url.Values{}
	setInt(q, "after", after)
	setInt(q, "limit", int64(limit))
	var out api.List[forge.Event]
	err := c.ask(ctx, http.MethodGet, runPath(run, "/events"), q, nil, &out)
	return out.Items, err
}

// WhatIf says what a change of the site would do to the queue; nothing is changed.
func (c *Client) WhatIf(ctx context.Context, q api.WhatIfQuery) (api.WhatIf, error) {
	v := url.Values{}
	for name, list := range map[string][]string{"add_nodes": q.AddNodes, "drain": q.Drain} {
		if len(list) > 0 {
			v.Set(name, strings.Join(list, ","))
		}
	}
	if q.Policy != "" {
		v.Set("policy", q.Policy)
	}
	var out api.WhatIf
	err := c.ask(ctx, http.MethodGet, "/v1/queue/what-if", v, nil, &out)
	return out, err
}
