package api

import (
	"context"

	forge "github.com/forge-ml/forge-ml"
)

// Schedules submits runs when their time comes. Members act on their own, admins on all of the tenant: KindForbidden. A schedule is named by its name.
type Schedules interface {
	// AddSchedule is KindInvalid for an expression that is never due; KindForbidden for a rollback by anyone but an admin; KindConflict for a name that is taken.
	AddSchedule(ctx context.Context, p forge.Principal, r AddScheduleRequest) (ScheduleAdded, error)
	Schedules(ctx context.Context, p forge.Principal, l Listing) (List[Schedule], error)
	Schedule(ctx context.Context, p forge.Principal, name string, firings int) (ScheduleDetail, error)
	// ScheduleByID also shows one that was taken away.
	ScheduleByID(ctx context.Context, p forge.Principal, id string) (ScheduleDetail, error)
	// RemoveSchedule is KindPrecondition while it blocks a version.
	RemoveSchedule(ctx context.Context, p forge.Principal, name string) (Schedule, error)
	PauseSchedule(ctx context.Context, p forge.Principal, name string) (Schedule, error)
	ResumeSchedule(ctx context.Context, p forge.Principal, name string) (Schedule, error)
	// RunSchedule fires now, and leaves the times that it is due as they are.
	RunSchedule(ctx context.Context, p forge.Principal, name string) (ScheduleDetail, error)
	// ClearSchedule lets go of what it blocks. For admins.
	ClearSchedule(ctx context.Context, p forge.Principal, name, reason string) (Schedule, error)
}

// AddScheduleRequest makes a schedule.
type AddScheduleRequest struct {
	Name         string                 `json:"name,omitempty" doc:"Default: that of the suite and the model, or of the recipe"`
	Cron         string                 `json:"cron" minLength:"1" maxLength:"200" doc:"Minute, hour, day of the month, month, day of the week; or @hourly, @daily, @weekly, @monthly, @yearly"`
	TZ           string                 `json:"tz,omitempty" maxLength:"64" doc:"IANA name of a time zone: Europe/Berlin; default UTC"`
	Run          SubmitRunRequest       `json:"run" doc:"What is submitted. What it names is looked up each time"`
	Baseline     string                 `json:"baseline,omitempty" maxLength:"130" doc:"NAME@X that each eval is compared with; for recipes that evaluate"`
	Overlap      forge.OverlapPolicy    `json:"overlap,omitempty" enum:"skip,queue,cancel" doc:"Default skip"`
	CatchUp      forge.CatchUpPolicy    `json:"catch_up,omitempty" enum:"once,none" doc:"Default once"`
	OnRegression forge.RegressionPolicy `json:"on_regression,omitempty" enum:"event,block,rollback" doc:"Default event; the others need a baseline"`
}

// Schedule is a schedule with what it submits.
type Schedule struct {
	forge.Schedule
	Run SubmitRunRequest `json:"run"`
}

// ScheduleAdded is a new schedule, and what whoever made it should know.
type ScheduleAdded struct {
	Schedule
	Warnings []string `json:"warnings,omitempty"`
}

// ScheduleDetail is a schedule with its last firings.
type ScheduleDetail struct {
	Schedule
	Firings []forge.Firing `json:"firings" doc:"Newest first"`
}

// ClearScheduleRequest says why what a schedule blocks may go on.
type ClearScheduleRequest struct {
	Reason string `json:"reason" minLength:"1" maxLength:"1000"`
}
