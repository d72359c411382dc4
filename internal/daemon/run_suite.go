package daemon

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/recipes"
)

// resolveSuite pins what an eval runs.
func (d *Daemon) resolveSuite(ctx context.Context, p forge.Principal, q api.SubmitRunRequest, rec recipes.Recipe, spec *forge.RunSpec) error {
	switch {
	case q.Suite != "" && !rec.NeedsSuite:
		return forge.Invalidf("suite", "recipe %s takes none", rec.Name).WithHint("forgectl recipe list says what each takes")
	case q.Baseline != "" && !rec.NeedsSuite:
		return forge.Invalidf("baseline", "recipe %s is compared with nothing", rec.Name).WithHint("forgectl eval run takes one")
	case !rec.NeedsSuite:
		return nil
	case q.Suite == "":
		return forge.Invalidf("suite", "recipe %s needs a suite of benchmarks", rec.Name).WithHint("--suite NAME; forgectl suite list")
	case q.Register != "":
		return forge.Invalidf("register", "recipe %s makes no model", rec.Name).WithHint("forgectl eval list shows what evals found")
	case rec.Entry.Module == evalModule && spec.Gang.GPUs() != 1:
		return forge.Invalidf("gpus", "an eval is one process on one GPU, and %d are asked for", spec.Gang.GPUs()).WithHint("--gpus 1")
	}
	s, err := d.live().suites.Get(q.Suite)
	if err != nil {
		return asField(err, "suite")
	}
	if s.Path != "" { // since the start a file may have been written: the rank would refuse what is not what was pinned
		if s, err = recipes.ReadSuite(s.Path); err != nil {
			return asField(err, "suite")
		}
	}
	spec.Suite = &forge.SuiteRef{Name: s.Name, SHA256: s.SHA256, Path: s.Path}
	return d.resolveBaseline(ctx, p, q, spec)
}

// resolveBaseline pins what an eval is compared with when it ends: what could never be compared is refused now.
func (d *Daemon) resolveBaseline(ctx context.Context, p forge.Principal, q api.SubmitRunRequest, spec *forge.RunSpec) error {
	if q.Baseline == "" {
		return nil
	}
	b, err := d.findEval(ctx, d.db.For(p), "baseline", q.Baseline, spec.Suite.Name)
	if err != nil {
		return err
	}
	limit, _ := spec.Whole("eval.limit")
	switch {
	case b.Suite != spec.Suite.Name || b.SuiteSHA256 != spec.Suite.SHA256:
		return forge.Invalidf("baseline", "eval %s is of suite %s (%.12s), and this one of %s (%.12s)", b.Name, b.Suite, b.SuiteSHA256, spec.Suite.Name, spec.Suite.SHA256).
			WithHint("forgectl eval run %s --suite %s makes one of the suite as it is now", b.Model, spec.Suite.Name)
	case b.Limited:
		return forge.Invalidf("baseline", "eval %s has seen %d samples of each task alone: nothing is compared with it", b.Name, b.Facts.Limit)
	case limit > 0:
		return forge.Invalidf("baseline", "an eval of %d samples of each task (eval.limit) is compared with nothing", limit).WithHint("leave eval.limit out, or the baseline")
	}
	spec.Baseline = &forge.EvalRef{Eval: b.Name, ID: b.ID, Model: b.Model}
	return nil
}

// evalModule is the rank of the built-in recipe.
const evalModule = "forge_train.evaluate"
