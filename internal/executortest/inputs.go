package executortest

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// CheckInputs looks at the real disk: what tests register lies there.
func (f *Fake) CheckInputs(ctx context.Context, m forge.Manifest) error {
	return rundir.CheckInputsContext(ctx, m)
}
