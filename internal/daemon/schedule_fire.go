package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/store"
)

const (
	// schedulesEvery is how long a wait is at most: a timer does not hear of a clock that is set forward.
	schedulesEvery = 15 * time.Second
	// onTime is how late a firing may be and still be none that was missed: a restart takes as long.
	onTime = time.Minute
	// mostMissed is how far due times are counted that were missed.
	mostMissed = 1000
)

func (d *Daemon) schedulesLoop(ctx context.Context) {
	for {
		next, err := d.scheduleStep(ctx, time.Now())
		if err != nil && ctx.Err() == nil {
			d.log.Warn().Err(err).Msg("not all schedules could be looked at; again in a moment")
		}
		timer := time.NewTimer(untilNext(time.Now(), next))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-d.kickSchedules:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// untilNext is how long to wait for a due time. The wall's time decides, not the timer's: it may have been set meanwhile.
func untilNext(now, next time.Time) time.Duration {
	wait := schedulesEvery
	if !next.IsZero() {
		wait = min(wait, next.Round(0).Sub(now.Round(0)))
	}
	return max(wait, 10*time.Millisecond)
}

// scheduleStep fires what is due. What fails for one schedule keeps no other from its time.
func (d *Daemon) scheduleStep(ctx context.Context, now time.Time) (next time.Time, err error) {
	if d.damage.Load() != nil {
		return time.Time{}, nil // nothing new rests on tables that are broken
	}
	all, err := d.db.DueSchedules(ctx)
	if err != nil {
		return time.Time{}, err
	}
	var faults []error
	for _, s := range all {
		at, err := d.scheduleTurn(ctx, s, now)
		if err != nil {
			faults = append(faults, fmt.Errorf("schedule %s: %w", s.ID, err))
			continue
		}
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next, errors.Join(faults...)
}

// scheduleTurn decides what has become due of one schedule, and says when it is due next.
func (d *Daemon) scheduleTurn(ctx context.Context, s forge.Schedule, now time.Time) (time.Time, error) {
	spec, loc, err := timesOf(s)
	if err != nil {
		return time.Time{}, err
	}
	if s.Decided.After(now) {
		// The clock was set back. To wait for it to get there again could take years, if it had been wrong by years; what has fired is written
		// down by its due time, and does not fire again.
		if err := d.db.ScheduleDecided(ctx, s.ID, now); err != nil {
			return time.Time{}, err
		}
		s.Decided = now
	}
	if last, n := spec.Last(loc, s.Decided, now, mostMissed); n > 0 {
		if err := d.fire(ctx, s, dueFiring(s, last, n, now), forge.Principal{}); err != nil {
			return time.Time{}, err
		}
	}
	next, _ := spec.Next(loc, now)
	return next, nil
}

// dueFiring is what becomes of the newest of n due times.
func dueFiring(s forge.Schedule, last time.Time, n int, now time.Time) forge.Firing {
	f := forge.Firing{Due: last, Missed: n - 1, State: forge.FiringFired}
	times := plural(n, "due time")
	if n >= mostMissed {
		times = fmt.Sprintf("%d due times or more", n)
	}
	late := now.Sub(last) > onTime
	switch {
	case late && s.CatchUp == forge.CatchUpNone:
		f.State, f.Words = forge.FiringMissed, times+" passed while forged was not there to see"
	case late:
		f.Words = "makes up for " + times + " that passed while forged was not there to see"
	case n > 1:
		f.Words = plural(n-1, "due time") + " before it passed while forged was not there to see"
	}
	return f
}

// fire carries a firing out. What keeps it from that is written down, and is no error; but of one that somebody asked for it is theirs to know.
func (d *Daemon) fire(ctx context.Context, s forge.Schedule, f forge.Firing, by forge.Principal) error {
	w := store.Fire{Schedule: s.ID, Firing: f, By: by}
	p, err := d.makerOf(ctx, s)
	if err == nil && f.State == forge.FiringFired {
		err = d.prepare(ctx, p, s, &w)
	}
	if f.State == forge.FiringMissed {
		err = nil
	}
	if err == nil {
		_, err = d.db.For(p).Fire(ctx, w)
		kick(d.kickVerdicts)
	}
	if k := forge.KindOf(err); err == nil || by.UserID != "" || k == forge.KindUnavailable || k == forge.KindInternal || ctx.Err() != nil {
		return err // the database or a file system that does not answer is asked again: the due time is not decided yet
	}
	w = store.Fire{Schedule: s.ID, Firing: forge.Firing{Due: f.Due, Missed: f.Missed, State: forge.FiringRefused, Words: wordsOf(err)}}
	_, err = d.db.For(p).Fire(ctx, w)
	if forge.KindOf(err) == forge.KindPrecondition { // paused or taken away while we looked
		return nil
	}
	return err
}

func wordsOf(err error) string {
	var e *forge.Error
	if errors.As(err, &e) && e.Err != nil {
		if e.Field != "" {
			return e.Field + ": " + e.Err.Error()
		}
		return e.Err.Error()
	}
	return err.Error()
}

// makerOf is the schedule's maker as a principal, with what that user may now, and never more than when it was made. The tenant is right even
// where the maker may not: what is refused is written down there.
func (d *Daemon) makerOf(ctx context.Context, s forge.Schedule) (forge.Principal, error) {
	const op = "schedule.fire"
	p := forge.Principal{Tenant: s.Tenant, Home: s.Tenant, User: s.User, UserID: s.UserID, Role: s.Role}
	u, err := d.db.ScheduleMaker(ctx, s)
	if err != nil {
		return p, err
	}
	p.User, p.Home, p.MaxPriority = u.Name, u.Tenant, u.MaxPriority
	if !u.Role.Includes(s.Role) {
		p.Role = u.Role
	}
	switch {
	case u.DisabledAt != nil:
		return p, forge.Errorf(forge.KindPrecondition, op, "%s, who made it, is disabled", u.Name)
	case u.Tenant != s.Tenant && p.Role != forge.RoleOperator:
		return p, forge.Errorf(forge.KindForbidden, op, "%s, who made it, is no operator any more", u.Name)
	case !p.Role.Includes(forge.RoleMember):
		return p, forge.Errorf(forge.KindForbidden, op, "%s, who made it, is %s now, and submits no runs", u.Name, p.Role)
	case s.OnRegression == forge.RegressionRollback && !p.Role.Includes(forge.RoleAdmin):
		return p, forge.Errorf(forge.KindForbidden, op, "%s, who made it, is %s now, and rolls nothing back", u.Name, p.Role)
	}
	return p, nil
}

// prepare resolves what the schedule names, as it stands now.
func (d *Daemon) prepare(ctx context.Context, p forge.Principal, s forge.Schedule, w *store.Fire) error {
	var q api.SubmitRunRequest
	if err := json.Unmarshal(s.What, &q); err != nil {
		return fmt.Errorf("its run: %w", err)
	}
	if q.Name == "" {
		q.Name = s.Name
	}
	spec, _, err := d.resolveSpec(ctx, p, q)
	if err != nil {
		return err
	}
	w.Run = &store.NewRun{Spec: spec}
	if spec.Model != nil {
		w.Firing.Model, w.Firing.ModelID = spec.Model.Name, forge.ModelVersionID(spec.Model.ID)
	}
	if s.Baseline == "" || spec.Model == nil || spec.Suite == nil {
		return nil
	}
	nothing, err := d.prepareBaseline(ctx, p, s, q, spec, w)
	if nothing != "" {
		w.Firing.Baseline = ""
		w.Firing.Words = joinWords(w.Firing.Words, "nothing is compared: "+nothing)
	}
	return err
}

func joinWords(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// prepareBaseline finds the baseline's newest eval, or one to submit before it. It says why there is neither.
func (d *Daemon) prepareBaseline(ctx context.Context, p forge.Principal, s forge.Schedule, q api.SubmitRunRequest, spec forge.RunSpec, w *store.Fire) (nothing string, err error) {
	transient := func(err error) bool {
		k := forge.KindOf(err)
		return k == forge.KindUnavailable || k == forge.KindInternal
	}
	ref, err := forge.ParseRef(s.Baseline)
	if err != nil {
		return err.Error(), nil
	}
	v, err := d.db.For(p).ModelVersion(ctx, ref)
	if err != nil {
		if transient(err) {
			return "", err
		}
		return "there is no " + s.Baseline, nil
	}
	name := forge.Ref{Name: v.Name, Number: v.Number}.String()
	w.Firing.Baseline = name
	w.Firing.BaselineEval, err = d.judging.newest(ctx, p, v, *spec.Suite)
	switch {
	case err == nil:
		return "", nil
	case forge.KindOf(err) != forge.KindNotFound:
		return "", err
	case v.ID == w.Firing.ModelID:
		return fmt.Sprintf("this is the first eval of %s with this suite", name), nil
	}
	q.Model = name
	base, _, err := d.resolveSpec(ctx, p, q)
	if err != nil {
		if transient(err) {
			return "", err
		}
		return fmt.Sprintf("%s has no eval with this suite and cannot be given one: %s", name, wordsOf(err)), nil
	}
	w.Baseline = &store.NewRun{Spec: base}
	return "", nil
}
