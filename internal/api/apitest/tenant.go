package apitest

import (
	"context"
	"fmt"
	"slices"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// AddTenant makes a tenant; T1 (default) and T2 (other) are there from the start.
func (f *Fake) AddTenant(t forge.Tenant) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tenants = append(f.tenants, t)
}

// AddUser makes a user.
func (f *Fake) AddUser(u forge.User) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users = append(f.users, u)
}

// AuthenticatePeer implements api.Auth: by the uid of a user.
func (f *Fake) AuthenticatePeer(_ context.Context, uid uint32) (forge.Principal, error) {
	leave, err := f.enter("AuthenticatePeer")
	if err != nil {
		return forge.Principal{}, err
	}
	defer leave()
	for _, u := range f.users {
		if u.UnixUID != nil && *u.UnixUID == int64(uid) && u.DisabledAt == nil {
			return forge.Principal{Tenant: u.Tenant, Home: u.Tenant, User: u.Name, UserID: u.ID, Role: u.Role, Via: forge.ViaSocket}, nil
		}
	}
	return forge.Principal{}, forge.Errorf(forge.KindUnauthorized, "", "unknown uid")
}

// ActIn implements api.Auth.
func (f *Fake) ActIn(_ context.Context, p forge.Principal, tenant string) (forge.Principal, error) {
	leave, err := f.enter("ActIn")
	if err != nil {
		return forge.Principal{}, err
	}
	defer leave()
	if p.Role != forge.RoleOperator {
		return forge.Principal{}, forge.Errorf(forge.KindForbidden, "", "only an operator may name a tenant")
	}
	t, err := f.tenant(tenant)
	if err != nil {
		return forge.Principal{}, err
	}
	p.Tenant = t.ID
	return p, nil
}

// Earlier implements api.Once: what was remembered by Remember.
func (f *Fake) Earlier(_ context.Context, p forge.Principal) (string, error) {
	leave, err := f.enter("Earlier")
	if err != nil {
		return "", err
	}
	defer leave()
	got, ok := f.done[onceKey{p.Tenant, p.UserID, p.Once.Op, p.Once.Key}]
	if ok && got.digest != p.Once.Digest {
		return "", forge.Errorf(forge.KindConflict, "", "the Idempotency-Key %q was used for another request", p.Once.Key)
	}
	return got.ref, nil
}

type onceKey struct {
	tenant  forge.TenantID
	user    forge.UserID
	op, key string
}

type onceDone struct{ digest, ref string }

// remember notes what a request made, as the store does in its transaction.
func (f *Fake) remember(p forge.Principal, ref string) {
	if p.Once.Key != "" {
		f.done[onceKey{p.Tenant, p.UserID, p.Once.Op, p.Once.Key}] = onceDone{p.Once.Digest, ref}
	}
}

func (f *Fake) tenant(name string) (forge.Tenant, error) {
	for _, t := range f.tenants {
		if t.Name == name || string(t.ID) == name {
			return t, nil
		}
	}
	return forge.Tenant{}, notFound("tenant", name)
}

// CreateTenant implements api.Tenants.
func (f *Fake) CreateTenant(_ context.Context, p forge.Principal, r api.CreateTenantRequest) (forge.Tenant, error) {
	leave, err := f.enter("CreateTenant")
	if err != nil {
		return forge.Tenant{}, err
	}
	defer leave()
	if err := least(p, "tenant.create", forge.RoleOperator); err != nil {
		return forge.Tenant{}, err
	}
	if err := forge.CheckName(r.Name); err != nil {
		return forge.Tenant{}, forge.Invalidf("name", "%w", err)
	}
	if _, err := f.tenant(r.Name); err == nil {
		return forge.Tenant{}, forge.Errorf(forge.KindConflict, "", "tenant %q exists already", r.Name)
	}
	t := forge.Tenant{ID: forge.TenantID(f.id("T")), Name: r.Name, CreatedAt: f.now, Weight: 1}
	f.tenants = append(f.tenants, t)
	f.remember(p, string(t.ID))
	return t, nil
}

// Tenants implements api.Tenants.
func (f *Fake) Tenants(_ context.Context, p forge.Principal, l api.Listing) (api.List[forge.Tenant], error) {
	leave, err := f.enter("Tenants")
	if err != nil {
		return api.List[forge.Tenant]{}, err
	}
	defer leave()
	return paged(p, "tenants", f.tenants, l, func(t forge.Tenant) (thing, bool) {
		return thing{string(t.ID), t.Name, t.CreatedAt}, p.Role == forge.RoleOperator || t.ID == p.Tenant
	})
}

// Tenant implements api.Tenants.
func (f *Fake) Tenant(_ context.Context, p forge.Principal, tenant string) (forge.Tenant, error) {
	leave, err := f.enter("Tenant")
	if err != nil {
		return forge.Tenant{}, err
	}
	defer leave()
	t, err := f.tenant(tenant)
	if err == nil && p.Role != forge.RoleOperator && t.ID != p.Tenant {
		return forge.Tenant{}, notFound("tenant", tenant)
	}
	return t, err
}

func (f *Fake) user(p forge.Principal, name string) (*forge.User, error) {
	i := slices.IndexFunc(f.users, func(u forge.User) bool {
		return u.Tenant == p.Tenant && (u.Name == name || string(u.ID) == name) && (p.Role.Includes(forge.RoleAdmin) || u.ID == p.UserID)
	})
	if i < 0 {
		return nil, notFound("user", name)
	}
	return &f.users[i], nil
}

// CreateUser implements api.Users.
func (f *Fake) CreateUser(_ context.Context, p forge.Principal, r api.CreateUserRequest) (forge.User, error) {
	leave, err := f.enter("CreateUser")
	if err != nil {
		return forge.User{}, err
	}
	defer leave()
	if err := least(p, "user.create", forge.RoleAdmin); err != nil {
		return forge.User{}, err
	}
	if err := mayGive(p, r.Role); err != nil {
		return forge.User{}, err
	}
	if err := f.freeUID("", r.UnixUID); err != nil {
		return forge.User{}, err
	}
	if err := forge.CheckName(r.Name); err != nil {
		return forge.User{}, forge.Invalidf("name", "%w", err)
	}
	if _, err := f.user(p, r.Name); err == nil {
		return forge.User{}, forge.Errorf(forge.KindConflict, "", "user %q exists already", r.Name)
	}
	if r.Role == "" {
		r.Role = forge.RoleMember
	}
	u := forge.User{ID: forge.UserID(f.id("U")), Tenant: p.Tenant, Name: r.Name, Role: r.Role, MaxPriority: r.MaxPriority, UnixUID: r.UnixUID, CreatedAt: f.now}
	f.users = append(f.users, u)
	f.remember(p, string(u.ID))
	return u, nil
}

// Users implements api.Users.
func (f *Fake) Users(_ context.Context, p forge.Principal, l api.Listing) (api.List[forge.User], error) {
	leave, err := f.enter("Users")
	if err != nil {
		return api.List[forge.User]{}, err
	}
	defer leave()
	return paged(p, "users", f.users, l, func(u forge.User) (thing, bool) {
		return thing{string(u.ID), u.Name, u.CreatedAt}, u.Tenant == p.Tenant && (p.Role.Includes(forge.RoleAdmin) || u.ID == p.UserID)
	})
}

// User implements api.Users.
func (f *Fake) User(_ context.Context, p forge.Principal, user string) (forge.User, error) {
	leave, err := f.enter("User")
	if err != nil {
		return forge.User{}, err
	}
	defer leave()
	u, err := f.user(p, user)
	if err != nil {
		return forge.User{}, err
	}
	return *u, nil
}

// freeUID holds that a uid is one user of the whole site, and does not say whose.
func (f *Fake) freeUID(but forge.UserID, uid *int64) error {
	for _, u := range f.users {
		if uid != nil && u.UnixUID != nil && *u.UnixUID == *uid && u.ID != but {
			return &forge.Error{Kind: forge.KindConflict, Field: "unix_uid", Err: fmt.Errorf("uid %d is another user's already", *uid)}
		}
	}
	return nil
}

// someoneRuns holds that an enabled operator is left.
func (f *Fake) someoneRuns() error {
	for _, u := range f.users {
		if u.Role == forge.RoleOperator && u.DisabledAt == nil {
			return nil
		}
	}
	return forge.Errorf(forge.KindPrecondition, "user.update", "nobody would be left to run the site").
		WithHint("make another one first: forgectl user create NAME --role operator; forgectl key create NAME")
}

func (f *Fake) changeUser(p forge.Principal, method, user string, change func(*forge.User) error) (forge.User, error) {
	leave, err := f.enter(method)
	if err != nil {
		return forge.User{}, err
	}
	defer leave()
	if err := least(p, "user.update", forge.RoleAdmin); err != nil {
		return forge.User{}, err
	}
	u, err := f.user(p, user)
	if err != nil {
		return forge.User{}, err
	}
	if !p.Role.Includes(u.Role) {
		return forge.User{}, forge.Errorf(forge.KindForbidden, "user.update", "user %s is %s; only somebody of that role may do this", u.Name, u.Role)
	}
	before := *u
	if err = change(u); err == nil && before.Role == forge.RoleOperator {
		err = f.someoneRuns()
	}
	if err != nil {
		*u = before
		return forge.User{}, err
	}
	f.remember(p, string(u.ID))
	return *u, nil
}

// UpdateUser implements api.Users.
func (f *Fake) UpdateUser(_ context.Context, p forge.Principal, user string, r api.UpdateUserRequest) (forge.User, error) {
	return f.changeUser(p, "UpdateUser", user, func(u *forge.User) error {
		if r.Role != nil {
			if err := mayGive(p, *r.Role); err != nil {
				return err
			}
			u.Role = *r.Role
		}
		if r.MaxPriority != nil {
			u.MaxPriority = unlessUnset(r.MaxPriority)
		}
		if r.UnixUID != nil {
			u.UnixUID = unlessUnset(r.UnixUID)
		}
		for v, to := range map[*int]*int{&u.Quota.MaxGPUs: r.MaxGPUs, &u.Quota.MaxRunning: r.MaxRunning, &u.Quota.MaxQueued: r.MaxQueued} {
			if to != nil {
				*v = *to
			}
		}
		return f.freeUID(u.ID, u.UnixUID)
	})
}

// UpdateTenant implements api.Tenants.
func (f *Fake) UpdateTenant(_ context.Context, p forge.Principal, tenant string, r api.UpdateTenantRequest) (forge.Tenant, error) {
	leave, err := f.enter("UpdateTenant")
	if err != nil {
		return forge.Tenant{}, err
	}
	defer leave()
	if err := least(p, "tenant.update", forge.RoleOperator); err != nil {
		return forge.Tenant{}, err
	}
	for i := range f.tenants {
		t := f.tenants[i]
		if t.Name != tenant && string(t.ID) != tenant {
			continue
		}
		if r.Weight != nil {
			t.Weight = *r.Weight
		}
		q := &t.Quota
		for v, to := range map[*int]*int{&q.GPUs: r.GPUs, &q.MaxGPUs: r.MaxGPUs, &q.MaxRunning: r.MaxRunning, &q.MaxQueued: r.MaxQueued, &q.EvalGPUs: r.EvalGPUs} {
			if to != nil {
				*v = *to
			}
		}
		if q.MaxGPUs > 0 && q.GPUs > q.MaxGPUs {
			return forge.Tenant{}, forge.Invalidf("gpus", "%d guaranteed is more than the %d that it may ever have (max_gpus); want at most that", q.GPUs, q.MaxGPUs)
		}
		for v, to := range map[*[]string]*[]string{&t.LicenseAllow: r.LicenseAllow, &t.LicenseDeny: r.LicenseDeny} {
			if to != nil {
				if *v = *to; slices.Equal(*to, []string{forge.SiteLicenses}) {
					*v = nil
				}
			}
		}
		b := forge.Budget{Period: forge.BudgetMonth, Warn: forge.DefaultBudgetWarn}
		if t.Budget != nil {
			b = *t.Budget
		}
		for v, to := range map[*float64]*float64{&b.Money: r.Budget, &b.GPUHours: r.BudgetGPUHours, &b.Warn: r.BudgetWarn} {
			if to != nil {
				*v = *to
			}
		}
		if r.BudgetPeriod != nil {
			b.Period = *r.BudgetPeriod
		}
		if t.Budget = &b; b.None() {
			t.Budget = nil
		}
		f.tenants[i] = t
		return t, nil
	}
	return forge.Tenant{}, notFound("tenant", tenant)
}

func unlessUnset[T int | int64](v *T) *T {
	if *v == -1 {
		return nil
	}
	return v
}

// DisableUser implements api.Users.
func (f *Fake) DisableUser(_ context.Context, p forge.Principal, user string, _ forge.Why) (forge.User, error) {
	return f.changeUser(p, "DisableUser", user, func(u *forge.User) error { u.DisabledAt = &f.now; return nil })
}

// EnableUser implements api.Users.
func (f *Fake) EnableUser(_ context.Context, p forge.Principal, user string) (forge.User, error) {
	return f.changeUser(p, "EnableUser", user, func(u *forge.User) error { u.DisabledAt = nil; return nil })
}

// WhoAmI implements api.Site.
func (f *Fake) WhoAmI(_ context.Context, p forge.Principal) (api.WhoAmI, error) {
	leave, err := f.enter("WhoAmI")
	if err != nil {
		return api.WhoAmI{}, err
	}
	defer leave()
	out := api.WhoAmI{User: p.User, Role: p.Role, Via: p.Via, MaxPriority: maxPriority(p)}
	if out.Tenant, err = f.tenant(string(p.Tenant)); err != nil {
		return out, err
	}
	if p.Home != p.Tenant {
		home, err := f.tenant(string(p.Home))
		if err != nil {
			return out, err
		}
		out.Home = home.Name
	}
	if k := f.keyByID(p.Key); k != nil {
		shown := *k
		out.Key = &shown
	}
	return out, nil
}

// Doctor implements api.Site.
func (f *Fake) Doctor(context.Context, forge.Principal) ([]api.Check, error) {
	leave, err := f.enter("Doctor")
	if err != nil {
		return nil, err
	}
	defer leave()
	return []api.Check{{Name: "node_clocks", Status: api.CheckOK, Found: "0s, limit 2s"},
		{Name: "disk", Status: api.CheckWarn, Found: "/var/lib/forge has 3.0 GiB left, limit 5.0 GiB", Fix: "df -h /var/lib/forge"}}, nil
}
