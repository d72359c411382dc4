package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/artefact"
	"github.com/forge-ml/forge-ml/slurm"
)

// people are files of which forged opens none; here the account's own copies are made by the test's.
type people struct {
	Files
	root  string // of alice
	asked []string
	lie   func(*forge.Manifest)
	err   error
	kept  []slurm.KeptOf
	from  forge.Manifest
}

func (p *people) Owns(path string) bool { return below(path, p.root) }

func (p *people) Keep(ctx context.Context, id forge.ExternalID, tenant forge.TenantID, sha256 string) (forge.Manifest, error) {
	p.asked = append(p.asked, "keep "+sha256)
	if p.err != nil {
		return forge.Manifest{}, p.err
	}
	m, err := artefact.Copy(ctx, p.from, p.root, string(tenant), nil)
	if p.lie != nil {
		p.lie(&m)
	}
	return m, err
}

func (p *people) Reread(ctx context.Context, m forge.Manifest) (artefact.Seen, error) {
	p.asked = append(p.asked, "reread "+m.Root)
	if p.err != nil {
		return artefact.Seen{}, p.err
	}
	return artefact.Checker{}.Check(ctx, m, nil)
}

func (p *people) Untouched(_ context.Context, m forge.Manifest) error {
	p.asked = append(p.asked, "untouched")
	return p.err
}

func (p *people) Kept(context.Context) ([]slurm.KeptOf, error) { return p.kept, nil }

// amongPeople makes the cluster of a run that has ended one whose files are people's.
func amongPeople(t *testing.T) (r *rig, run forge.Run, p *people) {
	t.Helper()
	r = start(t, 1)
	run, _ = r.leaves(t, "")
	c := r.live().clusters["local"]
	root := t.TempDir()
	p = &people{Files: c.Files, root: filepath.Join(root, "alice")}
	attempts, err := r.db.For(r.op).Attempts(t.Context(), run.ID)
	if err != nil {
		t.Fatal(err)
	}
	obs, err := r.lastWord(t.Context(), c, attempts[0])
	if err != nil {
		t.Fatal(err)
	}
	p.from = *obs.Output
	put(t, filepath.Join(p.root, "x"), "")
	c.AsUser, c.ArtifactRoot, c.Files = true, filepath.Join(root, accountPart), p
	return r, run, p
}

func (r *rig) register(t *testing.T, run forge.Run) (forge.ModelVersion, error) {
	t.Helper()
	return models{r.Daemon}.RegisterModel(t.Context(), r.op, api.RegisterModelRequest{Name: "bot", Run: fmt.Sprint(run.Number)})
}

func TestAVersionOfAPersonsRunIsTheirCopyAndReadAgainAsThem(t *testing.T) {
	r, run, p := amongPeople(t)
	v, err := r.register(t, run)
	if err != nil || v.Manifest.Root != artefact.Place(p.root, string(r.op.Tenant), v.SHA256) || v.Manifest.Digest() != v.SHA256 {
		t.Fatalf("%+v, %v", v, err)
	}
	if seen, err := r.lookAgain(t.Context(), v, func(int64) {}); err != nil || len(seen.Differs) > 0 || seen.Bytes != v.Bytes {
		t.Errorf("%+v, %v", seen, err)
	}
	lie := r.lieOf(t.Context(), v.Manifest)
	if err := lie.still(); err != nil {
		t.Error(err)
	}
	if want := []string{"keep " + v.SHA256, "reread " + v.Manifest.Root, "untouched"}; !slices.Equal(p.asked, want) {
		t.Errorf("asked %q, want %q", p.asked, want)
	}
	p.err = forge.Invalidf("file", "it was changed")
	if err := lie.still(); forge.KindOf(err) != forge.KindConflict {
		t.Errorf("changed after it was hashed: %v", err)
	}
	p.err = forge.Errorf(forge.KindUnavailable, "slurm.as_user", "a call as alice hangs since before")
	if f, err := r.rehash(t.Context(), r.op, v); forge.KindOf(err) != forge.KindUnavailable || f != nil {
		t.Errorf("who cannot look finds something: %+v, %v", f, err)
	}
}

func TestAnotherManifestThanTheOutputsIsNeverRegistered(t *testing.T) {
	r, run, p := amongPeople(t)
	p.lie = func(m *forge.Manifest) { m.Files[0].SHA256 = strings.Repeat("0", 64) }
	if v, err := r.register(t, run); err == nil || len(v.Manifest.Files) > 0 {
		t.Errorf("%+v, %v", v, err)
	}
	for _, final := range []error{artefact.ErrNoRoom, artefact.ErrDiffers, fs.ErrPermission} {
		p.lie, p.err = nil, fmt.Errorf("as alice: %w", final)
		if _, err := r.register(t, run); !errors.Is(err, final) {
			t.Errorf("%v: %v", final, err)
		}
	}
}

func TestNobodyRegistersAPathAmongTheCopiesOfPeople(t *testing.T) {
	r, _, p := amongPeople(t)
	parent := filepath.Dir(p.root)
	for path, may := range map[string]bool{p.root: false, filepath.Join(p.root, "x"): false, filepath.Join(parent, "bob", "T", "d"): false, parent: false, filepath.Dir(parent): false, t.TempDir(): true} {
		if err := r.mayRead(path); (err == nil) != may {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestCopiesOfPeopleAreNamedAndLeftToThem(t *testing.T) {
	r, run, p := amongPeople(t)
	v, err := r.register(t, run)
	if err != nil {
		t.Fatal(err)
	}
	mine, old := string(r.op.Tenant), time.Now().Add(-48*time.Hour)
	p.kept = []slurm.KeptOf{{Account: "alice", Root: p.root, Copies: []artefact.Kept{
		{Tenant: mine, Name: v.SHA256, Bytes: 1, ChangedAt: old},
		{Tenant: mine, Name: strings.Repeat("a", 64), Bytes: 2, ChangedAt: old},
		{Tenant: mine, Name: artefact.HalfPrefix + strings.Repeat("b", 64), Bytes: 4, ChangedAt: old},
		{Tenant: "01OTHER", Name: strings.Repeat("c", 64), Bytes: 8, ChangedAt: old}}},
		{Account: "bob", Root: p.root + "/../bob", Err: errors.New("sudoers has no line for bob")}}
	plan, err := collector{r.Daemon}.collect(t.Context(), r.op, api.GCQuery{}, false, time.Now())
	if want := []string{"1 copy: no version has it", "1 incoming: a copy that was cut off"}; err != nil || !slices.Equal(kinds(plan.Goes), want) || plan.Bytes != 6 || !plan.Items[0].Yours {
		t.Errorf("%+v, %v", plan, err)
	}
	if !slices.ContainsFunc(plan.Stays, func(s api.GCSum) bool { return s.Why == "a registered version lies there" }) {
		t.Errorf("%+v", plan.Stays)
	}
	if len(plan.Failed) != 1 || strings.Contains(fmt.Sprint(plan.Failed), "bob") {
		t.Errorf("a tenant's admin is told %+v", plan.Failed)
	}
	done, err := collector{r.Daemon}.collect(t.Context(), r.op, api.GCQuery{Site: true}, true, time.Now())
	if err != nil || done.Count != 0 || !isThere(v.Manifest.Root) || len(done.Failed) != 1 || !strings.Contains(done.Failed[0].Why, "bob") {
		t.Errorf("%+v, %v", done, err)
	}
}
