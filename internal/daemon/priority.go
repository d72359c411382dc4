package daemon

import (
	"context"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/scheduler"
	"github.com/forge-ml/forge-ml/store"
)

// priorities implements api.Priorities. Planning hears of a change by the commit itself, the queue of a cluster's own by the outbox.
type priorities struct{ d *Daemon }

func (s priorities) PriorityEffect(ctx context.Context, p forge.Principal, run string, priority int) (api.PriorityEffect, error) {
	r, err := s.may(ctx, p, run, priority)
	if err != nil {
		return api.PriorityEffect{}, err
	}
	e := api.PriorityEffect{Run: r.Number, State: r.State, Was: r.Spec.Priority, Priority: priority}
	if r.State != forge.RunPending {
		return e, forge.Errorf(forge.KindPrecondition, "run.priority", "run %d is %s; only the priority of a run that waits changes anything", r.Number, r.State).
			WithHint("forgectl run why %d says where it is", r.Number)
	}
	if a, ok := s.d.world.attempt(r.ID); ok && a.Queued() {
		e.Queue = s.d.batchSystem(a.Cluster)
		return e, nil
	}
	policy := s.d.policy()
	now := s.d.outlooks.of(s.d.world, policy, time.Now())
	was, snap := now.snap, now.snap
	e.Position, e.Waiting = placeIn(now.queue(), r.ID), len(now.queue())
	snap.Pending = slices.Clone(snap.Pending) // others read the outlook
	for i := range snap.Pending {
		if snap.Pending[i].ID == r.ID {
			snap.Pending[i].Priority = priority
		}
	}
	e.WouldBe = placeIn(scheduler.Queue(snap, policy), r.ID)
	e.Start, e.Then, e.Effect = s.d.effect(ctx, was, snap, r.ID)
	return e, nil
}

func (s priorities) SetPriority(ctx context.Context, p forge.Principal, run string, priority int) (forge.Run, error) {
	if _, err := s.may(ctx, p, run, priority); err != nil {
		return forge.Run{}, err
	}
	r, err := s.d.db.For(p).SetPriority(ctx, run, priority)
	if err == nil && r.Attempt > 0 {
		kick(s.d.kickOutbox)
	}
	return r, err
}

// may holds that members act on their own runs, and nobody asks for more than they may.
func (s priorities) may(ctx context.Context, p forge.Principal, run string, priority int) (forge.Run, error) {
	const op = "run.priority"
	if err := s.d.mayActOn(ctx, p, op, run); err != nil {
		return forge.Run{}, err
	}
	r, err := s.d.db.For(p).Run(ctx, run)
	if err != nil {
		return r, err
	}
	return r, s.d.mayAskFor(p, op, priority)
}

// Renicer is what an executor may add whose cluster orders a queue of its own: an attempt that waits there is worth another nice. It
// answers nil also for one that waits no more.
type Renicer interface {
	Renice(ctx context.Context, id forge.ExternalID, nice int) error
}

// renice tells the queue that has a run what it is worth now.
func (d *Daemon) renice(ctx context.Context, c *Cluster, a forge.Attempt, row store.OutboxRow) error {
	x, can := c.Executor.(Renicer)
	if !can || !a.Queued() {
		return d.db.OutboxDone(ctx, row.ID)
	}
	if a.ExternalID == "" {
		return nil // the launch that is under way may have read the old priority: its end is waited for
	}
	r, err := d.db.RunByID(ctx, a.Run) // not of the world, which a commit reaches later than the outbox
	if err != nil {
		return err
	}
	cctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	if err := x.Renice(cctx, a.ExternalID, c.nice(r)); err != nil {
		return err
	}
	return d.db.OutboxDone(ctx, row.ID)
}

// nice is forge's order in the words of a batch system.
func (c *Cluster) nice(r forge.Run) int {
	return max(0, forge.MaxPriority-r.Spec.Priority) * c.NiceStep
}
