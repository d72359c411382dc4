package forge

import "time"

// Schedule submits a run whenever its time comes, as the user who made it.
type Schedule struct {
	ID           ScheduleID       `json:"id"`
	Tenant       TenantID         `json:"-"`
	Name         string           `json:"name"`
	Cron         string           `json:"cron" doc:"Minute, hour, day of the month, month, day of the week; or @daily and its like"`
	TZ           string           `json:"tz" doc:"Time zone that the expression is read in, by its IANA name"`
	What         []byte           `json:"-"` // JSON of the run that it submits: the wire's noun, which the tables keep as it came
	Baseline     string           `json:"baseline,omitempty" doc:"NAME@X: what each eval is compared with"`
	Overlap      OverlapPolicy    `json:"overlap" enum:"skip,queue,cancel" doc:"While the run before has not ended: leave this one out, submit it all the same, or cancel the run before"`
	CatchUp      CatchUpPolicy    `json:"catch_up" enum:"once,none" doc:"What was missed while forged was down: once makes up for all of it with one run"`
	OnRegression RegressionPolicy `json:"on_regression" enum:"event,block,rollback" doc:"Each also does the first"`
	User         string           `json:"user" doc:"Who made it; its runs are that user's"`
	UserID       UserID           `json:"-"`
	Role         Role             `json:"role" enum:"member,admin,operator" doc:"The most that it acts with; less where the user may less"`
	CreatedAt    time.Time        `json:"created_at"`
	PausedAt     time.Time        `json:"paused_at,omitzero"`
	Decided      time.Time        `json:"decided" doc:"Every due time up to this one is decided"`
	Next         time.Time        `json:"next,omitzero" doc:"When it is due next, in its zone; absent while it is paused"`
	Last         *Firing          `json:"last,omitempty" doc:"The newest firing"`
	Blocks       []string         `json:"blocks,omitempty" doc:"NAME@VERSION that it keeps from being promoted"`
}

// OverlapPolicy says what becomes of a firing while the run of the one before goes on.
type OverlapPolicy string

// The policies.
const (
	OverlapSkip   OverlapPolicy = "skip"
	OverlapQueue  OverlapPolicy = "queue"
	OverlapCancel OverlapPolicy = "cancel"
)

// OverlapPolicies lists them, the default first.
var OverlapPolicies = []OverlapPolicy{OverlapSkip, OverlapQueue, OverlapCancel}

// CatchUpPolicy says what becomes of due times that passed while forged was down.
type CatchUpPolicy string

// The policies.
const (
	CatchUpOnce CatchUpPolicy = "once"
	CatchUpNone CatchUpPolicy = "none"
)

// CatchUpPolicies lists them, the default first.
var CatchUpPolicies = []CatchUpPolicy{CatchUpOnce, CatchUpNone}

// RegressionPolicy says what a regression does beside being told.
type RegressionPolicy string

// The policies.
const (
	RegressionEvent    RegressionPolicy = "event"
	RegressionBlock    RegressionPolicy = "block"    // the version is not promoted any more
	RegressionRollback RegressionPolicy = "rollback" // what was in production before comes back
)

// RegressionPolicies lists them, the default first.
var RegressionPolicies = []RegressionPolicy{RegressionEvent, RegressionBlock, RegressionRollback}

// FiringState is what became of a due time.
type FiringState string

// The states. A due time has one, once, for ever.
const (
	FiringFired   FiringState = "fired"
	FiringSkipped FiringState = "skipped" // the run before had not ended
	FiringMissed  FiringState = "missed"  // forged was down, and the schedule does not catch up
	FiringRefused FiringState = "refused" // its run was refused; the words say why
)

// FiringStates lists the whole set.
var FiringStates = []FiringState{FiringFired, FiringSkipped, FiringMissed, FiringRefused}

// FiringVerdict is what the eval of a firing came to, held against the baseline: a CompareVerdict, or missing. Empty: not known yet, or
// nothing was to be compared.
type FiringVerdict string

// FiringMissing says that one of the two evals is not there.
const FiringMissing FiringVerdict = "missing"

// FiringVerdicts lists the whole set.
var FiringVerdicts = []FiringVerdict{FiringVerdict(CompareIncomparable), FiringVerdict(CompareRegressed), FiringVerdict(CompareInconclusive), FiringVerdict(CompareNonInferior), FiringMissing}

// Firing is one due time of a schedule and what became of it.
type Firing struct {
	Due          time.Time      `json:"due"`
	DecidedAt    time.Time      `json:"decided_at"`
	State        FiringState    `json:"state" enum:"fired,skipped,missed,refused"`
	Words        string         `json:"words,omitempty" doc:"Why, in a sentence"`
	Missed       int            `json:"missed,omitempty" doc:"Due times before it that it also stands for"`
	By           string         `json:"by,omitempty" doc:"Who asked for it; absent where its time had come"`
	Run          int64          `json:"run,omitempty" doc:"Number of the run that it submitted"`
	RunState     RunState       `json:"run_state,omitempty"`
	RunID        RunID          `json:"-"`
	Model        string         `json:"model,omitempty" doc:"NAME@VERSION, as the reference stood then"`
	ModelID      ModelVersionID `json:"-"`
	Baseline     string         `json:"baseline,omitempty" doc:"NAME@VERSION that it is compared with"`
	BaselineEval string         `json:"baseline_eval,omitempty" doc:"The baseline's eval, also where it was submitted with this firing"`
	Verdict      FiringVerdict  `json:"verdict,omitempty" enum:"incomparable,regressed,inconclusive,non_inferior,missing" doc:"Absent until both evals have ended, and where nothing is compared"`
	VerdictWords string         `json:"verdict_words,omitempty" doc:"What was found, and what was done about it"`
	JudgedAt     time.Time      `json:"judged_at,omitzero"`
	Cleared      string         `json:"cleared,omitempty" doc:"Who said that its regression blocks nothing any more"`
}
