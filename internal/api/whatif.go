package api

import (
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Effect is what a change of one run does to all others that wait, of whatever tenant: amounts only.
type Effect struct {
	Later  int            `json:"later" doc:"Runs that would start later"`
	Most   forge.Duration `json:"most" doc:"By how much at most"`
	Sooner int            `json:"sooner" doc:"Runs that would start sooner"`
	Never  int            `json:"never" doc:"Runs whose start is known now and that would not start then, as far as was looked"`
}

// WhatIfQuery is a change of the site that is only thought of.
type WhatIfQuery struct {
	AddNodes []string
	Drain    []string
	Policy   string
}

// WhatIf is the queue played on as it is, and as it would be.
type WhatIf struct {
	Now    AheadFigures `json:"now"`
	Then   AheadFigures `json:"then"`
	Runs   []WhatIfRun  `json:"runs" doc:"Those that wait: of the own tenant, for an operator of all, in the order of the plan"`
	More   int          `json:"more,omitempty" doc:"Runs after these"`
	Others Effect       `json:"others" doc:"What it does to all that wait"`
}

// AheadFigures sum up one look ahead.
type AheadFigures struct {
	Policy   string  `json:"policy"`
	GPUs     int     `json:"gpus" doc:"On nodes that take work"`
	Waiting  int     `json:"waiting"`
	Start    int     `json:"start" doc:"How many of them start, as far as was looked"`
	AvgWaitS float64 `json:"avg_wait_s" doc:"From submission to the expected start, of those that start in both"`
	P95WaitS float64 `json:"p95_wait_s"`
	MaxWaitS float64 `json:"max_wait_s"`
}

// WhatIfRun is one run in both.
type WhatIfRun struct {
	Tenant forge.TenantID `json:"tenant,omitempty" doc:"For operators"`
	Run    int64          `json:"run"`
	Name   string         `json:"name,omitempty"`
	GPUs   int            `json:"gpus"`
	Now    time.Time      `json:"now,omitzero" doc:"Expected start; absent: not known"`
	Then   time.Time      `json:"then,omitzero" doc:"Expected start then; absent: not known"`
}
