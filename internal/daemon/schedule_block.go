package daemon

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
)

// blocks says, in words, which schedules keep a version from being promoted.
func (d *Daemon) blocks(ctx context.Context, p forge.Principal, v forge.ModelVersion) ([]string, error) {
	return nil, nil
}
