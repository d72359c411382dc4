package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// LabelInput names a version of a model as people do.
type LabelInput struct {
	Name    string `path:"name" maxLength:"64" doc:"Name of the model"`
	Version string `path:"version" maxLength:"64" doc:"Number, stage or alias of the version, or latest"`
}

func (in LabelInput) ref() (forge.Ref, error) {
	ref := in.Name + "@" + in.Version
	if in.Version == api.NewestVersion {
		ref = in.Name
	}
	r, err := forge.ParseRef(ref)
	if err != nil {
		return r, forge.Invalidf("version", "%w", err)
	}
	return r, nil
}

func (s *server) modelBytes() {
	acting(s, spec{
		id: "register-model", method: http.MethodPost, path: "/v1/models/register", tag: "models", role: forge.RoleMember, created: true,
		summary: "Register the output of a completed run, or weights from elsewhere",
		doc: "As the next version of the model, in stage staging. Of a run with its lineage by digest; its files are copied where the cluster has an artifact_root. " +
			"Of weights that exist (path, for admins) with a lineage that says that nobody knows what they were trained on. Sizes are bytes. May take minutes.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindConflict, forge.KindPrecondition, forge.KindUnavailable},
	}, func(ctx context.Context, p forge.Principal, in *struct{ Body api.RegisterModelRequest }) (forge.ModelVersion, error) {
		return s.Models.RegisterModel(ctx, p, in.Body)
	}, s.Models.ModelVersion)
	acting(s, spec{
		id: "verify-model", method: http.MethodPost, path: "/v1/models/{name}/versions/{version}/verify", tag: "models", role: forge.RoleMember,
		summary: "Hash the files of a model version again",
		doc:     "On the server's host, and with an adapter those of its base; every file that differs is named. Sizes are bytes. May take minutes. Changes nothing.",
		errors:  []forge.Kind{forge.KindNotFound, forge.KindPrecondition, forge.KindUnavailable},
	}, func(ctx context.Context, p forge.Principal, in *LabelInput) (api.ModelVerified, error) {
		r, err := in.ref()
		if err != nil {
			return api.ModelVerified{}, err
		}
		return s.Models.VerifyModel(ctx, p, r)
	}, func(context.Context, forge.Principal, string) (api.ModelVerified, error) {
		return api.ModelVerified{}, nil // never: it makes nothing that could be remembered, and is done again
	})
}
