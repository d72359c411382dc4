package daemon

import (
	"context"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

// submitter makes a submission durable: the tenant's part of the store. A seam, because
// submit_rate (make bench) compares this server with itself over a store that answers at once.
type submitter interface {
	SubmitRun(ctx context.Context, n store.NewRun) (forge.Run, error)
}

// runs implements api.Runs.
type runs struct{ d *Daemon }

func (s runs) SubmitRun(ctx context.Context, p forge.Principal, q api.SubmitRunRequest) (api.Submitted, error) {
	if err := least(p, "run.submit", forge.RoleMember, "submitting a run"); err != nil {
		return api.Submitted{}, err
	}
	s.d.using.RLock() // what it names stays until its row says so
	defer s.d.using.RUnlock()
	spec, warnings, err := s.d.resolveSpec(ctx, p, q)
	if err != nil {
		return api.Submitted{}, err
	}
	if q.DryRun {
		job, err := s.d.preview(ctx, p, spec)
		out := api.Submitted{Run: forge.Run{Spec: spec, User: p.Actor(), State: forge.RunPending}, Warnings: warnings, Batch: job}
		if err == nil {
			s.d.dryRun(ctx, p, spec, &out)
			out.Estimate = s.d.guessCost(ctx, p, spec)
		}
		return out, err
	}
	if spec.Source != nil {
		if err := snapshots(s).keep(p.Tenant, spec.Source.SHA256); err != nil {
			return api.Submitted{}, err
		}
	}
	out, err := s.submit(ctx, p, store.NewRun{Spec: spec}, warnings)
	if err == nil {
		out.Estimate = s.d.guessCost(ctx, p, spec)
	}
	return out, err
}

func (s runs) submit(ctx context.Context, p forge.Principal, n store.NewRun, warnings []string) (api.Submitted, error) {
	r, err := s.d.submitTo(p).SubmitRun(ctx, n)
	if err != nil {
		return api.Submitted{}, err
	}
	out := api.Submitted{Run: r, Warnings: warnings}
	out.Position, out.Waiting = s.d.world.lastPosition(r.Spec.Priority)
	return out, nil
}

// RetryRun makes a new run with the same spec; the old one stays as it ended. Members retry their own only: the new run is
// that of who asked, and would read as if they had written what it does.
func (s runs) RetryRun(ctx context.Context, p forge.Principal, run string) (api.Submitted, error) {
	if err := s.d.mayActOn(ctx, p, "run.retry", run); err != nil {
		return api.Submitted{}, err
	}
	s.d.using.RLock()
	defer s.d.using.RUnlock()
	r, err := s.d.db.For(p).Run(ctx, run)
	if err != nil {
		return api.Submitted{}, err
	}
	if err := s.d.mayAskFor(p, "run.retry", r.Spec.Priority); err != nil {
		return api.Submitted{}, err
	}
	return s.submit(ctx, p, store.NewRun{Spec: r.Spec, Parent: r.ID}, s.d.budgetNotes(p.Tenant))
}

func (s runs) Run(ctx context.Context, p forge.Principal, run string) (api.RunDetail, error) {
	t := s.d.db.For(p)
	r, err := t.Run(ctx, run)
	if err != nil {
		return api.RunDetail{}, err
	}
	attempts, err := t.Attempts(ctx, r.ID)
	if err != nil {
		return api.RunDetail{}, err
	}
	chain, err := s.d.chain(ctx, t, r)
	cost, currency := s.d.costOf(attempts, time.Now())
	return api.RunDetail{Run: r, Cost: cost, Currency: currency, Attempts: attempts, ETA: eta(r, attempts, time.Now()), Chain: asSteps(chain)}, err
}

// eta extends the pace of the newest attempt to the last step.
func eta(r forge.Run, attempts []forge.Attempt, now time.Time) time.Time {
	if r.State != forge.RunRunning || r.TotalSteps <= r.Step || len(attempts) == 0 {
		return time.Time{}
	}
	a := attempts[len(attempts)-1]
	done := r.Step - a.ResumeStep
	if done <= 0 || a.StartedAt.IsZero() {
		return time.Time{}
	}
	per := now.Sub(a.StartedAt) / time.Duration(done)
	return now.Add(per * time.Duration(r.TotalSteps-r.Step))
}

func (s runs) Runs(ctx context.Context, p forge.Principal, f api.RunFilter) (api.List[forge.Run], error) {
	items, next, err := s.d.db.For(p).Runs(ctx, store.RunFilter(f))
	return api.List[forge.Run]{Items: items, Next: next}, err
}

func (s runs) CancelRun(ctx context.Context, p forge.Principal, run string, mode forge.CancelMode) (forge.Run, error) {
	if !slices.Contains([]forge.CancelMode{forge.CancelTerm, forge.CancelSave, forge.CancelNow}, mode) {
		return forge.Run{}, forge.Invalidf("mode", "%q: want term, save or now", mode)
	}
	if err := s.d.mayActOn(ctx, p, "run.cancel", run); err != nil {
		return forge.Run{}, err
	}
	r, err := s.d.db.For(p).RequestCancel(ctx, run, mode)
	if err == nil {
		kick(s.d.kickOutbox)
	}
	return r, err
}

// lastPosition is the place of the newest run of a priority in the queue of all tenants, from
// counters alone: with 100,000 runs waiting, a submission must not count them.
func (d *world) lastPosition(priority int) (pos, waiting int) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for p := priority; p <= forge.MaxPriority; p++ {
		pos += d.queued[p]
	}
	return max(pos, 1), max(len(d.pending), 1)
}
