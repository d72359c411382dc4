package daemon

import (
	"context"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

// Authenticate implements api.Auth.
func (d *Daemon) Authenticate(ctx context.Context, secret string) (forge.Principal, error) {
	return d.db.Authenticate(ctx, secret)
}

// AuthenticatePeer implements api.Auth.
func (d *Daemon) AuthenticatePeer(ctx context.Context, uid uint32) (forge.Principal, error) {
	return d.db.AuthenticatePeer(ctx, uid)
}

// ActIn implements api.Auth. Whether there is such a tenant is no reason for a refusal.
func (d *Daemon) ActIn(ctx context.Context, p forge.Principal, tenant string) (forge.Principal, error) {
	const op = "tenant.act_in"
	if p.Role != forge.RoleOperator {
		return forge.Principal{}, forge.Errorf(forge.KindForbidden, op, "only an operator may name a tenant in %s", api.HeaderTenant).
			WithHint("leave it out: your requests act in your own tenant")
	}
	t, err := d.db.For(p).Tenant(ctx, tenant)
	if err != nil {
		return forge.Principal{}, err
	}
	if p.Home == "" {
		p.Home = p.Tenant
	}
	p.Tenant = t.ID
	return p, nil
}

// Earlier implements api.Once.
func (d *Daemon) Earlier(ctx context.Context, p forge.Principal) (string, error) {
	return d.db.For(p).Earlier(ctx)
}

// tenants implements api.Tenants.
type tenants struct{ d *Daemon }

func (s tenants) CreateTenant(ctx context.Context, p forge.Principal, r api.CreateTenantRequest) (forge.Tenant, error) {
	if err := least(p, "tenant.create", forge.RoleOperator, "making a tenant"); err != nil {
		return forge.Tenant{}, err
	}
	return s.d.db.For(p).CreateTenant(ctx, r.Name)
}

func (s tenants) Tenants(ctx context.Context, p forge.Principal, l api.Listing) (api.List[forge.Tenant], error) {
	items, next, err := s.d.db.For(p).Tenants(ctx, store.Listing(l))
	if err == nil && len(items) > 0 {
		uses := s.d.world.uses(time.Now())
		for i := range items {
			items[i].Use = uses[items[i].ID]
		}
	}
	return api.List[forge.Tenant]{Items: items, Next: next}, err
}

func (s tenants) Tenant(ctx context.Context, p forge.Principal, tenant string) (forge.Tenant, error) {
	t, err := s.d.db.For(p).Tenant(ctx, tenant)
	if err == nil {
		t.Use = s.d.world.uses(time.Now())[t.ID]
	}
	return t, err
}

func (s tenants) UpdateTenant(ctx context.Context, p forge.Principal, tenant string, r api.UpdateTenantRequest) (forge.Tenant, error) {
	if err := least(p, "tenant.update", forge.RoleOperator, "changing a tenant"); err != nil {
		return forge.Tenant{}, err
	}
	var err error
	if r.LicenseAllow, err = tenantLists("license_allow", r.LicenseAllow); err != nil {
		return forge.Tenant{}, err
	}
	if r.LicenseDeny, err = tenantLists("license_deny", r.LicenseDeny); err != nil {
		return forge.Tenant{}, err
	}
	if r.Budget != nil && *r.Budget > 0 {
		if unpriced := s.d.unpriced(); len(unpriced) > 0 {
			e := forge.Errorf(forge.KindPrecondition, "tenant.update", "a budget in money counts only what has a price, and nobody has said that of %s", strings.Join(unpriced, ", ")).
				WithHint("set clusters[].prices in the configuration (docs/cost.md), or bound GPU-hours: forgectl tenant edit %s --budget-gpu-hours N", tenant)
			e.Field = "budget"
			return forge.Tenant{}, e
		}
	}
	t, err := s.d.db.For(p).UpdateTenant(ctx, tenant, store.TenantChange(r))
	if err == nil {
		t.Use = s.d.world.uses(time.Now())[t.ID]
	}
	return t, err
}

// WhoAmI implements api.Site.
func (s site) WhoAmI(ctx context.Context, p forge.Principal) (api.WhoAmI, error) {
	out := api.WhoAmI{User: p.User, Role: p.Role, Via: p.Via, MaxPriority: s.d.maxPriority(p)}
	t := s.d.db.For(p)
	var err error
	if out.Tenant, err = t.Tenant(ctx, string(p.Tenant)); err != nil {
		return out, err
	}
	if p.Home != p.Tenant {
		home, err := t.Tenant(ctx, string(p.Home))
		if err != nil {
			return out, err
		}
		out.Home = home.Name
	}
	out.Key, err = t.OwnKey(ctx)
	return out, err
}

// Doctor implements api.Site.
func (s site) Doctor(ctx context.Context, _ forge.Principal) ([]api.Check, error) {
	return s.d.checks(ctx), nil
}
