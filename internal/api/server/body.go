package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// body reads request bodies before anything acts on them: bounded in bytes and time. The
// deadline is taken off the connection again, because net/http keeps reading from it during the
// handler to notice a client that goes, and takes an expired deadline for one: a registration
// that hashes for minutes would be cancelled.
func (s *server) body(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		rc := http.NewResponseController(w)
		// Deadlines are not supported by test recorders; a real connection has them.
		_ = rc.SetReadDeadline(time.Now().Add(s.opts.BodyTimeout))
		b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.opts.MaxBody))
		if err != nil {
			w.Header().Set("Connection", "close")
			writeProblem(w, bodyProblem(err, s.opts.MaxBody))
			return
		}
		_ = rc.SetReadDeadline(time.Time{})
		r.Body = io.NopCloser(bytes.NewReader(b))
		next.ServeHTTP(w, r)
	})
}

func bodyProblem(err error, limit int64) *api.Problem {
	var big *http.MaxBytesError
	if errors.As(err, &big) {
		p := api.NewProblem(forge.KindInvalid, fmt.Sprintf("the body is larger than the %d bytes that are accepted", limit))
		p.Status = http.StatusRequestEntityTooLarge
		p.Hint = "data is not uploaded: register it by its path on the server's host"
		return p
	}
	p := api.NewProblem(forge.KindInvalid, "the body did not arrive whole and in time")
	p.Status = http.StatusRequestTimeout
	return p
}
