package forge

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Attempt is one launch of a run. It is one-shot and only moves forward; its Number is the
// fence that stops late writers.
type Attempt struct {
	Run        RunID        `json:"-"`
	Number     int          `json:"number"`
	State      AttemptState `json:"state"`
	Reason     EndReason    `json:"reason,omitempty"`
	Detail     string       `json:"detail,omitempty" doc:"Evidence in words: which rank, which exit code, which limit"`
	Cluster    ClusterName  `json:"cluster"`
	Placement  []Share      `json:"placement"`
	ExternalID ExternalID   `json:"external_id,omitempty"`
	RunDir     string       `json:"run_dir"`
	Intent     Intent       `json:"intent,omitempty" doc:"What forged asked of it, recorded before the signal"`
	Rehearsal  bool         `json:"rehearsal,omitempty" doc:"The preemption was asked for with run interrupt: it made room for nobody, and does not spare the run from others"`
	ResumeStep int64        `json:"resume_step" doc:"Step of the verified checkpoint that it resumed from; 0 when from the start"`
	ResumeFrom string       `json:"resume_from,omitempty"`
	LastStep   int64        `json:"last_step"`
	SavedStep  int64        `json:"saved_step" doc:"Highest step that this attempt has a durable checkpoint of"`
	SavedAt    time.Time    `json:"saved_at,omitzero" doc:"When that checkpoint was saved"`
	Unknown    time.Time    `json:"unknown_since,omitzero" doc:"The executor has not answered since"`
	PlacedAt   time.Time    `json:"placed_at"`
	StartedAt  time.Time    `json:"started_at,omitzero" doc:"All ranks started"`
	ExitedAt   time.Time    `json:"exited_at,omitzero"`
	EndedAt    time.Time    `json:"ended_at,omitzero"`
	Exits      []RankExit   `json:"exits,omitempty"`

	FirstStepAt time.Time `json:"first_step_at,omitzero" doc:"When its ranks reported their first step; absent: none yet, or it reports none"`
	LastStepAt  time.Time `json:"last_step_at,omitzero"`
	KeptAt      time.Time `json:"kept_at,omitzero" doc:"When the newest of its checkpoints that still counts was saved: work up to there is kept"`
	UnheardAt   time.Time `json:"unheard_at,omitzero" doc:"When it exited, its executor had not answered since"`
	Price       *float64  `json:"price,omitempty" doc:"Of all its GPUs together for an hour, in the site's currency, as it was when they were allocated; absent: not known"`

	Batch *BatchJob `json:"batch,omitempty" doc:"What the cluster's batch system says of it; absent where there is none"`
}

// Queued says that a queue of the cluster's own has the attempt, and nothing is allocated yet.
func (a Attempt) Queued() bool { return a.State.Open() && len(a.Placement) == 0 }

// Share is what an attempt holds on one node.
type Share struct {
	Node      NodeName `json:"node"`
	Slots     []int    `json:"slots" doc:"GPU slot numbers, ascending"`
	CPUs      int      `json:"cpus"`
	MemoryMiB int64    `json:"memory_mib"`
}

// Intent is what forged wants of a running attempt. It only ever gets stronger.
type Intent string

// The intents, weakest first. The checkpoint intents ask for a save and exit 85.
const (
	IntentNone              Intent = ""
	IntentCheckpointPreempt Intent = "checkpoint_preempt"
	IntentCheckpointLimit   Intent = "checkpoint_limit" // only on its way to the shim, which records the limit as the cause
	IntentCheckpointDrain   Intent = "checkpoint_drain"
	IntentCheckpointUser    Intent = "checkpoint_user"
	IntentCancel            Intent = "cancel"
	IntentKill              Intent = "kill"
)

// AttemptKey names an attempt to executors; it is what Find looks for after a crash.
func AttemptKey(run RunID, number int) string {
	return fmt.Sprintf("%s.%d", run, number)
}

// ParseAttemptKey is the inverse of AttemptKey.
func ParseAttemptKey(key string) (RunID, int, error) {
	run, num, ok := strings.Cut(key, ".")
	n, err := strconv.Atoi(num)
	if !ok || err != nil || n < 1 || run == "" {
		return "", 0, fmt.Errorf("attempt key %q: want RUN.NUMBER", key)
	}
	return RunID(run), n, nil
}

// RankExit is how one rank ended, as its shim saw it.
type RankExit struct {
	Rank      int       `json:"rank"`
	Node      NodeName  `json:"node"`
	Code      int       `json:"code" doc:"Exit code; 128 + signal number when killed by a signal"`
	Signal    int       `json:"signal,omitempty"`
	ByShim    bool      `json:"by_shim,omitempty" doc:"The shim itself sent the signal"`
	OOM       bool      `json:"oom,omitempty" doc:"The kernel's out-of-memory killer was at work"`
	StartedAt time.Time `json:"started_at"`
	EndedAt   time.Time `json:"ended_at"`
}

// GPUUse is what one attempt had of a cluster, for adding up.
type GPUUse struct {
	Run     RunID
	Attempt int
	JobID   string // the batch system's, where there is one
	GPUs    int
	From    time.Time // allocated
	To      time.Time
}

// Hours is GPUs × time.
func (u GPUUse) Hours() float64 { return float64(u.GPUs) * max(0, u.To.Sub(u.From)).Hours() }

// GPUUse says what the attempt had, once it has let go of it; see held.
func (a Attempt) GPUUse() (u GPUUse, ok bool) {
	u = GPUUse{Run: a.Run, Attempt: a.Number, GPUs: a.GPUs()}
	u.From, u.To = a.held()
	if a.Batch != nil {
		u.JobID = a.Batch.ID
	}
	return u, u.GPUs > 0 && !u.From.IsZero() && !u.To.IsZero()
}

// GPUs is how many it holds or held.
func (a Attempt) GPUs() (n int) {
	for _, s := range a.Placement {
		n += len(s.Slots)
	}
	return n
}
