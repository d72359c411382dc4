package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// jsonType is the one media type of request bodies.
const jsonType = "application/json"

// body reads request bodies before anything acts on them: bounded in bytes and time. The
// deadline is taken off the connection again, because net/http keeps reading from it during the
// handler to notice a client that goes, and takes an expired deadline for one: a registration
// that hashes for minutes would be cancelled.
func (s *server) body(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := checkTarget(r.URL); err != nil {
			s.reject(w, r, err)
			return
		}
		if u, ok := s.uploading(r); ok {
			s.upload(w, r, u, next)
			return
		}
		limit := s.opts.MaxBody
		if r.URL.Path == api.DatasetsPath {
			limit = max(limit, api.MaxDatasetRequest) // a manifest has a line a file
		}
		var b []byte
		if r.Body != nil && r.Body != http.NoBody {
			rc := http.NewResponseController(w)
			// Deadlines are not supported by test recorders; a real connection has them.
			_ = rc.SetReadDeadline(time.Now().Add(s.opts.BodyTimeout))
			var err error
			if b, err = io.ReadAll(http.MaxBytesReader(w, r.Body, limit)); err != nil {
				w.Header().Set("Connection", "close")
				writeProblem(w, bodyProblem(err, limit))
				return
			}
			_ = rc.SetReadDeadline(time.Time{})
			r.Body = io.NopCloser(bytes.NewReader(b))
		}
		if len(b) > 0 {
			if p := checkType(r.Header); p != nil {
				writeProblem(w, p)
				return
			}
			if err := checkJSON(b); err != nil {
				s.reject(w, r, err)
				return
			}
		}
		if p := s.once(r, b); p != nil {
			writeProblem(w, p)
			return
		}
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

// checkType refuses bodies that say they are something else than JSON in UTF-8. One that says nothing
// is taken for JSON.
func checkType(h http.Header) *api.Problem {
	detail := ""
	if enc := h.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		detail = fmt.Sprintf("Content-Encoding %.64q is not accepted; send the body as it is", enc)
	} else if ct := h.Get("Content-Type"); ct != "" {
		t, params, err := mime.ParseMediaType(ct)
		charset := params["charset"]
		if err != nil || t != jsonType || charset != "" && !strings.EqualFold(charset, "utf-8") {
			detail = fmt.Sprintf("Content-Type %.64q is not accepted; want %s, in UTF-8", ct, jsonType)
		}
	}
	if detail == "" {
		return nil
	}
	p := api.NewProblem(forge.KindInvalid, detail)
	p.Status = http.StatusUnsupportedMediaType
	return p
}

// checkTarget refuses paths and queries that two readers may read differently, or that would
// move a terminal's cursor where they are shown.
func checkTarget(u *url.URL) error {
	if !utf8.ValidString(u.Path) {
		return forge.Invalidf("", "the path is not UTF-8")
	}
	if r, ok := unsafeRune(u.Path, false); ok {
		return forge.Invalidf("", "the path has the control character %U, which is not accepted", r)
	}
	// Part by part: an encoded slash belongs to the name that it stands in.
	parts := strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	for i, part := range parts {
		if part, _ = url.PathUnescape(part); part == "." || part == ".." || part == "" && i < len(parts)-1 {
			return forge.Errorf(forge.KindNotFound, "", "there is nothing at %.200q: a path has no empty, . or .. parts", u.Path)
		}
	}
	if u.RawQuery == "" {
		return nil
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return forge.Invalidf("", "the query cannot be read: a %% wants two hexadecimal digits behind it, and & stands between parameters")
	}
	for name, values := range q {
		if r, ok := unsafeRune(name, false); ok || !utf8.ValidString(name) || len(name) > 64 {
			return forge.Invalidf("", "a query parameter has a name that is too long, or not of printable UTF-8 (%U)", r)
		}
		if len(values) > 1 {
			return forge.Invalidf(name, "the parameter is given %d times; several values are one list, comma-separated", len(values))
		}
		if !utf8.ValidString(values[0]) {
			return forge.Invalidf(name, "the value is not UTF-8")
		}
		if r, ok := unsafeRune(values[0], false); ok {
			return forge.Invalidf(name, "the value has the control character %U, which is not accepted", r)
		}
	}
	return nil
}
