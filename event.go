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
	EventRunRunning        EventType = "run.running"
	EventRunResumed        EventType = "run.resumed"
	EventRunCheckpoint     EventType = "run.checkpoint"
	EventCheckpointSkipped EventType = "run.checkpoint_skipped"
	EventAttemptEnded      EventType = "run.attempt_ended"
	EventRunRequeued       EventType = "run.requeued"
	EventRunHeld           EventType = "run.held"
	EventRunReleased       EventType = "run.released"
	EventRunCancelAsked    EventType = "run.cancel_requested"
	EventRunEnded          EventType = "run.ended"
	EventExecutorUnknown   EventType = "run.executor_unknown"
	EventRunAdopted        EventType = "run.adopted"
	EventModelRegistered   EventType = "model.registered"
	EventDatasetAdded      EventType = "dataset.added"
	EventKeyCreated        EventType = "key.created"
	EventKeyRevoked        EventType = "key.revoked"
	EventNodeChanged       EventType = "node.changed"
	EventClusterPaused     EventType = "cluster.paused"
	EventClusterResumed    EventType = "cluster.resumed"
	EventDaemonStarted     EventType = "daemon.started"
	EventPlanRefused       EventType = "plan.refused"
)
