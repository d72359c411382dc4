package apitest

import (
	"context"
	"path/filepath"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// ImportModel implements api.Models.
func (f *Fake) ImportModel(_ context.Context, p forge.Principal, r api.ImportModelRequest) (forge.ModelVersion, error) {
	defer f.UnderWay(p)()
	leave, err := f.enter("ImportModel")
	if err != nil {
		return forge.ModelVersion{}, err
	}
	defer leave()
	if !filepath.IsAbs(r.Path) {
		return forge.ModelVersion{}, forge.Invalidf("path", "%q is not absolute", r.Path)
	}
	return f.addVersion(p, forge.ModelVersion{Name: r.Name, Kind: forge.ModelBase, License: r.License, Manifest: forge.Manifest{Root: r.Path, Files: []forge.File{}}}), nil
}

func (f *Fake) addVersion(p forge.Principal, v forge.ModelVersion) forge.ModelVersion {
	v.ID, v.Number, v.Stage, v.Bytes = forge.ModelVersionID(f.id("W")), 1, forge.StageStaging, 26440
	v.SHA256 = "7d793037a0760186574b0282f2f435e77d793037a0760186574b0282f2f435e7"
	v.CreatedBy, v.CreatedAt = p.Actor(), f.now
	v.StageBy, v.StageSince = v.CreatedBy, f.now
	f.remember(p, string(v.ID))
	if v.License == "" {
		v.License = "NOASSERTION"
	}
	for i := range f.models {
		if m := &f.models[i]; m.Name == v.Name && m.Tenant == p.Tenant {
			v.Number = len(m.Versions) + 1
			m.Versions = append(m.Versions, v)
			return v
		}
	}
	f.models = append(f.models, forge.Model{ID: forge.ModelID(f.id("M")), Tenant: p.Tenant, Name: v.Name, Kind: v.Kind, CreatedAt: f.now, Versions: []forge.ModelVersion{v}})
	return v
}

// Models implements api.Models.
func (f *Fake) Models(_ context.Context, p forge.Principal, l api.Listing) (api.List[forge.Model], error) {
	leave, err := f.enter("Models")
	if err != nil {
		return api.List[forge.Model]{}, err
	}
	defer leave()
	return paged(p, "models", f.models, l, func(m forge.Model) (thing, bool) {
		return thing{string(m.ID), m.Name, m.CreatedAt}, m.Tenant == p.Tenant
	})
}

// Model implements api.Models.
func (f *Fake) Model(_ context.Context, p forge.Principal, name string) (forge.Model, error) {
	leave, err := f.enter("Model")
	if err != nil {
		return forge.Model{}, err
	}
	defer leave()
	for _, m := range f.models {
		if m.Name == name && m.Tenant == p.Tenant {
			return m, nil
		}
	}
	return forge.Model{}, notFound("model", name)
}

// ModelVersion implements api.Models.
func (f *Fake) ModelVersion(_ context.Context, p forge.Principal, id string) (forge.ModelVersion, error) {
	leave, err := f.enter("ModelVersion")
	if err != nil {
		return forge.ModelVersion{}, err
	}
	defer leave()
	for _, m := range f.models {
		for _, v := range m.Versions {
			if m.Tenant == p.Tenant && string(v.ID) == id {
				return v, nil
			}
		}
	}
	return forge.ModelVersion{}, notFound("model version", id)
}
