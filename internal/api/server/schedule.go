package server

import (
	"context"
	"net/http"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// ScheduleInput names a schedule.
type ScheduleInput struct {
	Schedule string `path:"schedule" maxLength:"64" doc:"Name of the schedule"`
}

const schedulePath = "/v1/schedules/{schedule}"

func (s *server) schedules() {
	byID := func(ctx context.Context, p forge.Principal, ref string) (api.Schedule, error) {
		d, err := s.Schedules.ScheduleByID(ctx, p, ref)
		return d.Schedule, err
	}
	acting(s, spec{
		id: "add-schedule", method: http.MethodPost, path: "/v1/schedules", tag: "schedules", role: forge.RoleMember, created: true,
		summary: "Make a schedule",
		doc: "It submits its run whenever the expression is due, as whoever made it. What the run names is looked up each time: chat@production is what is in production then. " +
			"A time that clocks jump over is due at the first minute after it, one that they show twice the first time.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindConflict, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct{ Body api.AddScheduleRequest }) (api.ScheduleAdded, error) {
		return s.Schedules.AddSchedule(ctx, p, in.Body)
	}, func(ctx context.Context, p forge.Principal, ref string) (api.ScheduleAdded, error) {
		x, err := byID(ctx, p, ref)
		return api.ScheduleAdded{Schedule: x}, err
	})
	operation(s, spec{
		id: "list-schedules", method: http.MethodGet, path: "/v1/schedules", tag: "schedules", role: forge.RoleViewer,
		summary: "List schedules", doc: "By name, each with its newest firing and when it is due next.",
		errors: []forge.Kind{forge.KindInvalid},
	}, func(ctx context.Context, p forge.Principal, in *NamedInput) (api.List[api.Schedule], error) {
		l, err := s.Schedules.Schedules(ctx, p, in.listing())
		return filled(l), err
	})
	operation(s, spec{
		id: "get-schedule", method: http.MethodGet, path: schedulePath, tag: "schedules", role: forge.RoleViewer,
		summary: "Show a schedule", doc: "With its newest firings.",
		errors: []forge.Kind{forge.KindNotFound},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		ScheduleInput
		Firings int `query:"firings" minimum:"1" maximum:"1000" default:"20" doc:"Firings at most"`
	}) (api.ScheduleDetail, error) {
		d, err := s.Schedules.Schedule(ctx, p, in.Schedule, in.Firings)
		return withFirings(d), err
	})
	for _, c := range []struct {
		verb, summary, doc string
		do                 func(context.Context, forge.Principal, string) (api.Schedule, error)
	}{
		{"remove", "Remove a schedule", "It fires no more. What it did stays, and runs that it submitted go on. Refused while it blocks a version.", s.Schedules.RemoveSchedule},
		{"pause", "Pause a schedule", "It does not fire until it is resumed.", s.Schedules.PauseSchedule},
		{"resume", "Resume a schedule", "It is due again from now on; what passed while it was paused was not missed.", s.Schedules.ResumeSchedule},
	} {
		acting(s, spec{
			id: c.verb + "-schedule", method: http.MethodPost, path: schedulePath + "/" + c.verb, tag: "schedules", role: forge.RoleMember,
			summary: c.summary, doc: c.doc + " Members act on their own schedules, admins on all.",
			errors: []forge.Kind{forge.KindNotFound, forge.KindPrecondition},
		}, func(ctx context.Context, p forge.Principal, in *ScheduleInput) (api.Schedule, error) {
			return c.do(ctx, p, in.Schedule)
		}, byID)
	}
	acting(s, spec{
		id: "run-schedule", method: http.MethodPost, path: schedulePath + "/run", tag: "schedules", role: forge.RoleMember,
		summary: "Fire a schedule now", doc: "As its maker. What would keep a firing at its time from submitting a run is the answer here. The times that it is due stay.",
		errors: []forge.Kind{forge.KindInvalid, forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *ScheduleInput) (api.ScheduleDetail, error) {
		d, err := s.Schedules.RunSchedule(ctx, p, in.Schedule)
		return withFirings(d), err
	}, func(ctx context.Context, p forge.Principal, ref string) (api.ScheduleDetail, error) {
		d, err := s.Schedules.ScheduleByID(ctx, p, ref)
		return withFirings(d), err
	})
	acting(s, spec{
		id: "clear-schedule", method: http.MethodPost, path: schedulePath + "/clear", tag: "schedules", role: forge.RoleAdmin,
		summary: "Let go of what a schedule blocks", doc: "Its regressions so far keep no version from being promoted any more.",
		errors: []forge.Kind{forge.KindNotFound, forge.KindPrecondition},
	}, func(ctx context.Context, p forge.Principal, in *struct {
		ScheduleInput
		Body api.ClearScheduleRequest
	}) (api.Schedule, error) {
		return s.Schedules.ClearSchedule(ctx, p, in.Schedule, in.Body.Reason)
	}, byID)
}

// withFirings answers no firings with an empty list, which JSON would have as null.
func withFirings(d api.ScheduleDetail) api.ScheduleDetail {
	if d.Firings == nil {
		d.Firings = []forge.Firing{}
	}
	return d
}
