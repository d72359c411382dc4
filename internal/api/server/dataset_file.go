package server

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// OwnedInput names a file of a version.
type OwnedInput struct {
	VersionInput
	SHA256 string `path:"sha256" pattern:"^[0-9a-f]{64}$" doc:"Of the file, as the version's manifest has it"`
}

func (s *server) ownedFiles() {
	streaming(s, spec{
		id: "get-dataset-file", method: http.MethodGet, path: versionPath + api.OwnedFilesEnd + "{sha256}", tag: "datasets", role: forge.RoleMember,
		summary: "Read a file of forge's own copy of a dataset version",
		doc: "As it is registered, its bytes and nothing else: whoever may train on the data may read it. Whoever reads it holds it against the digest. " +
			"Files that are referenced where they lie are not given out: their owner's permissions say who reads them.",
		errors: []forge.Kind{forge.KindNotFound, forge.KindPrecondition},
		responses: map[string]*huma.Response{"200": {Description: "The file",
			Content: map[string]*huma.MediaType{api.BytesType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}},
	}, func(ctx context.Context, p forge.Principal, in *OwnedInput) (func(huma.Context), error) {
		file, size, err := s.Datasets.OwnedFile(ctx, p, in.ref(), in.SHA256)
		if err != nil {
			return nil, err
		}
		return func(c huma.Context) {
			defer file.Close()
			c.SetHeader("Content-Type", api.BytesType)
			c.SetHeader("Content-Length", strconv.FormatInt(size, 10))
			_, _ = io.Copy(&patient{c.BodyWriter()}, file) // who reads less than was announced knows that it was cut off
		}, nil
	})
}

// patient lets a client take as long as it likes, as long as it takes something.
type patient struct{ to io.Writer }

func (w *patient) Write(b []byte) (int, error) {
	if rw, ok := w.to.(http.ResponseWriter); ok {
		_ = http.NewResponseController(rw).SetWriteDeadline(time.Now().Add(uploadIdle))
	}
	return w.to.Write(b)
}
