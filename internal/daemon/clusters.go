package daemon

import (
	"fmt"
	"os"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/direct"
)

// nvmlTimeout bounds one look at the GPUs; a driver that hangs costs a child process, not the
// daemon.
const nvmlTimeout = 20 * time.Second

// open makes the executor of one cluster, number i of the configuration.
func (d *Daemon) open(cl ClusterConfig, i int, gpus *direct.GPUWatch) (Cluster, error) {
	field := fmt.Sprintf("clusters[%d].", i)
	if cl.Kind == KindSlurm {
		return d.openSlurm(cl, field, gpus)
	}
	if err := os.MkdirAll(cl.RunRoot, 0o750); err != nil {
		return Cluster{}, forge.Invalidf(field+"run_root", "%v", err)
	}
	if err := checkPython(cl, i); err != nil {
		return Cluster{}, err
	}
	lo, hi, err := parsePorts(cl.Ports)
	if err != nil {
		return Cluster{}, forge.Invalidf(field+"ports", "%v", err)
	}
	var mem int64
	if cl.Memory != "" {
		if mem, err = forge.ParseMemoryMiB(cl.Memory); err != nil {
			return Cluster{}, forge.Invalidf(field+"memory", "%v", err)
		}
	}
	reader := &gpuReader{d: d, cluster: forge.ClusterName(cl.Name), ask: d.prober.Inventory}
	reader.expect(cl.ExpectGPUs)
	x, err := direct.New(direct.Options{
		Cluster: forge.ClusterName(cl.Name), NodeName: forge.NodeName(cl.Node), Self: d.self, ShimArgs: []string{"shim"},
		RunRoot: cl.RunRoot, PythonPath: d.pythonPath, With: withOf(cl, gpus), Network: cl.Network, PortMin: lo, PortMax: hi,
		CPUSlots: cl.CPUSlots, CPUs: cl.CPUs, MemoryMiB: mem, GPUs: reader.read, Holders: d.holders, Log: d.log,
	})
	if err != nil {
		return Cluster{}, err
	}
	c := Cluster{Name: forge.ClusterName(cl.Name), Kind: cl.Kind, Executor: x, Files: x, RunRoot: cl.RunRoot, GPUs: reader}
	c.follow(cl)
	return c, nil
}

// withOf is what a reload may replace of a cluster that is open.
func withOf(cl ClusterConfig, gpus *direct.GPUWatch) direct.With {
	limit, _ := mebibytes(cl.LogLimit)
	return direct.With{GPU: gpus, LogLimit: limit << 20, Python: cl.Python, Env: cl.Env, ShimSocket: cl.ShimSocket, Labels: cl.Labels}
}
