package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// ModelVersionInput names a version of a model.
type ModelVersionInput struct {
	Name    string `path:"name" maxLength:"64" doc:"Name"`
	Version string `path:"version" maxLength:"64" pattern:"^[a-z0-9][a-z0-9._-]*$" doc:"Number of the version, a stage, an alias, or latest"`
}

func (in ModelVersionInput) ref() (forge.Ref, error) {
	if in.Version == "latest" {
		return forge.Ref{Name: in.Name}, nil
	}
	r, err := forge.ParseRef(in.Name + "@" + in.Version)
	if err != nil {
		return r, forge.Invalidf("version", "%w", err)
	}
	return r, nil
}

// ModelInput names a model.
type ModelInput struct {
	Name string `path:"name" maxLength:"64" doc:"Name"`
}

type historyInput struct {
	ModelInput
	PageInput
}

type aliasInput struct {
	ModelInput
	Alias string `path:"alias" maxLength:"64" doc:"Alias"`
}

const modelVersionPath = "/v1/models/{name}/versions/{version}"

func (s *server) registry() {
	acting(s, spec{
		id: "promote-model", method: http.MethodPost, path: modelVersionPath + "/promote", tag: "models", role: forge.RoleMember,
		summary: "Promote a model version",
		doc: "Gathers the evidence that the gate of the next stage asks for, hashes the bytes anew, and moves the version if every rule passes. Members bring what they registered to candidate; production needs an admin, " +
			"as does force, with a reason: it is marked for ever. A gate that has not passed answers 412 with what it found as gate. With dry_run nothing changes, and the answer is 200 whatever was found. May take minutes for large weights.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindConflict, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		ModelVersionInput
		Body *api.PromoteRequest
	}) (api.Promotion, error) {
		ref, err := in.ref()
		if err != nil {
			return api.Promotion{}, err
		}
		var r api.PromoteRequest
		if in.Body != nil {
			r = *in.Body
		}
		return s.Registry.PromoteModel(ctx, p, ref, r)
	}, func(ctx context.Context, p forge.Principal, ref string) (api.Promotion, error) {
		c, err := s.Registry.StageChange(ctx, p, ref)
		return api.PromotionOf(c), err
	})
	acting(s, spec{
		id: "rollback-model", method: http.MethodPost, path: "/v1/models/{name}/rollback", tag: "models", role: forge.RoleAdmin,
		summary: "Bring an earlier version back to production",
		doc:     "What the alias previous names, or another version that was in production once. Its bytes are hashed anew first. What is in production is archived with the same commit. May take minutes for large weights.",
		errors:  []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindConflict, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		ModelInput
		Body api.RollbackRequest
	}) (forge.StageChange, error) {
		return s.Registry.RollBackModel(ctx, p, in.Name, in.Body)
	}, s.Registry.StageChange)
	acting(s, spec{
		id: "archive-model", method: http.MethodPost, path: modelVersionPath + "/archive", tag: "models", role: forge.RoleMember,
		summary: "Archive a model version",
		doc:     "Takes it out of its stage. Members archive what they registered, admins all; what is in production admins alone. Nothing is deleted.",
		errors:  []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindConflict, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		ModelVersionInput
		Body api.ArchiveRequest
	}) (forge.StageChange, error) {
		ref, err := in.ref()
		if err != nil {
			return forge.StageChange{}, err
		}
		return s.Registry.ArchiveModel(ctx, p, ref, in.Body)
	}, s.Registry.StageChange)
	operation(s, spec{
		id: "get-model-history", method: http.MethodGet, path: "/v1/models/{name}/history", tag: "models", role: forge.RoleViewer,
		summary: "Show the history of a model", doc: "Who moved which version where, when and why, and what its gate had found; oldest first. Each line holds the digest of the one before it.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *historyInput) (api.List[forge.StageChange], error) {
		l, err := s.Registry.ModelHistory(ctx, p, in.Name, api.Listing{Limit: in.Limit, Cursor: in.Cursor})
		return filled(l), err
	})
	operation(s, spec{
		id: "check-model-history", method: http.MethodGet, path: "/v1/models/{name}/history/check", tag: "models", role: forge.RoleViewer,
		summary: "Verify the history of a model", doc: "Hashes every line anew and holds it against the one before it, the versions as they stand, and the events. Each thing that does not hold is named.",
		errors: []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *nameInput) (forge.HistoryCheck, error) {
		return s.Registry.VerifyModelHistory(ctx, p, in.Name)
	})
	s.modelAliases()
	s.gates()
}

func (s *server) modelAliases() {
	operation(s, spec{
		id: "list-model-aliases", method: http.MethodGet, path: "/v1/models/{name}/aliases", tag: "models", role: forge.RoleViewer,
		summary: "List the aliases of a model", doc: "By name. previous is what a rollback brings back.",
		errors: []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *nameInput) (api.List[forge.ModelAlias], error) {
		items, err := s.Registry.ModelAliases(ctx, p, in.Name)
		return whole(items), err
	})
	acting(s, spec{
		id: "set-model-alias", method: http.MethodPost, path: modelVersionPath + "/aliases", tag: "models", role: forge.RoleMember,
		summary: "Let an alias point to a model version",
		doc:     "Wherever it pointed before. Members set aliases on what they registered, admins on all. A number, a stage, latest and previous are no aliases that anybody sets.",
		errors:  []forge.Kind{forge.KindInvalid, forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		ModelVersionInput
		Body api.AliasRequest
	}) (forge.ModelAlias, error) {
		ref, err := in.ref()
		if err != nil {
			return forge.ModelAlias{}, err
		}
		return s.Registry.SetModelAlias(ctx, p, ref, in.Body.Alias)
	}, s.Registry.ModelAlias)
	acting(s, spec{
		id: "remove-model-alias", method: http.MethodPost, path: "/v1/models/{name}/aliases/{alias}/remove", tag: "models", role: forge.RoleMember,
		summary: "Take an alias away", doc: "Answers what it was. Members remove what they set, admins all.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *aliasInput) (forge.ModelAlias, error) {
		return s.Registry.RemoveModelAlias(ctx, p, in.Name, in.Alias)
	}, s.Registry.ModelAlias)
}

func (s *server) gates() {
	operation(s, spec{
		id: "list-gates", method: http.MethodGet, path: "/v1/gates", tag: "models", role: forge.RoleViewer,
		summary: "List gates", doc: "What the site asks of models before they become candidate or production: default first, then the tenant's models that have gates of their own.",
	}, func(ctx context.Context, p forge.Principal, _ *none) (api.List[api.GateRow], error) {
		items, err := s.Gates.Gates(ctx, p)
		return whole(items), err
	})
	operation(s, spec{
		id: "get-gate", method: http.MethodGet, path: "/v1/gates/{name}", tag: "models", role: forge.RoleViewer,
		summary: "Show the gates of a model", doc: "What is asked of it, be it its own or the default; default names those.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *nameInput) (api.GateRow, error) {
		return s.Gates.Gate(ctx, p, in.Name)
	})
}
