package api

import (
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// The headers of the API.
const (
	HeaderKey         = "X-API-Key"
	HeaderRequestID   = "X-Request-Id"
	HeaderLastEventID = "Last-Event-ID"
	HeaderTenant      = "X-Tenant-ID"     // operators only
	HeaderOnce        = "Idempotency-Key" // 1 to 128 printable ASCII characters
	HeaderReplayed    = "Idempotency-Replayed"
)

// The bounds of listings and reads. A listing of rows may be long: 10,000 runs are one page.
const (
	DefaultLimit   = 100
	MaxLimit       = 1000
	MaxRowLimit    = 10000
	DefaultLogRead = 64 << 10
	MaxLogRead     = 1 << 20
	DefaultPoints  = 200
	MaxPoints      = 2000
)

// List is the envelope of a listing.
type List[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"Pass as cursor to get the next page; absent on the last one"`
}

// RunRow is a run as a listing shows it: without its spec, which is nine tenths of a run's
// bytes and would make a list of 10,000 take seconds.
type RunRow struct {
	Number      int64           `json:"number"`
	ID          forge.RunID     `json:"id"`
	Name        string          `json:"name,omitempty"`
	Recipe      string          `json:"recipe"`
	User        string          `json:"user"`
	State       forge.RunState  `json:"state"`
	Reason      forge.EndReason `json:"reason,omitempty" doc:"End reason of the last ended attempt"`
	Held        bool            `json:"held,omitempty"`
	Attempt     int             `json:"attempt"`
	GPUs        int             `json:"gpus" doc:"Of the whole gang"`
	Priority    int             `json:"priority"`
	Step        int64           `json:"step"`
	TotalSteps  int64           `json:"total_steps"`
	Loss        *float64        `json:"loss,omitempty"`
	Model       string          `json:"model,omitempty"`
	SubmittedAt time.Time       `json:"submitted_at"`
	StartedAt   time.Time       `json:"started_at,omitzero"`
	EndedAt     time.Time       `json:"ended_at,omitzero"`
	GPUHours    float64         `json:"gpu_hours,omitempty" doc:"Had up to now; only where costs are asked for"`
	Cost        *float64        `json:"cost,omitempty" doc:"Of them, in the site's currency; absent: not known, or not asked for"`
}

// RowOf takes what a listing shows of a run.
func RowOf(r *forge.Run) RunRow {
	return RunRow{
		Number: r.Number, ID: r.ID, Name: r.Spec.Name, Recipe: r.Spec.Recipe, User: r.User,
		State: r.State, Reason: r.Reason, Held: r.Hold != nil, Attempt: r.Attempt,
		GPUs: r.Spec.Gang.GPUs(), Priority: r.Spec.Priority,
		Step: r.Step, TotalSteps: r.TotalSteps, Loss: r.Loss, Model: r.Model,
		SubmittedAt: r.SubmittedAt, StartedAt: r.StartedAt, EndedAt: r.EndedAt,
	}
}

// CancelRequest asks a run to stop.
type CancelRequest struct {
	Mode forge.CancelMode `json:"mode,omitempty" enum:"term,save,now" doc:"term: TERM, grace, KILL; save: write a checkpoint first; now: KILL. Default term"`
}

// HoldRequest keeps a waiting run from being placed.
type HoldRequest struct {
	Reason string `json:"reason,omitempty" maxLength:"500" doc:"For people; shown wherever it is asked why the run waits"`
}

// Version is what a daemon says of itself.
type Version struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
	API     int    `json:"api,omitempty" doc:"Level of the API that it speaks; grows when operations or fields are added"`
	Oldest  int    `json:"oldest_api,omitempty" doc:"Oldest level of a client that it still understands"`
}

// Level is the level of the API in this source. It grows by one in every release that adds operations
// or fields; OldestLevel follows when something is taken away, which clients below it still use.
// Level 1 had neither tenants nor users.
const (
	Level       = 2
	OldestLevel = 1
)

// Health is the answer of /healthz and /readyz.
type Health struct {
	Status  string   `json:"status" enum:"ok,not_ready"`
	Reasons []string `json:"reasons,omitempty" doc:"Why the daemon is not ready"`
}
