package daemon

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// errComing stands where the frozen interface is ahead of the code.
func errComing(op string) error {
	return forge.Errorf(forge.KindUnavailable, op, "%s is not built yet", op)
}

// AuthenticatePeer implements api.Auth.
func (d *Daemon) AuthenticatePeer(context.Context, uint32) (forge.Principal, error) {
	return forge.Principal{}, errComing("peer")
}

// ActIn implements api.Auth.
func (d *Daemon) ActIn(context.Context, forge.Principal, string) (forge.Principal, error) {
	return forge.Principal{}, errComing("act_in")
}

// Earlier implements api.Once.
func (d *Daemon) Earlier(context.Context, forge.Principal) (string, error) {
	return "", errComing("once")
}

type tenants struct{ d *Daemon }

func (s tenants) CreateTenant(context.Context, forge.Principal, api.CreateTenantRequest) (forge.Tenant, error) {
	return forge.Tenant{}, errComing("tenant.create")
}

func (s tenants) Tenants(context.Context, forge.Principal, api.Listing) (api.List[forge.Tenant], error) {
	return api.List[forge.Tenant]{}, errComing("tenant.list")
}

func (s tenants) Tenant(context.Context, forge.Principal, string) (forge.Tenant, error) {
	return forge.Tenant{}, errComing("tenant.show")
}

type users struct{ d *Daemon }

func (s users) CreateUser(context.Context, forge.Principal, api.CreateUserRequest) (forge.User, error) {
	return forge.User{}, errComing("user.create")
}

func (s users) Users(context.Context, forge.Principal, api.Listing) (api.List[forge.User], error) {
	return api.List[forge.User]{}, errComing("user.list")
}

func (s users) User(context.Context, forge.Principal, string) (forge.User, error) {
	return forge.User{}, errComing("user.show")
}

func (s users) UpdateUser(context.Context, forge.Principal, string, api.UpdateUserRequest) (forge.User, error) {
	return forge.User{}, errComing("user.update")
}

func (s users) DisableUser(context.Context, forge.Principal, string, forge.Why) (forge.User, error) {
	return forge.User{}, errComing("user.disable")
}

func (s users) EnableUser(context.Context, forge.Principal, string) (forge.User, error) {
	return forge.User{}, errComing("user.enable")
}

// WhoAmI implements api.Site.
func (s site) WhoAmI(context.Context, forge.Principal) (api.WhoAmI, error) {
	return api.WhoAmI{}, errComing("whoami")
}

// Doctor implements api.Site.
func (s site) Doctor(ctx context.Context, _ forge.Principal) ([]api.Check, error) {
	return s.d.checks(ctx), nil
}
