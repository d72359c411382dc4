package daemon

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/direct"
	"github.com/forge-ml/forge-ml/nvml"
)

// nvmlTimeout bounds one look at the GPUs; a driver that hangs costs a child process, not the
// daemon.
const nvmlTimeout = 20 * time.Second

// openClusters makes the executors that the configuration names.
func openClusters(c Config, pythonPath string, log zerolog.Logger) ([]Cluster, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("own path: %w", err)
	}
	prober := &nvml.Prober{Self: self, Timeout: nvmlTimeout}
	var out []Cluster
	for i, cl := range c.Clusters {
		field := fmt.Sprintf("clusters[%d].", i)
		if err := os.MkdirAll(cl.RunRoot, 0o750); err != nil {
			return nil, forge.Invalidf(field+"run_root", "%v", err)
		}
		if cl.Python != "" {
			if st, err := os.Stat(cl.Python); err != nil || st.Mode()&0o111 == 0 {
				return nil, forge.Invalidf(field+"python", "%q is not an executable file", cl.Python).WithHint("contrib/python-env/install makes an environment and prints its path")
			}
		}
		lo, hi, err := parsePorts(cl.Ports)
		if err != nil {
			return nil, forge.Invalidf(field+"ports", "%v", err)
		}
		var mem int64
		if cl.Memory != "" {
			if mem, err = forge.ParseMemoryMiB(cl.Memory); err != nil {
				return nil, forge.Invalidf(field+"memory", "%v", err)
			}
		}
		x, err := direct.New(direct.Options{
			Cluster: forge.ClusterName(cl.Name), NodeName: forge.NodeName(cl.Node), Self: self, ShimArgs: []string{"shim"},
			RunRoot: cl.RunRoot, Python: cl.Python, PythonPath: pythonPath, Env: cl.Env, Network: cl.Network, PortMin: lo, PortMax: hi,
			CPUSlots: cl.CPUSlots, CPUs: cl.CPUs, MemoryMiB: mem, GPUs: gpuReader(prober), Log: log.With().Str("cluster", cl.Name).Logger(),
		})
		if err != nil {
			return nil, err
		}
		out = append(out, Cluster{Name: forge.ClusterName(cl.Name), Kind: cl.Kind, Executor: x, Files: x, RunRoot: cl.RunRoot, PollEvery: cl.PollEvery.D(), Modules: cl.Python != ""})
	}
	return out, nil
}

// gpuReader asks NVML in a child process. A host without a driver has no GPUs; a driver that
// answers badly is no answer, and what was known stays.
// One prober serves all clusters for the life of the daemon: it knows of a child that hangs in
// the kernel, and starts no second one beside it.
func gpuReader(p *nvml.Prober) func(context.Context) ([]forge.GPU, error) {
	return func(ctx context.Context) ([]forge.GPU, error) {
		rep, err := p.Inventory(ctx)
		if err != nil {
			return nil, err
		}
		switch rep.State {
		case nvml.StateOK, nvml.StateNoDriver:
			return rep.GPUs, nil
		}
		return nil, forge.Errorf(forge.KindUnavailable, "nvml.inventory", "NVML: %s: %s", rep.State, rep.Detail)
	}
}
