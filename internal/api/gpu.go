package api

import (
	"context"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// GPUs shows what GPUs are doing, and did.
type GPUs interface {
	// GPUs lists the GPUs by cluster, node and slot. Whose runs of other tenants are is not said.
	GPUs(ctx context.Context, p forge.Principal, q GPUQuery) ([]NodeGPUs, error)
	// GPUHistory is KindNotFound for a UUID that no GPU has that is known, KindInvalid for a time that is ahead.
	GPUHistory(ctx context.Context, p forge.Principal, uuid string, since time.Time) (GPUHistory, error)
}

// GPUQuery narrows the list; what is empty narrows nothing.
type GPUQuery struct {
	Cluster string
	Node    string
	Run     string // number or id of a run that the principal may see
}

// NodeGPUs is a node with its GPUs.
type NodeGPUs struct {
	Cluster forge.ClusterName `json:"cluster"`
	Node    forge.NodeName    `json:"node"`
	State   forge.NodeState   `json:"state"`
	Reason  string            `json:"reason,omitempty" doc:"Why it takes nothing new"`
	NVML    forge.NVMLState   `json:"nvml,omitempty" enum:"ok,no_driver,error,hung,blind" doc:"How the last look at it went; absent: there was none"`
	Detail  string            `json:"nvml_detail,omitempty" doc:"In words, when it is not ok"`
	Driver  string            `json:"driver,omitempty"`
	At      time.Time         `json:"at,omitzero" doc:"When it was last looked at, by the server's clock"`
	Old     bool              `json:"old,omitempty" doc:"That is longer ago than three looks: what it was like then is shown, what it is like now is not known"`
	GPUs    []GPUView         `json:"gpus"`
}

// GPUView is one GPU: who has it, and what it was like when it was last looked at.
type GPUView struct {
	Slot    *int              `json:"slot,omitempty" doc:"Slot of the node; absent: not known which"`
	UUID    string            `json:"uuid,omitempty" doc:"Absent where the batch system does not tell and no run of forge has it"`
	Type    string            `json:"type"`
	MIG     string            `json:"mig,omitempty" doc:"Profile of the MIG instance"`
	Sick    string            `json:"sick,omitempty" doc:"Why nothing new is placed on it"`
	Run     *GPURun           `json:"run,omitempty" doc:"Who has it; absent: no run of forge"`
	Reading *forge.GPUReading `json:"reading,omitempty" doc:"The newest; absent: there was none"`
	At      time.Time         `json:"at,omitzero" doc:"When that was, by the server's clock"`
	Old     bool              `json:"old,omitempty" doc:"It is older than three looks: shown as it was, and not known as it is"`
	XID     *GPUXID           `json:"xid,omitempty" doc:"The last error that the driver told, since the server began"`
	Stalled *forge.Duration   `json:"stalled,omitempty" doc:"For how long memory is held while nothing is computed, where that is longer than 10 minutes"`
	Recent  []int             `json:"recent_util,omitempty" doc:"Utilisation in percent of the last looks, oldest first; -1: not said"`
	Foreign []GPUForeign      `json:"foreign,omitempty" doc:"Processes on a GPU that no run of forge has"`
}

// GPURun is the run that has a GPU. Of another tenant's nothing but that there is one.
type GPURun struct {
	Other  bool   `json:"other,omitempty" doc:"It is another tenant's"`
	Number int64  `json:"number,omitempty"`
	Name   string `json:"name,omitempty"`
	User   string `json:"user,omitempty"`
	Tenant string `json:"tenant,omitempty" doc:"For operators, where it is another than their own"`
}

// GPUXID is an error that the driver told.
type GPUXID struct {
	Number int       `json:"number"`
	At     time.Time `json:"at" doc:"By the server's clock"`
	Words  string    `json:"words,omitempty" doc:"What it is"`
}

// GPUForeign is a process that is none of forge's. Whose it is and what, operators alone are told, of this host's.
type GPUForeign struct {
	PID       int    `json:"pid"`
	MemoryMiB *int64 `json:"memory_mib,omitempty"`
	User      string `json:"user,omitempty"`
	Command   string `json:"command,omitempty"`
}

// GPUHistory is what a GPU was like, oldest first.
type GPUHistory struct {
	UUID    string            `json:"uuid"`
	Cluster forge.ClusterName `json:"cluster,omitempty"`
	Node    forge.NodeName    `json:"node,omitempty"`
	Slot    *int              `json:"slot,omitempty"`
	Type    string            `json:"type,omitempty"`
	Steps   []forge.GPUSample `json:"steps" doc:"Of a minute in the last day, of a quarter of an hour before, for 30 days. A step in which nothing was said is missing"`
}
