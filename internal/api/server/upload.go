package server

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

const (
	// uploadTimeout bounds how long an archive may take to arrive.
	uploadTimeout = 10 * time.Minute
	// uploadIdle bounds how long a file of a dataset, which may be large, may stand still on its way.
	uploadIdle = time.Minute
	// maxRows bounds an index of rows, in bytes: that of two billion rows.
	maxRows = 16 << 30
)

// uploading is what a body that is passed on as it comes may be.
type uploading struct {
	as    string // media type
	bytes int64
	whole bool // uploadTimeout bounds all of it
}

func (s *server) uploading(r *http.Request) (uploading, bool) {
	path := r.URL.Path
	switch {
	case r.Method != http.MethodPost || r.Body == nil || r.Body == http.NoBody:
	case path == api.SnapshotPath:
		return uploading{api.SnapshotType, s.opts.MaxSnapshot + s.opts.MaxSnapshot/100 + 1<<20, true}, true // what does not compress grows a little
	case path == api.EvalsPath:
		return uploading{api.EvalImportType, api.MaxEvalImport, true}, true
	case strings.HasPrefix(path, api.DatasetFilesPath):
		return uploading{api.BytesType, s.opts.MaxDataset, false}, true
	case strings.HasPrefix(path, api.DatasetsPath+"/") && strings.HasSuffix(path, api.DatasetRowsEnd):
		return uploading{api.BytesType, maxRows, false}, true
	}
	return uploading{}, false
}

// upload lets a body through to its operation, bounded in bytes and time.
func (s *server) upload(w http.ResponseWriter, r *http.Request, u uploading, next http.Handler) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != u.as {
		p := api.NewProblem(forge.KindInvalid, fmt.Sprintf("Content-Type %.64q is not accepted; want %s", r.Header.Get("Content-Type"), u.as))
		p.Status = http.StatusUnsupportedMediaType
		writeProblem(w, p)
		return
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(uploadTimeout)) // test recorders have none
	defer func() { _ = rc.SetReadDeadline(time.Time{}) }()
	r.Body = http.MaxBytesReader(w, r.Body, u.bytes)
	if !u.whole {
		r.Body = &unhurried{ReadCloser: r.Body, rc: rc}
	}
	if p := s.once(r, nil); p != nil { // the digest in the address stands for the body
		writeProblem(w, p)
		return
	}
	next.ServeHTTP(w, r)
}

// unhurried may take as long as it likes, as long as it moves.
type unhurried struct {
	io.ReadCloser
	rc *http.ResponseController
}

func (b *unhurried) Read(p []byte) (int, error) {
	_ = b.rc.SetReadDeadline(time.Now().Add(uploadIdle))
	return b.ReadCloser.Read(p)
}
