package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// AttemptBatch records what the cluster's batch system says of an attempt and, for one that was handed over, where that
// system has put it: with its nodes known the run is allocated. Where forge's own plan chose the nodes, the plan's
// slots stand. Telling what is known already writes nothing. KindConflict for an attempt that is superseded or no longer open.
func (db *DB) AttemptBatch(ctx context.Context, run forge.RunID, n int, job forge.BatchJob, placement []forge.Share) error {
	const op = "attempt.batch"
	return db.change(ctx, op, run, n, func(t *tx, r *runRow, a *attemptRow) error {
		if !a.State.Open() {
			return forge.Errorf(forge.KindConflict, op, "attempt %d is %s already", n, a.State)
		}
		taken := a.BatchID == "" && job.ID != ""
		changed, err := a.tell(job)
		if err != nil {
			return err
		}
		allocated, moved, err := a.allocate(placement)
		if err != nil || !changed && !moved {
			return err
		}
		if moved {
			if err := t.reprice(a, job.Partition, placement); err != nil {
				return err
			}
		}
		if err := t.saveAttempt(a); err != nil {
			return err
		}
		if taken {
			if err := t.runEvent(r, forge.Event{Type: forge.EventRunQueued, Attempt: n, Data: map[string]any{"job": job.ID, "partition": job.Partition},
				Message: fmt.Sprintf("cluster %s has attempt %d of %s as job %s", a.Cluster, n, r.name(), job.ID)}); err != nil {
				return err
			}
		}
		if !allocated {
			return nil
		}
		if r.State == forge.RunPending {
			r.State = forge.RunProvisioning
			if err := t.saveRun(r); err != nil {
				return err
			}
		}
		return t.runEvent(r, forge.Event{Type: forge.EventRunAllocated, Attempt: n, Data: map[string]any{"job": job.ID},
			Message: fmt.Sprintf("cluster %s has given attempt %d of %s %s", a.Cluster, n, r.name(), nodesOf(placement))})
	})
}

// tell keeps what is said of the job and says whether that is news.
func (a *attemptRow) tell(job forge.BatchJob) (bool, error) {
	var old *forge.BatchJob
	if err := decode(a.Batch, &old); err != nil {
		return false, err
	}
	if !job.News(old) {
		return false, nil
	}
	text, err := encode(1, job)
	a.Batch, a.BatchID = text, clean(job.ID)
	return true, err
}

// allocate keeps where an attempt that was handed over is, and says whether it had no place before.
func (a *attemptRow) allocate(placement []forge.Share) (first, changed bool, err error) {
	if !a.HandedOver || len(placement) == 0 {
		return false, false, nil
	}
	text, err := encode(len(placement), placement)
	if err != nil || text == a.Placement {
		return false, false, err
	}
	first = a.Placement == ""
	a.Placement = text
	return first, true, nil
}

func nodesOf(shares []forge.Share) string {
	var names []string
	for _, s := range shares {
		if !slices.Contains(names, string(s.Node)) {
			names = append(names, string(s.Node))
		}
	}
	return strings.Join(names, ", ")
}
