package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// Huma makes its own errors through these two package variables and offers no other way. They
// are set once, before any server exists, and hold no state of one.
func init() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return humaProblem(nil, status, msg, errs)
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, msg string, errs ...error) huma.StatusError {
		return humaProblem(ctx, status, msg, errs)
	}
}

// humaProblem gives huma's refusals (validation, syntax, content type) the form of ours.
func humaProblem(ctx huma.Context, status int, msg string, errs []error) *api.Problem {
	kind := api.KindOfStatus(status)
	if kind == forge.KindInternal {
		// Huma's own 5xx carry Go error text.
		id := ""
		if ctx != nil {
			id = requestID(ctx.Context())
		}
		return api.ProblemOf(errors.New(msg), id)
	}
	p := api.NewProblem(kind, msg)
	if status != http.StatusBadRequest { // a body that does not parse is as invalid as one that does not validate
		p.Status = status
	}
	var fields []string
	if ctx != nil && ctx.Operation() != nil {
		fields, _ = ctx.Operation().Metadata[fieldsKey].([]string)
	}
	for i, err := range errs {
		field, text := explain(err, fields)
		switch {
		case i == 0:
			p.Field, p.Detail = field, text
		case field == "":
			p.Detail += "; " + text
		default:
			p.Detail += "; " + field + ": " + text
		}
	}
	return p
}

// explain turns one of huma's error details into the field at fault and a sentence about it.
func explain(err error, fields []string) (field, text string) {
	var d *huma.ErrorDetail
	if !errors.As(err, &d) {
		return "", err.Error()
	}
	where, field, _ := strings.Cut(d.Location, ".")
	if where == "query" { // state[0]: people wrote state
		field, _, _ = strings.Cut(field, "[")
	}
	text = d.Message
	switch {
	case strings.Contains(text, "unexpected property"):
		text = "unknown field"
		if len(fields) > 0 && !strings.Contains(field, ".") {
			text += "; this takes " + strings.Join(fields, ", ")
		}
		return field, text
	case strings.Contains(text, "expected required property"):
		if name := strings.Fields(text)[3]; field == "" {
			return name, "is required"
		}
	case where == "body" && field == "":
		return plain(text)
	}
	switch v := d.Value.(type) {
	case string:
		if v != "" {
			text = fmt.Sprintf("%.120q is not allowed: %s", v, text)
		}
	case float64, int, int64, bool:
		text = fmt.Sprintf("%v is not allowed: %s", v, text)
	}
	return field, text
}

// goTypes finds where encoding/json speaks of our types: of numbers that are valid and do not fit.
var goTypes = regexp.MustCompile(`^json: cannot unmarshal number (\S+) into Go (?:struct field [^.\s]+\.(\S+)|value) of type u?int\d*`)

// plain says in words what encoding/json says in Go's.
func plain(text string) (field, sentence string) {
	if m := goTypes.FindStringSubmatch(text); m != nil {
		return m[2], fmt.Sprintf("%.64s is not allowed: want a whole number, written without exponent, of at most 64 bits", m[1])
	}
	return "", text
}

// fail makes the answer of a handler that met an error. The text of internal ones goes into
// the log, once, with the request id that the user sees.
func (s *server) fail(ctx context.Context, op string, err error) error {
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return api.NewProblem(forge.KindUnavailable, "the request was given up before it was answered")
	}
	var e *forge.Error
	if errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &e) {
		return api.NewProblem(forge.KindUnavailable, "this took too long and was given up")
	}
	p := api.ProblemOf(err, requestID(ctx))
	if p.Kind == forge.KindInternal {
		requestOf(ctx).log(s.opts.Log).Error().Err(err).Str("op", op).Msg("internal error")
	}
	if p.Kind == forge.KindUnauthorized {
		return huma.ErrorWithHeaders(p, http.Header{"WWW-Authenticate": {challenge}})
	}
	if p.Kind == forge.KindUnavailable {
		return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {"1"}})
	}
	return p
}

// challenge names the header that a key belongs into.
const challenge = `APIKey header="` + api.HeaderKey + `"`

// writeProblem writes a problem outside of huma.
func writeProblem(w http.ResponseWriter, p *api.Problem) {
	b, err := json.Marshal(p)
	if err != nil { // only strings and an int: cannot happen, and must not answer 200 if it does
		b = []byte(`{"status":500}`)
	}
	h := w.Header()
	h.Set("Content-Type", api.ProblemType)
	if p.Kind == forge.KindUnauthorized {
		h.Set("WWW-Authenticate", challenge)
	}
	if p.Kind == forge.KindUnavailable {
		h.Set("Retry-After", strconv.Itoa(max(p.RetryAfter, 1)))
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(b, '\n'))
}

// problems answers in our form where the mux would answer in text: no route, wrong method.
func problems(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead && r.URL.Path == eventsPath {
			p := api.NewProblem(forge.KindInvalid, "HEAD is not a method of "+eventsPath+", which never ends; it takes GET")
			p.Status = http.StatusMethodNotAllowed
			w.Header().Set("Allow", http.MethodGet)
			writeProblem(w, p)
			return
		}
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		probe := &statusProbe{header: http.Header{}}
		h.ServeHTTP(probe, r)
		if probe.status == http.StatusMethodNotAllowed {
			allow := probe.header.Get("Allow")
			w.Header().Set("Allow", allow)
			p := api.NewProblem(forge.KindInvalid, fmt.Sprintf("%s is not a method of %.200s; it takes %s", r.Method, r.URL.Path, allow))
			p.Status = http.StatusMethodNotAllowed
			writeProblem(w, p)
			return
		}
		p := api.NewProblem(forge.KindNotFound, fmt.Sprintf("there is nothing at %.200s", r.URL.Path))
		p.Hint = "the operations are listed at /openapi.json"
		writeProblem(w, p)
	})
}

// statusProbe asks the mux what it would have answered.
type statusProbe struct {
	header http.Header
	status int
}

func (p *statusProbe) Header() http.Header         { return p.header }
func (p *statusProbe) Write(b []byte) (int, error) { return len(b), nil }
func (p *statusProbe) WriteHeader(status int)      { p.status = status }
