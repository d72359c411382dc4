package slurm

import (
	"context"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// Signal asks an attempt to save, to stop, or to die. The stop file is the request, and shims look for it: a signal through Slurm would, with
// some ways of tracking processes, reach the ranks as well, and end those that do not know it. One that waits in Slurm's queue has
// nothing to save: its claim is revoked, and it is gone.
func (e *Executor) Signal(ctx context.Context, id forge.ExternalID, s forge.SignalKind) error {
	var intent forge.Intent
	switch s {
	case forge.SignalCheckpoint: // why is forged's to record
	case forge.SignalLimit: // ranks know one way to save; why is the shim's to tell
		s, intent = forge.SignalCheckpoint, forge.IntentCheckpointLimit
	case forge.SignalCancel:
		intent = forge.IntentCancel
	case forge.SignalKill:
		intent = forge.IntentKill
	default:
		return forge.Invalidf("signal", "%q: want %q, %q, %q or %q", s, forge.SignalCheckpoint, forge.SignalLimit, forge.SignalCancel, forge.SignalKill)
	}
	a, err := e.attempt(id)
	if err != nil {
		return forge.Errorf(forge.KindNotFound, "slurm.signal", "%w", err)
	}
	defer e.lockKey(id)()
	unavailable := func(err error) error { return forge.Errorf(forge.KindUnavailable, "slurm.signal", "%w", err) }
	if err := e.hand.Stop(ctx, a.account, a.at, rundir.Stop{Signal: s, Intent: intent, At: time.Now().UTC()}); err != nil {
		return unavailable(err)
	}
	list, err := e.hand.Records(ctx, a.account, []rundir.Attempt{a.at})
	if err != nil || len(list) != 1 || list[0].Error != "" {
		return nil // the request stands, and Poll sees to the rest
	}
	r := list[0]
	if r.Claim == nil {
		c, err := e.hand.Revoke(ctx, a.account, a.at)
		if err != nil {
			return unavailable(err)
		}
		r.Claim = &c
	}
	e.mu.Lock()
	a.records, a.looked = r, time.Time{}
	job := a.jobID()
	e.mu.Unlock()
	e.nudge()
	if r.Claim.Revoked && job != "" {
		e.act(a, Action{Verb: ActCancel, JobIDs: []string{job}}, "a job that was cancelled before it began is taken out of Slurm's queue")
	}
	return nil
}
