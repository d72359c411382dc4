package daemon

import (
	"context"
	"path"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

const hookFailWarn = 24 * time.Hour

// hooks implements api.Hooks.
type hooks struct{ d *Daemon }

// CreateHook holds what is asked for against the site's configuration, which is asked again at every delivery.
func (s hooks) CreateHook(ctx context.Context, p forge.Principal, r api.CreateHookRequest) (api.CreatedHook, error) {
	const op = "hook.create"
	role := forge.RoleAdmin
	if r.Site {
		role = forge.RoleOperator
	}
	if err := least(p, op, role, "adding this hook"); err != nil {
		return api.CreatedHook{}, err
	}
	h := forge.Hook{Site: r.Site, Name: r.Name, On: r.On, Match: r.Match, Failures: r.Failures}
	if err := checkText("match", r.Match, 128); err != nil {
		return api.CreatedHook{}, err
	}
	if _, err := path.Match(r.Match, ""); err != nil {
		return api.CreatedHook{}, forge.Invalidf("match", "%.80q is no pattern; want a name with * for any part", r.Match)
	}
	if err := s.target(ctx, p, r, &h); err != nil {
		return api.CreatedHook{}, err
	}
	made, again, err := s.d.db.For(p).CreateHook(ctx, h)
	if err != nil {
		return api.CreatedHook{}, err
	}
	s.d.herald.changed()
	out := api.CreatedHook{Hook: made}
	if made.Kind == forge.HookWebhook && !again {
		out.Secret = s.d.herald.signer.secret(made.ID)
	}
	return out, nil
}

// target finds the one way in which the hook is told, and whether it may be.
func (s hooks) target(ctx context.Context, p forge.Principal, r api.CreateHookRequest, h *forge.Hook) error {
	cfg := s.d.live().cfg.Hooks
	given := 0
	for kind, v := range map[forge.HookKind]string{forge.HookWebhook: r.URL, forge.HookCommand: r.Command, forge.HookMail: r.Mail} {
		if v != "" {
			h.Kind, h.Target = kind, v
			given++
		}
	}
	if given != 1 {
		return forge.Invalidf("url", "want exactly one of url, command and mail")
	}
	switch h.Kind {
	case forge.HookWebhook:
		if len(r.URL) > maxHookAddress || strings.ContainsFunc(r.URL, func(c rune) bool { return c <= ' ' || c > '~' }) {
			return forge.Invalidf("url", "want at most %d printable ASCII characters", maxHookAddress)
		}
		_, err := cfg.parseHookURL(r.URL)
		return err
	case forge.HookMail:
		return cfg.checkMail(r.Mail)
	}
	tenant, err := s.d.db.For(p).Tenant(ctx, string(p.Tenant))
	if err != nil {
		return err
	}
	_, err = cfg.checkCommand(r.Command, tenant.Name, r.Site)
	return err
}

func (s hooks) Hooks(ctx context.Context, p forge.Principal, q api.HookListing) (api.List[forge.Hook], error) {
	items, next, err := s.d.db.For(p).Hooks(ctx, store.Listing(q.Listing), q.Site)
	return api.List[forge.Hook]{Items: items, Next: next}, err
}

func (s hooks) HookNamed(ctx context.Context, p forge.Principal, h api.HookName) (forge.Hook, error) {
	return s.d.db.For(p).Hook(ctx, h.Hook, h.Site)
}

func (s hooks) RemovedHook(ctx context.Context, p forge.Principal, id string) (forge.Hook, error) {
	return s.d.db.For(p).RemovedHook(ctx, id)
}

func (s hooks) RemoveHook(ctx context.Context, p forge.Principal, h api.HookName) (forge.Hook, error) {
	return s.change(s.d.db.For(p).RemoveHook(ctx, h.Hook, h.Site))
}

func (s hooks) PauseHook(ctx context.Context, p forge.Principal, h api.HookName) (forge.Hook, error) {
	return s.change(s.d.db.For(p).PauseHook(ctx, h.Hook, h.Site))
}

func (s hooks) ResumeHook(ctx context.Context, p forge.Principal, h api.HookName) (forge.Hook, error) {
	return s.change(s.d.db.For(p).ResumeHook(ctx, h.Hook, h.Site))
}

func (s hooks) change(h forge.Hook, err error) (forge.Hook, error) {
	if err == nil {
		s.d.herald.changed()
	}
	return h, err
}

// TestHook sends at once and beside what waits, also for a hook that is paused.
func (s hooks) TestHook(ctx context.Context, p forge.Principal, name api.HookName) (forge.HookDelivery, error) {
	t := s.d.db.For(p)
	h, err := t.Hook(ctx, name.Hook, name.Site)
	if err != nil {
		return forge.HookDelivery{}, err
	}
	e := errand{hook: h, event: forge.Event{Time: time.Now().UTC(), Actor: p.Actor(), Type: forge.EventHookTest, Message: "a test of hook " + h.Name + " by " + p.Actor()}}
	if !h.Site {
		tenant, err := t.Tenant(ctx, string(p.Tenant))
		if err != nil {
			return forge.HookDelivery{}, err
		}
		e.tenant = tenant.Name
	}
	if e.id, err = s.d.db.NewDeliveryID(ctx); err != nil {
		return forge.HookDelivery{}, err
	}
	began := time.Now()
	o := s.d.herald.send(ctx, e)
	s.d.meter.hooks.WithLabelValues("test").Inc()
	return t.HookTested(ctx, string(h.ID), name.Site, e.id, store.Tried{At: began, Took: time.Since(began), Status: o.status, Error: o.fault, Output: o.output})
}

func (s hooks) HookDelivery(ctx context.Context, p forge.Principal, id string) (forge.HookDelivery, error) {
	return s.d.db.For(p).HookDelivery(ctx, id)
}

func (s hooks) HookDeliveries(ctx context.Context, p forge.Principal, h api.HookName, q api.HookListing) (api.List[forge.HookDelivery], error) {
	items, next, err := s.d.db.For(p).HookDeliveries(ctx, h.Hook, h.Site, store.Listing(q.Listing), q.State)
	return api.List[forge.HookDelivery]{Items: items, Next: next}, err
}

// hookTrouble finds hooks of which nothing was taken for a day. Tenants' are counted and not named.
func (d *Daemon) hookTrouble(ctx context.Context, now time.Time) finding {
	all, err := d.db.FailingHooks(ctx, now.Add(-hookFailWarn))
	if err != nil {
		return notKnown(err)
	}
	var sites []string
	for _, h := range all {
		if h.Site {
			sites = append(sites, h.Name)
		}
	}
	f := fine("%d hooks have failed for longer than %s", len(all), forge.Duration(hookFailWarn))
	if len(all) == 0 {
		return f
	}
	if len(sites) > 0 {
		f.found += "; of the site: " + strings.Join(sites[:min(len(sites), maxNamed)], ", ")
	}
	return f.but(api.CheckWarn, "forgectl hook list --site, and forgectl --tenant NAME hook list for each tenant, say what is wrong; forgectl hook test NAME tries at once")
}
