package slurm

import (
	"context"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// Submit hands one attempt to Slurm. A second Submit of the same attempt finds the first. What Slurm refuses was still handed
// over: Poll says that it is absent, and why. An error means "not known to have been taken": ask Find.
func (e *Executor) Submit(ctx context.Context, l forge.Launch) (forge.ExternalID, error) {
	at := rundir.At(l.RunDir, l.Attempt)
	if err := e.confined(l.Account, l.RunDir); err != nil {
		return "", err
	}
	if l.Attempt < 1 || l.Key != forge.AttemptKey(l.Run, l.Attempt) {
		return "", forge.Invalidf("key", "%q does not name attempt %d of run %s", l.Key, l.Attempt, l.Run)
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	o := e.options()
	job, err := Render(l, o)
	if err != nil {
		return "", err
	}
	options, err := LaunchOptions(l, o)
	if err != nil {
		return "", err
	}
	id := externalID(l.Account, at)
	defer e.lockKey(id)()
	a := e.learn(l.Account, at)
	e.submitting(a, true)
	defer e.submitting(a, false)
	answer, err := e.hand.Submit(ctx, l.Account, SubmitRequest{
		Launch: rundir.LaunchFile{Launch: l, Options: options}, Job: job, Owner: o.OwnerOf(o.With, l.Tenant),
	})
	switch {
	case err != nil:
		return "", forge.Errorf(forge.KindUnavailable, "slurm.submit", "attempt %s: %w", l.Key, err)
	case answer.Revoked:
		return "", forge.Errorf(forge.KindPrecondition, "slurm.submit", "attempt %s: its claim is revoked, or a newer attempt holds the fence", l.Key)
	case answer.Unclear != "":
		return "", forge.Errorf(forge.KindUnavailable, "slurm.submit", "attempt %s: no clean answer: %s", l.Key, answer.Unclear)
	case answer.Refused != "":
		e.logOf(a).Warn().Str("said", answer.Refused).Msg("Slurm does not take the job")
	}
	return id, nil
}

// submitting keeps answers that were asked for meanwhile from being read as "it is not there".
func (e *Executor) submitting(a *attempt, on bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a.made, a.looked = time.Now(), time.Time{}
	if on {
		a.made = a.made.Add(time.Hour)
	}
}
