package api

import (
	"context"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// GC says what old runs and artefacts cost on disk, and removes what may go.
type GC interface {
	// GCPlan looks and changes nothing. Admins see their tenant's, operators with Site all.
	GCPlan(ctx context.Context, p forge.Principal, q GCQuery) (GCReport, error)
	// GCRun removes what a plan of this moment says may go, looking again at each right before it goes. KindConflict while another one is under way.
	GCRun(ctx context.Context, p forge.Principal, q GCQuery) (GCReport, error)
}

// How long ago a run must have ended before anything of it may go.
const (
	DefaultGCAge = 30 * 24 * time.Hour
	LeastGCAge   = time.Hour
)

// GCQuery bounds what is looked at.
type GCQuery struct {
	OlderThan forge.Duration `json:"older_than,omitempty" doc:"Nothing goes of a run that ended later than so long ago; durations as everywhere, default 30 days, at least an hour"`
	Site      bool           `json:"site,omitempty" doc:"Of all tenants; for operators"`
}

// The kinds of what takes room.
const (
	GCAttempt    = "attempt"    // directory of an attempt of a run that has ended
	GCCheckpoint = "checkpoint" // one that its run saved
	GCOutput     = "output"     // of a run whose version has its bytes elsewhere
	GCCopy       = "copy"       // below an artifact_root, and of no version
	GCIncoming   = "incoming"   // half a copy, or half a removal
	GCSnapshot   = "snapshot"   // working directory that runs came with
)

// GCKinds lists them, in the order in which they are shown.
var GCKinds = []string{GCAttempt, GCCheckpoint, GCOutput, GCCopy, GCIncoming, GCSnapshot}

// MaxGCItems is how many items a report names; its sums are of all.
const MaxGCItems = 1000

// GCReport is what takes room and may go, or what has gone.
type GCReport struct {
	At        time.Time      `json:"at"`
	OlderThan forge.Duration `json:"older_than"`
	Site      bool           `json:"site,omitempty"`
	Removed   bool           `json:"removed" doc:"It has gone; false: it is a plan"`
	Goes      []GCSum        `json:"goes" doc:"What may go, or has gone, by kind and reason"`
	Stays     []GCSum        `json:"stays" doc:"What was looked at and stays, by kind and reason"`
	Bytes     int64          `json:"bytes" doc:"On disk, of all that goes; what has a second name elsewhere frees nothing and does not count"`
	Count     int            `json:"count"`
	Items     []GCItem       `json:"items" doc:"The largest, at most 1000"`
	Failed    []GCItem       `json:"failed,omitempty" doc:"What could not be removed or looked at, with why in words"`
	Elapsed   forge.Duration `json:"elapsed"`
}

// GCSum is what has one kind and one reason.
type GCSum struct {
	Kind  string `json:"kind" enum:"attempt,checkpoint,output,copy,incoming,snapshot"`
	Why   string `json:"why"`
	Count int    `json:"count"`
	Bytes int64  `json:"bytes"`
	Yours bool   `json:"yours,omitempty" doc:"It belongs to the runs' owners (identity as_user): forged may not remove it"`
}

// GCItem is one thing that goes.
type GCItem struct {
	Kind    string `json:"kind" enum:"attempt,checkpoint,output,copy,incoming,snapshot"`
	Path    string `json:"path"`
	Bytes   int64  `json:"bytes"`
	Run     int64  `json:"run,omitempty" doc:"Number of the run"`
	Attempt int    `json:"attempt,omitempty"`
	Step    int64  `json:"step,omitempty"`
	Why     string `json:"why"`
	Yours   bool   `json:"yours,omitempty" doc:"It belongs to the run's owner, who can remove it: rm -r PATH"`
}
