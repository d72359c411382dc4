package daemon

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// maxCard bounds what is read of a model card, and of the training.json beside it.
const maxCard = 256 << 10

// bundles implements api.Bundles.
type bundles struct{ d *Daemon }

func (b bundles) Bundle(ctx context.Context, p forge.Principal, run string) (api.Bundle, error) {
	t := b.d.db.For(p)
	r, err := t.Run(ctx, run)
	if err != nil {
		return api.Bundle{}, err
	}
	out := api.Bundle{Format: api.BundleFormat, Run: r.Number, State: r.State, Steps: r.Step, Spec: anywhere(r.Spec), Snapshot: r.Spec.Source != nil}
	if in := r.Spec.Dataset; in != nil { // the digest is of the bytes; how they are read is not in them
		v, err := b.d.db.DatasetVersionByID(ctx, forge.DatasetVersionID(in.ID))
		if err != nil {
			return out, err
		}
		out.Kind, out.Layout = v.Kind, v.Layout
	}
	library := b.d.live().recipes
	if rec, err := library.Get(r.Spec.Recipe); err == nil && rec.SHA256 == r.Spec.RecipeSHA256 {
		shown := api.RecipeOf(rec, library.Site(rec.Name))
		out.Recipe = &shown
	}
	if r.State != forge.RunCompleted || !strings.HasPrefix(r.Spec.Entry.Module, trainPackage) {
		return out, nil
	}
	attempts, err := t.Attempts(ctx, r.ID)
	if err != nil {
		return out, err
	}
	i := slices.IndexFunc(attempts, func(a forge.Attempt) bool { return a.Reason == forge.EndCompleted })
	if i < 0 {
		return out, nil
	}
	// What cannot be read now is left out: the run can be done again without it.
	var training struct {
		Code map[string]string `json:"code"`
	}
	if json.Unmarshal(b.file(ctx, attempts[i], forge.StreamTraining), &training) == nil {
		out.Code = training.Code
	}
	out.Card = strings.ToValidUTF8(string(b.file(ctx, attempts[i], forge.StreamCard)), "\uFFFD")
	return out, nil
}

// file is a small file of an attempt's output; nil where it is not there, cannot be read, or is too large to be what it should.
func (b bundles) file(ctx context.Context, a forge.Attempt, stream string) []byte {
	c, ok := b.d.live().clusters[a.Cluster]
	if !ok || a.ExternalID == "" {
		return nil
	}
	chunk, err := c.Files.Read(ctx, a.ExternalID, stream, 0, maxCard)
	if err != nil || int64(len(chunk.Data)) < chunk.Size {
		return nil
	}
	return chunk.Data
}

// anywhere leaves out of a spec what means something at its own site only.
func anywhere(s forge.RunSpec) forge.RunSpec {
	s.SecretsFile = ""
	for _, ref := range []**forge.InputRef{&s.Dataset, &s.Base, &s.Start, &s.RewardModel, &s.Model} {
		if *ref == nil {
			continue
		}
		bare := forge.InputRef{Name: (*ref).Name, SHA256: (*ref).SHA256}
		if over := (*ref).Base; over != nil {
			bare.Base = &forge.BaseRef{Name: over.Name, SHA256: over.SHA256}
		}
		*ref = &bare
	}
	return s
}

func (b bundles) Source(ctx context.Context, p forge.Principal, run string) (io.ReadCloser, int64, error) {
	const op = "run.source"
	if err := least(p, op, forge.RoleMember, "reading a working directory"); err != nil {
		return nil, 0, err
	}
	r, err := b.d.db.For(p).Run(ctx, run)
	if err != nil {
		return nil, 0, err
	}
	if r.Spec.Source == nil {
		return nil, 0, forge.Errorf(forge.KindPrecondition, op, "run %d came without a working directory", r.Number)
	}
	f, err := os.Open(snapshots(b).file(r.Tenant, r.Spec.Source.SHA256))
	if err != nil {
		return nil, 0, forge.Errorf(forge.KindPrecondition, op, "forged does not have the working directory of run %d any more", r.Number)
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}
