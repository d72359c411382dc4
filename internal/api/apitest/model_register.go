package apitest

import (
	"context"
	"fmt"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// RegisterModel implements api.Models.
func (f *Fake) RegisterModel(_ context.Context, p forge.Principal, r api.RegisterModelRequest) (forge.ModelVersion, error) {
	defer f.UnderWay(p)()
	leave, err := f.enter("RegisterModel")
	if err != nil {
		return forge.ModelVersion{}, err
	}
	defer leave()
	if r.Path != "" {
		if !p.Role.Includes(forge.RoleAdmin) {
			return forge.ModelVersion{}, forge.Errorf(forge.KindForbidden, "model.register", "taking in weights of which nobody knows what they were trained on is for admins")
		}
		if !r.Unverified {
			return forge.ModelVersion{}, forge.Invalidf("unverified", "%s was not made by a run here: nobody can say which data, base and code these weights come from, and no gate that asks for lineage lets them pass", r.Path).
				WithHint("say that you know: --unverified. What a run here made is registered by the run: forgectl model register NAME RUN")
		}
		return f.addVersion(p, forge.ModelVersion{Name: r.Name, Kind: forge.ModelTrained, License: r.License, Manifest: forge.Manifest{Root: r.Path, Files: []forge.File{}},
			Lineage: &forge.Lineage{Unverified: true, Reason: r.Reason, Base: r.Base}}), nil
	}
	run, err := f.findOwn(p, "model.register", r.Run)
	if err != nil {
		if forge.KindOf(err) == forge.KindNotFound {
			err = forge.Invalidf("run", "%w", err)
		}
		return forge.ModelVersion{}, err
	}
	if run.State != forge.RunCompleted {
		return forge.ModelVersion{}, forge.Errorf(forge.KindPrecondition, "model.register", "run %d is %s; only a completed run has an output to register", run.Number, run.State).
			WithHint("follow it with: forgectl run show %d --watch", run.Number)
	}
	v := forge.ModelVersion{Name: r.Name, Kind: forge.ModelTrained, Manifest: forge.Manifest{Root: "/runs/output", Files: []forge.File{}},
		Lineage: &forge.Lineage{Run: run.ID, RunNumber: run.Number, Attempt: run.Attempt, Recipe: run.Spec.Recipe, TrainedAt: f.now}}
	if run.Spec.Dataset != nil {
		v.Lineage.Dataset, v.Lineage.DatasetSHA256 = run.Spec.Dataset.Name, run.Spec.Dataset.SHA256
	}
	if run.Spec.Base != nil {
		v.Lineage.Base, v.Lineage.BaseSHA256 = run.Spec.Base.Name, run.Spec.Base.SHA256
	}
	return f.addVersion(p, v), nil
}

// VerifyModel implements api.Models. Everything is as it was.
func (f *Fake) VerifyModel(ctx context.Context, p forge.Principal, ref forge.Ref) (api.ModelVerified, error) {
	defer f.UnderWay(p)()
	leave, err := f.enter("VerifyModel")
	if err != nil {
		return api.ModelVerified{}, err
	}
	defer leave()
	for _, m := range f.models {
		for _, v := range m.Versions {
			if m.Tenant != p.Tenant || m.Name != ref.Name || ref.Number > 0 && v.Number != ref.Number || ref.Label != "" && string(v.Stage) != ref.Label {
				continue
			}
			name := fmt.Sprintf("%s@%d", v.Name, v.Number)
			return api.ModelVerified{Name: name, SHA256: v.SHA256, Intact: true, Words: name + " is as it was registered", At: f.now,
				Weights: []api.WeightsVerified{{Name: name, Path: v.Manifest.Root, SHA256: v.SHA256, Files: len(v.Manifest.Files), Bytes: v.Bytes, Differs: []api.FileDiffers{}}}}, nil
		}
	}
	return api.ModelVerified{}, notFound("model", ref.String())
}
