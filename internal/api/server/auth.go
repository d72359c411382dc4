package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// errKey is the one answer to a missing, unknown, expired and revoked key, and to a uid that is
// nobody's: which of them it was would tell a guesser something.
var errKey = forge.Errorf(forge.KindUnauthorized, "", "no valid API key in the %s header", api.HeaderKey).
	WithHint("give a key with --key or FORGE_API_KEY, made with: forgectl key create; on the daemon's host an admin can give your user a uid instead")

// errTenant answers whoever may not name a tenant, before it is looked whether there is one.
var errTenant = &forge.Error{Kind: forge.KindForbidden, Field: api.HeaderTenant, Err: fmt.Errorf("only an operator may name a tenant"),
	Hint: "leave the header out: requests act in your own tenant"}

// maxSecret bounds what is handed to authentication; no key of ours is nearly as long.
const maxSecret = 512

// maxTenantHeader is the length of the longest tenant name.
const maxTenantHeader = 64

type peerKey struct{}

// WithPeer notes in a connection's context which uid the kernel named at its other end. Nothing that
// a client sends can put it there.
func WithPeer(ctx context.Context, uid uint32) context.Context {
	return context.WithValue(ctx, peerKey{}, uid)
}

func peerOf(ctx context.Context) (uint32, bool) {
	uid, ok := ctx.Value(peerKey{}).(uint32)
	return uid, ok
}

// caller is what a request says of who sent it.
type caller struct {
	secret string
	tenant string // X-Tenant-ID
	from   string // whose failures are counted together: an address, or a uid on the socket
}

func callerOf(r *http.Request) (caller, error) {
	c := caller{secret: r.Header.Get(api.HeaderKey), tenant: r.Header.Get(api.HeaderTenant)}
	if uid, ok := peerOf(r.Context()); ok {
		c.from = fmt.Sprintf("uid %d", uid)
	} else if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		c.from = host
	}
	for _, h := range []string{api.HeaderKey, api.HeaderTenant, api.HeaderOnce, "Content-Type", api.HeaderLastEventID} {
		// Two values are two readers' chance to disagree about who asks and for what.
		if len(r.Header.Values(h)) > 1 {
			return c, forge.Invalidf(h, "the header is there more than once; send it once")
		}
	}
	if len(c.tenant) > maxTenantHeader || !printable(c.tenant) {
		return c, forge.Invalidf(api.HeaderTenant, "want a tenant's name or id, at most %d printable ASCII characters", maxTenantHeader)
	}
	return c, nil
}

// identify says who is asking. A key outranks the uid: whoever gives one wants to be that.
func (s *server) identify(ctx context.Context, c caller) (forge.Principal, error) {
	var p forge.Principal
	var err error
	uid, local := peerOf(ctx)
	switch {
	case len(c.secret) > maxSecret:
		return p, errKey
	case c.secret != "":
		p, err = s.Auth.Authenticate(ctx, c.secret)
	case local:
		p, err = s.Auth.AuthenticatePeer(ctx, uid)
	default:
		return p, errKey
	}
	if err == nil && p.Tenant == "" || err != nil && forge.KindOf(err) == forge.KindUnauthorized {
		return forge.Principal{}, errKey
	}
	if err != nil || c.tenant == "" {
		return p, err
	}
	if p.Role != forge.RoleOperator {
		return forge.Principal{}, errTenant
	}
	return s.Auth.ActIn(ctx, p, c.tenant)
}

// key authenticates everything below /v1, and counts what each caller asks for.
func (s *server) key(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1" && !strings.HasPrefix(r.URL.Path, "/v1/") {
			next.ServeHTTP(w, r)
			return
		}
		if r.URL.Path == loginPath && r.Method == http.MethodPost {
			s.stranger(w, r, next)
			return
		}
		c, err := callerOf(r)
		if err != nil {
			s.reject(w, r, err)
			return
		}
		// An address that guesses pays for its guesses, and for nobody's good key: a broken script
		// on a login node must not lock out everybody who works there.
		digest := sha256.Sum256([]byte(c.secret))
		if s.failures.exhausted(c.from) && !s.trusted.has(digest) {
			writeProblem(w, tooMany("too many requests without a valid API key came from this address; try again later", 1))
			return
		}
		p, err := s.identify(r.Context(), c)
		if err != nil {
			if forge.KindOf(err) == forge.KindUnauthorized {
				s.failures.allow(c.from)
				s.trusted.forget(digest)
			}
			s.reject(w, r, err)
			return
		}
		if p.Via == "" {
			p.Via = forge.ViaKey
		}
		if c.secret != "" {
			s.trusted.add(digest)
		}
		in := requestOf(r.Context())
		in.principal, in.caller = p, c
		if wait, ok := s.rates.allow(rateOf(p)); !ok {
			writeProblem(w, tooMany(fmt.Sprintf("more than %g requests a second (%d at once) came with this key", s.opts.Rate, s.opts.Burst), wait))
			return
		}
		if r.URL.Path == eventsPath {
			leave, ok := s.streams.enter(rateOf(p))
			if !ok {
				writeProblem(w, tooMany(fmt.Sprintf("this key follows events %d times already, which is the limit", s.opts.Streams), 1))
				return
			}
			defer leave()
			if s.opts.Followers != nil {
				s.opts.Followers(1)
				defer s.opts.Followers(-1)
			}
		}
		next.ServeHTTP(w, r)
	})
}

// rateOf is whose requests are counted together.
func rateOf(p forge.Principal) string {
	if p.Key != "" {
		return "key " + string(p.Key)
	}
	return "user " + string(p.UserID)
}

// reject answers what authentication refused or could not decide.
func (s *server) reject(w http.ResponseWriter, r *http.Request, err error) {
	p := api.ProblemOf(err, requestID(r.Context()))
	if p.Kind == forge.KindInternal {
		requestOf(r.Context()).log(s.opts.Log).Error().Err(err).Str("op", "authenticate").Msg("internal error")
	}
	writeProblem(w, p)
}

// tooMany is the answer to whoever asks too often: the kind says "later", the status says why.
func tooMany(detail string, wait int) *api.Problem {
	p := api.NewProblem(forge.KindUnavailable, detail)
	p.Status, p.RetryAfter = http.StatusTooManyRequests, wait
	p.Hint = "wait as long as Retry-After says; an operator sets limits in config.yaml: limits.requests_per_second, limits.burst, limits.streams_per_key"
	return p
}

// printable says whether a header's value is ASCII that can be shown.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
