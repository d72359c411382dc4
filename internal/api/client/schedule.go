package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/forge-ml/forge-ml/internal/api"
)

func schedulePath(name string) string { return "/v1/schedules/" + url.PathEscape(name) }

// AddSchedule makes a schedule.
func (c *Client) AddSchedule(ctx context.Context, r api.AddScheduleRequest) (api.ScheduleAdded, error) {
	var out api.ScheduleAdded
	err := c.ask(ctx, http.MethodPost, "/v1/schedules", nil, r, &out)
	return out, err
}

// Schedules lists schedules by name: one page.
func (c *Client) Schedules(ctx context.Context, l api.Listing) (api.List[api.Schedule], error) {
	var out api.List[api.Schedule]
	err := c.ask(ctx, http.MethodGet, "/v1/schedules", listingQuery(l), nil, &out)
	return out, err
}

// Schedule shows a schedule with its last firings.
func (c *Client) Schedule(ctx context.Context, name string, firings int) (api.ScheduleDetail, error) {
	q := url.Values{}
	setInt(q, "firings", int64(firings))
	var out api.ScheduleDetail
	err := c.ask(ctx, http.MethodGet, schedulePath(name), q, nil, &out)
	return out, err
}

// RemoveSchedule takes a schedule away. What it did stays.
func (c *Client) RemoveSchedule(ctx context.Context, name string) (api.Schedule, error) {
	return c.schedule(ctx, name, "remove", nil)
}

// PauseSchedule keeps a schedule from firing.
func (c *Client) PauseSchedule(ctx context.Context, name string) (api.Schedule, error) {
	return c.schedule(ctx, name, "pause", nil)
}

// ResumeSchedule lets it fire again, from now on.
func (c *Client) ResumeSchedule(ctx context.Context, name string) (api.Schedule, error) {
	return c.schedule(ctx, name, "resume", nil)
}

// ClearSchedule lets go of the versions that a schedule blocks.
func (c *Client) ClearSchedule(ctx context.Context, name, reason string) (api.Schedule, error) {
	return c.schedule(ctx, name, "clear", api.ClearScheduleRequest{Reason: reason})
}

// RunSchedule fires now.
func (c *Client) RunSchedule(ctx context.Context, name string) (api.ScheduleDetail, error) {
	var out api.ScheduleDetail
	err := c.ask(ctx, http.MethodPost, schedulePath(name)+"/run", nil, nil, &out)
	return out, err
}

func (c *Client) schedule(ctx context.Context, name, what string, body any) (api.Schedule, error) {
	var out api.Schedule
	err := c.ask(ctx, http.MethodPost, schedulePath(name)+"/"+what, nil, body, &out)
	return out, err
}
