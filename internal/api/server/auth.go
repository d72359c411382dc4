package server

import (
	"net/http"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// errKey is the one answer to a missing, unknown and revoked key: which of them it was would
// tell a guesser something.
var errKey = forge.Errorf(forge.KindUnauthorized, "", "no valid API key in the %s header", api.HeaderKey).
	WithHint("give a key with --key or FORGE_API_KEY; an operator makes one with: forgectl key create")

// maxSecret bounds what is handed to authentication; no key of ours is nearly as long.
const maxSecret = 512

// key authenticates everything below /v1.
func (s *server) key(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1" && !strings.HasPrefix(r.URL.Path, "/v1/") {
			next.ServeHTTP(w, r)
			return
		}
		secret := r.Header.Get(api.HeaderKey)
		err := error(errKey)
		var p forge.Principal
		if secret != "" && len(secret) <= maxSecret {
			p, err = s.Auth.Authenticate(r.Context(), secret)
			if forge.KindOf(err) == forge.KindUnauthorized {
				err = errKey
			}
		}
		if err == nil && p.Tenant == "" {
			err = errKey
		}
		if err != nil {
			s.reject(w, r, err)
			return
		}
		requestOf(r.Context()).principal = p
		next.ServeHTTP(w, r)
	})
}

// reject answers what authentication refused or could not decide.
func (s *server) reject(w http.ResponseWriter, r *http.Request, err error) {
	p := api.ProblemOf(err, requestID(r.Context()))
	if p.Kind == forge.KindInternal {
		requestOf(r.Context()).log(s.opts.Log).Error().Err(err).Str("op", "authenticate").Msg("internal error")
	}
	writeProblem(w, p)
}
