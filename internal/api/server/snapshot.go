package server

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// uploadTimeout bounds how long an archive may take to arrive.
const uploadTimeout = 10 * time.Minute

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
		id: "add-snapshot", method: http.MethodPost, path: api.SnapshotPath, tag: "runs", role: forge.RoleMember, created: true, upload: true,
		summary: "Upload a working directory",
		doc: "A gzip of a tar of regular files and links that stay inside, as forgectl makes it. It is kept for the tenant under its digest, and removed after a day in which no run was made of it. " +
			"What it may hold is limits.max_snapshot_bytes of the site.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *SnapshotInput) (api.Snapshot, error) {
		return s.Snapshots.AddSnapshot(ctx, p, in.SHA256, in.body)
	}, s.Snapshots.Snapshot)
}

// upload lets an archive through to its operation, bounded in bytes and time.
func (s *server) upload(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != api.SnapshotType {
		p := api.NewProblem(forge.KindInvalid, fmt.Sprintf("Content-Type %.64q is not accepted; want %s", r.Header.Get("Content-Type"), api.SnapshotType))
		p.Status = http.StatusUnsupportedMediaType
		writeProblem(w, p)
		return
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(uploadTimeout)) // test recorders have none
	defer func() { _ = rc.SetReadDeadline(time.Time{}) }()
	r.Body = http.MaxBytesReader(w, r.Body, s.opts.MaxSnapshot+s.opts.MaxSnapshot/100+1<<20) // what does not compress grows a little
	if p := s.once(r, nil); p != nil {                                                       // the digest in the query stands for the body
		writeProblem(w, p)
		return
	}
	next.ServeHTTP(w, r)
}
