package daemon

import (
	"context"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
	"github.com/forge-ml/forge-ml/store"
)

// Planning happens by event. The first event plans at once, so that a lone submission starts
// without delay; under a flood of events deciding may take at most 1 part in decideShare of the
// time, so that accepting runs is never starved by planning them. To write what was decided does not count: that is waiting for the disk.
// Who is only curious (outlooks, the outbox) has 1 part in planShare.
const (
	decideShare = 5
	planShare   = 10
	planMaxGap  = 500 * time.Millisecond
)

func (d *Daemon) planLoop(ctx context.Context) {
	wake := time.NewTimer(0)
	defer wake.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.kickPlan:
		case <-wake.C:
		}
		began := time.Now()
		d.world.estimate(began)
		at, deciding := d.planStep(ctx, began)
		at = d.world.estimateAgain(at)
		d.meter.plan.Observe(time.Since(began).Seconds())
		d.planned.Add(1) // notify.go looks whether it does
		if at.IsZero() {
			wake.Reset(planAnyway)
		} else {
			wake.Reset(max(time.Until(at), time.Millisecond))
		}
		gap := min((decideShare-1)*deciding, planMaxGap)
		select {
		case <-ctx.Done():
			return
		case <-time.After(gap):
		}
	}
}

// planAnyway bounds how long a missed event could go unnoticed.
const planAnyway = time.Minute

// looked is what the last plan that decided nothing rested on.
type looked struct {
	done   bool
	at     stamp
	policy scheduler.Policy
	again  time.Time
}

// stands says that a plan of a full world would decide nothing again: nothing has changed for those who
// could preempt, and no time has come that the last plan named.
func (l looked) stands(at stamp, p scheduler.Policy, now time.Time) bool {
	return l.done && l.at == at && l.policy == p && (l.again.IsZero() || now.Before(l.again))
}

// planStep decides once and commits what still holds. It returns when to plan again even if
// nothing happens, and how long it took to decide.
func (d *Daemon) planStep(ctx context.Context, now time.Time) (again time.Time, deciding time.Duration) {
	if d.damage.Load() != nil {
		return time.Time{}, 0
	}
	d.lookLock.Lock()
	defer d.lookLock.Unlock()
	began := time.Now()
	plan := d.decide(ctx, now)
	plan.Preempt = d.world.inTurn(plan.Preempt)
	deciding = time.Since(began)
	if len(plan.Place)+len(plan.Preempt) == 0 {
		return plan.WakeAt, deciding
	}
	met := d.meetOwners(ctx, &plan)
	placed, refused, err := d.db.Apply(ctx, plan, store.ApplyOptions{RunDir: d.runDir})
	if len(placed) > 0 || len(plan.Preempt) > 0 {
		kick(d.kickOutbox)
	}
	if err != nil {
		if ctx.Err() == nil {
			d.log.Error().Err(err).Msg("plan not applied, or not all of it")
		}
		return now.Add(time.Second), deciding
	}
	again = plan.WakeAt
	if !met {
		again = now.Add(time.Second)
	}
	for _, r := range refused {
		log := d.runLog(r.Run).Logger()
		e := log.Debug()
		if r.Broken {
			e = log.Error()
			again = now.Add(planAnyway)
		} else if r.Retry {
			again = now.Add(time.Millisecond)
		}
		e.Str("why", r.Why).Msg("decision refused")
		d.warm = nil // the world moved on; but one that had missed something would decide the same for ever
	}
	return again, deciding
}

// decide makes a plan that may be carried out; one that decides nothing has when to look again.
func (d *Daemon) decide(ctx context.Context, now time.Time) forge.Plan {
	policy := d.policy() // once: a reload between planning and checking would make a good plan look bad
	at, preemptible := d.world.preemptible(policy)
	var handable bool
	at.handable, handable = d.world.handable()
	pl := d.planner(policy, now) // after the stamp, which must not be of later
	if d.world.full() {
		switch {
		case !preemptible && !handable:
			return forge.Plan{}
		case d.looked.stands(at, policy, now):
			return forge.Plan{WakeAt: d.looked.again}
		}
	}
	plan := pl.Decide(now)
	d.looked = looked{}
	if len(plan.Place)+len(plan.Preempt) == 0 {
		d.looked = looked{true, at, policy, plan.WakeAt}
		return plan
	}
	// A plan that breaks an invariant is a bug of ours; it must not become an allocation.
	// Runs that take their turns one after the other are planned more simply: that does meanwhile.
	if err := scheduler.CheckDecisions(pl.Snapshot(now), policy, plan); err != nil {
		d.refusePlan(ctx, err)
		d.warm = nil // it may be what the planner believes
		snap := d.world.snapshot(now)
		plan = scheduler.PlanInTurn(snap, policy)
		if scheduler.CheckPlan(snap, policy, plan) != nil {
			return forge.Plan{WakeAt: now.Add(planAnyway)}
		}
	} else {
		d.planFault.Store(nil)
	}
	return plan
}

// planner is the one that is kept from plan to plan, told of all that happened meanwhile. Another policy has another one.
func (d *Daemon) planner(p scheduler.Policy, now time.Time) *scheduler.Planner {
	if d.warm == nil || d.warmBy != p {
		d.warm, d.warmBy = scheduler.NewPlanner(p), p
	}
	d.world.tell(d.warm, now)
	return d.warm
}

// refusePlan says once for each kind of fault that planning stands still, and keeps readyz red.
func (d *Daemon) refusePlan(ctx context.Context, err error) {
	text := err.Error()
	if old := d.planFault.Swap(&text); old != nil && *old == text {
		return
	}
	d.log.Error().Err(err).Msg("plan refused by CheckPlan")
	_ = d.db.AddEvent(ctx, forge.Event{Actor: actorForged, Type: forge.EventPlanRefused, Message: "A plan broke an invariant and was not carried out: " + text})
}
