package direct

import (
	"bufio"
	"context"
	"maps"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// Nodes is this host. GPUs that cannot be asked for are an error and not "none": what the driver
// does not answer for stays allocated.
func (e *Executor) Nodes(ctx context.Context) ([]forge.Node, error) {
	n := forge.Node{
		Name: e.o.NodeName, Cluster: e.o.Cluster, CPUs: e.o.CPUs, MemoryMiB: e.o.MemoryMiB,
		State: forge.NodeReady, SeenAt: time.Now().UTC(), GPUs: []forge.GPU{}, Labels: maps.Clone(e.with.Load().Labels),
	}
	if n.CPUs == 0 {
		n.CPUs = runtime.NumCPU()
	}
	if n.MemoryMiB == 0 {
		n.MemoryMiB = hostMemoryMiB()
	}
	if e.o.GPUs != nil {
		gpus, err := e.o.GPUs(ctx)
		if err != nil {
			return nil, forge.Errorf(forge.KindUnavailable, "direct.nodes", "GPUs of %s: %w", e.o.NodeName, err)
		}
		n.GPUs = append(n.GPUs, gpus...)
	}
	slot := 0
	for _, g := range n.GPUs {
		slot = max(slot, g.Slot+1)
	}
	for i := range e.o.CPUSlots {
		n.GPUs = append(n.GPUs, forge.GPU{
			Slot: slot + i, Kind: forge.GPUCPUSlot, Type: "cpu", MemoryMiB: n.MemoryMiB / int64(e.o.CPUSlots),
		})
	}
	return []forge.Node{n}, nil
}

func hostMemoryMiB() int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if v, ok := strings.CutPrefix(sc.Text(), "MemTotal:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			return kib / 1024
		}
	}
	return 0
}
