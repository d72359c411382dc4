package forge

import "time"

// Plan is what the scheduler decided for one snapshot: data that can be printed and diffed.
// Each decision names the versions that it rests on, so that store.Apply can commit the ones
// that still hold and return the rest.
type Plan struct {
	Revision int64
	Place    []Place
	Preempt  []Preempt
	Hold     []Held
	WakeAt   time.Time // plan again then even if nothing happens; zero: no need
}

// Place starts a gang.
type Place struct {
	Run        RunID
	RunVersion int64
	Attempt    int // the number that the new attempt gets
	Cluster    ClusterName
	Shares     []Share
	Nodes      []NodeVersion // what the decision rests on
	HandOver   bool          // to the cluster's own queue, which chooses the nodes: Shares and Nodes are empty
}

// NodeVersion is one node as the decision saw it.
type NodeVersion struct {
	Node    NodeName
	Version int64
}

// Preempt stops an attempt so that a waiting gang can start; the GPUs are claimed for it. All
// preemptions for one run stand side by side and hold together or not at all; their claims are
// all that its gang needs, GPUs that are free already among them. An attempt that is leaving
// anyway is not asked again, only claimed.
type Preempt struct {
	Run     RunID
	Attempt int
	For     RunID
	Leaves  bool // it leaves anyway, or is stopped in this plan for a run further ahead: only claimed, never asked for this one's sake
	Claims  []Claim
}

// Held says why runs wait. One entry serves all runs that wait for the same reason.
type Held struct {
	Code HoldCode
	Text string  // for people: "needs 8 GPUs on one node: 5 free on gpu-2"
	Runs []RunID // in queue order
}

// HoldCode is from a closed set.
type HoldCode string

// The hold codes.
const (
	HoldAfter       HoldCode = "after"        // waits for another run
	HoldAfterFailed HoldCode = "after_failed" // the other run did not complete
	HoldUser        HoldCode = "held"         // run.hold is set
	HoldBackoff     HoldCode = "backoff"      // not before a time
	HoldCancel      HoldCode = "cancelling"
	HoldCapacity    HoldCode = "capacity"   // fits an empty cluster, not now
	HoldNever       HoldCode = "never"      // fits no cluster as the nodes are
	HoldPaused      HoldCode = "paused"     // the cluster takes no new work
	HoldNoNodes     HoldCode = "no_nodes"   // no node is ready
	HoldBehind      HoldCode = "behind"     // would fit, and must not overtake the head of the queue
	HoldPreempting  HoldCode = "preempting" // GPUs are claimed for it; runs there save and stop
	HoldQueued      HoldCode = "queued"     // never of a plan: waits in the cluster's own queue, which decides
	HoldLimit       HoldCode = "limit"      // its tenant or user has as much as it may have at once
	HoldBudget      HoldCode = "budget"     // its tenant's budget is spent
	HoldQueueFull   HoldCode = "queue_full" // as many of the user's runs wait in the cluster's own queue as may
)

// HoldCodes lists the whole set.
var HoldCodes = []HoldCode{HoldAfter, HoldAfterFailed, HoldUser, HoldBackoff, HoldCancel, HoldCapacity, HoldNever, HoldPaused, HoldNoNodes, HoldBehind, HoldPreempting, HoldLimit, HoldBudget, HoldQueueFull, HoldQueued}

// Refusal is a decision that no longer held when it was to be committed.
type Refusal struct {
	Run    RunID
	Why    string
	Retry  bool // the world moved; plan again
	Broken bool // a constraint of the store refused it: a bug in the plan
}

// Delta is one change that a committed transaction made, in commit order. Exactly one
// pointer is set. The daemon's world is the fold of all deltas over a fresh read.
type Delta struct {
	Run     *Run
	Attempt *Attempt
	Node    *Node
	Claim   *ClaimChange
	Paused  *PausedChange
	Tenant  *TenantAccount
	User    *UserAccount
	Event   *Event
}

// ClaimChange adds or removes a claim.
type ClaimChange struct {
	Claim Claim
	Gone  bool
}

// PausedChange pauses or resumes a cluster.
type PausedChange struct {
	PausedCluster
	Gone bool
}
