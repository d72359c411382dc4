package daemon

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

// users implements api.Users.
type users struct{ d *Daemon }

func (s users) CreateUser(ctx context.Context, p forge.Principal, r api.CreateUserRequest) (forge.User, error) {
	const op = "user.create"
	if err := least(p, op, forge.RoleAdmin, "making a user"); err != nil {
		return forge.User{}, err
	}
	if err := mayGive(p, op, r.Role); err != nil {
		return forge.User{}, err
	}
	return s.d.db.For(p).CreateUser(ctx, forge.User{Name: r.Name, Role: r.Role, MaxPriority: r.MaxPriority, UnixUID: r.UnixUID})
}

func (s users) Users(ctx context.Context, p forge.Principal, l api.Listing) (api.List[forge.User], error) {
	items, next, err := s.d.db.For(p).Users(ctx, store.Listing(l))
	return api.List[forge.User]{Items: items, Next: next}, err
}

func (s users) User(ctx context.Context, p forge.Principal, user string) (forge.User, error) {
	return s.d.db.For(p).User(ctx, user)
}

func (s users) UpdateUser(ctx context.Context, p forge.Principal, user string, r api.UpdateUserRequest) (forge.User, error) {
	const op = "user.update"
	if err := least(p, op, forge.RoleAdmin, "changing a user"); err != nil {
		return forge.User{}, err
	}
	if r.Role != nil {
		if *r.Role == "" {
			return forge.User{}, forge.Invalidf("role", "is empty; want one of %v", forge.Roles)
		}
		if err := mayGive(p, op, *r.Role); err != nil {
			return forge.User{}, err
		}
	}
	return s.d.db.For(p).UpdateUser(ctx, user, store.UserChange{Role: r.Role, MaxPriority: r.MaxPriority, UnixUID: r.UnixUID,
		MaxGPUs: r.MaxGPUs, MaxRunning: r.MaxRunning, MaxQueued: r.MaxQueued})
}

func (s users) DisableUser(ctx context.Context, p forge.Principal, user string, why forge.Why) (forge.User, error) {
	if err := least(p, "user.disable", forge.RoleAdmin, "disabling a user"); err != nil {
		return forge.User{}, err
	}
	return s.d.db.For(p).DisableUser(ctx, user, why)
}

func (s users) EnableUser(ctx context.Context, p forge.Principal, user string) (forge.User, error) {
	if err := least(p, "user.enable", forge.RoleAdmin, "enabling a user"); err != nil {
		return forge.User{}, err
	}
	return s.d.db.For(p).EnableUser(ctx, user)
}
