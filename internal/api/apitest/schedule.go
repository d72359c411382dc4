package apitest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// AddFiring puts a firing in front of those of a schedule of tenant T1.
func (f *Fake) AddFiring(schedule string, x forge.Firing) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.schedules {
		if s := &f.schedules[i]; s.Name == schedule && s.Tenant == "T1" {
			s.Firings = append([]forge.Firing{x}, s.Firings...)
			s.Last = &s.Firings[0]
		}
	}
}

// AddSchedule implements api.Schedules. It is due tomorrow at three.
func (f *Fake) AddSchedule(_ context.Context, p forge.Principal, r api.AddScheduleRequest) (api.ScheduleAdded, error) {
	leave, err := f.enter("AddSchedule")
	if err != nil {
		return api.ScheduleAdded{}, err
	}
	defer leave()
	name := cmp.Or(r.Name, "nightly")
	if _, err := f.scheduleOf(p, name); err == nil {
		return api.ScheduleAdded{}, (&forge.Error{Kind: forge.KindConflict, Field: "name", Err: fmt.Errorf("there is a schedule %q already", name)})
	}
	day := f.now.UTC().AddDate(0, 0, 1)
	s := api.ScheduleDetail{Schedule: api.Schedule{Run: r.Run, Schedule: forge.Schedule{ID: forge.ScheduleID(f.id("S")), Tenant: p.Tenant, Name: name, Cron: r.Cron, TZ: cmp.Or(r.TZ, "UTC"), Baseline: r.Baseline,
		Overlap: cmp.Or(r.Overlap, forge.OverlapSkip), CatchUp: cmp.Or(r.CatchUp, forge.CatchUpOnce), OnRegression: cmp.Or(r.OnRegression, forge.RegressionEvent),
		User: p.Actor(), UserID: p.UserID, Role: p.Role, CreatedAt: f.now, Decided: f.now, Next: day.Truncate(24 * time.Hour).Add(3 * time.Hour)}}}
	f.schedules = append(f.schedules, s)
	f.remember(p, string(s.ID))
	return api.ScheduleAdded{Schedule: s.Schedule}, nil
}

func (f *Fake) scheduleOf(p forge.Principal, name string) (*api.ScheduleDetail, error) {
	for i := range f.schedules {
		if s := &f.schedules[i]; s.Tenant == p.Tenant && (s.Name == name && !f.removed[s.ID] || string(s.ID) == name) {
			return s, nil
		}
	}
	return nil, notFound("schedule", name)
}

// Schedules implements api.Schedules.
func (f *Fake) Schedules(_ context.Context, p forge.Principal, l api.Listing) (api.List[api.Schedule], error) {
	leave, err := f.enter("Schedules")
	if err != nil {
		return api.List[api.Schedule]{}, err
	}
	defer leave()
	var all []api.Schedule
	for _, s := range f.schedules {
		if !f.removed[s.ID] {
			all = append(all, s.Schedule)
		}
	}
	return paged(p, "schedules", all, l, func(s api.Schedule) (thing, bool) {
		return thing{string(s.ID), s.Name, s.CreatedAt}, s.Tenant == p.Tenant
	})
}

// Schedule implements api.Schedules.
func (f *Fake) Schedule(_ context.Context, p forge.Principal, name string, firings int) (api.ScheduleDetail, error) {
	leave, err := f.enter("Schedule")
	if err != nil {
		return api.ScheduleDetail{}, err
	}
	defer leave()
	s, err := f.scheduleOf(p, name)
	if err != nil {
		return api.ScheduleDetail{}, err
	}
	out := *s
	out.Firings = slices.Clone(s.Firings[:min(len(s.Firings), max(firings, 1))])
	return out, nil
}

// ScheduleByID implements api.Schedules.
func (f *Fake) ScheduleByID(ctx context.Context, p forge.Principal, id string) (api.ScheduleDetail, error) {
	return f.Schedule(ctx, p, id, 20)
}

func (f *Fake) changeSchedule(p forge.Principal, method, name string, do func(*api.ScheduleDetail)) (api.Schedule, error) {
	leave, err := f.enter(method)
	if err != nil {
		return api.Schedule{}, err
	}
	defer leave()
	s, err := f.scheduleOf(p, name)
	if err != nil {
		return api.Schedule{}, err
	}
	do(s)
	f.remember(p, string(s.ID))
	return s.Schedule, nil
}

// RemoveSchedule implements api.Schedules.
func (f *Fake) RemoveSchedule(_ context.Context, p forge.Principal, name string) (api.Schedule, error) {
	return f.changeSchedule(p, "RemoveSchedule", name, func(s *api.ScheduleDetail) { f.removed[s.ID] = true })
}

// PauseSchedule implements api.Schedules.
func (f *Fake) PauseSchedule(_ context.Context, p forge.Principal, name string) (api.Schedule, error) {
	return f.changeSchedule(p, "PauseSchedule", name, func(s *api.ScheduleDetail) { s.PausedAt, s.Next = f.now, time.Time{} })
}

// ResumeSchedule implements api.Schedules.
func (f *Fake) ResumeSchedule(_ context.Context, p forge.Principal, name string) (api.Schedule, error) {
	return f.changeSchedule(p, "ResumeSchedule", name, func(s *api.ScheduleDetail) { s.PausedAt, s.Next = time.Time{}, f.now.Add(3*time.Hour) })
}

// ClearSchedule implements api.Schedules.
func (f *Fake) ClearSchedule(_ context.Context, p forge.Principal, name, _ string) (api.Schedule, error) {
	return f.changeSchedule(p, "ClearSchedule", name, func(s *api.ScheduleDetail) {
		for i := range s.Firings {
			s.Firings[i].Cleared = p.Actor()
		}
		s.Blocks = nil
	})
}

// RunSchedule implements api.Schedules: the run that it submits is number 1.
func (f *Fake) RunSchedule(ctx context.Context, p forge.Principal, name string) (api.ScheduleDetail, error) {
	_, err := f.changeSchedule(p, "RunSchedule", name, func(s *api.ScheduleDetail) {
		s.Firings = append([]forge.Firing{{Due: f.now, DecidedAt: f.now, State: forge.FiringFired, By: p.Actor(), Run: 1, RunState: forge.RunPending, Model: "bot@1"}}, s.Firings...)
		s.Last = &s.Firings[0]
	})
	if err != nil {
		return api.ScheduleDetail{}, err
	}
	return f.Schedule(ctx, p, name, 20)
}
