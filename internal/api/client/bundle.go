package client

import (
	"context"
	"io"
	"net/http"

	"github.com/forge-ml/forge-ml/internal/api"
)

// Bundle says what a run is made from.
func (c *Client) Bundle(ctx context.Context, run string) (api.Bundle, error) {
	var out api.Bundle
	err := c.ask(ctx, http.MethodGet, runPath(run, "/bundle"), nil, nil, &out)
	return out, err
}

// RunSource writes the archive of a run's working directory. It waits as long as that takes.
func (c *Client) RunSource(ctx context.Context, run string, to io.Writer) error {
	r, err := c.request(ctx, http.MethodGet, runPath(run, "/source"), nil, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", api.SnapshotType)
	resp, err := c.http.Do(r)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode/100 != 2:
		return c.refusal(resp, io.LimitReader(resp.Body, maxAnswer))
	case resp.Header.Get("Content-Type") != api.SnapshotType:
		return c.foreign(resp)
	}
	if _, err := io.Copy(to, resp.Body); err != nil {
		return c.unreachable(ctx, err)
	}
	return nil
}
