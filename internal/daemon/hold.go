package daemon

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
)

// holds implements api.Holds. Planning hears of the change by the commit itself.
type holds struct{ d *Daemon }

func (s holds) HoldRun(ctx context.Context, p forge.Principal, run, reason string) (forge.Run, error) {
	return s.d.db.For(p).HoldRun(ctx, run, reason)
}

func (s holds) ReleaseRun(ctx context.Context, p forge.Principal, run string) (forge.Run, error) {
	return s.d.db.For(p).ReleaseRun(ctx, run)
}
