package daemon

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
)

// rollBack brings back what was in production before, as an admin's request or a schedule's does. KindPrecondition where nothing was.
func (d *Daemon) rollBack(ctx context.Context, p forge.Principal, model, reason string) (forge.ModelVersion, error) {
	return forge.ModelVersion{}, forge.Errorf(forge.KindUnavailable, "model.rollback", "rollbacks are not built yet")
}
