package daemon

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/recipes"
)

// resolveSuite pins what an eval runs.
func (d *Daemon) resolveSuite(_ context.Context, _ forge.Principal, q api.SubmitRunRequest, rec recipes.Recipe, spec *forge.RunSpec) error {
	switch {
	case q.Suite != "" && !rec.NeedsSuite:
		return forge.Invalidf("suite", "recipe %s takes none", rec.Name).WithHint("forgectl recipe list says what each takes")
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
	return nil
}

// evalModule is the rank of the built-in recipe.
const evalModule = "forge_train.evaluate"
