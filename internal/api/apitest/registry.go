package apitest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/gate"
)

type fakeAlias struct {
	tenant forge.TenantID
	model  string
	forge.ModelAlias
}

// version finds one of the tenant's by number, stage or alias.
func (f *Fake) modelVersion(p forge.Principal, ref forge.Ref) (*forge.ModelVersion, error) {
	for i := range f.models {
		m := &f.models[i]
		if m.Name != ref.Name || m.Tenant != p.Tenant {
			continue
		}
		for j := len(m.Versions) - 1; j >= 0; j-- {
			v := &m.Versions[j]
			if ref.Number == v.Number || ref.Number == 0 && (ref.Label == "" || ref.Label == string(v.Stage) || slices.Contains(v.Aliases, ref.Label)) {
				return v, nil
			}
		}
	}
	return nil, notFound("model", ref.String())
}

func (f *Fake) line(p forge.Principal, v *forge.ModelVersion, c forge.StageChange) forge.StageChange {
	c.Model, c.SHA256Of, c.From, c.Actor, c.At = fmt.Sprintf("%s@%d", v.Name, v.Number), v.SHA256, v.Stage, p.Actor(), f.now
	for _, x := range f.history {
		if strings.HasPrefix(x.Model, v.Name+"@") {
			c.Seq, c.Before = x.Seq, x.SHA256
		}
	}
	c.Seq++
	c.SHA256 = strings.Repeat(fmt.Sprint(c.Seq%10), 64)
	v.Stage, v.StageSince, v.StageBy, v.Forced = c.To, f.now, p.Actor(), v.Forced || c.Forced
	f.history = append(f.history, c)
	f.remember(p, fmt.Sprintf("%s/%d", v.Name, c.Seq))
	return c
}

// PromoteModel implements api.Registry: the gate of the fake passes what is forced, and all of candidate.
func (f *Fake) PromoteModel(_ context.Context, p forge.Principal, ref forge.Ref, r api.PromoteRequest) (api.Promotion, error) {
	defer f.UnderWay(p)()
	leave, err := f.enter("PromoteModel")
	if err != nil {
		return api.Promotion{}, err
	}
	defer leave()
	v, err := f.modelVersion(p, ref)
	if err != nil {
		return api.Promotion{}, err
	}
	to := r.To
	if to == "" {
		to = forge.NextStage(v.Stage)
	}
	if !forge.CanMoveStage(v.Stage, to) {
		return api.Promotion{}, forge.Errorf(forge.KindPrecondition, "model.promote", "%s@%d is in %s", v.Name, v.Number, v.Stage)
	}
	report := forge.GateReport{Model: fmt.Sprintf("%s@%d", v.Name, v.Number), SHA256: v.SHA256, From: v.Stage, To: to, Policy: "default." + string(to), PolicySHA256: "ab", At: f.now,
		Verdict: forge.GatePass, Rules: []forge.RuleResult{{Rule: forge.RuleDigest, Verdict: forge.GatePass, Words: "1 file is as it was registered", Facts: map[string]string{"sha256": v.SHA256}}}}
	if to == forge.StageProduction {
		report.Verdict = forge.GateMissing
		report.Rules = append(report.Rules, forge.RuleResult{Rule: forge.RuleSuite, On: "safety", Verdict: forge.GateMissing, Words: "there is no eval of it", Hint: "forgectl eval run " + report.Model + " --suite safety"})
	}
	if r.DryRun {
		return api.Promotion{Report: &report}, nil
	}
	if report.Verdict != forge.GatePass && !r.Force {
		return api.Promotion{}, &forge.Error{Kind: forge.KindPrecondition, Op: "model.promote", Err: &forge.GateRefusal{Report: report}, Hint: "get what is missing"}
	}
	c := f.line(p, v, forge.StageChange{Action: forge.ActionPromote, To: to, Reason: r.Reason, Forced: report.Verdict != forge.GatePass, Report: &report, ReportOf: "cd"})
	return api.PromotionOf(c), nil
}

// RollBackModel implements api.Registry.
func (f *Fake) RollBackModel(_ context.Context, p forge.Principal, name string, r api.RollbackRequest) (forge.StageChange, error) {
	leave, err := f.enter("RollBackModel")
	if err != nil {
		return forge.StageChange{}, err
	}
	defer leave()
	v, err := f.modelVersion(p, forge.Ref{Name: name, Number: r.To})
	if err != nil {
		return forge.StageChange{}, err
	}
	if v.Stage != forge.StageArchived {
		return forge.StageChange{}, forge.Errorf(forge.KindPrecondition, "model.rollback", "model %s: nothing was in production before", name)
	}
	return f.line(p, v, forge.StageChange{Action: forge.ActionRollback, To: forge.StageProduction, Reason: r.Reason}), nil
}

// ArchiveModel implements api.Registry.
func (f *Fake) ArchiveModel(_ context.Context, p forge.Principal, ref forge.Ref, r api.ArchiveRequest) (forge.StageChange, error) {
	leave, err := f.enter("ArchiveModel")
	if err != nil {
		return forge.StageChange{}, err
	}
	defer leave()
	v, err := f.modelVersion(p, ref)
	if err != nil {
		return forge.StageChange{}, err
	}
	return f.line(p, v, forge.StageChange{Action: forge.ActionArchive, To: forge.StageArchived, Reason: r.Reason}), nil
}

// StageChange implements api.Registry.
func (f *Fake) StageChange(_ context.Context, _ forge.Principal, ref string) (forge.StageChange, error) {
	leave, err := f.enter("StageChange")
	if err != nil {
		return forge.StageChange{}, err
	}
	defer leave()
	for _, c := range f.history {
		name, _, _ := strings.Cut(c.Model, "@")
		if fmt.Sprintf("%s/%d", name, c.Seq) == ref {
			return c, nil
		}
	}
	return forge.StageChange{}, notFound("line of a history", ref)
}

// ModelHistory implements api.Registry.
func (f *Fake) ModelHistory(_ context.Context, p forge.Principal, name string, l api.Listing) (api.List[forge.StageChange], error) {
	leave, err := f.enter("ModelHistory")
	if err != nil {
		return api.List[forge.StageChange]{}, err
	}
	defer leave()
	if _, err := f.modelVersion(p, forge.Ref{Name: name}); err != nil {
		return api.List[forge.StageChange]{}, err
	}
	var all []forge.StageChange
	for _, c := range f.history {
		if strings.HasPrefix(c.Model, name+"@") {
			all = append(all, c)
		}
	}
	return pageOf(all, func(c forge.StageChange) string { return fmt.Sprint(c.Seq) }, l.Limit, l.Cursor, bound(p, "history", name))
}

// VerifyModelHistory implements api.Registry.
func (f *Fake) VerifyModelHistory(_ context.Context, p forge.Principal, name string) (forge.HistoryCheck, error) {
	leave, err := f.enter("VerifyModelHistory")
	if err != nil {
		return forge.HistoryCheck{}, err
	}
	defer leave()
	_, err = f.modelVersion(p, forge.Ref{Name: name})
	return forge.HistoryCheck{Model: name, Lines: int64(len(f.history)), Intact: true, Breaks: []forge.HistoryBreak{}, Checked: f.now}, err
}

// ModelAliases implements api.Registry.
func (f *Fake) ModelAliases(_ context.Context, p forge.Principal, name string) ([]forge.ModelAlias, error) {
	leave, err := f.enter("ModelAliases")
	if err != nil {
		return nil, err
	}
	defer leave()
	if _, err := f.modelVersion(p, forge.Ref{Name: name}); err != nil {
		return nil, err
	}
	var out []forge.ModelAlias
	for _, a := range f.aliases {
		if a.tenant == p.Tenant && a.model == name {
			out = append(out, a.ModelAlias)
		}
	}
	return out, nil
}

// SetModelAlias implements api.Registry.
func (f *Fake) SetModelAlias(_ context.Context, p forge.Principal, ref forge.Ref, alias string) (forge.ModelAlias, error) {
	leave, err := f.enter("SetModelAlias")
	if err != nil {
		return forge.ModelAlias{}, err
	}
	defer leave()
	if err := forge.CheckAlias(alias); err != nil {
		return forge.ModelAlias{}, forge.Invalidf("alias", "%w", err)
	}
	v, err := f.modelVersion(p, ref)
	if err != nil {
		return forge.ModelAlias{}, err
	}
	a := fakeAlias{p.Tenant, v.Name, forge.ModelAlias{Alias: alias, Version: v.Number, SetBy: p.Actor(), SetAt: f.now}}
	f.aliases = append(f.aliases, a)
	v.Aliases = append(v.Aliases, alias)
	f.remember(p, v.Name+"/"+alias)
	return a.ModelAlias, nil
}

// RemoveModelAlias implements api.Registry.
func (f *Fake) RemoveModelAlias(_ context.Context, p forge.Principal, name, alias string) (forge.ModelAlias, error) {
	leave, err := f.enter("RemoveModelAlias")
	if err != nil {
		return forge.ModelAlias{}, err
	}
	defer leave()
	for i, a := range f.aliases {
		if a.tenant == p.Tenant && a.model == name && a.Alias == alias {
			f.aliases = slices.Delete(f.aliases, i, i+1)
			f.remember(p, name+"/"+alias)
			return a.ModelAlias, nil
		}
	}
	return forge.ModelAlias{}, notFound("alias", alias)
}

// ModelAlias implements api.Registry.
func (f *Fake) ModelAlias(_ context.Context, p forge.Principal, ref string) (forge.ModelAlias, error) {
	leave, err := f.enter("ModelAlias")
	if err != nil {
		return forge.ModelAlias{}, err
	}
	defer leave()
	model, alias, _ := strings.Cut(ref, "/")
	for _, a := range f.aliases {
		if a.tenant == p.Tenant && a.model == model && a.Alias == alias {
			return a.ModelAlias, nil
		}
	}
	return forge.ModelAlias{Alias: alias}, nil
}

var fakeGates = api.GateRow{Name: api.DefaultGate,
	Candidate: gate.Policy{Name: "default.candidate", SHA256: "ab", Digest: true},
	Production: gate.Policy{Name: "default.production", SHA256: "cd", Digest: true, PII: []forge.PIIStatus{forge.PIIClean}, Suites: []gate.SuiteRule{{Suite: "safety", Bound: "lower"}},
		NoRegression: &gate.RegressionRule{Suites: []string{"safety"}, Inconclusive: "block"}}}

// Gates implements api.Gates.
func (f *Fake) Gates(context.Context, forge.Principal) ([]api.GateRow, error) {
	leave, err := f.enter("Gates")
	if err != nil {
		return nil, err
	}
	defer leave()
	return []api.GateRow{fakeGates}, nil
}

// Gate implements api.Gates.
func (f *Fake) Gate(_ context.Context, p forge.Principal, name string) (api.GateRow, error) {
	leave, err := f.enter("Gate")
	if err != nil {
		return api.GateRow{}, err
	}
	defer leave()
	out := fakeGates
	if name != api.DefaultGate {
		out.Name = name
		_, err = f.modelVersion(p, forge.Ref{Name: name})
	}
	return out, err
}
