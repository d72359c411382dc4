package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func (s *server) tenants() {
	acting(s, spec{
		id: "create-tenant", method: http.MethodPost, path: "/v1/tenants", tag: "tenants", role: forge.RoleOperator, created: true,
		summary: "Make a tenant", doc: "For operators. It has no users yet: make its first with X-Tenant-ID naming it.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindConflict},
	}, func(ctx context.Context, p forge.Principal, in *struct{ Body api.CreateTenantRequest }) (forge.Tenant, error) {
		return s.Tenants.CreateTenant(ctx, p, in.Body)
	}, s.Tenants.Tenant)
	operation(s, spec{
		id: "list-tenants", method: http.MethodGet, path: "/v1/tenants", tag: "tenants", role: forge.RoleViewer,
		summary: "List tenants", doc: "All of them to operators; to everyone else the own one.",
		errors: []forge.Kind{forge.KindInvalid},
	}, func(ctx context.Context, p forge.Principal, in *NamedInput) (api.List[forge.Tenant], error) {
		l, err := s.Tenants.Tenants(ctx, p, in.listing())
		return filled(l), err
	})
	operation(s, spec{
		id: "get-tenant", method: http.MethodGet, path: "/v1/tenants/{tenant}", tag: "tenants", role: forge.RoleViewer,
		summary: "Show a tenant", doc: "By id or name.",
		errors: []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		Tenant string `path:"tenant" maxLength:"64" doc:"Tenant id or name"`
	}) (forge.Tenant, error) {
		return s.Tenants.Tenant(ctx, p, in.Tenant)
	})
	operation(s, spec{
		id: "update-tenant", method: http.MethodPatch, path: "/v1/tenants/{tenant}", tag: "tenants", role: forge.RoleOperator,
		summary: "Change a tenant's share and quotas", doc: "For operators. What is not given stays. The next plan goes by it; nothing that runs is stopped for a bound.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		Tenant string `path:"tenant" maxLength:"64" doc:"Tenant id or name"`
		Body   api.UpdateTenantRequest
	}) (forge.Tenant, error) {
		return s.Tenants.UpdateTenant(ctx, p, in.Tenant, in.Body)
	})
}
