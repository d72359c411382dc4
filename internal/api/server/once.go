package server

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// maxOnce bounds an Idempotency-Key.
const maxOnce = 128

// once notes the Idempotency-Key of a POST and the digest of what it asks for. Requests without one
// pay nothing for it.
func (s *server) once(r *http.Request, body []byte) *api.Problem {
	values := r.Header.Values(api.HeaderOnce)
	if len(values) == 0 || r.Method != http.MethodPost {
		return nil
	}
	key := values[0]
	if key == "" || len(key) > maxOnce || !printable(key) {
		p := api.NewProblem(forge.KindInvalid, fmt.Sprintf("want 1 to %d printable ASCII characters, got %d bytes", maxOnce, len(key)))
		p.Field, p.Hint = api.HeaderOnce, "a random UUID does; the same request may be repeated with the same one"
		return p
	}
	in := requestOf(r.Context())
	in.onceKey, in.digest = key, digestOf(r.Method, r.URL.RequestURI(), string(in.principal.Tenant), body)
	return nil
}

// digestOf is the SHA-256 over what makes two requests the same one. Lengths stand before the parts, so
// that no two different requests run together into the same bytes.
func digestOf(method, path, tenant string, body []byte) string {
	h := sha256.New()
	for _, part := range []string{method, path, tenant} {
		fmt.Fprintf(h, "%d:%s\n", len(part), part)
	}
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}
