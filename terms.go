package forge

import "time"

// Terms is where a waiting run stands in the order of the queue and by which values, as the planner sees it. It has nothing of other
// tenants but amounts.
type Terms struct {
	Position int  `json:"position" doc:"1 is next"`
	Waiting  int  `json:"waiting" doc:"How many wait, of all tenants"`
	Tier     Tier `json:"tier" doc:"guaranteed: within the quota of its tenant; borrows: beyond it, or there is none"`
	// The share of its tenant: what it used lately over what its weight entitles it to.
	Share    float64    `json:"share" doc:"GPU time that its tenant used lately over what it is entitled to; 0 where the policy has no fair share"`
	UsedGPUH float64    `json:"used_gpu_hours" doc:"What its tenant used lately"`
	Band     int        `json:"band" doc:"0 up to the share, one more for each doubling: lower bands first"`
	Class    int        `json:"class" doc:"Its priority: higher first"`
	Lane     Lane       `json:"lane" doc:"Within its class ageing goes first, then small, then critical, then the rest"`
	Rank     float64    `json:"rank_gpu_hours" doc:"What it is ordered by in its lane, least first: the GPU time that it is expected to need still, or had so far; 0 where the policy goes by arrival"`
	Left     Duration   `json:"left" doc:"How long it is expected to run still; 0s: nothing is known"`
	Source   WorkSource `json:"source,omitempty" doc:"Where the estimate of what it has left comes from"`
	Waited   Duration   `json:"waited" doc:"Since it came, without the time that it ran"`
	Filters  []Filter   `json:"filters" doc:"The nodes of all clusters, each counted once: what keeps the run from them"`
	Reserved *Reserved  `json:"reserved,omitempty" doc:"Set for a run that GPUs are kept for"`
	Holders  Holders    `json:"holders" doc:"Who has the GPUs that it could use"`
}

// Tier says whether a run is within the guaranteed quota of its tenant.
type Tier string

// The tiers.
const (
	TierGuaranteed Tier = "guaranteed"
	TierBorrows    Tier = "borrows"
)

// Lane is the part of a class that a run is in.
type Lane string

// The lanes, first to go first.
const (
	LaneAgeing   Lane = "ageing"   // waited longer than the policy lets it
	LaneSmall    Lane = "small"    // the shortest part of all work
	LaneCritical Lane = "critical" // so long that the end of all work depends on it
	LaneRest     Lane = "rest"
)

// Filter is why some nodes do not take a run now.
type Filter struct {
	Why   string `json:"why"`
	Nodes int    `json:"nodes"`
	Free  int    `json:"free_gpus" doc:"GPUs that are free there"`
}

// Reserved is what is kept for a run.
type Reserved struct {
	Cluster ClusterName `json:"cluster"`
	At      time.Time   `json:"at,omitzero" doc:"When it can start at the latest, by the time limits of what runs; absent: not known"`
}

// Holders is who has the GPUs that a run could use: of its own tenant, and of others as amounts (invariant 8).
type Holders struct {
	Own        int       `json:"own_runs"`
	OwnGPUs    int       `json:"own_gpus"`
	Others     int       `json:"others_runs"`
	OthersGPUs int       `json:"others_gpus"`
	FirstEnd   time.Time `json:"first_end,omitzero" doc:"When the first of them is expected to end"`
}
