package slurm

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// Submit hands one attempt to Slurm. A second Submit of the same attempt finds the first. What Slurm refuses, or the site's
// configuration does by now, was still handed over: Poll says that it is absent, and why. An error means "not known to have been taken": ask Find.
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
	q := SubmitRequest{Launch: rundir.LaunchFile{Launch: l}, Owner: o.OwnerOf(o.With, l.Tenant)}
	var err error
	if q.Job, err = Render(l, o); err == nil {
		q.Launch.Options, err = LaunchOptions(l, o)
	}
	switch {
	case forge.KindOf(err) == forge.KindInvalid:
		// The configuration has changed since the run was taken. To try again would come to the same until somebody acts.
		q.Job, q.Refuse = Job{}, cut(err.Error(), 1000)
	case err != nil:
		return "", err
	}
	if _, own := e.hand.(*Own); !own && l.SourceFile != "" && q.Refuse == "" { // its owner cannot open what is forged's
		if q.Source, err = os.ReadFile(l.SourceFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	id := externalID(l.Account, at)
	defer e.lockKey(id)()
	a := e.learn(l.Account, at)
	e.submitting(a, true)
	defer e.submitting(a, false)
	answer, err := e.hand.Submit(ctx, l.Account, q)
	switch {
	case err != nil:
		return "", forge.Errorf(forge.KindUnavailable, "slurm.submit", "attempt %s: %w", l.Key, err)
	case answer.Revoked:
		return "", forge.Errorf(forge.KindPrecondition, "slurm.submit", "attempt %s: its claim is revoked, or a newer attempt holds the fence", l.Key)
	case answer.Unclear != "":
		return "", forge.Errorf(forge.KindUnavailable, "slurm.submit", "attempt %s: no clean answer: %s", l.Key, answer.Unclear)
	case answer.Refused != "":
		e.logOf(a).Warn().Str("said", answer.Refused).Msg("the job is not taken")
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
