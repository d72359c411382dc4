package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// readyPath answers 503 while the daemon starts and stops, which is no news for the log.
const readyPath = "/readyz"

type healthAnswer struct {
	Status int
	Body   api.Health
}

func (s *server) site() {
	health := spec{id: "healthz", method: http.MethodGet, path: "/healthz", tag: "site",
		summary: "Say that the process answers", doc: "Needs no key. Says nothing about whether it can work: that is /readyz."}
	huma.Register(s.huma, health.huma(s, nil), func(context.Context, *none) (*answer[api.Health], error) {
		return reply(health, api.Health{Status: "ok"}), nil
	})
	ready := spec{id: "readyz", method: http.MethodGet, path: readyPath, tag: "site",
		summary: "Say whether the daemon can work", doc: "Needs no key. 503 with the reasons when it cannot.",
		responses: map[string]*huma.Response{"503": {Description: "Not ready; the body has the reasons", Content: map[string]*huma.MediaType{
			"application/json": {Schema: &huma.Schema{Ref: "#/components/schemas/Health"}},
		}}}}
	huma.Register(s.huma, ready.huma(s, nil), func(ctx context.Context, _ *none) (*healthAnswer, error) {
		if why := s.Site.Ready(ctx); len(why) > 0 {
			return &healthAnswer{Status: http.StatusServiceUnavailable, Body: api.Health{Status: "not_ready", Reasons: why}}, nil
		}
		return &healthAnswer{Status: http.StatusOK, Body: api.Health{Status: "ok"}}, nil
	})
	operation(s, spec{
		id: "version", method: http.MethodGet, path: "/v1/version", tag: "site", role: forge.RoleViewer,
		summary: "Say which forged this is", doc: "Version, commit and Go version.",
	}, func(context.Context, forge.Principal, *none) (api.Version, error) { return s.version(), nil })
	operation(s, spec{
		id: "whoami", method: http.MethodGet, path: "/v1/whoami", tag: "site", role: forge.RoleViewer,
		summary: "Say who is asking", doc: "How the daemon sees the key or the uid: tenant, user, role, highest priority.",
	}, func(ctx context.Context, p forge.Principal, _ *none) (api.WhoAmI, error) {
		return s.Site.WhoAmI(ctx, p)
	})
	operation(s, spec{
		id: "doctor", method: http.MethodGet, path: "/v1/doctor", tag: "site", role: forge.RoleOperator,
		summary: "Look at what commonly breaks", doc: "From the daemon's side: disks, clocks, Python environments, what waits too long. May take seconds.",
	}, func(ctx context.Context, p forge.Principal, _ *none) (api.List[api.Check], error) {
		items, err := s.Site.Doctor(ctx, p)
		return whole(items), err
	})
}
