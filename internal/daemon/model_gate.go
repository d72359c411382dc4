package daemon

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/gate"
	"github.com/forge-ml/forge-ml/internal/license"
	"github.com/forge-ml/forge-ml/recipes"
	"github.com/forge-ml/forge-ml/store"
)

// gathering collects what a policy asks for of a version. What is not found stays empty; why goes into notes. An error is one that keeps
// anybody from looking at all.
type gathering struct {
	d      *Daemon
	p      forge.Principal
	t      *store.Tenant
	v      forge.ModelVersion
	policy gate.Policy
	suites recipes.Suites
	notes  map[forge.RuleName][]string
	lie    layout
}

func (g *gathering) note(rule forge.RuleName, format string, args ...any) {
	g.notes[rule] = append(g.notes[rule], fmt.Sprintf(format, args...))
}

func (g *gathering) evidence(ctx context.Context, to forge.Stage, production *forge.ModelVersion) (gate.Evidence, error) {
	v := g.v
	e := gate.Evidence{Model: modelName(v), SHA256: v.SHA256, Kind: v.Kind, Reward: v.IsReward(), From: v.Stage, To: to, Now: time.Now().UTC(), Since: v.StageSince,
		Evals: map[string]gate.EvalEvidence{}, Compared: map[string]forge.Comparison{}}
	var err error
	if e.Blocked, err = g.d.blocks(ctx, g.p, v); err != nil {
		return e, err
	}
	made, err := g.ancestry(ctx)
	if err != nil {
		return e, err
	}
	e.Lineage = &gate.LineageEvidence{Whole: len(made.missing) == 0, Missing: made.missing}
	e.Data = made.data
	if g.policy.Licence {
		verdict, err := g.d.judgeLicences(ctx, g.t, g.p, made.licences...)
		if err != nil {
			return e, err
		}
		e.Licence = &gate.Finding{OK: verdict.Allowed, Words: verdict.String()}
	}
	if err := g.evals(ctx, &e, production); err != nil {
		return e, err
	}
	e.LoadTest = g.loadTest(e.Evals)
	if g.policy.Digest { // last: it may take minutes, and the bytes are to be those of now
		g.lie = g.d.lieOf(ctx, v.Manifest)
		if e.Digest, err = g.d.rehash(ctx, g.p, v); err != nil {
			if ctx.Err() != nil {
				return e, err
			}
			if g.lie.owner != nil {
				g.lie = layout{} // who could not be asked for the bytes is not asked whether they changed since
			}
			g.note(forge.RuleDigest, "%v", err)
		}
	}
	return e, nil
}

// ancestry is what a version was made from, as far back as forge knows.
type ancestry struct {
	missing  []string
	data     []gate.DataEvidence
	licences []license.Input
}

// ancestry follows a version through what it and those before it were made from: datasets, base, the adapter that it went on from, the reward
// model that scored it. What a dataset was made from is not followed: its rows are in the dataset, which was scanned whole.
func (g *gathering) ancestry(ctx context.Context) (out ancestry, _ error) {
	seen := map[string]bool{}
	miss := func(format string, args ...any) { out.missing = append(out.missing, fmt.Sprintf(format, args...)) }
	input := func(what, name, text string) {
		out.licences = append(out.licences, license.Input{Name: what + " " + name, License: license.Stored(text)})
	}
	input("model", modelName(g.v), g.v.License)
	todo := []forge.ModelVersion{g.v}
	for len(todo) > 0 {
		v := todo[0]
		todo = todo[1:]
		name := modelName(v)
		if v.Lineage == nil {
			if v.Kind == forge.ModelTrained {
				miss("nothing is known of how %s was made", name)
			}
			continue
		}
		l := v.Lineage
		if l.Unverified {
			miss("%s came from elsewhere, unverified: no run here made it", name)
		} else if l.RecipeSHA256 == "" || l.ParamsSHA256 == "" {
			miss("%s: the digest of its recipe or of its parameters is not known", name)
		}
		if _, err := g.t.Run(ctx, string(l.Run)); forge.KindOf(err) != forge.KindNotFound {
			if err != nil {
				return out, err
			}
		} else if !l.Unverified {
			miss("%s: run %d, which made it, is not there", name, l.RunNumber)
		}
		if err := g.dataset(ctx, name, l, &out, seen); err != nil {
			return out, err
		}
		for _, x := range []struct{ what, name, sha string }{{"base", l.Base, l.BaseSHA256}, {"start", l.Start, l.StartSHA256}, {"reward model", l.RewardModel, l.RewardSHA256}} {
			switch {
			case x.name == "" && x.what == "base":
				miss("%s: its base model is not known", name)
				continue
			case x.name == "" || seen[x.what+x.name]:
				continue
			}
			seen[x.what+x.name] = true
			ref, err := forge.ParseRef(x.name)
			if err != nil || ref.Number == 0 {
				miss("%s: its %s %q names no version", name, x.what, x.name)
				continue
			}
			up, err := g.t.ModelVersion(ctx, ref)
			switch {
			case forge.KindOf(err) == forge.KindNotFound:
				miss("%s: its %s %s is not registered any more", name, x.what, x.name)
				continue
			case err != nil:
				return out, err
			case up.SHA256 != x.sha:
				miss("%s: its %s was %.12s, and %s is %.12s", name, x.what, x.sha, x.name, up.SHA256)
				continue
			}
			input(x.what, x.name, up.License)
			if seen[modelName(up)] {
				continue
			}
			if seen[modelName(up)] = true; len(seen) > 4*leakAncestry {
				miss("%s: there are more than %d things before it", modelName(g.v), 4*leakAncestry)
				return out, nil
			}
			todo = append(todo, up)
		}
	}
	return out, nil
}

func (g *gathering) dataset(ctx context.Context, of string, l *forge.Lineage, out *ancestry, seen map[string]bool) error {
	miss := func(format string, args ...any) { out.missing = append(out.missing, fmt.Sprintf(format, args...)) }
	if l.Dataset == "" {
		miss("%s: no dataset is known that it was trained on", of)
		return nil
	}
	if seen["data "+l.Dataset] {
		return nil
	}
	seen["data "+l.Dataset] = true
	e := gate.DataEvidence{Dataset: l.Dataset, Gone: true}
	defer func() { out.data = append(out.data, e) }()
	ref, err := forge.ParseRef(l.Dataset)
	if err != nil || ref.Number == 0 {
		miss("%s: its dataset %q names no version", of, l.Dataset)
		return nil
	}
	v, err := g.t.DatasetVersion(ctx, ref)
	switch {
	case forge.KindOf(err) == forge.KindNotFound:
		miss("%s: its dataset %s is not registered any more", of, l.Dataset)
		return nil
	case err != nil:
		return err
	case v.SHA256 != l.DatasetSHA256:
		miss("%s: its dataset %s was %.12s, and is %.12s", of, l.Dataset, l.DatasetSHA256, v.SHA256)
		return nil
	case !v.DeletedAt.IsZero(): // whoever took it out of use meant models as well; while one is in production it cannot be
		miss("%s: its dataset %s was deleted at %s", of, l.Dataset, v.DeletedAt.Format(time.RFC3339))
		return nil
	}
	e.Gone, e.PII = false, v.PII
	e.ByForge = v.Scan != nil && (v.Scan.By == forge.ScannedByForged || v.Scan.By == forge.ScannedByJob)
	if v.Waiver != nil {
		e.Why = v.Waiver.Reason
	}
	out.licences = append(out.licences, license.Input{Name: "dataset " + l.Dataset, License: license.Stored(v.License)})
	return nil
}

// evals are the newest of each suite that the policy names, of these bytes and of the suite as it is, and how they compare with what is in production.
func (g *gathering) evals(ctx context.Context, e *gate.Evidence, production *forge.ModelVersion) error {
	var names []string
	for _, s := range g.policy.Suites {
		names = append(names, s.Suite)
	}
	compare := production != nil && production.ID != g.v.ID && g.policy.NoRegression != nil
	if production != nil {
		e.Baseline = modelName(*production)
	}
	if r := g.policy.NoRegression; r != nil {
		names = append(names, r.Suites...)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		suite, err := g.suites.Get(name)
		if err != nil {
			g.note(forge.RuleSuite, "the site has no suite %s any more", name)
			continue
		}
		mine, err := g.newest(ctx, forge.RuleSuite, g.v, suite)
		if err != nil {
			return err
		}
		if mine == "" {
			continue
		}
		side, err := g.d.evalSide(ctx, g.p, mine)
		if err != nil {
			g.note(forge.RuleSuite, "eval %s of suite %s cannot be read: %v", mine, name, err)
			continue
		}
		e.Evals[name] = side
		if !compare || !slices.Contains(g.policy.NoRegression.Suites, name) {
			continue
		}
		theirs, err := g.newest(ctx, forge.RuleRegression, *production, suite)
		if err != nil {
			return err
		}
		if theirs == "" {
			g.note(forge.RuleRegression, "%s has no whole eval with suite %s as it is", modelName(*production), name)
			continue
		}
		c, _, err := g.d.compareEvals(ctx, g.p, theirs, mine, gate.Options{})
		if err != nil {
			g.note(forge.RuleRegression, "evals %s and %s cannot be compared: %v", theirs, mine, err)
			continue
		}
		e.Compared[name] = c
	}
	return nil
}

// newest names the newest whole eval of a version with a suite as it is; empty: there is none. One of other bytes is none.
func (g *gathering) newest(ctx context.Context, rule forge.RuleName, v forge.ModelVersion, suite recipes.Suite) (string, error) {
	e, err := g.t.NewestEval(ctx, v.ID, suite.Name, suite.SHA256)
	switch {
	case forge.KindOf(err) == forge.KindNotFound:
		return "", nil
	case err != nil:
		return "", err
	case e.Limited, e.ModelID != v.ID, e.SuiteSHA256 != suite.SHA256:
		return "", nil
	case e.Facts.ModelSHA256 != v.SHA256:
		g.note(rule, "eval %s was of other bytes than those of %s", evalName(e), modelName(v))
		return "", nil
	}
	return evalName(e), nil
}

func evalName(e forge.Eval) string { return strconv.FormatInt(e.RunNumber, 10) }

// loadTest is the proof that a version was loaded and used: by the shim before its bytes were hashed, or by an eval of these very bytes that
// forge itself has run, which base models and versions of before have.
func (g *gathering) loadTest(evals map[string]gate.EvalEvidence) *gate.Finding {
	if l := g.v.Lineage; l != nil && l.LoadTest != "" {
		return &gate.Finding{OK: true, Words: fmt.Sprintf("loaded and used at the end of run %d, before it was hashed", l.RunNumber), Facts: map[string]string{loadTestReport: l.LoadTest}}
	}
	for _, name := range slices.Sorted(maps.Keys(evals)) {
		if e := evals[name]; e.ModelSHA256 == g.v.SHA256 && byForge(e.Eval) {
			return &gate.Finding{OK: true, Words: fmt.Sprintf("loaded and used by eval %s with suite %s", e.Eval, name), Facts: map[string]string{"eval": e.Eval}}
		}
	}
	return nil
}

// byForge says whether an eval was a run of forge's: those that were imported have an i before their number.
func byForge(eval string) bool { return eval != "" && eval[0] != 'i' }

// loadTestReport is what the load test leaves in an output, and what is kept of it with the version.
const loadTestReport = "load_test.json"

// loadTestOf is the digest of the report of the load test of an output; empty where nothing of ours tested it.
func (d *Daemon) loadTestOf(r forge.Run, m forge.Manifest) string {
	if !d.loadTested(r) {
		return ""
	}
	for _, f := range m.Files {
		if f.Path == loadTestReport {
			return f.SHA256
		}
	}
	return ""
}

// layout is how files lay when their bytes were hashed: whoever changes one afterwards changes this, too.
type layout struct {
	manifest forge.Manifest
	files    []fileLie
	owner    func() error // asks whom the files belong to, where that is a person; nil: forged looks
}

type fileLie struct {
	size, inode int64
	changed     time.Time
}

func (d *Daemon) lieOf(ctx context.Context, m forge.Manifest) layout {
	if k := d.keeperOf(m.Root); k != nil {
		return layout{manifest: m, owner: func() error { return k.Untouched(ctx, m) }}
	}
	return lieOf(m)
}

func lieOf(m forge.Manifest) layout {
	l := layout{manifest: m, files: make([]fileLie, len(m.Files))}
	for i, f := range m.Files {
		st, err := os.Stat(filepath.Join(m.Root, filepath.FromSlash(f.Path)))
		if err != nil {
			continue // not for forged to see: then whoever hashed it looked itself
		}
		l.files[i] = fileLie{size: st.Size(), changed: st.ModTime()}
		if s, ok := st.Sys().(*syscall.Stat_t); ok {
			l.files[i].inode = int64(s.Ino)
		}
	}
	return l
}

// still refuses bytes that somebody touched after they were hashed.
func (l layout) still() error {
	if l.owner != nil {
		err := l.owner()
		if forge.KindOf(err) == forge.KindInvalid && err != nil {
			return forge.Errorf(forge.KindConflict, "model.verify", "%s changed while its evidence was gathered: %w", l.manifest.Root, err).
				WithHint("find out who writes there; then ask again")
		}
		return err
	}
	now := lieOf(l.manifest)
	for i := range l.files {
		if l.files[i] != now.files[i] {
			return forge.Errorf(forge.KindConflict, "model.verify", "%s changed while its evidence was gathered", filepath.Join(l.manifest.Root, l.manifest.Files[i].Path)).
				WithHint("find out who writes there; then ask again")
		}
	}
	return nil
}
