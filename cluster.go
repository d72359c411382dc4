package forge

import "time"

// Cluster is a named set of nodes behind one executor.
type Cluster struct {
	Name   ClusterName `json:"name"`
	Kind   string      `json:"kind,omitempty" doc:"direct; absent when the cluster is not configured any more"`
	Paused *Pause      `json:"paused,omitempty"`
}

// Binding says who chooses the nodes of a gang.
type Binding string

// The bindings.
const (
	BindPlan  Binding = "plan"  // forge's plan does; direct clusters, and those parts of a batch system that forge owns
	BindEager Binding = "eager" // handed over at once: the cluster's own queue does
)

// Pause keeps new work away from a cluster until an operator resumes it; what runs goes on.
type Pause struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}
