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

	Labels   map[string]string // label of a node → pattern of its features: rack → "rack*"
	Topology bool              // "switch" comes from scontrol show topology
	Drain    Drain

	TenantName func(forge.TenantID) string // the site names tenants, launches carry ids; nil: no tenant has a group of its own

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

// Drain says what draining a node means outside forge.
type Drain string

// The drains.
const (
	DrainExclude  Drain = "exclude"  // nothing of ours goes there; Slurm is not told
	DrainScontrol Drain = "scontrol" // Slurm drains it as well, with our prefix in the reason
)

// With is what later attempts start with. It may change while forged runs.
type With struct {
	Python     string // interpreter for entries that are modules
	Env        map[string]string
	Runtime    forge.Runtime
	Partitions []Partition      // those that forge uses, the default first; empty: Slurm's default, with nothing of its own
	Allow      []string         // long names of the raw sbatch options that users may pass: "comment", "licenses"
	Network    bool             // ranks may reach the hub: HF_HUB_OFFLINE stays unset
	GRES       string           // "gpu" (default), or another name that the site gave its GPUs
	Owners     map[string]Owner // by the tenant's name
	LogLimit   int64            // bytes that stdout and stderr of a rank may each take; 0: any number

	// ArtifactRoot is where what belongs to people is copied to when it is registered, with "{account}" in it; empty: nothing is copied.
	ArtifactRoot string
}

// Partition is one partition that forge may use.
type Partition struct {
	Name            string
	GPUType         string // typed GRES to ask for: "h100"; empty: untyped
	CPUsPerGPU      int    // what each GPU gets at least; passed to srun explicitly
	MemoryMiBPerGPU int64  // likewise
	GPUMemoryMiB    int64  // of one GPU, which Slurm does not know
	PricePerGPUHour float64
	Account, QOS    string // where a run does not say
	Env             map[string]string
}

// Partition finds one by name, and the default for "". ok is false where the site names partitions and this is none of them.
func (w With) Partition(name string) (p Partition, ok bool) {
	if len(w.Partitions) == 0 {
		return Partition{Name: name}, true
	}
	if name == "" {
		return w.Partitions[0], true
	}
	for _, p := range w.Partitions {
		if p.Name == name {
			return p, true
		}
	}
	return Partition{}, false
}

// DefaultUmask of run directories: the owner's, readable by the group, closed to others.
const DefaultUmask = "0027"

// Owner is how files of a tenant are made. The directories are setgid, so that what ranks write stays with the group.
type Owner struct {
	Group string // name or number; "": the account's own
	Umask string // octal; "": DefaultUmask
}

// OwnerOf says how files of a tenant are made.
func (o Options) OwnerOf(w With, t forge.TenantID) Owner {
	var own Owner
	if o.TenantName != nil && len(w.Owners) > 0 {
		own = w.Owners[o.TenantName(t)]
	}
	if own.Umask == "" {
		own.Umask = DefaultUmask
	}
	return own
}
