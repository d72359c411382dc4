package slurm

import (
	"context"
	"fmt"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// stuckFor is how long a job may wait for a reason that never clears by itself before it is taken back: admins change limits, and
// Slurm gives a wrong reason for a moment.
var stuckFor = map[string]time.Duration{
	"PartitionTimeLimit": time.Minute, "PartitionNodeLimit": 5 * time.Minute, // the latter also while nodes are down
	"AccountNotAllowed": time.Minute, "QOSNotAllowed": time.Minute, "InvalidAccount": time.Minute, "InvalidQOS": time.Minute,
	"BadConstraints": time.Minute, "DependencyNeverSatisfied": time.Minute, "ReservationDeleted": time.Minute, "JobArrayTaskLimit": 0,
}

// neverClears says whether a reason is one that waiting does not change, and how long it is believed.
func neverClears(reason string) (time.Duration, bool) {
	word, _, _ := strings.Cut(reason, ",")
	word = strings.TrimSpace(word)
	if d := stuckFor[word]; d > 0 {
		return d, true
	}
	// "QOSMaxWallDurationPerJobLimit", "AssocMaxGRESPerJob", "AssocMaxNodePerJobLimit": what one job may have, and it asks for more.
	for _, prefix := range []string{"QOSMax", "AssocMax", "QOSMin", "AssocMin"} {
		if strings.HasPrefix(word, prefix) && strings.Contains(word, "PerJob") {
			return time.Minute, true
		}
	}
	return 0, false
}

// handedOver is when the job was submitted, by forged's own clock where that was noted: a controller's that is behind would have every
// job taken back at once.
func (s sight) handedOver() time.Time {
	if b := s.records.Batch; b != nil && b.JobID == s.job.ID && !b.At.IsZero() {
		return b.At
	}
	return s.job.Submitted
}

// takeBack takes a job out of Slurm's queue that is not to wait there any more. True: the claim has an owner now, which is to be
// looked at again.
func (e *Executor) takeBack(ctx context.Context, a *attempt, s sight, o forge.Observation) bool {
	if o.State != forge.ObservQueued || s.job.phase() != phaseWaiting {
		e.mu.Lock()
		a.stuck = time.Time{}
		e.mu.Unlock()
		return false
	}
	var note rundir.BatchRecord
	patience, never := neverClears(s.job.Reason)
	e.mu.Lock()
	if !never {
		a.stuck = time.Time{}
	} else if a.stuck.IsZero() {
		a.stuck = s.jobAt
	}
	stuck := a.stuck
	e.mu.Unlock()
	switch {
	case s.records.Stop != nil:
	case never && s.jobAt.Sub(stuck) >= patience/e.pace.stuck:
		note.Refused = fmt.Sprintf("Slurm keeps job %s waiting for a reason that does not clear by itself: %s", s.job.ID, s.job.Reason)
	case e.o.Binding == BindLate && e.o.BindTimeout > 0 && s.now.Sub(s.handedOver()) > e.o.BindTimeout:
		note.Withdrawn = fmt.Sprintf("Slurm did not start job %s on its nodes within %s: %s", s.job.ID, e.o.BindTimeout, s.job.Reason)
	default:
		return false
	}
	if note.Refused+note.Withdrawn != "" {
		note.JobID, note.At = s.job.ID, s.now.UTC()
		if err := e.hand.Note(ctx, a.account, a.at, note); err != nil {
			e.logOf(a).Warn().Err(err).Msg("not taken back; it is tried again")
			return false
		}
		e.mu.Lock()
		a.records.Batch = &note
		e.mu.Unlock()
		e.logOf(a).Info().Str("job", s.job.ID).Str("why", note.Refused+note.Withdrawn).Msg("taken back from Slurm's queue")
	}
	return e.revoke(ctx, a)
}
