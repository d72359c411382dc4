package daemon

import (
	"context"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/crash"
	"github.com/forge-ml/forge-ml/store"
)

// rollBack brings back what was in production before, as an admin's request or a schedule's does. KindPrecondition where nothing was.
func (d *Daemon) rollBack(ctx context.Context, p forge.Principal, model, reason string) (forge.ModelVersion, error) {
	v, _, err := d.rollBackTo(ctx, p, model, 0, reason)
	return v, err
}

// rollBackTo brings a version back to production; number 0: the one that previous names. Its bytes are hashed anew: what comes back in a hurry
// is to be what once passed the gate.
func (d *Daemon) rollBackTo(ctx context.Context, p forge.Principal, model string, number int, reason string) (forge.ModelVersion, forge.StageChange, error) {
	const op = "model.rollback"
	no := func(err error) (forge.ModelVersion, forge.StageChange, error) {
		return forge.ModelVersion{}, forge.StageChange{}, err
	}
	t := d.db.For(p)
	if _, err := t.ModelVersion(ctx, forge.Ref{Name: model}); err != nil {
		return no(err)
	}
	production, err := d.inProduction(ctx, p, model)
	if err != nil {
		return no(err)
	}
	ref := forge.Ref{Name: model, Number: number}
	if number == 0 {
		ref.Label = forge.AliasPrevious
	}
	v, err := t.ModelVersion(ctx, ref)
	switch {
	case number == 0 && forge.KindOf(err) == forge.KindNotFound:
		return no(forge.Errorf(forge.KindPrecondition, op, "model %s: %w", model, errNothingBefore).WithHint("forgectl model history %s; --to NUMBER names a version", model))
	case err != nil:
		return no(err)
	case v.Stage != forge.StageArchived:
		return no(forge.Errorf(forge.KindPrecondition, op, "%s is in %s; a rollback brings back what is archived", modelName(v), v.Stage).WithHint("forgectl model promote %s", modelName(v)))
	}
	was, err := t.WasInProduction(ctx, v.ID)
	if err != nil {
		return no(err)
	}
	if !was {
		return no(forge.Errorf(forge.KindPrecondition, op, "%s was never in production, and there is no way around its gate", modelName(v)).WithHint("forgectl model history %s", model))
	}
	lie := d.lieOf(ctx, v.Manifest)
	found, err := d.rehash(ctx, p, v)
	if err != nil {
		return no(err)
	}
	rule := forge.RuleResult{Rule: forge.RuleDigest, Verdict: forge.GatePass, Words: found.Words, Facts: found.Facts}
	if !found.OK {
		return no(forge.Errorf(forge.KindPrecondition, op, "%s cannot come back: %s", modelName(v), found.Words).WithHint("forgectl model rollback %s --to NUMBER, for another version that was in production", model))
	}
	if err := lie.still(); err != nil {
		return no(err)
	}
	crash.At("rollback.bytes_hashed")
	m := store.StageMove{Version: v.ID, From: v.Stage, To: forge.StageProduction, Reason: reason, Report: &forge.GateReport{Model: modelName(v), SHA256: v.SHA256,
		From: v.Stage, To: forge.StageProduction, Policy: "rollback", At: time.Now().UTC(), Verdict: forge.GatePass, Rules: []forge.RuleResult{rule}}}
	if production != nil {
		m.Production = production.ID
	}
	c, err := t.RollBack(ctx, m)
	if err != nil {
		return no(err)
	}
	v, err = t.ModelVersionByID(ctx, v.ID)
	return v, c, err
}
