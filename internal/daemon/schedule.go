package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/cron"
	"github.com/forge-ml/forge-ml/recipes"
	"github.com/forge-ml/forge-ml/store"
)

// schedules implements api.Schedules.
type schedules struct{ d *Daemon }

// shownFirings is how many firings a schedule is shown with where nobody says.
const shownFirings = 20

func (s schedules) AddSchedule(ctx context.Context, p forge.Principal, r api.AddScheduleRequest) (api.ScheduleAdded, error) {
	const op = "schedule.add"
	var out api.ScheduleAdded
	if err := least(p, op, forge.RoleMember, "making a schedule"); err != nil {
		return out, err
	}
	n := forge.Schedule{Name: r.Name, Cron: r.Cron, TZ: cmp.Or(r.TZ, "UTC"), Baseline: r.Baseline, Role: p.Role,
		Overlap: cmp.Or(r.Overlap, forge.OverlapSkip), CatchUp: cmp.Or(r.CatchUp, forge.CatchUpOnce), OnRegression: cmp.Or(r.OnRegression, forge.RegressionEvent)}
	if _, err := cron.Parse(n.Cron); err != nil {
		return out, err
	}
	if _, err := cron.Zone(n.TZ); err != nil {
		return out, err
	}
	if err := checkPolicies(p, n); err != nil {
		return out, err
	}
	if n.Name == "" {
		n.Name = nameOf(r.Run)
	}
	if err := forge.CheckName(n.Name); err != nil {
		return out, forge.Invalidf("name", "%v", err)
	}
	var err error
	if out.Warnings, err = s.tryOut(ctx, p, n, r.Run); err != nil {
		return out, err
	}
	if src := r.Run.Source; src != nil {
		if err := (snapshots(s)).keep(p.Tenant, src.SHA256); err != nil {
			return out, err
		}
	}
	r.Run.DryRun = false
	if n.What, err = json.Marshal(r.Run); err != nil {
		return out, forge.Invalidf("run", "cannot be stored: %v", err)
	}
	made, err := s.d.db.For(p).AddSchedule(ctx, n)
	if err != nil {
		return out, err
	}
	kick(s.d.kickSchedules)
	out.Schedule, err = shownSchedule(made, time.Now())
	return out, err
}

func checkPolicies(p forge.Principal, n forge.Schedule) error {
	switch {
	case !slices.Contains(forge.OverlapPolicies, n.Overlap):
		return forge.Invalidf("overlap", "%q is none; want one of %v", n.Overlap, forge.OverlapPolicies)
	case !slices.Contains(forge.CatchUpPolicies, n.CatchUp):
		return forge.Invalidf("catch_up", "%q is none; want one of %v", n.CatchUp, forge.CatchUpPolicies)
	case !slices.Contains(forge.RegressionPolicies, n.OnRegression):
		return forge.Invalidf("on_regression", "%q is none; want one of %v", n.OnRegression, forge.RegressionPolicies)
	case n.OnRegression != forge.RegressionEvent && n.Baseline == "":
		return forge.Invalidf("on_regression", "%s needs a baseline: without one nothing regresses", n.OnRegression).WithHint("--baseline NAME@previous")
	case n.OnRegression == forge.RegressionRollback && !p.Role.Includes(forge.RoleAdmin):
		return (&forge.Error{Kind: forge.KindForbidden, Op: "schedule.add", Field: "on_regression", Err: fmt.Errorf("rolling back needs the role %s; yours is %s", forge.RoleAdmin, p.Role)}).
			WithHint("--on-regression block keeps the version from being promoted again; an admin can make the schedule")
	}
	return nil
}

// nameOf is what a schedule is called whose maker gives it no name.
func nameOf(q api.SubmitRunRequest) string {
	name := cmp.Or(q.Name, q.Recipe)
	if ref, err := forge.ParseRef(q.Model); err == nil && q.Suite != "" {
		name = q.Suite + "-" + ref.Name
	}
	return name[:min(len(name), forge.MaxNameLength)]
}

// tryOut resolves the run as a firing would now. What may come to be until then (nothing is in production yet) is a warning.
func (s schedules) tryOut(ctx context.Context, p forge.Principal, n forge.Schedule, q api.SubmitRunRequest) (warnings []string, err error) {
	t := s.d.db.For(p)
	if n.Baseline != "" {
		rec, err := s.d.live().recipes.Get(q.Recipe)
		if err != nil {
			return nil, asField(err, "run.recipe")
		}
		if rec.Kind != recipes.KindEval {
			return nil, forge.Invalidf("baseline", "recipe %s evaluates nothing that could be compared", rec.Name).WithHint("--eval --suite NAME --model NAME@production")
		}
		ref, err := forge.ParseRef(n.Baseline)
		if err != nil {
			return nil, forge.Invalidf("baseline", "%v", err)
		}
		if _, err := t.ModelVersion(ctx, ref); forge.KindOf(err) == forge.KindNotFound {
			warnings = append(warnings, fmt.Sprintf("there is no %s yet; until there is, nothing is compared", n.Baseline))
		} else if err != nil {
			return nil, err
		}
	}
	q.DryRun = true
	_, notes, err := s.d.resolveSpec(ctx, p, q)
	if ref, rerr := forge.ParseRef(q.Model); err != nil && rerr == nil && ref.Label != "" {
		var e *forge.Error
		if _, merr := t.ModelVersion(ctx, ref); forge.KindOf(merr) == forge.KindNotFound && errors.As(err, &e) && e.Field == "model" {
			return append(warnings, fmt.Sprintf("there is no %s yet; until there is, firings are refused", q.Model)), s.d.knowsSuite(q.Suite)
		}
	}
	if n.OnRegression == forge.RegressionRollback && err == nil {
		if ref, _ := forge.ParseRef(q.Model); ref.Label != string(forge.StageProduction) {
			warnings = append(warnings, fmt.Sprintf("%s is rolled back only while it is in production", q.Model))
		}
	}
	return append(warnings, notes...), err
}

func (d *Daemon) knowsSuite(name string) error {
	if name == "" {
		return nil
	}
	_, err := d.live().suites.Get(name)
	return asField(err, "suite")
}

func (s schedules) Schedules(ctx context.Context, p forge.Principal, l api.Listing) (api.List[api.Schedule], error) {
	items, next, err := s.d.db.For(p).Schedules(ctx, store.Listing(l))
	out := api.List[api.Schedule]{Next: next}
	for _, x := range items {
		one, serr := shownSchedule(x, time.Now())
		err = errors.Join(err, serr)
		out.Items = append(out.Items, one)
	}
	return out, err
}

// shownSchedule adds what is not in the tables: when it is due next, in its zone.
func shownSchedule(x forge.Schedule, now time.Time) (api.Schedule, error) {
	out := api.Schedule{Schedule: x}
	if err := json.Unmarshal(x.What, &out.Run); err != nil {
		return out, fmt.Errorf("the run of schedule %s: %w", x.Name, err)
	}
	spec, loc, err := timesOf(x)
	if err == nil && x.PausedAt.IsZero() {
		out.Next, _ = spec.Next(loc, now)
	}
	return out, err
}

func timesOf(x forge.Schedule) (cron.Spec, *time.Location, error) {
	loc, err := cron.Zone(x.TZ)
	if err != nil {
		return cron.Spec{}, nil, err
	}
	spec, err := cron.Parse(x.Cron)
	return spec, loc, err
}

func (s schedules) Schedule(ctx context.Context, p forge.Principal, name string, firings int) (api.ScheduleDetail, error) {
	x, err := s.d.db.For(p).Schedule(ctx, name)
	if err != nil {
		return api.ScheduleDetail{}, err
	}
	return s.detail(ctx, p, x, firings)
}

func (s schedules) ScheduleByID(ctx context.Context, p forge.Principal, id string) (api.ScheduleDetail, error) {
	x, err := s.d.db.For(p).ScheduleByID(ctx, forge.ScheduleID(id))
	if err != nil {
		return api.ScheduleDetail{}, err
	}
	return s.detail(ctx, p, x, 0)
}

func (s schedules) detail(ctx context.Context, p forge.Principal, x forge.Schedule, firings int) (out api.ScheduleDetail, err error) {
	if out.Schedule, err = shownSchedule(x, time.Now()); err != nil {
		return out, err
	}
	out.Firings, err = s.d.db.For(p).Firings(ctx, x.ID, cmp.Or(firings, shownFirings))
	return out, err
}

// mine finds a schedule that the principal may act on.
func (s schedules) mine(ctx context.Context, p forge.Principal, op, name string) (forge.Schedule, error) {
	if err := least(p, op, forge.RoleMember, "acting on schedules"); err != nil {
		return forge.Schedule{}, err
	}
	x, err := s.d.db.For(p).Schedule(ctx, name)
	if err == nil && x.UserID != p.UserID && !p.Role.Includes(forge.RoleAdmin) {
		err = forge.Errorf(forge.KindForbidden, op, "schedule %s is %s's; members act on their own only", x.Name, x.User).WithHint("ask %s, or an admin of the tenant", x.User)
	}
	return x, err
}

func (s schedules) change(ctx context.Context, p forge.Principal, name string, c store.ScheduleChange, reason string) (api.Schedule, error) {
	if _, err := s.mine(ctx, p, "schedule."+string(c), name); err != nil {
		return api.Schedule{}, err
	}
	x, err := s.d.db.For(p).ChangeSchedule(ctx, name, c, reason)
	if err != nil {
		return api.Schedule{}, err
	}
	kick(s.d.kickSchedules)
	return shownSchedule(x, time.Now())
}

func (s schedules) RemoveSchedule(ctx context.Context, p forge.Principal, name string) (api.Schedule, error) {
	return s.change(ctx, p, name, store.ScheduleRemove, "")
}

func (s schedules) PauseSchedule(ctx context.Context, p forge.Principal, name string) (api.Schedule, error) {
	return s.change(ctx, p, name, store.SchedulePause, "")
}

func (s schedules) ResumeSchedule(ctx context.Context, p forge.Principal, name string) (api.Schedule, error) {
	return s.change(ctx, p, name, store.ScheduleResume, "")
}

func (s schedules) ClearSchedule(ctx context.Context, p forge.Principal, name, reason string) (api.Schedule, error) {
	if err := least(p, "schedule.clear", forge.RoleAdmin, "letting a version go on that a schedule blocks"); err != nil {
		return api.Schedule{}, err
	}
	if err := checkText("reason", reason, maxHoldReason); err != nil {
		return api.Schedule{}, err
	}
	return s.change(ctx, p, name, store.ScheduleClear, reason)
}

// RunSchedule fires as the schedule's maker, and says at once what a firing at its time would only write down.
func (s schedules) RunSchedule(ctx context.Context, p forge.Principal, name string) (api.ScheduleDetail, error) {
	x, err := s.mine(ctx, p, "schedule.run", name)
	if err != nil {
		return api.ScheduleDetail{}, err
	}
	f := forge.Firing{Due: time.Now(), State: forge.FiringFired, By: p.Actor()}
	if err := s.d.fire(ctx, x, f, p); err != nil {
		return api.ScheduleDetail{}, err
	}
	kick(s.d.kickSchedules)
	return s.Schedule(ctx, p, name, 0)
}
