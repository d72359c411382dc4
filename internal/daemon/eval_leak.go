package daemon

import (
	"context"
	"fmt"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset"
)

// The bounds of a look at training data when an eval ends: the end waits for it.
const (
	leakTimeout  = 2 * time.Minute
	leakMost     = 8 << 30 // bytes of one dataset
	leakAncestry = 16      // models that went on from each other
)

// leak looks for a suite's questions in what a model was trained on. nil: there is nothing to look for, or nothing to look in. It refuses
// nothing: an eval that has been made counts, and its readers are told.
func (d *Daemon) leak(ctx context.Context, spec forge.RunSpec) *forge.EvalLeak {
	if spec.Suite == nil || spec.Model == nil {
		return nil
	}
	suites := d.live().suites
	s, err := suites.Get(spec.Suite.Name)
	if err != nil || s.SHA256 != spec.Suite.SHA256 {
		return nil // another one by now: what it asked nobody knows here
	}
	rows, err := suites.Rows(s.Name)
	if err != nil {
		return nil
	}
	said := make([]dataset.Said, len(rows))
	for i, r := range rows {
		said[i] = dataset.SaidOf(r.File, r.Number, r.Prompt, r.Texts)
	}
	asked := dataset.SideOfRows("suite "+s.Name, said)
	trained, gone := d.trainedOn(ctx, forge.ModelVersionID(spec.Model.ID))
	if len(trained)+len(gone) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, leakTimeout)
	defer cancel()
	out := &forge.EvalLeak{Looked: []forge.Overlap{}}
	for _, name := range gone {
		out.Unlooked = append(out.Unlooked, forge.Unlooked{Dataset: name, Why: "it is not registered any more"})
	}
	for _, v := range trained {
		name := forge.Ref{Name: v.Name, Number: v.Number}.String()
		skip := func(format string, args ...any) {
			out.Unlooked = append(out.Unlooked, forge.Unlooked{Dataset: name, Why: fmt.Sprintf(format, args...)})
		}
		layout := forge.DatasetLayout{Format: forge.FormatJSONL}
		if v.Layout != nil {
			layout = *v.Layout
		}
		if d.mayScanHere() != nil && !v.Owned {
			skip("it belongs to its user, and forged opens no file of theirs; forgectl dataset overlap %s --suite %s", name, s.Name)
			continue
		}
		if v.Bytes > leakMost {
			skip("it has %d GiB; forged reads at most %d, forgectl dataset overlap any", v.Bytes>>30, leakMost>>30)
			continue
		}
		o, err := dataset.Overlap(ctx, dataset.SideOf(name, v.Rows, v.Manifest, layout, v.Kind), asked, dataset.OverlapOptions{})
		switch {
		case ctx.Err() != nil:
			skip("it took longer than %s; forgectl dataset overlap takes as long as it needs", leakTimeout)
		case err != nil:
			skip("forged cannot read it, or it has changed")
		default:
			out.Looked = append(out.Looked, o)
		}
	}
	return out
}

// trainedOn are the datasets that a version and those that it went on from were trained on, each once, and the names of those that are gone.
func (d *Daemon) trainedOn(ctx context.Context, id forge.ModelVersionID) (out []forge.DatasetVersion, gone []string) {
	seen := map[forge.DatasetVersionID]bool{}
	for range leakAncestry {
		v, err := d.db.ModelVersionByID(ctx, id)
		if err != nil || v.Lineage == nil {
			return out, gone
		}
		t := d.db.For(forge.Principal{Tenant: v.Tenant})
		if ref, err := forge.ParseRef(v.Lineage.Dataset); err == nil {
			data, err := t.DatasetVersion(ctx, ref)
			switch {
			case err != nil || data.SHA256 != v.Lineage.DatasetSHA256:
				gone = append(gone, v.Lineage.Dataset)
			case !seen[data.ID]:
				seen[data.ID], out = true, append(out, data)
			}
		}
		before := v.Lineage.Start
		if before == "" {
			before = v.Lineage.Base // trained further as a whole
		}
		ref, err := forge.ParseRef(before)
		if err != nil {
			return out, gone
		}
		up, err := t.ModelVersion(ctx, ref)
		if err != nil {
			return out, gone
		}
		id = up.ID
	}
	return out, gone
}
