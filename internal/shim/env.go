package shim

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/rundir"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// seat is the place of one rank in its gang.
type seat struct {
	node, local, rank int
	perNode           []int // ranks on each node
	master            rundir.Master
	resume            string
	home              string   // HOME when the cluster sets none
	own               []string // the shim's own environment, for LaunchOptions.Inherit
	job               *job     // nil: no batch system
	ifname            string   // of the interface that leads to the master; "": not known
	cpus              int      // that this rank is bound to; 0: not bound
}

// environment is all that a rank gets: docs/run-contract.md, the cluster's additions, and nothing
// else. What the contract names cannot be overridden, except the offline switches.
func environment(l rundir.LaunchFile, s seat) []string {
	a := rundir.At(l.RunDir, l.Attempt)
	env := map[string]string{
		"PATH": defaultPath, "HOME": s.home, "LANG": "C.UTF-8", "TMPDIR": "/tmp",
		"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1",
		"PYTHONUNBUFFERED": "1",
	}
	if l.Options.Inherit {
		maps.Copy(env, inherited(s.own))
	}
	if l.Options.PythonPath != "" {
		env["PYTHONPATH"] = l.Options.PythonPath
	}
	if s.job != nil {
		maps.Copy(env, s.job.kept)
	}
	if s.ifname != "" {
		env["GLOO_SOCKET_IFNAME"] = s.ifname // else gloo takes the address of the hostname, which may be loopback
	}
	maps.Copy(env, l.Options.Env)

	world := 0
	for _, n := range s.perNode {
		world += n
	}
	env["FORGE_RUN_NUMBER"] = strconv.FormatInt(l.Number, 10)
	env["FORGE_RUN_DIR"] = l.RunDir
	env["FORGE_ATTEMPT_DIR"] = a.Dir()
	env["FORGE_CONFIG"] = a.ConfigPath()
	env["FORGE_RESUME_FROM"] = s.resume
	env["FORGE_METRICS"] = a.MetricsPath()
	env["FORGE_HEARTBEAT"] = a.HeartbeatPath()
	env["FORGE_STATUS"] = a.StatusPath()
	env["FORGE_CHECKPOINT_DIR"] = cmp.Or(l.Config.CheckpointDir, a.CheckpointDir())
	env["FORGE_OUTPUT_DIR"] = cmp.Or(l.Config.OutputDir, a.OutputDir())
	env["FORGE_STOP_FILE"] = a.StopPath()
	env["FORGE_FENCE_FILE"] = rundir.FencePath(l.RunDir)
	if l.Spec.Source != nil {
		env["FORGE_WORKDIR"] = a.WorkDir()
	}

	env["RANK"] = strconv.Itoa(s.rank)
	env["LOCAL_RANK"] = strconv.Itoa(s.local)
	env["WORLD_SIZE"] = strconv.Itoa(world)
	env["LOCAL_WORLD_SIZE"] = strconv.Itoa(s.perNode[s.node])
	env["NNODES"] = strconv.Itoa(len(s.perNode))
	env["GPUS_PER_NODE"] = strconv.Itoa(len(l.Placement[s.node].Slots))
	if l.Spec.Launch == forge.LaunchNode { // torchrun takes what is not on its command line from these
		env["PET_NNODES"], env["PET_NODE_RANK"], env["PET_NPROC_PER_NODE"] = env["NNODES"], strconv.Itoa(s.node), env["GPUS_PER_NODE"]
		env["PET_MASTER_ADDR"], env["PET_MASTER_PORT"] = s.master.Addr, strconv.Itoa(s.master.Port)
	}
	env["MASTER_ADDR"] = s.master.Addr
	env["MASTER_PORT"] = strconv.Itoa(s.master.Port)
	if len(s.perNode) == 1 {
		env["GLOO_SOCKET_IFNAME"] = "lo" // else gloo takes the address of the hostname, which may be anything
	}
	threads := max(1, l.Spec.Gang.CPUsPerGPU)
	if s.cpus > 0 {
		threads = min(cmp.Or(l.Spec.Gang.CPUsPerGPU, s.cpus), s.cpus)
	}
	env["OMP_NUM_THREADS"] = strconv.Itoa(threads)

	// All GPUs of the node to each of its ranks, in slot order: torch's own convention, LOCAL_RANK
	// picks. By UUID and in PCI order, because an index shifts when a GPU falls off the bus.
	// A batch system's own names for them are kept as they are.
	uuids := ""
	if s.job != nil {
		uuids = s.job.visible
	} else {
		uuids = strings.Join(localUUIDs(l, s.node), ",")
	}
	env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
	env["CUDA_VISIBLE_DEVICES"] = uuids
	env["NVIDIA_VISIBLE_DEVICES"] = uuids

	marker := rundir.Marker{Run: l.Run, Attempt: l.Attempt, Node: s.node}.Env()
	for _, kv := range marker {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	out := make([]string, 0, len(env))
	for _, k := range slices.Sorted(maps.Keys(env)) {
		out = append(out, k+"="+env[k])
	}
	return out
}

// localDevices lists what is placed on one node, in the order of its slots.
func localDevices(l rundir.LaunchFile, node int) []forge.GPU {
	first := 0
	for _, share := range l.Placement[:node] {
		first += len(share.Slots)
	}
	return l.Devices[first : first+len(l.Placement[node].Slots)]
}

// localUUIDs lists the devices placed on one node; CPU slots have none.
func localUUIDs(l rundir.LaunchFile, node int) []string {
	var uuids []string
	for _, d := range localDevices(l, node) {
		if d.Kind == forge.GPUDevice && d.UUID != "" {
			uuids = append(uuids, d.UUID)
		}
	}
	return uuids
}

// notInherited are prefixes of what Slurm and forged leave in a shim's environment, and shells in everybody's.
var notInherited = []string{"SLURM", "SBATCH_", "SRUN_", "PMI", "OMPI_", "FORGE", "_=", "PWD=", "OLDPWD=", "SHLVL="}

// inherited is what the script made that set up the software and started the shim. It had cleared the environment before,
// so that nothing of the one who submitted is in it.
func inherited(own []string) map[string]string {
	out := map[string]string{}
	for _, kv := range own {
		name, value, _ := strings.Cut(kv, "=")
		if name != "" && !slices.ContainsFunc(notInherited, func(p string) bool { return strings.HasPrefix(kv, p) }) {
			out[name] = value
		}
	}
	return out
}
