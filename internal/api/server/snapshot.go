package server

import (
	"context"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// SnapshotInput is an archive on its way: it is passed on as it comes and never held in memory.
type SnapshotInput struct {
	SHA256 string `query:"sha256" required:"true" pattern:"^[0-9a-f]{64}$" doc:"Of the body"`
	body   io.Reader
}

// Resolve implements huma.Resolver.
func (in *SnapshotInput) Resolve(c huma.Context) []error {
	in.body = c.BodyReader()
	return nil
}

func (s *server) snapshots() {
	acting(s, spec{
		id: "add-snapshot", method: http.MethodPost, path: api.SnapshotPath, tag: "runs", role: forge.RoleMember, created: true, upload: api.SnapshotType,
		summary: "Upload a working directory",
		doc: "A gzip of a tar of regular files and links that stay inside, as forgectl makes it. It is kept for the tenant under its digest, and removed after a day in which no run was made of it. " +
			"What it may hold is limits.max_snapshot_bytes of the site.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *SnapshotInput) (api.Snapshot, error) {
		return s.Snapshots.AddSnapshot(ctx, p, in.SHA256, in.body)
	}, s.Snapshots.Snapshot)
}
