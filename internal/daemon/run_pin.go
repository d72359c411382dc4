package daemon

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
)

// pinSpec is the spec as its ranks get it: what other runs were to make is named by what they have registered since. It is the same for
// every attempt, since what a run registers at its end never changes. An adapter in the place of a whole model, and the other way round,
// is put where it belongs: what lies there decides, and not what the run that made it was asked for.
func (d *Daemon) pinSpec(ctx context.Context, s forge.RunSpec) (forge.RunSpec, error) {
	pin := func(field string, in *forge.InputRef) (*forge.ModelVersion, error) {
		if !in.Pending() {
			return nil, nil
		}
		v, err := d.db.ModelOfRun(ctx, in.Run)
		if forge.KindOf(err) == forge.KindNotFound && err != nil {
			return nil, forge.Invalidf(field, "%s has registered nothing", in.Name)
		}
		return &v, err
	}
	v, err := pin("base", s.Base)
	if err != nil {
		return s, err
	}
	start, err := pin("base", s.Start)
	if err != nil {
		return s, err
	}
	if v != nil {
		if s.Base = v.Input(); v.IsAdapter() && s.Start == nil {
			start, v = v, nil
		}
	}
	switch {
	case start == nil:
	case start.IsAdapter():
		if s.Base, s.Start, err = d.over(ctx, "base", start); err != nil {
			return s, err
		}
	default:
		s.Base, s.Start = start.Input(), nil
	}
	for _, x := range []struct {
		field string
		in    **forge.InputRef
	}{{"reward_model", &s.RewardModel}, {"model", &s.Model}} {
		v, err := pin(x.field, *x.in)
		if err != nil || v == nil {
			if err != nil {
				return s, err
			}
			continue
		}
		if *x.in = v.Input(); v.IsAdapter() {
			if _, *x.in, err = d.over(ctx, x.field, v); err != nil {
				return s, err
			}
		}
	}
	return s, nil
}

// over is an adapter with the base under it.
func (d *Daemon) over(ctx context.Context, field string, v *forge.ModelVersion) (base, adapter *forge.InputRef, err error) {
	b, err := d.baseUnder(ctx, field, v)
	if err != nil {
		return nil, nil, err
	}
	base, adapter = b.Input(), v.Input()
	adapter.Base = base.AsBase()
	return base, adapter, nil
}

// manifestsOf are the weights of a pinned spec, each once: what ranks read, and what is held against the disk before they start.
func (d *Daemon) manifestsOf(ctx context.Context, s *forge.RunSpec) (all []forge.Manifest, baseTerms string, err error) {
	seen := map[string]bool{}
	add := func(id string) error {
		if id == "" || seen[id] {
			return nil
		}
		seen[id] = true
		v, err := d.db.ModelVersionByID(ctx, forge.ModelVersionID(id))
		if err == nil {
			all = append(all, v.Manifest)
			if s.Base != nil && s.Base.ID == id {
				baseTerms = v.License
			}
		}
		return err
	}
	for _, x := range s.Weights() {
		if x.In == nil {
			continue
		}
		if err := add(x.In.ID); err != nil {
			return nil, "", err
		}
		if x.In.Base != nil {
			if err := add(x.In.Base.ID); err != nil {
				return nil, "", err
			}
		}
	}
	return all, baseTerms, nil
}

// withoutPending leaves out what nobody has made yet, for a look at what a launch would be.
func withoutPending(s forge.RunSpec) forge.RunSpec {
	for _, in := range []**forge.InputRef{&s.Base, &s.Start, &s.RewardModel, &s.Model} {
		if (*in).Pending() {
			*in = nil
		}
	}
	return s
}
