package client

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"github.com/forge-ml/forge-ml/internal/api"
)

// archive is a body that is sent as it is, and once more when its answer was lost.
type archive struct {
	as   string // media type
	size int64
	open func() (io.ReadCloser, error)
}

// AddSnapshot uploads the archive of a working directory. It waits as long as that takes.
func (c *Client) AddSnapshot(ctx context.Context, sha256 string, size int64, open func() (io.ReadCloser, error)) (api.Snapshot, error) {
	var out api.Snapshot
	err := c.askLong(ctx, http.MethodPost, api.SnapshotPath, url.Values{"sha256": {sha256}}, archive{api.SnapshotType, size, open}, &out)
	return out, err
}
