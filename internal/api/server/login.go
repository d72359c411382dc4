package server

import (
	"context"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// loginPath is the one path under /v1 that is answered without a key.
const loginPath = "/v1/login/munge"

// The logins that one address may try: a login node has many users, and each try costs a process.
const (
	loginBurst = 60
	loginEvery = time.Second
)

func (s *server) logins() {
	op := spec{
		id: "login-munge", method: http.MethodPost, path: loginPath, tag: "keys", open: true, created: true,
		summary: "Turn a munge credential into a key",
		doc: "Needs no key. The credential's payload is `forge-ml login 1 ADDRESS`, with the server's address as the client knows it (`https://host:port`, or `unix:///path`), and it is taken once, within two minutes. " +
			"The key is one of the user with that uid, named \"munge login\", and ends by itself. A repeated request is refused: make another credential. 412 where the site has not turned it on.",
		errors: []forge.Kind{forge.KindPrecondition},
	}
	huma.Register(s.huma, op.huma(s, bodyFields(reflect.TypeFor[loginInput]())), func(ctx context.Context, in *loginInput) (*answer[api.CreatedKey], error) {
		out, err := s.Logins.LoginMunge(ctx, in.Body)
		if err != nil {
			return nil, s.fail(ctx, op.id, err)
		}
		return reply(op, out), nil
	})
}

type loginInput struct{ Body api.LoginMungeRequest }

// stranger lets a login through without a key, so many from one address.
func (s *server) stranger(w http.ResponseWriter, r *http.Request, next http.Handler) {
	c, err := callerOf(r)
	if err == nil && c.tenant != "" {
		err = errTenant
	}
	if err != nil {
		s.reject(w, r, err)
		return
	}
	requestOf(r.Context()).caller = c
	if wait, ok := s.tries.allow(c.from); !ok {
		writeProblem(w, tooMany("too many logins were tried from this address; try again later", wait))
		return
	}
	next.ServeHTTP(w, r)
}
