package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store/storetest"
)

// gated is a daemon whose gates ask for bytes, and of model "strict" for evals and lineage as well.
func gated(t *testing.T) *rig {
	t.Helper()
	file := gatesFile(t, `
default:
  candidate: {digest: true}
  production: {digest: true}
models:
  strict:
    candidate: {digest: true, lineage: true, licence: true, load_test: true, suites: [{suite: reasoning-offline}]}
`)
	return start(t, 1, func(o *Options) { o.Config.GatesFile = file })
}

func rulesOf(r forge.GateReport) map[forge.RuleName]forge.GateVerdict {
	out := map[forge.RuleName]forge.GateVerdict{}
	for _, x := range r.Rules {
		out[x.Rule] = x.Verdict
	}
	return out
}

func TestAVersionGoesThroughItsGatesToProduction(t *testing.T) {
	r := gated(t)
	s := registry{r.Daemon}
	first, second := r.imports(t, "tiny", nil), r.imports(t, "tiny", map[string]string{"model_type": "gpt2"})
	one, two := forge.Ref{Name: "tiny", Number: first.Number}, forge.Ref{Name: "tiny", Number: second.Number}
	ok := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	member := storetest.User(t, r.db, r.op.Tenant, "mia", forge.RoleMember)
	admin := storetest.User(t, r.db, r.op.Tenant, "ada", forge.RoleAdmin)
	refused := func(err error, kind forge.Kind, words string) {
		t.Helper()
		if forge.KindOf(err) != kind || !strings.Contains(err.Error(), words) || forge.HintOf(err) == "" && kind != forge.KindInvalid {
			t.Errorf("got %v (%s, hint %q), want %s with %q", err, forge.KindOf(err), forge.HintOf(err), kind, words)
		}
	}
	t.Run("a dry run says what would be found, and changes nothing", func(t *testing.T) {
		p, err := s.PromoteModel(t.Context(), member, one, api.PromoteRequest{DryRun: true})
		ok(p, err)
		if p.Promoted || p.Report.Verdict != forge.GatePass || p.Report.To != forge.StageCandidate || rulesOf(*p.Report)[forge.RuleDigest] != forge.GatePass {
			t.Errorf("%+v", p)
		}
	})
	t.Run("members move what they registered only", func(t *testing.T) {
		_, err := s.PromoteModel(t.Context(), member, one, api.PromoteRequest{})
		refused(err, forge.KindForbidden, "was registered by")
		_, err = s.ArchiveModel(t.Context(), member, one, api.ArchiveRequest{Reason: "x"})
		refused(err, forge.KindForbidden, "was registered by")
		_, err = s.SetModelAlias(t.Context(), member, one, "best")
		refused(err, forge.KindForbidden, "was registered by")
	})
	t.Run("it goes step by step, and what it displaces is previous", func(t *testing.T) {
		_, err := s.PromoteModel(t.Context(), admin, one, api.PromoteRequest{To: forge.StageProduction})
		refused(err, forge.KindPrecondition, "from candidate only")
		ok(s.PromoteModel(t.Context(), admin, one, api.PromoteRequest{}))
		_, err = s.PromoteModel(t.Context(), member, one, api.PromoteRequest{})
		refused(err, forge.KindForbidden, "only an admin")
		p, err := s.PromoteModel(t.Context(), admin, one, api.PromoteRequest{})
		ok(p, err)
		if !p.Promoted || p.Change.To != forge.StageProduction || p.Change.Forced || p.Report.PolicySHA256 == "" {
			t.Errorf("%+v", p)
		}
		_, err = s.PromoteModel(t.Context(), admin, one, api.PromoteRequest{})
		refused(err, forge.KindPrecondition, "is in production")
		_, err = r.rollBack(t.Context(), admin, "tiny", "x")
		refused(err, forge.KindPrecondition, "nothing was in production before")
		ok(s.PromoteModel(t.Context(), admin, two, api.PromoteRequest{}))
		ok(s.PromoteModel(t.Context(), admin, two, api.PromoteRequest{}))
		v, err := r.db.For(admin).ModelVersion(t.Context(), forge.Ref{Name: "tiny", Label: "previous"})
		ok(v, err)
		if v.Number != first.Number {
			t.Errorf("previous is %d", v.Number)
		}
	})
	t.Run("a rollback hashes what it brings back", func(t *testing.T) {
		weights := filepath.Join(first.Manifest.Root, "model.safetensors")
		was, err := os.ReadFile(weights)
		ok(nil, err)
		ok(nil, os.WriteFile(weights, append(was, 'x'), 0o600))
		_, err = s.RollBackModel(t.Context(), admin, "tiny", api.RollbackRequest{Reason: "worse"})
		refused(err, forge.KindPrecondition, "cannot come back")
		ok(nil, os.WriteFile(weights, was, 0o600))
		_, err = s.RollBackModel(t.Context(), admin, "tiny", api.RollbackRequest{})
		refused(err, forge.KindInvalid, "say why")
		_, err = s.RollBackModel(t.Context(), member, "tiny", api.RollbackRequest{Reason: "worse"})
		refused(err, forge.KindForbidden, "admin")
		v, err := r.rollBack(t.Context(), admin, "tiny", "worse")
		ok(v, err)
		if v.Number != first.Number || v.Stage != forge.StageProduction {
			t.Errorf("%+v", v)
		}
	})
	t.Run("its history holds", func(t *testing.T) {
		c, err := s.VerifyModelHistory(t.Context(), member, "tiny")
		ok(c, err)
		if !c.Intact || c.Lines != 9 {
			t.Errorf("%+v", c)
		}
	})
}

func TestMissingEvidenceIsMissingAndAForceIsMarked(t *testing.T) {
	r := gated(t)
	s := registry{r.Daemon}
	v := r.imports(t, "strict", nil)
	ref := forge.Ref{Name: "strict"}
	admin := storetest.User(t, r.db, r.op.Tenant, "ada", forge.RoleAdmin)
	_, err := s.PromoteModel(t.Context(), admin, ref, api.PromoteRequest{})
	var g *forge.GateRefusal
	if !errors.As(err, &g) || forge.KindOf(err) != forge.KindPrecondition {
		t.Fatalf("got %v", err)
	}
	got := rulesOf(g.Report)
	for rule, want := range map[forge.RuleName]forge.GateVerdict{forge.RuleDigest: forge.GatePass, forge.RuleLineage: forge.GatePass, forge.RuleLicence: forge.GatePass,
		forge.RuleLoadTest: forge.GateMissing, forge.RuleSuite: forge.GateMissing} {
		if got[rule] != want {
			t.Errorf("%s is %s, want %s", rule, got[rule], want)
		}
	}
	member := storetest.User(t, r.db, r.op.Tenant, "mia", forge.RoleMember)
	if _, err := s.PromoteModel(t.Context(), member, ref, api.PromoteRequest{Force: true, Reason: "x"}); forge.KindOf(err) != forge.KindForbidden {
		t.Errorf("a member forces: %v", err)
	}
	if _, err := s.PromoteModel(t.Context(), admin, ref, api.PromoteRequest{Force: true, Reason: " "}); forge.KindOf(err) != forge.KindInvalid {
		t.Errorf("without a reason: %v", err)
	}
	p, err := s.PromoteModel(t.Context(), admin, ref, api.PromoteRequest{Force: true, Reason: "the suite is not there yet"})
	if err != nil || !p.Change.Forced || p.Report.Verdict != forge.GateMissing {
		t.Fatalf("%+v, %v", p, err)
	}
	lines, err := s.ModelHistory(t.Context(), member, "strict", api.Listing{})
	if err != nil || len(lines.Items) != 2 || !lines.Items[1].Forced || lines.Items[1].Report.Verdict != forge.GateMissing || lines.Items[1].Reason == "" {
		t.Errorf("%+v, %v", lines, err)
	}
	if v, err = r.db.For(member).ModelVersionByID(t.Context(), v.ID); err != nil || !v.Forced || v.Stage != forge.StageCandidate {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestALineageWithAGapIsNamed(t *testing.T) {
	r := gated(t)
	base := r.imports(t, "tiny", nil)
	v := forge.ModelVersion{Tenant: r.op.Tenant, Name: "bot", Number: 1, Kind: forge.ModelTrained, Lineage: &forge.Lineage{Run: "01ARZ3NDEKTSV4RRFFQ69G5FAV", RunNumber: 7,
		Dataset: "chat@1", DatasetSHA256: "ab", Base: "tiny@1", BaseSHA256: "another", RecipeSHA256: "x", ParamsSHA256: "y"}}
	look := func() string {
		g := gathering{d: r.Daemon, p: r.op, t: r.db.For(r.op), v: v}
		a, err := g.ancestry(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(a.missing, "\n")
	}
	for _, want := range []string{"run 7, which made it, is not there", "dataset chat@1 is not registered any more", "base was another"} {
		if got := look(); !strings.Contains(got, want) {
			t.Errorf("%q is not in:\n%s", want, got)
		}
	}
	v.Lineage.BaseSHA256 = base.SHA256
	if got := look(); strings.Contains(got, "base") {
		t.Errorf("the base is known:\n%s", got)
	}
	v.Lineage = nil
	if got := look(); !strings.Contains(got, "nothing is known") {
		t.Errorf("without any: %s", got)
	}
}

func TestBytesThatAreTouchedAfterTheyWereHashedAreRefused(t *testing.T) {
	m := output(t, wholeFiles)
	lie := lieOf(*m)
	if err := lie.still(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.Root, "model.safetensors"), []byte("other weights, somewhat longer"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := lie.still(); forge.KindOf(err) != forge.KindConflict {
		t.Errorf("got %v", err)
	}
}
