package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// HookInput names a hook.
type HookInput struct {
	Hook string `path:"hook" maxLength:"64" doc:"Name or id"`
	SiteInput
}

// SiteInput says whose hooks are meant.
type SiteInput struct {
	Site bool `query:"site" doc:"The site's own instead of the tenant's: for operators"`
}

func (in HookInput) name() api.HookName { return api.HookName{Hook: in.Hook, Site: in.Site} }

type hooksInput struct {
	NamedInput
	SiteInput
}

type deliveriesInput struct {
	HookInput
	PageInput
	State forge.DeliveryState `query:"state" enum:"waiting,delivered,failed" doc:"Only those"`
}

func (s *server) hooks() {
	acting(s, spec{
		id: "create-hook", method: http.MethodPost, path: "/v1/hooks", tag: "hooks", role: forge.RoleAdmin, created: true,
		summary: "Add a hook",
		doc:     "It is told of what happens from now on. The secret of a webhook is in this answer and nowhere else afterwards.",
		errors:  []forge.Kind{forge.KindInvalid, forge.KindConflict, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct{ Body api.CreateHookRequest }) (api.CreatedHook, error) {
		return s.Hooks.CreateHook(ctx, p, in.Body)
	}, func(ctx context.Context, p forge.Principal, ref string) (api.CreatedHook, error) {
		h, err := s.Hooks.RemovedHook(ctx, p, ref)
		return api.CreatedHook{Hook: h}, err
	})
	operation(s, spec{
		id: "list-hooks", method: http.MethodGet, path: "/v1/hooks", tag: "hooks", role: forge.RoleAdmin,
		summary: "List hooks", doc: "By name, with how many deliveries wait and how they fare. Never a secret.",
		errors: []forge.Kind{forge.KindInvalid},
	}, func(ctx context.Context, p forge.Principal, in *hooksInput) (api.List[forge.Hook], error) {
		l, err := s.Hooks.Hooks(ctx, p, api.HookListing{Listing: in.listing(), Site: in.Site})
		return filled(l), err
	})
	operation(s, spec{
		id: "get-hook", method: http.MethodGet, path: "/v1/hooks/{hook}", tag: "hooks", role: forge.RoleAdmin,
		summary: "Show a hook", doc: "Never its secret.",
		errors: []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *HookInput) (forge.Hook, error) {
		return s.Hooks.HookNamed(ctx, p, in.name())
	})
	for _, act := range []struct {
		verb, summary, doc string
		do                 func(context.Context, forge.Principal, api.HookName) (forge.Hook, error)
	}{
		{"remove", "Remove a hook", "For good, with what was on its way to it.", s.Hooks.RemoveHook},
		{"pause", "Pause a hook", "What comes for it waits. Twice is as good as once.", s.Hooks.PauseHook},
		{"resume", "Let a paused hook go on", "With what has happened meanwhile, as far as it is no older than a day. Twice is as good as once.", s.Hooks.ResumeHook},
	} {
		acting(s, spec{
			id: act.verb + "-hook", method: http.MethodPost, path: "/v1/hooks/{hook}/" + act.verb, tag: "hooks", role: forge.RoleAdmin,
			summary: act.summary, doc: act.doc, errors: []forge.Kind{forge.KindNotFound},
		}, func(ctx context.Context, p forge.Principal, in *HookInput) (forge.Hook, error) {
			return act.do(ctx, p, in.name())
		}, s.Hooks.RemovedHook)
	}
	acting(s, spec{
		id: "test-hook", method: http.MethodPost, path: "/v1/hooks/{hook}/test", tag: "hooks", role: forge.RoleAdmin,
		summary: "Test a hook", doc: "Sends one event of the type hook.test at once, beside what waits, and says how it went: a failure is an answer and no error. Times taken are in milliseconds.",
		errors: []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *HookInput) (forge.HookDelivery, error) {
		return s.Hooks.TestHook(ctx, p, in.name())
	}, s.Hooks.HookDelivery)
	operation(s, spec{
		id: "list-hook-deliveries", method: http.MethodGet, path: "/v1/hooks/{hook}/deliveries", tag: "hooks", role: forge.RoleAdmin,
		summary: "List the deliveries of a hook", doc: "What was sent to it and what waits, newest first; what has ended is kept for 7 days. Times taken are in milliseconds.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *deliveriesInput) (api.List[forge.HookDelivery], error) {
		l, err := s.Hooks.HookDeliveries(ctx, p, in.name(), api.HookListing{Listing: api.Listing{Limit: in.Limit, Cursor: in.Cursor}, State: in.State})
		return filled(l), err
	})
}
