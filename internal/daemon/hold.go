package daemon

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
)

// holds implements api.Holds. Planning hears of the change by the commit itself.
type holds struct{ d *Daemon }

// maxHoldReason is what the API says, too.
const maxHoldReason = 500

func (s holds) HoldRun(ctx context.Context, p forge.Principal, run, reason string) (forge.Run, error) {
	if err := s.d.mayActOn(ctx, p, "run.hold", run); err != nil {
		return forge.Run{}, err
	}
	if err := checkText("reason", reason, maxHoldReason); err != nil {
		return forge.Run{}, err
	}
	r, err := s.d.db.For(p).HoldRun(ctx, run, reason)
	if err == nil && r.Attempt > 0 {
		kick(s.d.kickOutbox) // a cluster's own queue may have it
	}
	return r, err
}

func (s holds) ReleaseRun(ctx context.Context, p forge.Principal, run string) (forge.Run, error) {
	if err := s.d.mayActOn(ctx, p, "run.release", run); err != nil {
		return forge.Run{}, err
	}
	return s.d.db.For(p).ReleaseRun(ctx, run)
}
