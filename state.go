package forge

import "slices"

// RunState is where a run stands. Hold and cancel are fields of the run, not states.
type RunState string

// The run states.
const (
	RunPending      RunState = "pending"      // waiting; reasons are shown
	RunProvisioning RunState = "provisioning" // allocated, until every rank has started
	RunRunning      RunState = "running"
	RunCompleted    RunState = "completed"
	RunFailed       RunState = "failed"
	RunCancelled    RunState = "cancelled"
)

// RunStates lists every run state in the order people meet them.
var RunStates = []RunState{RunPending, RunProvisioning, RunRunning, RunCompleted, RunFailed, RunCancelled}

// Terminal says that the state is final (invariant 7).
func (s RunState) Terminal() bool { return len(runMoves[s]) == 0 }

// runMoves is the whole state machine of a run; docs/states.md is tested against it.
var runMoves = map[RunState][]RunState{
	RunPending:      {RunProvisioning, RunFailed, RunCancelled},
	RunProvisioning: {RunRunning, RunPending, RunCompleted, RunFailed, RunCancelled},
	RunRunning:      {RunPending, RunCompleted, RunFailed, RunCancelled},
	RunCompleted:    {},
	RunFailed:       {},
	RunCancelled:    {},
}

// CanMoveRun says whether a run may go from one state to another.
func CanMoveRun(from, to RunState) bool { return slices.Contains(runMoves[from], to) }

// AttemptState is where an attempt stands; it only moves forward.
type AttemptState string

// The attempt states.
const (
	AttemptPlaced    AttemptState = "placed"    // decided and durable; nothing started
	AttemptLaunching AttemptState = "launching" // handed to the executor, or about to be
	AttemptRunning   AttemptState = "running"   // every rank has started
	AttemptStopping  AttemptState = "stopping"  // a stop was asked for or a rank has ended
	AttemptExited    AttemptState = "exited"    // GPUs freed, with proof
	AttemptEnded     AttemptState = "ended"     // outputs verified, hashed, registered; reason known
)

// AttemptStates lists every attempt state, in order.
var AttemptStates = []AttemptState{AttemptPlaced, AttemptLaunching, AttemptRunning, AttemptStopping, AttemptExited, AttemptEnded}

// CanMoveAttempt allows every step forward, also over states that were not observed, and none back.
func CanMoveAttempt(from, to AttemptState) bool {
	return slices.Index(AttemptStates, from) < slices.Index(AttemptStates, to) && slices.Contains(AttemptStates, from)
}

// Open says that the attempt still holds its allocation.
func (s AttemptState) Open() bool { return s != AttemptExited && s != AttemptEnded }
