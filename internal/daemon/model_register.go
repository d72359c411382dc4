package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/artefact"
	"github.com/forge-ml/forge-ml/internal/dataset"
	"github.com/forge-ml/forge-ml/internal/license"
)

const opRegister = "model.register"

// RegisterModel registers the output of a run that completed without --register, or weights that exist.
func (s models) RegisterModel(ctx context.Context, p forge.Principal, q api.RegisterModelRequest) (forge.ModelVersion, error) {
	var none forge.ModelVersion
	if err := forge.CheckName(q.Name); err != nil {
		return none, forge.Invalidf("name", "%v", err)
	}
	switch {
	case q.Path != "" && q.Run != "":
		return none, forge.Invalidf("path", "a run is named as well: what is registered is one or the other")
	case q.Path != "":
		return s.registerPath(ctx, p, q)
	case q.Run == "":
		return none, forge.Invalidf("run", "is missing: name the run whose output it is")
	case q.Unverified || q.Base != "" || q.License != "" || q.Reason != "":
		return none, forge.Invalidf("unverified", "unverified, base, license and reason go with a path; what a run made it knows by itself")
	}
	if err := s.d.mayActOn(ctx, p, opRegister, q.Run); err != nil {
		return none, asField(err, "run")
	}
	t := s.d.db.For(p)
	r, err := t.Run(ctx, q.Run)
	if err != nil {
		return none, asField(err, "run")
	}
	if r.State != forge.RunCompleted {
		return none, forge.Errorf(forge.KindPrecondition, opRegister, "run %d is %s; only a completed run has an output to register", r.Number, r.State)
	}
	if r.Model != "" {
		// The same request may have been a moment faster.
		if ref, err := t.Earlier(ctx); err != nil || ref != "" {
			if err == nil {
				return t.ModelVersionByID(ctx, forge.ModelVersionID(ref))
			}
			return none, err
		}
		return none, forge.Errorf(forge.KindConflict, opRegister, "run %d is registered already as %s", r.Number, r.Model)
	}
	attempts, err := t.Attempts(ctx, r.ID)
	if err != nil {
		return none, err
	}
	for i := len(attempts) - 1; i >= 0; i-- {
		if attempts[i].Reason == forge.EndCompleted {
			return s.registerOutput(ctx, p, q.Name, r, attempts[i])
		}
	}
	return none, forge.Errorf(forge.KindPrecondition, opRegister, "run %d has no attempt that completed", r.Number)
}

func (s models) registerOutput(ctx context.Context, p forge.Principal, name string, r forge.Run, a forge.Attempt) (forge.ModelVersion, error) {
	var none forge.ModelVersion
	c, ok := s.d.live().clusters[a.Cluster]
	if !ok {
		return none, forge.Errorf(forge.KindUnavailable, opRegister, "cluster %q, where run %d ran, is not configured any more", a.Cluster, r.Number)
	}
	s.d.using.RLock() // from here to the row nothing of it is garbage
	defer s.d.using.RUnlock()
	obs, err := s.d.lastWord(ctx, c, a)
	if err != nil {
		return none, err
	}
	if obs.Output == nil || len(obs.Output.Files) == 0 {
		return none, forge.Errorf(forge.KindPrecondition, opRegister, "run %d left no output", r.Number)
	}
	r.Spec.Register = name
	v, err := s.d.trainedVersion(ctx, r, a, obs)
	if err != nil {
		return none, err
	}
	v.CreatedBy = p.Actor()
	read, end := s.d.reading.begin(p, time.Now())
	defer end()
	if err := s.d.keepOutput(ctx, c, a, v, read); err != nil {
		return none, notKept(r, c, a, err)
	}
	return s.d.db.For(p).AddModelVersion(ctx, *v)
}

// notKept says of a copy that was not made what a person can do about it.
func notKept(r forge.Run, c *Cluster, a forge.Attempt, err error) error {
	switch {
	case errors.Is(err, artefact.ErrDiffers):
		return forge.Errorf(forge.KindPrecondition, opRegister, "the output of run %d was changed after it was hashed: %w", r.Number, err).
			WithHint("what is there now may be taken in as what it is: forgectl model register NAME PATH --unverified, of a copy outside of forged's directories")
	case errors.Is(err, artefact.ErrNoRoom), errors.Is(err, context.Canceled):
		return err
	}
	return forge.Errorf(forge.KindUnavailable, opRegister, "the output of run %d could not be copied to %s: %w", r.Number, c.artifactRoot(a), err).
		WithHint("it is still in the run's directory; the same command tries again")
}

// registerPath takes in weights that were trained elsewhere. They stay where they are, as base models do.
func (s models) registerPath(ctx context.Context, p forge.Principal, q api.RegisterModelRequest) (forge.ModelVersion, error) {
	var none forge.ModelVersion
	if err := least(p, opRegister, forge.RoleAdmin, "taking in weights of which nobody knows what they were trained on"); err != nil {
		return none, err
	}
	if !q.Unverified {
		return none, forge.Invalidf("unverified", "%s was not made by a run here: nobody can say which data, base and code these weights come from, and no gate that asks for lineage lets them pass", q.Path).
			WithHint("say that you know: --unverified. What a run here made is registered by the run: forgectl model register NAME RUN")
	}
	q.Reason = strings.TrimSpace(q.Reason)
	if err := checkText("reason", q.Reason, maxWaiver); err != nil {
		return none, err
	}
	if err := s.d.mayRead(q.Path); err != nil {
		return none, err
	}
	l := &forge.Lineage{Unverified: true, Reason: q.Reason}
	adapter, info, err := dataset.InspectTrained(q.Path)
	if err != nil {
		return none, err
	}
	if !adapter {
		if err := s.d.suits(q.Path, info); err != nil {
			return none, err
		}
	}
	base, err := s.overBase(ctx, p, q, adapter, l)
	if err != nil {
		return none, err
	}
	given := q.License
	if given == "" && base != nil {
		given = base.License
	}
	terms, _, err := license.Given(given)
	if err != nil {
		return none, err
	}
	read, end := s.d.reading.begin(p, time.Now())
	defer end()
	m, err := dataset.HashTrained(ctx, q.Path, read)
	if err != nil {
		return none, err
	}
	if err := s.d.mayReadAll(m); err != nil {
		return none, err
	}
	v := forge.ModelVersion{Tenant: p.Tenant, Name: q.Name, Kind: forge.ModelTrained, Stage: forge.StageStaging, SHA256: m.Digest(), Bytes: m.Bytes(), Manifest: m,
		License: terms.String(), Lineage: l, CreatedBy: p.Actor()}
	if !adapter {
		v.Seen = &info.WeightsSeen
	}
	return s.d.db.For(p).AddModelVersion(ctx, v)
}

// overBase finds the base model that an adapter is said to lie over: without it nothing could load the adapter.
func (s models) overBase(ctx context.Context, p forge.Principal, q api.RegisterModelRequest, adapter bool, l *forge.Lineage) (*forge.ModelVersion, error) {
	switch {
	case !adapter && q.Base != "":
		return nil, forge.Invalidf("base", "%s holds a whole model, which lies over none", q.Path)
	case !adapter:
		return nil, nil
	case q.Base == "":
		return nil, forge.Invalidf("base", "%s holds an adapter; which base model does it lie over?", q.Path).
			WithHint("--base NAME@VERSION, of one that is registered: forgectl model list; forgectl model import brings one in")
	}
	ref, err := forge.ParseRef(q.Base)
	if err != nil {
		return nil, forge.Invalidf("base", "%w", err)
	}
	b, err := s.d.db.For(p).ModelVersion(ctx, ref)
	if err != nil {
		return nil, asField(err, "base")
	}
	if b.IsAdapter() || b.IsReward() {
		return nil, forge.Invalidf("base", "%s@%d is no whole model that writes; an adapter lies over one", b.Name, b.Number)
	}
	l.Base, l.BaseSHA256 = fmt.Sprintf("%s@%d", b.Name, b.Number), b.SHA256
	return &b, nil
}
