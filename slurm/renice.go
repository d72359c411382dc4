package slurm

import (
	"context"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Renice gives the job of an attempt that waits in Slurm's queue another nice. Nothing is asked of Slurm for one that has begun or ended.
// KindUnavailable when Slurm does not answer, or not yet know the job: it is asked again. What Slurm refuses is logged and not asked again:
// it refuses only what has started or gone meanwhile, and to keep asking would change nothing.
func (e *Executor) Renice(ctx context.Context, id forge.ExternalID, nice int) error {
	const op = "slurm.renice"
	a, err := e.attempt(id)
	if err != nil {
		return forge.Errorf(forge.KindNotFound, op, "%w", err)
	}
	defer e.lockKey(id)()
	e.mu.Lock()
	job, claimed := a.jobID(), a.records.Claim != nil
	e.mu.Unlock()
	switch {
	case claimed:
		return nil
	case job == "":
		return forge.Errorf(forge.KindUnavailable, op, "the id of the job is not known yet")
	}
	answer, err := e.hand.Act(ctx, a.account, Action{Verb: ActNice, JobIDs: []string{job}, Nice: nice})
	if err != nil {
		return forge.Errorf(forge.KindUnavailable, op, "%w", err)
	}
	if answer.Code != 0 {
		e.logOf(a).Warn().Str("said", answer.Err).Str("job", job).Int("nice", nice).Msg("Slurm did not change the nice of a job")
		return nil
	}
	e.logOf(a).Info().Str("job", job).Int("nice", nice).Msg("the job's nice was changed with its run's priority")
	e.nudgeIn(time.Second)
	return nil
}
