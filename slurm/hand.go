package slurm

import (
	"context"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/artefact"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

// Hand does what has to be done as the owner of the jobs: it writes and reads run directories and speaks to Slurm in the
// owner's name. Requests and answers are values, so that the one behind sudo (identity as_user) gets them through a
// pipe; forged itself (identity self) is the other. account "" is forged's own.
//
// An error means "not known": nothing may be concluded from it. What Slurm or the run directory did say is in the answer.
type Hand interface {
	// Submit writes the run directory and hands the job to sbatch. An attempt whose claim is revoked, or whose fence is
	// behind, is not submitted: the answer says so.
	Submit(ctx context.Context, account string, q SubmitRequest) (SubmitAnswer, error)
	// Revoke takes the claim of an attempt if nobody has it, and says whose it is then.
	Revoke(ctx context.Context, account string, at rundir.Attempt) (rundir.Claim, error)
	// Note leaves the record of why a job is about to be taken back. It stops nothing: Revoke does.
	Note(ctx context.Context, account string, at rundir.Attempt, r rundir.BatchRecord) error
	// Records reads what shims have left, one answer per attempt, in the order asked.
	Records(ctx context.Context, account string, ats []rundir.Attempt) ([]Records, error)
	// Stop writes the durable request to stop, and nothing weaker over something stronger.
	Stop(ctx context.Context, account string, at rundir.Attempt, s rundir.Stop) error
	// Act lets Slurm do something to jobs of the owner.
	Act(ctx context.Context, account string, q Action) (Answer, error)
	// Read, Checkpoints and CheckInputs are forge's Files, where the files lie.
	Read(ctx context.Context, account string, at rundir.Attempt, stream string, offset int64, max int) (forge.Chunk, error)
	Checkpoints(ctx context.Context, account string, run forge.RunID, runDir string, verify bool) ([]forge.Checkpoint, error)
	// Branch verifies one checkpoint and, where keep says so, keeps it from the retention of its run: see rundir.Branch.
	Branch(ctx context.Context, account string, run forge.RunID, runDir string, attempt int, step int64, keep bool) (forge.Checkpoint, error)
	CheckInputs(ctx context.Context, account string, m forge.Manifest) error
	// PruneHeld removes what of a run is held for others, but for the paths that are needed: see rundir.PruneHeld.
	PruneHeld(ctx context.Context, account string, run forge.RunID, runDir string, needed []string) (int, error)
	// Keep copies what an attempt left to where it stays.
	Keep(ctx context.Context, account string, q KeepRequest) (KeepAnswer, error)
	// Reread reads every byte of a copy, or of an output that is registered where it lies. An error says nothing of the bytes.
	Reread(ctx context.Context, account string, m forge.Manifest) (artefact.Seen, error)
	// Kept lists the copies below an artefact root.
	Kept(ctx context.Context, account, root string) ([]artefact.Kept, error)
	// Remains lists the run directories below a run root.
	Remains(ctx context.Context, account string, runRoot string) ([]forge.Remains, error)
}

// SubmitRequest is one job: the files of its attempt, and what sbatch gets.
type SubmitRequest struct {
	Launch rundir.LaunchFile `json:"launch"`
	Job    Job               `json:"job"`
	Owner  Owner             `json:"owner"`
	Source []byte            `json:"source,omitempty"` // archive of the run's working directory, for a hand that cannot open forged's own file
	Refuse string            `json:"refuse,omitempty"` // why there is no job to be had of it: it is recorded as refused, and Slurm is not asked
}

// SubmitAnswer is what became of a submission.
type SubmitAnswer struct {
	JobID   string `json:"job_id,omitempty"`  // the clean answer, or the one of an earlier submission of the same attempt
	Refused string `json:"refused,omitempty"` // in Slurm's own words, or those of the request: this job will never be taken as it is
	Revoked bool   `json:"revoked,omitempty"` // the claim was taken before, or a newer attempt holds the fence
	Unclear string `json:"unclear,omitempty"` // no clean answer: it may exist, now or later
}

// Records is what the shims of one attempt have left; absent files are nil.
type Records struct {
	Launched *Launched           `json:"launched,omitempty"`
	Batch    *rundir.BatchRecord `json:"batch,omitempty"`
	Claim    *rundir.Claim       `json:"claim,omitempty"`
	Live     map[int]rundir.Live `json:"live,omitempty"` // by node index
	Exits    map[int]rundir.Exit `json:"exits,omitempty"`
	Ranks    []forge.RankExit    `json:"ranks,omitempty"` // of ranks whose shim left no exit record
	Status   *forge.StatusFile   `json:"status,omitempty"`
	Resume   *forge.Resume       `json:"resume,omitempty"`
	Output   *forge.Manifest     `json:"output,omitempty"`
	Stop     *rundir.Stop        `json:"stop,omitempty"`
	Log      string              `json:"log,omitempty"`     // the last words of script and srun, where a shim has none
	Missing  bool                `json:"missing,omitempty"` // the attempt has no directory, and its run root is there
	Error    string              `json:"error,omitempty"`   // the directory could not be read: nothing is known
}

// Launched is what of a launch decides how its records are read.
type Launched struct {
	Run       forge.RunID    `json:"run"`
	RunNumber int64          `json:"run_number"`
	PerNode   []int          `json:"per_node"` // ranks by node index
	Gang      forge.Gang     `json:"gang"`
	Grace     forge.Duration `json:"grace"`
	At        time.Time      `json:"at"` // when it was written
}

// Action is one thing that Slurm is to do to jobs. Names of programs and their options are put together by the hand, so that
// nobody who reaches it can have it run anything else.
type Action struct {
	Verb   ActionVerb `json:"verb"`
	JobIDs []string   `json:"job_ids"`
	Name   string     `json:"name,omitempty"`   // that the jobs have: a controller that lost its last seconds gives their ids again, to others
	Signal string     `json:"signal,omitempty"` // ActSignal: "USR1"
	Nice   int        `json:"nice,omitempty"`   // ActNice
}

// ActionVerb is from a closed set.
type ActionVerb string

// The verbs.
const (
	ActCancel ActionVerb = "cancel" // scancel
	ActSignal ActionVerb = "signal" // scancel --signal, to the steps
	ActNice   ActionVerb = "nice"   // scontrol update nice=
)

// Answer is what a program of Slurm said.
type Answer struct {
	Out  string `json:"out,omitempty"`
	Err  string `json:"err,omitempty"`
	Code int    `json:"code"`
}
