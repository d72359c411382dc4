package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// KeyInput names a key.
type KeyInput struct {
	Key string `path:"key" maxLength:"64" doc:"Key id"`
}

func (s *server) keys() {
	acting(s, spec{
		id: "create-key", method: http.MethodPost, path: "/v1/keys", tag: "keys", role: forge.RoleViewer, created: true,
		summary: "Make an API key",
		doc: "The secret is in this answer and nowhere else afterwards. For oneself; admins make keys for others, and the user where there is none. " +
			"A key's role is at most its user's, and at most its maker's. Durations are strings.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindConflict, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct{ Body api.CreateKeyRequest }) (api.CreatedKey, error) {
		return s.Keys.CreateKey(ctx, p, in.Body)
	}, s.createdAgain)
	operation(s, spec{
		id: "list-keys", method: http.MethodGet, path: "/v1/keys", tag: "keys", role: forge.RoleViewer,
		summary: "List API keys", doc: "One's own; of the whole tenant to admins. Revoked and expired ones too, never a secret. Oldest first.",
		errors: []forge.Kind{forge.KindInvalid},
	}, func(ctx context.Context, p forge.Principal, in *PageInput) (api.List[forge.Key], error) {
		l, err := s.Keys.Keys(ctx, p, api.Listing{Limit: in.Limit, Cursor: in.Cursor})
		return filled(l), err
	})
	operation(s, spec{
		id: "get-key", method: http.MethodGet, path: "/v1/keys/{key}", tag: "keys", role: forge.RoleViewer,
		summary: "Show an API key", doc: "Never its secret.",
		errors: []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *KeyInput) (forge.Key, error) {
		return s.Keys.Key(ctx, p, in.Key)
	})
	acting(s, spec{
		id: "rotate-key", method: http.MethodPost, path: "/v1/keys/{key}/rotate", tag: "keys", role: forge.RoleViewer, created: true,
		summary: "Replace an API key",
		doc:     "Makes a new key with the name, role and lifetime of the old one, which ends at once or after an overlap (a duration).",
		errors:  []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		KeyInput
		Body *api.RotateKeyRequest
	}) (api.CreatedKey, error) {
		var r api.RotateKeyRequest
		if in.Body != nil {
			r = *in.Body
		}
		return s.Keys.RotateKey(ctx, p, in.Key, r.Overlap.D())
	}, s.createdAgain)
	acting(s, spec{
		id: "revoke-key", method: http.MethodPost, path: "/v1/keys/{key}/revoke", tag: "keys", role: forge.RoleViewer,
		summary: "Revoke an API key", doc: "At once and for good. Runs that were submitted with it go on.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		KeyInput
		Body *api.RevokeKeyRequest
	}) (forge.Key, error) {
		why := forge.WhyRequested
		if in.Body != nil && in.Body.Reason != "" {
			why = in.Body.Reason
		}
		return s.Keys.RevokeKey(ctx, p, in.Key, why)
	}, s.Keys.Key)
}

// createdAgain answers a repeated creation without the secret, which only the first answer had.
func (s *server) createdAgain(ctx context.Context, p forge.Principal, ref string) (api.CreatedKey, error) {
	k, err := s.Keys.Key(ctx, p, ref)
	return api.CreatedKey{Key: k}, err
}
