package slurm

import (
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
)

// Options is one Slurm cluster as the site configured it.
type Options struct {
	Cluster forge.ClusterName
	Tools   Tools
	Hand    Hand   // acts as the owner of the jobs; nil: forged itself (identity self)
	RunRoot string // every run directory lies in it; "{account}" in it stands for the owner of the jobs
	Shim    string // path of forged on the nodes, which srun starts as a shim

	Binding     Binding
	BindTimeout time.Duration // late: how long a gang may wait in Slurm for the nodes that it was pinned to
	NiceStep    int           // eager: nice per step of forge's priority below the highest

	PollEvery  time.Duration // own jobs
	NodesEvery time.Duration // the cluster

	PythonPath string // where the training package is, on the nodes
	PortMin    int
	PortMax    int
	With       With // what Change may replace

	Log zerolog.Logger
}

// Binding says who decides when a gang gets its nodes.
type Binding string

// The bindings.
const (
	BindEager Binding = "eager" // submitted at once; Slurm's queue decides
	BindLate  Binding = "late"  // submitted when forge's plan places it, pinned to its nodes
)

// With is what later attempts start with. It may change while forged runs.
type With struct {
	Python     string // interpreter for entries that are modules
	Env        map[string]string
	Runtime    forge.Runtime
	Partitions []Partition // those that forge uses, the default first; empty: Slurm's default, with nothing of its own
	Allow      []string    // raw sbatch options that users may pass: "--comment", "--mem-per-cpu"
	Network    bool        // ranks may reach the hub: HF_HUB_OFFLINE stays unset
	GRES       string      // "gpu" (default), or another name that the site gave its GPUs
	Owners     map[forge.TenantID]Owner
}

// Partition is one partition that forge may use.
type Partition struct {
	Name            string
	GPUType         string // typed GRES to ask for: "h100"; empty: untyped
	CPUsPerGPU      int    // where a run does not say; passed to srun explicitly
	MemoryMiBPerGPU int64
	GPUMemoryMiB    int64 // of one GPU, which Slurm does not know
	PricePerGPUHour float64
	Account, QOS    string // where a run does not say
	Env             map[string]string
	MaxPending      int
}

// Owner is how files of a tenant are made: mode 02750 below a group of its own by default.
type Owner struct {
	Group string
	Umask string // octal
}
