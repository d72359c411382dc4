package daemon

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// RegisterModel registers the output of a run that completed without --register.
func (s models) RegisterModel(ctx context.Context, p forge.Principal, q api.RegisterModelRequest) (forge.ModelVersion, error) {
	var none forge.ModelVersion
	if err := forge.CheckName(q.Name); err != nil {
		return none, forge.Invalidf("name", "%v", err)
	}
	if err := s.d.mayActOn(ctx, p, "model.register", q.Run); err != nil {
		return none, asField(err, "run")
	}
	t := s.d.db.For(p)
	r, err := t.Run(ctx, q.Run)
	if err != nil {
		return none, asField(err, "run")
	}
	if r.State != forge.RunCompleted {
		return none, forge.Errorf(forge.KindPrecondition, "model.register", "run %d is %s; only a completed run has an output to register", r.Number, r.State)
	}
	if r.Model != "" {
		// The same request may have been a moment faster.
		if ref, err := t.Earlier(ctx); err != nil || ref != "" {
			if err == nil {
				return t.ModelVersionByID(ctx, forge.ModelVersionID(ref))
			}
			return none, err
		}
		return none, forge.Errorf(forge.KindConflict, "model.register", "run %d is registered already as %s", r.Number, r.Model)
	}
	attempts, err := t.Attempts(ctx, r.ID)
	if err != nil {
		return none, err
	}
	for i := len(attempts) - 1; i >= 0; i-- {
		a := attempts[i]
		if a.Reason != forge.EndCompleted {
			continue
		}
		c, ok := s.d.live().clusters[a.Cluster]
		if !ok {
			return none, forge.Errorf(forge.KindUnavailable, "model.register", "cluster %q, where run %d ran, is not configured any more", a.Cluster, r.Number)
		}
		obs, err := s.d.lastWord(ctx, c, a)
		if err != nil {
			return none, err
		}
		if obs.Output == nil || len(obs.Output.Files) == 0 {
			return none, forge.Errorf(forge.KindPrecondition, "model.register", "run %d left no output", r.Number)
		}
		r.Spec.Register = q.Name
		v, err := s.d.trainedVersion(ctx, r, a, obs)
		if err != nil {
			return none, err
		}
		v.CreatedBy = p.Actor()
		return t.AddModelVersion(ctx, *v)
	}
	return none, forge.Errorf(forge.KindPrecondition, "model.register", "run %d has no attempt that completed", r.Number)
}
