package direct

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// CheckInputs holds a registered artefact against this host's disk.
func (e *Executor) CheckInputs(ctx context.Context, m forge.Manifest) error {
	return rundir.CheckInputsContext(ctx, m)
}
