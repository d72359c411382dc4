package forge

import "time"

// Node is a machine where ranks run.
type Node struct {
	Name      NodeName          `json:"name"`
	Cluster   ClusterName       `json:"cluster"`
	GPUs      []GPU             `json:"gpus"`
	CPUs      int               `json:"cpus"`
	MemoryMiB int64             `json:"memory_mib"`
	State     NodeState         `json:"state"`
	Reason    string            `json:"reason,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	SeenAt    time.Time         `json:"seen_at"`
	Version   int64             `json:"-"`
}

// NodeState says whether new work may go to a node.
type NodeState string

// The node states.
const (
	NodeReady   NodeState = "ready"
	NodeDrained NodeState = "drained" // by an operator or a health rule
	NodeUnknown NodeState = "unknown" // the executor does not answer; what it holds stays allocated
)

// GPU is one schedulable device of a node, known by its slot number.
type GPU struct {
	Slot      int     `json:"slot"`
	Kind      GPUKind `json:"kind"`
	UUID      string  `json:"uuid,omitempty"`
	Type      string  `json:"type" doc:"Model name; a MIG profile is a type; cpu for a CPU slot"`
	MemoryMiB int64   `json:"memory_mib,omitempty"`
	Sick      string  `json:"sick,omitempty" doc:"Why nothing new may be placed here"`
}

// GPUKind tells a real device from a CPU slot standing in for one.
type GPUKind string

// The kinds of slot.
const (
	GPUDevice  GPUKind = "gpu"
	GPUCPUSlot GPUKind = "cpu_slot"
)
