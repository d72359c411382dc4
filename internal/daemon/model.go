package daemon

import (
	"context"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/dataset"
	"github.com/forge-ml/forge-ml/internal/license"
	"github.com/forge-ml/forge-ml/store"
)

// models implements api.Models.
type models struct{ d *Daemon }

func (s models) ImportModel(ctx context.Context, p forge.Principal, r api.ImportModelRequest) (forge.ModelVersion, error) {
	var none forge.ModelVersion
	if err := least(p, "model.import", forge.RoleMember, "importing a model"); err != nil {
		return none, err
	}
	if err := forge.CheckName(r.Name); err != nil {
		return none, forge.Invalidf("name", "%v", err)
	}
	terms, _, err := license.Given(r.License)
	if err != nil {
		return none, err
	}
	if err := s.d.mayRead(r.Path); err != nil {
		return none, err
	}
	info, err := dataset.InspectModel(r.Path)
	if err != nil {
		return none, err
	}
	if err := s.d.suits(r.Path, info); err != nil { // before an hour of reading
		return none, err
	}
	read, end := s.d.reading.begin(p, time.Now())
	defer end()
	m, info, err := dataset.HashModel(ctx, r.Path, read)
	if err != nil {
		return none, err
	}
	if err := s.d.mayReadAll(m); err != nil {
		return none, err
	}
	if err := s.d.suits(r.Path, info); err != nil {
		return none, err
	}
	v := forge.ModelVersion{Name: r.Name, Kind: forge.ModelBase, Stage: forge.StageStaging, SHA256: m.Digest(), Bytes: m.Bytes(),
		Manifest: m, License: terms.String(), Seen: &info.WeightsSeen}
	return s.d.db.For(p).AddModelVersion(ctx, v)
}

// suits refuses a directory that nothing here could be trained on.
func (d *Daemon) suits(path string, info dataset.ModelInfo) error {
	if err := d.mayTrust("path", path, &info.WeightsSeen); err != nil {
		return err
	}
	if !info.HasTokenizer {
		return forge.Invalidf("path", "%s has weights and no tokenizer; nothing could be trained on it", path).
			WithHint("copy tokenizer.json and tokenizer_config.json of the model into it")
	}
	return nil
}

func (s models) Models(ctx context.Context, p forge.Principal, l api.Listing) (api.List[forge.Model], error) {
	items, next, err := s.d.db.For(p).Models(ctx, store.Listing(l))
	return api.List[forge.Model]{Items: items, Next: next}, err
}

func (s models) ModelVersion(ctx context.Context, p forge.Principal, id string) (forge.ModelVersion, error) {
	return s.d.db.For(p).ModelVersionByID(ctx, forge.ModelVersionID(id))
}

func (s models) Model(ctx context.Context, p forge.Principal, name string) (forge.Model, error) {
	return s.d.db.For(p).Model(ctx, name)
}
