package apitest

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// fakeHook is a hook with what was sent to it.
type fakeHook struct {
	forge.Hook
	removed    bool
	deliveries []forge.HookDelivery
}

func (f *Fake) mayHook(p forge.Principal, site bool) error {
	if site && p.Role != forge.RoleOperator {
		return forge.Errorf(forge.KindForbidden, "", "hooks of the site need the role %s; yours is %s", forge.RoleOperator, p.Role)
	}
	return nil
}

func (f *Fake) hookOf(p forge.Principal, n api.HookName) (*fakeHook, error) {
	if err := f.mayHook(p, n.Site); err != nil {
		return nil, err
	}
	for _, h := range f.herald {
		if !h.removed && h.Site == n.Site && (h.Site || h.Tenant == p.Tenant) && (h.Name == n.Hook || string(h.ID) == n.Hook) {
			return h, nil
		}
	}
	return nil, notFound("hook", n.Hook)
}

// CreateHook implements api.Hooks: the fake lets webhooks go to example.org.
func (f *Fake) CreateHook(_ context.Context, p forge.Principal, r api.CreateHookRequest) (api.CreatedHook, error) {
	leave, err := f.enter("CreateHook")
	if err != nil {
		return api.CreatedHook{}, err
	}
	defer leave()
	if err := f.mayHook(p, r.Site); err != nil {
		return api.CreatedHook{}, err
	}
	if err := forge.CheckName(r.Name); err != nil {
		return api.CreatedHook{}, forge.Invalidf("name", "%w", err)
	}
	if err := forge.CheckHookOn(r.On, r.Site); err != nil {
		return api.CreatedHook{}, err
	}
	if _, err := f.hookOf(p, api.HookName{Hook: r.Name, Site: r.Site}); err == nil {
		return api.CreatedHook{}, forge.Errorf(forge.KindConflict, "hook.create", "hook %q exists already", r.Name).WithHint("forgectl hook show %s", r.Name)
	}
	h := &fakeHook{Hook: forge.Hook{ID: forge.HookID(f.id("H")), Tenant: p.Tenant, Site: r.Site, Name: r.Name, On: r.On, Match: r.Match, Failures: r.Failures, CreatedAt: f.now, CreatedBy: p.Actor()}}
	out := api.CreatedHook{}
	switch {
	case r.URL != "":
		h.Kind, h.Target, out.Secret = forge.HookWebhook, r.URL, "forge_hook_"+string(h.ID)
	case r.Command != "":
		h.Kind, h.Target = forge.HookCommand, r.Command
	default:
		h.Kind, h.Target = forge.HookMail, r.Mail
	}
	if out.Secret != "" && r.URL != "https://example.org/forge" {
		return api.CreatedHook{}, forge.Invalidf("url", "webhooks to that host are not allowed here")
	}
	out.Hook = h.Hook
	f.herald = append(f.herald, h)
	f.remember(p, string(h.ID))
	return out, nil
}

// Hooks implements api.Hooks.
func (f *Fake) Hooks(_ context.Context, p forge.Principal, q api.HookListing) (api.List[forge.Hook], error) {
	leave, err := f.enter("Hooks")
	if err != nil {
		return api.List[forge.Hook]{}, err
	}
	defer leave()
	if err := f.mayHook(p, q.Site); err != nil {
		return api.List[forge.Hook]{}, err
	}
	var seen []forge.Hook
	for _, h := range f.herald {
		if !h.removed && h.Site == q.Site && (h.Site || h.Tenant == p.Tenant) {
			seen = append(seen, h.Hook)
		}
	}
	return pageOf(seen, func(h forge.Hook) string { return h.Name }, q.Limit, q.Cursor, bound(p, "hooks"))
}

// HookNamed implements api.Hooks.
func (f *Fake) HookNamed(_ context.Context, p forge.Principal, n api.HookName) (forge.Hook, error) {
	return f.withHook("HookNamed", p, n, func(*fakeHook) {})
}

// RemovedHook implements api.Hooks.
func (f *Fake) RemovedHook(_ context.Context, p forge.Principal, id string) (forge.Hook, error) {
	leave, err := f.enter("RemovedHook")
	if err != nil {
		return forge.Hook{}, err
	}
	defer leave()
	for _, h := range f.herald {
		if string(h.ID) == id && (h.Tenant == p.Tenant || h.Site && p.Role == forge.RoleOperator) {
			return h.Hook, nil
		}
	}
	return forge.Hook{}, notFound("hook", id)
}

func (f *Fake) withHook(method string, p forge.Principal, n api.HookName, do func(*fakeHook)) (forge.Hook, error) {
	leave, err := f.enter(method)
	if err != nil {
		return forge.Hook{}, err
	}
	defer leave()
	h, err := f.hookOf(p, n)
	if err != nil {
		return forge.Hook{}, err
	}
	do(h)
	f.remember(p, string(h.ID))
	return h.Hook, nil
}

// RemoveHook implements api.Hooks.
func (f *Fake) RemoveHook(_ context.Context, p forge.Principal, n api.HookName) (forge.Hook, error) {
	return f.withHook("RemoveHook", p, n, func(h *fakeHook) { h.removed = true })
}

// PauseHook implements api.Hooks.
func (f *Fake) PauseHook(_ context.Context, p forge.Principal, n api.HookName) (forge.Hook, error) {
	return f.withHook("PauseHook", p, n, func(h *fakeHook) { h.PausedAt = &f.now })
}

// ResumeHook implements api.Hooks.
func (f *Fake) ResumeHook(_ context.Context, p forge.Principal, n api.HookName) (forge.Hook, error) {
	return f.withHook("ResumeHook", p, n, func(h *fakeHook) { h.PausedAt = nil })
}

// TestHook implements api.Hooks: everything is taken.
func (f *Fake) TestHook(_ context.Context, p forge.Principal, n api.HookName) (forge.HookDelivery, error) {
	var d forge.HookDelivery
	_, err := f.withHook("TestHook", p, n, func(h *fakeHook) {
		d = forge.HookDelivery{ID: f.id("D"), Type: forge.EventHookTest, State: forge.DeliveryDone, Tries: 1, MadeAt: f.now, TriedAt: &f.now, Status: 204, TookMS: 12}
		h.deliveries = append(h.deliveries, d)
	})
	if err == nil {
		f.mu.Lock()
		f.remember(p, d.ID)
		f.mu.Unlock()
	}
	return d, err
}

// HookDelivery implements api.Hooks.
func (f *Fake) HookDelivery(_ context.Context, p forge.Principal, id string) (forge.HookDelivery, error) {
	leave, err := f.enter("HookDelivery")
	if err != nil {
		return forge.HookDelivery{}, err
	}
	defer leave()
	for _, h := range f.herald {
		for _, d := range h.deliveries {
			if d.ID == id && (h.Tenant == p.Tenant || h.Site && p.Role == forge.RoleOperator) {
				return d, nil
			}
		}
	}
	return forge.HookDelivery{}, notFound("delivery", id)
}

// HookDeliveries implements api.Hooks.
func (f *Fake) HookDeliveries(_ context.Context, p forge.Principal, n api.HookName, q api.HookListing) (api.List[forge.HookDelivery], error) {
	leave, err := f.enter("HookDeliveries")
	if err != nil {
		return api.List[forge.HookDelivery]{}, err
	}
	defer leave()
	h, err := f.hookOf(p, n)
	if err != nil {
		return api.List[forge.HookDelivery]{}, err
	}
	var seen []forge.HookDelivery
	for i := len(h.deliveries) - 1; i >= 0; i-- {
		if d := h.deliveries[i]; q.State == "" || d.State == q.State {
			seen = append(seen, d)
		}
	}
	return pageOf(seen, func(d forge.HookDelivery) string { return d.ID }, q.Limit, q.Cursor, bound(p, "deliveries"))
}
