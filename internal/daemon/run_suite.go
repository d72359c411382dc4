package daemon

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/recipes"
)

// resolveSuite pins what an eval runs.
func (d *Daemon) resolveSuite(_ context.Context, _ forge.Principal, q api.SubmitRunRequest, rec recipes.Recipe, _ *forge.RunSpec) error {
	if q.Suite != "" && !rec.NeedsSuite {
		return forge.Invalidf("suite", "recipe %s takes none", rec.Name).WithHint("forgectl recipe list says what each takes")
	}
	return nil
}
