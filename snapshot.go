package forge

import "time"

// Snapshot is all that planning may know: an immutable view of the world at Revision.
// Slices are sorted (Pending by ID, Active by run, Nodes by cluster and name), so that
// equal worlds are equal bytes.
type Snapshot struct {
	Revision int64
	Now      time.Time
	Pending  []PendingRun
	Active   []ActiveAttempt
	Nodes    []Node
	Claims   []Claim
	Paused   []PausedCluster
	Queues   []ClusterQueue // clusters with a batch system, by name
	Tenants  []TenantShare  // by id; one that is not listed has weight 1, no use and no quota
	Arrived  []Arrival      // by time, then run
}

// PendingRun is a run that waits and has no open attempt.
type PendingRun struct {
	ID          RunID
	Tenant      TenantID
	User        string
	Number      int64
	Version     int64
	Attempt     int  // number of the last attempt
	Batch       bool // asks for words of a batch system: only clusters that have one will do
	Priority    int
	SubmittedAt time.Time
	NotBefore   time.Time
	Gang        Gang
	TimeLimit   time.Duration
	Cluster     ClusterName
	Avoid       []NodeName
	Hold        *Hold
	Cancel      CancelMode
	After       []Dependency
	Where       *Constraints // nil: anywhere
	Pinned      bool         // its owner says that it must not be preempted once it runs
	Eval        bool         // counts in the quota class of evals
	Work        Work
}

// Dependency is a run that must complete first, and how it stands.
type Dependency struct {
	Run    RunID
	Number int64
	State  RunState
}

// ActiveAttempt holds slots until it is proven gone.
type ActiveAttempt struct {
	Run         RunID
	Number      int // attempt number
	Tenant      TenantID
	User        string
	Priority    int
	State       AttemptState
	Cluster     ClusterName
	Placement   []Share
	PlacedAt    time.Time
	StartedAt   time.Time // when its ranks had started; zero before
	SavedAt     time.Time // when its newest durable checkpoint was saved; zero when it has none
	EndsBy      time.Time // by its time limit; zero when it has none
	Intent      Intent    // what it was asked to do already
	Preempted   int       // how often its run was preempted before
	PreemptedAt time.Time // when it last was; zero when never
	SubmittedAt time.Time // the run
	Gang        Gang
	Where       *Constraints
	Pinned      bool // its owner says that it must not be preempted
	Eval        bool
	Work        Work
}

// Queued says that a queue of the cluster's own has it and that it holds nothing yet.
func (a ActiveAttempt) Queued() bool { return len(a.Placement) == 0 }

// Leaving says that the attempt ends without being asked once more.
func (a ActiveAttempt) Leaving() bool { return a.Intent != IntentNone || a.State == AttemptStopping }

// Claim keeps a GPU for one waiting run while what was preempted for it stops.
type Claim struct {
	Cluster ClusterName
	Node    NodeName
	Slot    int
	For     RunID
	From    RunID // the run that is stopped for it, so that "2 of 3 have saved" can be said; "" when the GPU was free already
}

// PausedCluster takes no new work until an operator resumes it.
type PausedCluster struct {
	Cluster ClusterName
	Reason  string
}

// ClusterQueue is a cluster with a batch system. Where the binding is BindEager runs are handed over to its queue; else
// forge's plan places them as everywhere.
type ClusterQueue struct {
	Cluster    ClusterName
	Binding    Binding
	MaxPending int // of one user's attempts that wait in it, 0: no limit; what is more waits here
}
