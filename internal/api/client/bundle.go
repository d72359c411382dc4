package client

import (
	"context"
	"errors"
	"io"
	"math"
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
	_, err := c.stream(ctx, runPath(run, "/source"), api.SnapshotType, math.MaxInt64, to)
	return err
}

// stream writes an answer of bytes, most of them at most. What the writer says comes back as it is: a full disk is no server that is away.
func (c *Client) stream(ctx context.Context, path, as string, most int64, to io.Writer) (int64, error) {
	r, err := c.request(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return 0, err
	}
	r.Header.Set("Accept", as)
	resp, err := c.http.Do(r)
	if err != nil {
		return 0, c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode/100 != 2:
		return 0, c.refusal(resp, io.LimitReader(resp.Body, maxAnswer))
	case resp.Header.Get("Content-Type") != as:
		return 0, c.foreign(resp)
	}
	in := &coming{from: resp.Body}
	n, err := io.Copy(to, io.LimitReader(in, most))
	if in.err != nil {
		return n, c.unreachable(ctx, in.err)
	}
	return n, err
}

// coming tells what went wrong on the way from what went wrong where it was written to.
type coming struct {
	from io.Reader
	err  error
}

func (c *coming) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}
