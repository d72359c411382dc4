package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/crash"
	"github.com/forge-ml/forge-ml/internal/gate"
	"github.com/forge-ml/forge-ml/store"
)

// registry implements api.Registry.
type registry struct{ d *Daemon }

const maxReason = 1000

// mayMove holds that members move what they registered only, and that production is the admins'.
func mayMove(p forge.Principal, op string, v forge.ModelVersion, to forge.Stage) error {
	if err := least(p, op, forge.RoleMember, "moving a model version"); err != nil {
		return err
	}
	if p.Role.Includes(forge.RoleAdmin) {
		return nil
	}
	name := modelName(v)
	if to == forge.StageProduction || v.Stage == forge.StageProduction {
		return forge.Errorf(forge.KindForbidden, op, "what is in production of %s only an admin changes; your role is %s", v.Name, p.Role).WithHint("ask an admin of the tenant: forgectl user list")
	}
	if v.CreatedBy != p.Actor() {
		return forge.Errorf(forge.KindForbidden, op, "%s was registered by %s; members move what they registered only", name, v.CreatedBy).
			WithHint("ask %s, or an admin of the tenant", v.CreatedBy)
	}
	return nil
}

func modelName(v forge.ModelVersion) string {
	return forge.Ref{Name: v.Name, Number: v.Number}.String()
}

// mustSay checks a reason that has to be given.
func mustSay(reason, what string) (string, error) {
	if reason = strings.TrimSpace(reason); reason == "" {
		return "", forge.Invalidf("reason", "say why %s; it stands in the history for ever", what)
	}
	return reason, checkText("reason", reason, maxReason)
}

// PromoteModel gathers evidence, asks the gate, and moves the version in one write, which refuses where anything that the evidence was about
// has moved. Until that write nothing is held and nothing is changed: it may take as long as hashing takes, and a crash leaves all as it was.
func (s registry) PromoteModel(ctx context.Context, p forge.Principal, ref forge.Ref, r api.PromoteRequest) (api.Promotion, error) {
	const op = "model.promote"
	var none api.Promotion
	t := s.d.db.For(p)
	v, err := t.ModelVersion(ctx, ref)
	if err != nil {
		return none, err
	}
	to := r.To
	if to == "" {
		to = forge.NextStage(v.Stage)
	}
	if err := promotable(v, to); err != nil {
		return none, err
	}
	if !r.DryRun {
		if err := mayMove(p, op, v, to); err != nil {
			return none, err
		}
	}
	if r.Force {
		if err := least(p, op, forge.RoleAdmin, "forcing a promotion"); err != nil {
			return none, err
		}
		if r.Reason, err = mustSay(r.Reason, "the gate does not count"); err != nil {
			return none, err
		}
	} else if err := checkText("reason", r.Reason, maxReason); err != nil {
		return none, err
	}
	production, err := s.d.inProduction(ctx, p, v.Name)
	if err != nil {
		return none, err
	}
	report, lie, err := s.d.judge(ctx, p, v, to, production)
	if err != nil {
		return none, err
	}
	if r.DryRun {
		return api.Promotion{Report: &report}, nil
	}
	if report.Verdict != forge.GatePass && !r.Force {
		return none, (&forge.Error{Kind: forge.KindPrecondition, Op: op, Err: &forge.GateRefusal{Report: report}}).
			WithHint("forgectl model promote %s --dry-run shows each rule with its evidence; an admin can force it, with a reason that stands for ever", modelName(v))
	}
	if err := lie.still(); err != nil {
		return none, err
	}
	crash.At("promote.evidence_gathered")
	m := store.StageMove{Version: v.ID, From: v.Stage, To: to, Reason: r.Reason, Forced: report.Verdict != forge.GatePass, Report: &report}
	if production != nil {
		m.Production = production.ID
	}
	c, err := t.PromoteVersion(ctx, m)
	return api.PromotionOf(c), err
}

// promotable refuses what no gate could let through.
func promotable(v forge.ModelVersion, to forge.Stage) error {
	name, bad := modelName(v), func(hint, format string, args ...any) error {
		return forge.Errorf(forge.KindPrecondition, "model.promote", format, args...).WithHint("%s", hint)
	}
	switch {
	case to != "" && to != forge.StageCandidate && to != forge.StageProduction:
		return forge.Invalidf("to", "%q: a version is promoted to candidate or to production", to)
	case v.Stage == forge.StageProduction:
		return bad("forgectl model list", "%s is in production; there is nothing to promote it to", name)
	case v.Stage == forge.StageArchived:
		return bad("forgectl model rollback "+v.Name+" --to NUMBER --reason WHY, for a version that was in production", "%s is archived; from there a version comes back by a rollback only", name)
	case v.Stage == to:
		return bad("forgectl model show "+v.Name, "%s is %s already", name, to)
	case !forge.CanMoveStage(v.Stage, to):
		return bad("forgectl model promote "+name+" --to candidate", "%s is in %s; production is entered from candidate only", name, v.Stage)
	}
	return nil
}

// inProduction is what stands in production of a model; nil: nothing does.
func (d *Daemon) inProduction(ctx context.Context, p forge.Principal, model string) (*forge.ModelVersion, error) {
	v, err := d.db.For(p).ModelVersion(ctx, forge.Ref{Name: model, Label: string(forge.StageProduction)})
	if forge.KindOf(err) == forge.KindNotFound {
		return nil, nil
	}
	return &v, err
}

// judge gathers the evidence that the policy before a stage asks for, and asks it. lie is how the bytes lay when they were hashed.
func (d *Daemon) judge(ctx context.Context, p forge.Principal, v forge.ModelVersion, to forge.Stage, production *forge.ModelVersion) (forge.GateReport, layout, error) {
	tenant, err := d.db.For(p).Tenant(ctx, string(p.Tenant))
	if err != nil {
		return forge.GateReport{}, layout{}, err
	}
	live := d.live()
	policy := live.gates.of(tenant.Name, v.Name).to(to)
	g := gathering{d: d, p: p, t: d.db.For(p), v: v, policy: policy, suites: live.suites, notes: map[forge.RuleName][]string{}}
	e, err := g.evidence(ctx, to, production)
	if err != nil {
		return forge.GateReport{}, layout{}, err
	}
	report := gate.Check(policy, e)
	for i := range report.Rules {
		x := &report.Rules[i]
		// Why something is missing the rule cannot know: it has seen nothing.
		if notes := g.notes[x.Rule]; len(notes) > 0 && x.Verdict != forge.GatePass {
			x.Words = strings.TrimSuffix(x.Words, ".") + " (" + strings.Join(slices.Compact(notes), "; ") + ")"
		}
	}
	return report, g.lie, nil
}

func (s registry) ArchiveModel(ctx context.Context, p forge.Principal, ref forge.Ref, r api.ArchiveRequest) (forge.StageChange, error) {
	const op = "model.archive"
	var none forge.StageChange
	reason, err := mustSay(r.Reason, "it is archived")
	if err != nil {
		return none, err
	}
	t := s.d.db.For(p)
	v, err := t.ModelVersion(ctx, ref)
	if err != nil {
		return none, err
	}
	if err := mayMove(p, op, v, forge.StageArchived); err != nil {
		return none, err
	}
	if v.Stage == forge.StageArchived {
		return none, forge.Errorf(forge.KindPrecondition, op, "%s is archived already", modelName(v)).WithHint("forgectl model history %s", v.Name)
	}
	return t.ArchiveVersion(ctx, store.StageMove{Version: v.ID, From: v.Stage, To: forge.StageArchived, Reason: reason})
}

func (s registry) RollBackModel(ctx context.Context, p forge.Principal, name string, r api.RollbackRequest) (forge.StageChange, error) {
	const op = "model.rollback"
	if err := least(p, op, forge.RoleAdmin, "rolling back what is in production"); err != nil {
		return forge.StageChange{}, err
	}
	reason, err := mustSay(r.Reason, "it is rolled back")
	if err != nil {
		return forge.StageChange{}, err
	}
	_, c, err := s.d.rollBackTo(ctx, p, name, r.To, reason)
	return c, err
}

func (s registry) StageChange(ctx context.Context, p forge.Principal, ref string) (forge.StageChange, error) {
	return s.d.db.For(p).StageChange(ctx, ref)
}

func (s registry) ModelHistory(ctx context.Context, p forge.Principal, name string, l api.Listing) (api.List[forge.StageChange], error) {
	items, next, err := s.d.db.For(p).History(ctx, name, store.Listing(l))
	return api.List[forge.StageChange]{Items: items, Next: next}, err
}

func (s registry) VerifyModelHistory(ctx context.Context, p forge.Principal, name string) (forge.HistoryCheck, error) {
	return s.d.db.For(p).VerifyHistory(ctx, name)
}

func (s registry) ModelAliases(ctx context.Context, p forge.Principal, name string) ([]forge.ModelAlias, error) {
	return s.d.db.For(p).Aliases(ctx, name)
}

func (s registry) SetModelAlias(ctx context.Context, p forge.Principal, ref forge.Ref, alias string) (forge.ModelAlias, error) {
	const op = "model.alias"
	var none forge.ModelAlias
	if err := least(p, op, forge.RoleMember, "setting an alias"); err != nil {
		return none, err
	}
	t := s.d.db.For(p)
	v, err := t.ModelVersion(ctx, ref)
	if err != nil {
		return none, err
	}
	if v.CreatedBy != p.Actor() && !p.Role.Includes(forge.RoleAdmin) {
		return none, forge.Errorf(forge.KindForbidden, op, "%s was registered by %s; members set aliases on what they registered only", modelName(v), v.CreatedBy).
			WithHint("ask %s, or an admin of the tenant", v.CreatedBy)
	}
	return t.SetAlias(ctx, v.ID, alias)
}

func (s registry) RemoveModelAlias(ctx context.Context, p forge.Principal, name, alias string) (forge.ModelAlias, error) {
	const op = "model.alias"
	var none forge.ModelAlias
	if err := least(p, op, forge.RoleMember, "removing an alias"); err != nil {
		return none, err
	}
	t := s.d.db.For(p)
	all, err := t.Aliases(ctx, name)
	if err != nil {
		return none, err
	}
	for _, a := range all {
		if a.Alias == alias && alias == forge.AliasPrevious {
			return none, forge.Invalidf("alias", "previous is kept by forge itself")
		}
		if a.Alias == alias && a.SetBy != p.Actor() && !p.Role.Includes(forge.RoleAdmin) {
			return none, forge.Errorf(forge.KindForbidden, op, "alias %s of %s was set by %s; members remove what they set only", alias, name, a.SetBy).
				WithHint("ask %s, or an admin of the tenant", a.SetBy)
		}
	}
	return t.RemoveAlias(ctx, name, alias)
}

func (s registry) ModelAlias(ctx context.Context, p forge.Principal, ref string) (forge.ModelAlias, error) {
	return s.d.db.For(p).Alias(ctx, ref)
}

// errNothingBefore is met by schedules, too.
var errNothingBefore = errors.New("nothing was in production before")
