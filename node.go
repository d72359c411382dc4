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
	Batch     *NodeBatch        `json:"batch,omitempty" doc:"What the cluster's batch system says of it; absent where there is none"`
	Drain     *Drain            `json:"drain,omitempty" doc:"An operator's word that nothing new goes here"`
	Holds     []NodeHold        `json:"holds,omitempty" doc:"What is held back of it, by rules of GPU health and by operators; an operator's word on the whole node is in drain"`
	Failures  int               `json:"failure_score,omitempty" doc:"Failures of late that are blamed on it, each fading to half in a week; among equal nodes the one with fewer is taken"`
	Suspect   string            `json:"suspect,omitempty" doc:"The evidence of the last day against it: runs go elsewhere while elsewhere fits"`
	Version   int64             `json:"-"`
}

// NodeBatch is a node as the cluster's batch system sees it.
type NodeBatch struct {
	State      string   `json:"state" doc:"Its own word: idle, mixed, draining"`
	Partitions []string `json:"partitions,omitempty"`
	Features   []string `json:"features,omitempty"`
	GPUsUsed   int      `json:"gpus_used" doc:"By anybody"`
	Foreign    int      `json:"foreign_gpus" doc:"Used by jobs that are not forge's"`
}

// Drain keeps new work away from a node until an operator takes it back.
type Drain struct {
	By      string    `json:"by"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
	Outside bool      `json:"outside,omitempty" doc:"The batch system was told as well"`
}

// Drained is the node as it is for whoever plans: one that an operator has drained takes nothing, whatever its executor says of it. One that
// does not answer stays unknown.
func (n Node) Drained(d *Drain) Node {
	n.Drain = d
	if d != nil && n.State == NodeReady {
		n.State, n.Reason = NodeDrained, "drained by "+d.By+": "+d.Reason
	}
	return n
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
	Island    int     `json:"island,omitempty" doc:"GPUs with one number reach each other over NVLink; 0: not known"`
	Sick      string  `json:"sick,omitempty" doc:"Why nothing new may be placed here"`
	PCI       string  `json:"pci,omitempty" doc:"Bus address, as in 00000000:3B:00.0"`
	NUMA      string  `json:"numa,omitempty" doc:"Number of the NUMA node that it is next to; absent: not known"`
	CPUs      string  `json:"near_cpus,omitempty" doc:"CPUs next to it, as Linux lists them: 0-15,32-47"`
	MIG       string  `json:"mig,omitempty" doc:"Profile of the MIG instance, as in 1g.10gb; ranks on such instances cannot reach each other"`
	Parent    string  `json:"parent,omitempty" doc:"UUID of the GPU that a MIG instance is a part of"`
}

// GPUKind tells a real device from a CPU slot standing in for one.
type GPUKind string

// The kinds of slot.
const (
	GPUDevice  GPUKind = "gpu"
	GPUCPUSlot GPUKind = "cpu_slot"
)
