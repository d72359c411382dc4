package server

import (
	"context"
	"errors"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

func (s *server) keys() {
	operation(s, spec{
		id: "create-key", method: http.MethodPost, path: "/v1/keys", tag: "keys", created: true,
		summary: "Make an API key", doc: "The secret is in this answer and nowhere else afterwards. Only operators make keys of role operator.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindConflict},
	}, func(ctx context.Context, p forge.Principal, in *struct{ Body api.CreateKeyRequest }) (api.CreatedKey, error) {
		r := in.Body
		if r.Role == "" {
			r.Role = forge.RoleMember
		}
		if r.Role == forge.RoleOperator && p.Role != forge.RoleOperator {
			return api.CreatedKey{}, &forge.Error{Kind: forge.KindForbidden, Field: "role",
				Err:  errors.New("only an operator may make a key of role operator"),
				Hint: "ask an operator, or make one of role member"}
		}
		return s.Keys.CreateKey(ctx, p, r)
	})
	operation(s, spec{
		id: "list-keys", method: http.MethodGet, path: "/v1/keys", tag: "keys",
		summary: "List API keys", doc: "Of the tenant, revoked ones too, never a secret.",
	}, func(ctx context.Context, p forge.Principal, _ *none) (api.List[forge.Key], error) {
		items, err := s.Keys.Keys(ctx, p)
		return list(items, 0, func(forge.Key) string { return "" }), err
	})
	operation(s, spec{
		id: "revoke-key", method: http.MethodPost, path: "/v1/keys/{key}/revoke", tag: "keys",
		summary: "Revoke an API key", doc: "At once and for good. Runs that were submitted with it go on.",
		errors: []forge.Kind{forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		Key string `path:"key" maxLength:"64" doc:"Key id"`
	}) (forge.Key, error) {
		return s.Keys.RevokeKey(ctx, p, in.Key)
	})
}
