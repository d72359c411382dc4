package slurm

import (
	"context"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// lookSignal makes shims look for a stop file at once, where a network filesystem would show it late. Slurm's older ways of tracking
// processes deliver a signal to the ranks as well, so that it has to be one that does nothing to whoever does not know it.
const lookSignal = "CONT"

// Signal asks an attempt to save, to stop, or to die. The request is durable before anyone is nudged. One that waits in Slurm's
// queue has nothing to save: its claim is revoked, and it is gone.
func (e *Executor) Signal(ctx context.Context, id forge.ExternalID, s forge.SignalKind) error {
	var intent forge.Intent
	switch s {
	case forge.SignalCheckpoint: // why is forged's to record
	case forge.SignalCancel:
		intent = forge.IntentCancel
	case forge.SignalKill:
		intent = forge.IntentKill
	default:
		return forge.Invalidf("signal", "%q: want %q, %q or %q", s, forge.SignalCheckpoint, forge.SignalCancel, forge.SignalKill)
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
	switch {
	case job == "":
	case r.Claim.Revoked:
		e.act(a, Action{Verb: ActCancel, JobIDs: []string{job}}, "a job that was cancelled before it began is taken out of Slurm's queue")
	case len(r.Exits) == 0:
		e.hint(a, job)
	}
	return nil
}

// hint lets Slurm tell the shims to look. Nothing depends on it.
func (e *Executor) hint(a *attempt, job string) {
	e.tasks.Go(func() {
		_, _ = e.hand.Act(e.ctx, a.account, Action{Verb: ActSignal, Signal: lookSignal, JobIDs: []string{job}})
	})
}
