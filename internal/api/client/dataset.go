package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// AddDataset registers a dataset version. It waits as long as the server reads; Progress says meanwhile,
// by once, how far it is.
func (c *Client) AddDataset(ctx context.Context, r api.AddDatasetRequest, once Once) (api.DatasetAdded, error) {
	var out api.DatasetAdded
	err := c.askAs(ctx, once, http.MethodPost, api.DatasetsPath, nil, r, &out)
	return out, err
}

// ScanDataset submits a run that reads a dataset on a node and registers it when it completes.
func (c *Client) ScanDataset(ctx context.Context, r api.ScanDatasetRequest) (api.Submitted, error) {
	var out api.Submitted
	ctx, cancel := context.WithTimeout(ctx, max(c.opts.Timeout, submitTimeout))
	defer cancel()
	err := c.askLong(ctx, http.MethodPost, api.DatasetScansPath, nil, r, &out)
	return out, err
}

// Datasets lists datasets by name: one page.
func (c *Client) Datasets(ctx context.Context, l api.Listing) (api.List[forge.Dataset], error) {
	var out api.List[forge.Dataset]
	err := c.ask(ctx, http.MethodGet, api.DatasetsPath, listingQuery(l), nil, &out)
	return out, err
}

// Dataset shows a dataset with its versions, without the reports of their scans.
func (c *Client) Dataset(ctx context.Context, name string) (forge.Dataset, error) {
	var out forge.Dataset
	err := c.ask(ctx, http.MethodGet, api.DatasetsPath+"/"+url.PathEscape(name), nil, nil, &out)
	return out, err
}

// versionPath is where NAME or NAME@NUMBER is found.
func versionPath(ref, end string) (string, error) {
	r, err := forge.ParseRef(ref)
	switch {
	case err != nil:
		return "", forge.Invalidf("dataset", "%w", err)
	case r.Label != "":
		return "", forge.Invalidf("dataset", "%q: dataset versions have numbers only; want NAME or NAME@NUMBER", ref)
	}
	return api.DatasetVersionPath(url.PathEscape(r.Name), r.Number) + end, nil
}

// onVersion is one request about NAME@NUMBER, within the caller's context alone.
func (c *Client) onVersion(ctx context.Context, once Once, method, ref, end string, q url.Values, in, out any) error {
	path, err := versionPath(ref, end)
	if err != nil {
		return err
	}
	return c.askAs(ctx, once, method, path, q, in, out)
}

// DatasetVersion shows NAME@NUMBER, or the newest of NAME, with the report of its scan.
func (c *Client) DatasetVersion(ctx context.Context, ref string) (forge.DatasetVersion, error) {
	var out forge.DatasetVersion
	err := c.onVersion(ctx, "", http.MethodGet, ref, "", nil, nil, &out)
	return out, err
}

// EditDataset changes what is said about a version.
func (c *Client) EditDataset(ctx context.Context, ref string, r api.EditDatasetRequest) (forge.DatasetVersion, error) {
	var out forge.DatasetVersion
	err := c.onVersion(ctx, "", http.MethodPatch, ref, "", nil, r, &out)
	return out, err
}

// DeleteDataset takes a version out of use, and with Purge erases what forge keeps of its bytes.
func (c *Client) DeleteDataset(ctx context.Context, ref string, r api.DeleteDatasetRequest) (forge.DatasetVersion, error) {
	var out forge.DatasetVersion
	err := c.onVersion(ctx, "", http.MethodPost, ref, "/delete", nil, r, &out)
	return out, err
}

// WaiveDataset takes a version's findings of personal data upon the caller.
func (c *Client) WaiveDataset(ctx context.Context, ref, reason string) (forge.DatasetVersion, error) {
	var out forge.DatasetVersion
	err := c.onVersion(ctx, "", http.MethodPost, ref, "/waive", nil, api.WaiveDatasetRequest{Reason: reason}, &out)
	return out, err
}

// VerifyDataset has forged hash a version's files again. It waits, and is followed by once, as AddDataset is.
func (c *Client) VerifyDataset(ctx context.Context, ref string, once Once) (api.DatasetVerified, error) {
	var out api.DatasetVerified
	err := c.onVersion(ctx, once, http.MethodPost, ref, "/verify", nil, nil, &out)
	return out, err
}

// AddDatasetFile sends a file that forged is to keep. It waits as long as that takes.
func (c *Client) AddDatasetFile(ctx context.Context, sha256 string, size int64, open func() (io.ReadCloser, error)) (api.DatasetFile, error) {
	var out api.DatasetFile
	err := c.askLong(ctx, http.MethodPost, api.DatasetFilesPath+url.PathEscape(sha256), nil, archive{api.BytesType, size, open}, &out)
	return out, err
}

// OwnedFile writes a file of forge's own copy of a version, and holds it against the size and digest that f says: KindConflict where they differ, after
// what came has been written. It waits as long as that takes.
func (c *Client) OwnedFile(ctx context.Context, ref string, f forge.File, to io.Writer) error {
	path, err := versionPath(ref, api.OwnedFilesEnd+url.PathEscape(f.SHA256))
	if err != nil {
		return err
	}
	sum := sha256.New()
	n, err := c.stream(ctx, path, api.BytesType, f.Size+1, io.MultiWriter(to, sum))
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); n != f.Size || got != f.SHA256 {
		return forge.Errorf(forge.KindConflict, "dataset.file", "forge's copy of %s is not what was registered: a file with the digest %.12s came with %.12s", ref, f.SHA256, got).
			WithHint("forgectl dataset verify %s --on-server", ref)
	}
	return nil
}

// AddDatasetRows sends the fingerprints of a version's rows, by which a row is found again: the first api.RowPrint bytes of each row's digest,
// ascending, one after another. sha256 is that of all these bytes.
func (c *Client) AddDatasetRows(ctx context.Context, ref, sha256 string, size int64, open func() (io.ReadCloser, error)) (api.DatasetRows, error) {
	var out api.DatasetRows
	err := c.onVersion(ctx, "", http.MethodPost, ref, api.DatasetRowsEnd, url.Values{"sha256": {sha256}}, archive{api.BytesType, size, open}, &out)
	return out, err
}

// DatasetLineage is what a version came from, or what came of it.
func (c *Client) DatasetLineage(ctx context.Context, ref string, l api.LineageQuery) (forge.LineageGraph, error) {
	q := url.Values{}
	if l.Down {
		q.Set("direction", "down")
	}
	setInt(q, "limit", int64(l.Limit))
	var out forge.LineageGraph
	err := c.onVersion(ctx, "", http.MethodGet, ref, "/lineage", q, nil, &out)
	return out, err
}

// DatasetImpact says where a row went, by the SHA-256 of its texts.
func (c *Client) DatasetImpact(ctx context.Context, digest string) (forge.Impact, error) {
	var out forge.Impact
	err := c.ask(ctx, http.MethodGet, "/v1/dataset-impact", url.Values{"digest": {digest}}, nil, &out)
	return out, err
}
