package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// request is what the layers know of one request. It travels by pointer, so that the log line
// at the outside can name the principal found further in.
type request struct {
	id        string
	principal forge.Principal
	onceKey   string // Idempotency-Key, checked
	digest    string // of the request; only made where there is such a key
}

func (r *request) once(op string) forge.Once {
	return forge.Once{Op: op, Key: r.onceKey, Digest: r.digest}
}

type requestKey struct{}

func requestOf(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

func requestID(ctx context.Context) string {
	if r := requestOf(ctx); r != nil {
		return r.id
	}
	return ""
}

func newRequestID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails; crashes the program instead
	return hex.EncodeToString(b[:])
}

// record is the outermost layer: it names the request, writes its log line and keeps one
// handler's panic from closing the connection without a word.
func (s *server) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		in := &request{id: newRequestID()}
		rec := &recorder{ResponseWriter: w}
		rec.Header().Set(api.HeaderRequestID, in.id)
		defer func() {
			if v := recover(); v != nil {
				if v == http.ErrAbortHandler {
					panic(v)
				}
				s.opts.Log.Error().Str("request_id", in.id).Str("path", r.URL.Path).
					Str("panic", fmt.Sprint(v)).Str("stack", string(debug.Stack())).Msg("handler panicked")
				if rec.status == 0 {
					writeProblem(rec, api.ProblemOf(fmt.Errorf("panic"), in.id))
				}
			}
			s.opts.Log.Debug().Str("request_id", in.id).Str("method", r.Method).Str("path", r.URL.Path).
				Str("user", in.principal.User).Str("key", string(in.principal.Key)).
				Int("status", rec.status).Int64("bytes", rec.bytes).Dur("took", time.Since(began)).Msg("request")
		}()
		next.ServeHTTP(rec, r.WithContext(context.WithValue(r.Context(), requestKey{}, in)))
	})
}

// recorder remembers what was answered. Unwrap lets http.ResponseController through to the
// connection (flush, deadlines).
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(b)
	r.bytes += int64(n)
	return n, err
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
