package scheduler

import (
	"errors"
	"fmt"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Property names one thing that a plan must never get wrong.
type Property string

// The properties that CheckPlan judges.
const (
	PropRevision        Property = "stale_revision"       // the plan is of another snapshot
	PropRunPending      Property = "run_not_pending"      // what is placed or held waits
	PropPlacedOnce      Property = "run_placed_twice"     // a run is placed at most once and is not active
	PropRunReady        Property = "run_not_ready"        // held, cancelled, backing-off and dependent runs stay
	PropAttempt         Property = "wrong_attempt"        // the next attempt's number
	PropVersion         Property = "stale_version"        // the versions that the decision names
	PropGangWhole       Property = "gang_whole"           // all of the gang, on distinct nodes
	PropGangMixed       Property = "gang_mixed"           // one kind and type of GPU
	PropGangMIG         Property = "gang_on_mig"          // a MIG instance only by itself: ranks on such cannot reach each other
	PropCluster         Property = "wrong_cluster"        // the cluster that was asked for, and one that is there
	PropPaused          Property = "cluster_paused"       // nothing new on a paused cluster
	PropNode            Property = "node_unknown"         // nodes of that cluster
	PropNodeReady       Property = "node_not_ready"       // nodes that take work
	PropSlot            Property = "slot_unknown"         // slots that the node has
	PropSlotSick        Property = "slot_sick"            // GPUs that are well
	PropSlotHeld        Property = "slot_held"            // invariant 3: not an active attempt's
	PropSlotTwice       Property = "slot_twice"           // invariant 3: not two runs'
	PropClaimed         Property = "claimed_for_other"    // a claimed GPU only for the claim's run
	PropWhere           Property = "constraint_broken"    // the types, memory, labels and nodes that the run asks for, within one value of a label
	PropBound           Property = "over_bound"           // no more at once than a tenant or user may have
	PropBudget          Property = "over_budget"          // nothing of a tenant whose budget is spent
	PropCPU             Property = "over_cpu"             // no more CPUs than the node has
	PropMemory          Property = "over_memory"          // no more memory than the node has
	PropAvoid           Property = "avoided_node"         // avoided nodes only as a last resort
	PropCPUSlot         Property = "cpu_slot_for_gpu"     // CPU slots only where no GPUs could do
	PropHeadDelayed     Property = "backfill_delays_head" // invariant 6
	PropReason          Property = "hold_without_reason"  // invariant 9
	PropHoldOnce        Property = "held_and_placed"      // one answer per run
	PropPreemptTarget   Property = "preempt_target"       // an active attempt, for a pending run that is ready
	PropPreemptGap      Property = "preempt_gap"          // only what is of a lower class, or borrows what the other is entitled to
	PropPreemptOrder    Property = "preempt_order"        // where a policy stops runs in order: only what comes later
	PropPreemptMoved    Property = "preempt_moved"        // or what is narrower and finds another place
	PropPreemptPinned   Property = "preempt_pinned"       // not what its owner has pinned
	PropPreemptAgain    Property = "preempt_again"        // not what was preempted just before
	PropPreemptClaims   Property = "preempt_claims"       // the GPUs freed, and free ones, each claimed once
	PropPreemptInVain   Property = "preempt_in_vain"      // invariant 6: the waiting gang then starts
	PropPreemptNeedless Property = "preempt_needless"     // nobody whose stop the gang does not need
	PropPreemptSaid     Property = "preempt_unsaid"       // whoever it is for is told what it waits for
	PropBatchCluster    Property = "no_batch_system"      // words for a batch system only to where there is one
	PropHandOverOnly    Property = "hand_over_only"       // a cluster with a queue of its own gets runs, and no other cluster does so
	PropHandOverNodes   Property = "hand_over_nodes"      // whoever is handed over has no nodes of ours, and the queue could ever start it
	PropHandOverLimit   Property = "hand_over_limit"      // no more of one user than may wait there
	PropHandOverOrder   Property = "hand_over_order"      // in the order of forge's queue
	PropHandOverBound   Property = "hand_over_early"      // not what starts now elsewhere
	PropHandOverDue     Property = "hand_over_due"        // who could be handed over does not wait here
	PropWake            Property = "wake_late"            // what changes by the clock alone is not slept through
)

// Properties lists every property.
var Properties = []Property{
	PropRevision, PropRunPending, PropPlacedOnce, PropRunReady, PropAttempt, PropVersion, PropGangWhole, PropGangMixed, PropGangMIG,
	PropCluster, PropPaused, PropNode, PropNodeReady, PropSlot, PropSlotSick, PropSlotHeld, PropSlotTwice, PropClaimed,
	PropCPU, PropMemory, PropAvoid, PropCPUSlot, PropHeadDelayed, PropReason, PropHoldOnce, PropPreemptTarget,
	PropWhere, PropBound, PropBudget, PropPreemptGap, PropPreemptOrder, PropPreemptMoved, PropPreemptPinned, PropPreemptAgain, PropPreemptClaims, PropPreemptInVain, PropPreemptNeedless, PropPreemptSaid, PropWake,
	PropBatchCluster, PropHandOverOnly, PropHandOverNodes, PropHandOverLimit, PropHandOverOrder, PropHandOverBound, PropHandOverDue,
}

// Violation is one property that a plan breaks.
type Violation struct {
	Property Property
	Run      forge.RunID // "" when it is not about one
	Detail   string
}

func (v *Violation) Error() string {
	if v.Run == "" {
		return fmt.Sprintf("%s: %s", v.Property, v.Detail)
	}
	return fmt.Sprintf("%s: run %s: %s", v.Property, v.Run, v.Detail)
}

// CheckPlan judges every safety property of a plan against its snapshot; the error joins one
// *Violation per fault. It is written apart from the planner on purpose: it looks everything up
// in the snapshot itself, by the plainest means there are.
func CheckPlan(s forge.Snapshot, p Policy, plan forge.Plan) error {
	c := checked(s, p, plan)
	c.reasons()
	return errors.Join(c.faults...)
}

// CheckDecisions is CheckPlan for what Planner.Decide decides: all that becomes of it is judged, reasons are not there.
func CheckDecisions(s forge.Snapshot, p Policy, plan forge.Plan) error {
	return errors.Join(checked(s, p, plan).faults...)
}

func checked(s forge.Snapshot, p Policy, plan forge.Plan) *checker {
	c := &checker{s: s, policy: p, plan: plan, setAside: map[forge.RunID]forge.ActiveAttempt{}, overruled: map[forge.RunID]bool{}, nodes: map[checkNode]forge.Node{}, pending: make(map[forge.RunID]*forge.PendingRun, len(s.Pending)), stopped: map[forge.RunID][]forge.Preempt{}, stoppedAs: map[forge.RunID][]forge.Preempt{},
		running: make(map[forge.RunID]*forge.ActiveAttempt, len(s.Active)), kinds: map[askedFor]forge.GPUKind{}, without: map[askedFor]bool{}, chosen: map[askedFor]map[gangType][]forge.Node{}, queueable: map[askedFor][]forge.ClusterName{}, fit: map[askedFor]map[gangType][]forge.Node{},
		heldBy: map[checkSlot]forge.RunID{}, claims: map[checkSlot]forge.RunID{}, usedCPU: map[checkNode]int{}, usedMiB: map[checkNode]int64{}}
	for _, n := range s.Nodes {
		c.nodes[checkNode{n.Cluster, n.Name}] = n
	}
	for i := range s.Pending {
		c.pending[s.Pending[i].ID] = &s.Pending[i]
	}
	for _, p := range plan.Preempt {
		c.stopped[p.For] = append(c.stopped[p.For], p)
		c.stoppedAs[p.Run] = append(c.stoppedAs[p.Run], p)
	}
	for i, a := range s.Active {
		c.running[a.Run] = &s.Active[i]
		for _, sh := range a.Placement {
			at := checkNode{a.Cluster, sh.Node}
			c.usedCPU[at] += sh.CPUs
			c.usedMiB[at] += sh.MemoryMiB
			for _, slot := range sh.Slots {
				c.heldBy[checkSlot{at, slot}] = a.Run
			}
		}
	}
	for _, cl := range s.Claims {
		c.claims[checkSlot{checkNode{cl.Cluster, cl.Node}, cl.Slot}] = cl.For
	}
	if plan.Revision != s.Revision {
		c.fault(PropRevision, "", "plan of revision %d, snapshot of revision %d", plan.Revision, s.Revision)
	}
	c.keptFor()
	c.placements()
	c.amounts()
	c.budgets()
	c.bounds()
	c.wakes()
	c.preemptions()
	c.headNotDelayed()
	c.queues()
	return c
}

type checkNode struct {
	cluster forge.ClusterName
	node    forge.NodeName
}

type checkSlot struct {
	at   checkNode
	slot int
}

type checker struct {
	over      map[forge.TenantID]float64 // how many times its share each tenant had
	s         forge.Snapshot
	plan      forge.Plan
	nodes     map[checkNode]forge.Node
	pending   map[forge.RunID]*forge.PendingRun
	stopped   map[forge.RunID][]forge.Preempt // by whom it is for
	stoppedAs map[forge.RunID][]forge.Preempt // by who is stopped
	running   map[forge.RunID]*forge.ActiveAttempt
	planned   scene // see asPlanned
	keeps     scene // see asKept
	heldBy    map[checkSlot]forge.RunID
	claims    map[checkSlot]forge.RunID
	usedCPU   map[checkNode]int
	usedMiB   map[checkNode]int64
	faults    []error
	policy    Policy
	setAside  map[forge.RunID]forge.ActiveAttempt // what is kept for runs that wait for others to stop
	overruled map[forge.RunID]bool                // runs whose claims go to one of a higher class
	inLine    []contender                         // see line
	position  map[forge.RunID]int
	tiers     map[forge.RunID]int
	types     []gangType
	tenants   map[forge.TenantID]forge.TenantShare
	all       *tally

	// what is known of runs by what they ask for; see remembered
	kinds     map[askedFor]forge.GPUKind
	without   map[askedFor]bool
	chosen    map[askedFor]map[gangType][]forge.Node
	queueable map[askedFor][]forge.ClusterName
	fit       map[askedFor]map[gangType][]forge.Node // see fitNow

	claimants map[forge.RunID]bool // those whom GPUs were claimed for before this plan
	looks     int                  // at holdings; a test holds them against the size of the plan
}

func (c *checker) fault(p Property, run forge.RunID, format string, args ...any) {
	c.faults = append(c.faults, &Violation{p, run, fmt.Sprintf(format, args...)})
}

// mayStart is the checker's own reading of what keeps a run from starting at all.
func (c *checker) mayStart(r forge.PendingRun) (bool, string) {
	if r.Cancel != "" {
		return false, "it is being cancelled"
	}
	if r.Hold != nil {
		return false, "it is on hold"
	}
	if c.s.Now.Before(r.NotBefore) {
		return false, "it backs off"
	}
	for _, d := range r.After {
		if d.State != forge.RunCompleted {
			return false, fmt.Sprintf("run %d is %s", d.Number, d.State)
		}
	}
	return true, ""
}

// reasons: every pending run is either placed or has a reason in words, once.
func (c *checker) reasons() {
	answers := map[forge.RunID]int{}
	for _, p := range c.plan.Place {
		answers[p.Run]++
	}
	known := map[forge.HoldCode]bool{}
	for _, code := range forge.HoldCodes {
		known[code] = code != forge.HoldQueued // it is said of what waits elsewhere
	}
	for _, h := range c.plan.Hold {
		for _, id := range h.Runs {
			answers[id]++
			if _, ok := c.waiting(id); !ok {
				c.fault(PropRunPending, id, "held, and not pending")
			}
			if h.Text == "" || !known[h.Code] {
				c.fault(PropReason, id, "held with code %q and text %q", h.Code, h.Text)
			}
			if _, kept := c.setAside[id]; h.Code == forge.HoldPreempting && !kept || h.Code != forge.HoldPreempting && len(c.stops(id)) > 0 {
				c.fault(PropPreemptSaid, id, "held with code %q; %d attempts are preempted for it", h.Code, len(c.stops(id)))
			}
		}
	}
	for _, r := range c.s.Pending {
		switch n := answers[r.ID]; {
		case n == 0:
			c.fault(PropReason, r.ID, "neither placed nor held")
		case n > 1:
			c.fault(PropHoldOnce, r.ID, "placed or held %d times", n)
		}
	}
}

// wakes: what changes by the clock alone and could change the plan is looked at in time.
func (c *checker) wakes() {
	if len(c.s.Pending) == 0 {
		return
	}
	by := func(t time.Time, run forge.RunID, what string) {
		if t.After(c.s.Now) && (c.plan.WakeAt.IsZero() || c.plan.WakeAt.After(t)) {
			c.fault(PropWake, run, "%s at %s, and the plan wakes at %s", what, t, c.plan.WakeAt)
		}
	}
	for i := range c.s.Pending {
		if r := &c.s.Pending[i]; r.NotBefore.After(c.s.Now) && r.Cancel == "" && r.Hold == nil && !c.waitsForRuns(*r) {
			by(r.NotBefore, r.ID, "may start")
		}
	}
	for _, a := range c.s.Active {
		if c.policy.ReplanEvery > 0 {
			by(c.s.Now.Add(c.policy.ReplanEvery), a.Run, "critical runs are looked for")
		}
		if (c.policy.PreemptInOrder || c.policy.PreemptGap > 0) && !isLeaving(a) && !a.Pinned && len(a.Placement) > 0 {
			by(c.sparedUntil(a), a.Run, "is spared no more")
		}
		gpus := 0
		for _, sh := range a.Placement {
			gpus += len(sh.Slots)
		}
		if c.policy.Order == OrderAttained && gpus > 0 {
			had := c.ranSoFar(a).Milliseconds() * int64(gpus)
			edge := int64(10 * 60 * 1000)
			for edge <= had {
				edge *= 2
			}
			by(c.s.Now.Add(time.Duration((edge-had+int64(gpus)-1)/int64(gpus))*time.Millisecond), a.Run, "comes later in the order")
		}
	}
}

func (c *checker) waitsForRuns(r forge.PendingRun) bool {
	for _, d := range r.After {
		if d.State != forge.RunCompleted {
			return true
		}
	}
	return false
}

func (c *checker) waiting(id forge.RunID) (forge.PendingRun, bool) {
	if r := c.pending[id]; r != nil {
		return *r, true
	}
	return forge.PendingRun{}, false
}

// pendingReady is a pending run that nothing but room keeps from starting.
func (c *checker) pendingReady(id forge.RunID) (forge.PendingRun, bool) {
	r, ok := c.waiting(id)
	if !ok {
		return r, false
	}
	ready, _ := c.mayStart(r)
	return r, ready
}
