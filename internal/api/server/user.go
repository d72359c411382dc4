package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// UserInput names a user.
type UserInput struct {
	User string `path:"user" maxLength:"64" doc:"User id or name"`
}

func (s *server) users() {
	acting(s, spec{
		id: "create-user", method: http.MethodPost, path: "/v1/users", tag: "users", role: forge.RoleAdmin, created: true,
		summary: "Make a user", doc: "In the tenant where one acts. Nobody gives a role above their own.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindConflict},
	}, func(ctx context.Context, p forge.Principal, in *struct{ Body api.CreateUserRequest }) (forge.User, error) {
		return s.Users.CreateUser(ctx, p, in.Body)
	}, s.Users.User)
	operation(s, spec{
		id: "list-users", method: http.MethodGet, path: "/v1/users", tag: "users", role: forge.RoleViewer,
		summary: "List users", doc: "Of the tenant to admins; to everyone else themselves.",
		errors: []forge.Kind{forge.KindInvalid},
	}, func(ctx context.Context, p forge.Principal, in *NamedInput) (api.List[forge.User], error) {
		l, err := s.Users.Users(ctx, p, in.listing())
		return filled(l), err
	})
	operation(s, spec{
		id: "get-user", method: http.MethodGet, path: "/v1/users/{user}", tag: "users", role: forge.RoleViewer,
		summary: "Show a user", doc: "By id or name; oneself, or anyone of the tenant to admins.",
		errors: []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *UserInput) (forge.User, error) {
		return s.Users.User(ctx, p, in.User)
	})
	operation(s, spec{
		id: "update-user", method: http.MethodPatch, path: "/v1/users/{user}", tag: "users", role: forge.RoleAdmin,
		summary: "Change a user", doc: "What is not given stays. Keys above a lowered role act with the lowered role from the next request on.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindConflict, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		UserInput
		Body api.UpdateUserRequest
	}) (forge.User, error) {
		return s.Users.UpdateUser(ctx, p, in.User, in.Body)
	})
	acting(s, spec{
		id: "disable-user", method: http.MethodPost, path: "/v1/users/{user}/disable", tag: "users", role: forge.RoleAdmin,
		summary: "Disable a user", doc: "None of its keys works any more, nor its uid; its runs go on.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		UserInput
		Body *api.DisableUserRequest
	}) (forge.User, error) {
		why := forge.WhyRequested
		if in.Body != nil && in.Body.Reason != "" {
			why = in.Body.Reason
		}
		return s.Users.DisableUser(ctx, p, in.User, why)
	}, s.Users.User)
	acting(s, spec{
		id: "enable-user", method: http.MethodPost, path: "/v1/users/{user}/enable", tag: "users", role: forge.RoleAdmin,
		summary: "Enable a user again", doc: "Keys that were not revoked work again.",
		errors: []forge.Kind{forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *UserInput) (forge.User, error) {
		return s.Users.EnableUser(ctx, p, in.User)
	}, s.Users.User)
}
