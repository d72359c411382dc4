package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// request is what the layers know of one request. It travels by pointer, so that the log line
// at the outside can name the principal found further in.
type request struct {
	id        string
	op        string // operation id, once it is known which
	principal forge.Principal
	caller    caller
	replayed  bool   // answered from what an earlier request left
	onceKey   string // Idempotency-Key, checked
	digest    string // of the request; only made where there is such a key
}

func (r *request) once(op string) forge.Once {
	return forge.Once{Op: op, Key: r.onceKey, Digest: r.digest}
}

type requestKey struct{}

// log is for a line about a request: by these words it is found, and whose it was.
func (r *request) log(l zerolog.Logger) *zerolog.Logger {
	if r != nil {
		l = l.With().Str("request_id", r.id).Str("tenant", string(r.principal.Tenant)).Str("user", r.principal.User).Logger()
	}
	return &l
}

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
		rec := &recorder{ResponseWriter: w, request: in}
		rec.Header().Set(api.HeaderRequestID, in.id)
		rec.Header().Set("X-Content-Type-Options", "nosniff")
		defer func() {
			if v := recover(); v != nil {
				if v == http.ErrAbortHandler {
					panic(v)
				}
				in.log(s.opts.Log).Error().Str("op", in.op).
					Str("panic", fmt.Sprint(v)).Str("stack", string(debug.Stack())).Msg("handler panicked")
				if rec.status == 0 {
					writeProblem(rec, api.ProblemOf(fmt.Errorf("panic"), in.id))
				}
			}
			s.note(r, in, rec, time.Since(began))
		}()
		next.ServeHTTP(rec, r.WithContext(context.WithValue(r.Context(), requestKey{}, in)))
	})
}

// note writes the one line of a request. What comes from the client stands in it bounded and quoted,
// and the query and the keys not at all.
func (s *server) note(r *http.Request, in *request, rec *recorder, took time.Duration) {
	if s.opts.Observe != nil {
		s.opts.Observe(Observation{Op: in.op, Status: rec.status, Took: took})
	}
	level := zerolog.DebugLevel
	if rec.status >= http.StatusInternalServerError && r.URL.Path != readyPath {
		level = zerolog.InfoLevel
	}
	if e := s.opts.Log.WithLevel(level); e.Enabled() {
		e.Str("request_id", in.id).Str("op", in.op).Int("status", rec.status).Str("method", r.Method).Str("path", fmt.Sprintf("%.200s", r.URL.Path)).
			Str("tenant", string(in.principal.Tenant)).Str("user", in.principal.User).Str("key", string(in.principal.Key)).
			Str("from", in.caller.from).Int64("bytes", rec.bytes).Dur("took", took).Msg("request")
	}
}

// recorder remembers what was answered. Unwrap lets http.ResponseController through to the
// connection (flush, deadlines).
type recorder struct {
	http.ResponseWriter
	request *request
	status  int
	bytes   int64
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
		if r.request.replayed {
			r.Header().Set(api.HeaderReplayed, "true")
		}
		// A client that asks and does not read would hold a connection for ever. Event streams set their own.
		_ = http.NewResponseController(r.ResponseWriter).SetWriteDeadline(time.Now().Add(writeTimeout))
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	n, err := r.ResponseWriter.Write(b)
	r.bytes += int64(n)
	return n, err
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
