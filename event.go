package forge

import "time"

// Event is one append-only audit line: who, what, when, why.
type Event struct {
	Seq     int64          `json:"seq" doc:"Grows without gaps inside the site; what Last-Event-ID carries"`
	Time    time.Time      `json:"time"`
	Tenant  TenantID       `json:"-"`
	Actor   string         `json:"actor" doc:"user name, or forged"`
	Type    EventType      `json:"type"`
	Run     RunID          `json:"run,omitempty"`
	Number  int64          `json:"run_number,omitempty"`
	Attempt int            `json:"attempt,omitempty"`
	Reason  string         `json:"reason,omitempty" doc:"A typed reason from a closed set where there is one"`
	Message string         `json:"message" doc:"One sentence for people"`
	Data    map[string]any `json:"data,omitempty"`
}

// EventType is from a closed set.
type EventType string

// The event types.
const (
	EventRunSubmitted      EventType = "run.submitted"
	EventRunPlaced         EventType = "run.placed"
	EventRunHandedOver     EventType = "run.handed_over" // to a cluster's own queue
	EventRunQueued         EventType = "run.queued"      // that queue has it, under an id of its own
	EventRunAllocated      EventType = "run.allocated"   // that queue has given it nodes
	EventRunRunning        EventType = "run.running"
	EventRunResumed        EventType = "run.resumed"
	EventRunCheckpoint     EventType = "run.checkpoint"
	EventCheckpointSkipped EventType = "run.checkpoint_skipped"
	EventRunRoom           EventType = "run.room"      // little space is left for its saves
	EventRunGPUsHeld       EventType = "run.gpus_held" // it has ended, and its GPUs are not known to be empty
	EventRunPinned         EventType = "run.pinned"    // inputs that other runs made for it are known now
	EventAttemptEnded      EventType = "run.attempt_ended"
	EventRunRequeued       EventType = "run.requeued"
	EventRunHeld           EventType = "run.held"
	EventRunReleased       EventType = "run.released"
	EventRunCancelAsked    EventType = "run.cancel_requested"
	EventRunPriority       EventType = "run.priority_changed"
	EventRunEnded          EventType = "run.ended"
	EventExecutorUnknown   EventType = "run.executor_unknown"
	EventRunAdopted        EventType = "run.adopted"
	EventModelRegistered   EventType = "model.registered"
	EventDatasetAdded      EventType = "dataset.added"
	EventDatasetScanned    EventType = "dataset.scanned"
	EventDatasetEdited     EventType = "dataset.edited"
	EventDatasetWaived     EventType = "dataset.waived"
	EventDatasetDeleted    EventType = "dataset.deleted"
	EventDatasetPurged     EventType = "dataset.purged"
	EventKeyCreated        EventType = "key.created"
	EventKeyRevoked        EventType = "key.revoked"
	EventKeyRotated        EventType = "key.rotated"
	EventTenantCreated     EventType = "tenant.created"
	EventTenantChanged     EventType = "tenant.changed"
	EventUserCreated       EventType = "user.created"
	EventUserChanged       EventType = "user.changed"
	EventUserDisabled      EventType = "user.disabled"
	EventUserEnabled       EventType = "user.enabled"
	EventRunPreemptAsked   EventType = "run.preempt_asked"
	EventRunPreempted      EventType = "run.preempted"
	EventRunClaimed        EventType = "run.claimed"
	EventRunInterruptAsked EventType = "run.interrupt_asked"
	EventNodeChanged       EventType = "node.changed"
	EventNodeDrained       EventType = "node.drained"
	EventNodeUndrained     EventType = "node.undrained"
	EventGPUForeign        EventType = "gpu.foreign_use" // a process uses a GPU that it was not given
	EventNodeHeld          EventType = "node.held"       // a rule of GPU health keeps new work away from a GPU, or from a node
	EventNodeReturned      EventType = "node.returned"   // what a rule held back is let back, after a check
	EventNodeGPU           EventType = "node.gpu"        // a GPU is missing, is back, is new, is forgotten
	EventNodeWatch         EventType = "node.watch"      // how far what NVML says of a node can be relied on
	EventClusterPaused     EventType = "cluster.paused"
	EventClusterResumed    EventType = "cluster.resumed"
	EventDaemonStarted     EventType = "daemon.started"
	EventDaemonStopped     EventType = "daemon.stopped"
	EventConfigReloaded    EventType = "config.reloaded"
	EventConfigRefused     EventType = "config.refused"
	EventBackupMade        EventType = "backup.made"
	EventBackupRestored    EventType = "backup.restored"
	EventPlanRefused       EventType = "plan.refused"
	EventModelStage        EventType = "model.stage_changed"
	EventModelAlias        EventType = "model.alias_changed"
	EventModelRemoved      EventType = "model.bytes_removed"
	EventEvalImported      EventType = "eval.imported"
	EventEvalRegressed     EventType = "eval.regressed"
	EventScheduleAdded     EventType = "schedule.added"
	EventScheduleChanged   EventType = "schedule.changed"
	EventScheduleRemoved   EventType = "schedule.removed"
	EventScheduleFired     EventType = "schedule.fired"
	EventScheduleSkipped   EventType = "schedule.skipped"
	EventHookAdded         EventType = "hook.added"
	EventHookRemoved       EventType = "hook.removed"
	EventHookFailed        EventType = "hook.failed"
	EventHookPaused        EventType = "hook.paused"
	EventHookResumed       EventType = "hook.resumed"
	EventBudgetChanged     EventType = "budget.changed"
	EventBudgetWarned      EventType = "budget.warned"
	EventBudgetSpent       EventType = "budget.spent"
	EventGCDone            EventType = "gc.done"
)

// EventTypes lists them, for those who check or offer a name.
var EventTypes = []EventType{
	EventRunSubmitted, EventRunPlaced, EventRunRunning, EventRunResumed, EventRunCheckpoint, EventCheckpointSkipped,
	EventAttemptEnded, EventRunRequeued, EventRunHeld, EventRunReleased, EventRunCancelAsked, EventRunEnded,
	EventExecutorUnknown, EventRunAdopted, EventModelRegistered, EventDatasetAdded, EventKeyCreated, EventKeyRevoked,
	EventKeyRotated, EventTenantCreated, EventUserCreated, EventUserChanged, EventUserDisabled, EventUserEnabled,
	EventRunPreempted, EventNodeChanged, EventClusterPaused, EventClusterResumed, EventDaemonStarted, EventDaemonStopped,
	EventConfigReloaded, EventConfigRefused, EventBackupMade, EventBackupRestored, EventPlanRefused,
	EventRunPreemptAsked, EventRunClaimed, EventRunHandedOver, EventRunQueued, EventRunAllocated,
	EventRunInterruptAsked, EventNodeDrained, EventNodeUndrained, EventNodeHeld, EventNodeReturned, EventNodeGPU, EventNodeWatch, EventTenantChanged, EventRunPriority, EventRunRoom, EventRunPinned,
	EventDatasetScanned, EventDatasetEdited, EventDatasetWaived, EventDatasetDeleted, EventDatasetPurged,
	EventModelStage, EventModelAlias, EventModelRemoved, EventEvalImported, EventEvalRegressed, EventScheduleAdded, EventScheduleChanged, EventScheduleRemoved, EventScheduleFired, EventScheduleSkipped, EventHookAdded, EventHookRemoved, EventHookFailed, EventHookPaused, EventHookResumed, EventBudgetChanged, EventBudgetWarned, EventBudgetSpent, EventGCDone, EventRunGPUsHeld, EventGPUForeign,
}

// Why is the typed reason of an administrative event, from a closed set.
type Why string

// The reasons.
const (
	WhyRequested Why = "requested" // somebody asked, and gave no other reason
	WhyBootstrap Why = "bootstrap" // forged init, or forged key for a lost one
	WhyRotated   Why = "rotated"   // replaced by a newer key
	WhyLogin     Why = "login"     // somebody came in without a key, and was given one for a while
	WhyLeaked    Why = "leaked"    // the secret may be known to others
	WhyLeft      Why = "left"      // the person does not work here any more
	WhyUnused    Why = "unused"
	WhyPreempted Why = "preempted" // a run ahead of it needs the GPUs
	WhySignal    Why = "signal"    // SIGHUP, SIGTERM
	WhyFault     Why = "fault"     // forged could not go on by itself
	WhyUpgrade   Why = "upgrade"   // a new version of forged changed the tables
)

// RevokeReasons are those that a person may give when ending a key or disabling a user.
var RevokeReasons = []Why{WhyRequested, WhyLeaked, WhyLeft, WhyUnused}
