//go:build linux && cgo

package nvml

import (
	"math/bits"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// pciDevices is where Linux tells of PCI devices.
const pciDevices = "/sys/bus/pci/devices"

// most is how many CPUs and NUMA nodes are asked about.
const most = 4096

// place is the NUMA node and the CPUs next to a GPU, as Linux writes them; "" is not known. nvmlDeviceGetNumaNodeId is another thing: on machines whose
// GPU memory is a NUMA node (Grace) it is the number of that one, which has no CPUs.
func (r *reader) place(h nv.Device, d device) (numa, cpus string) {
	if r.has("nvmlDeviceGetMemoryAffinity") {
		if set, ret := h.GetMemoryAffinity(most, nv.AFFINITY_SCOPE_NODE); ret == nv.SUCCESS {
			if one := cpuList(set); !strings.ContainsAny(one, ",-") {
				numa = one
			}
		}
	}
	if r.has("nvmlDeviceGetCpuAffinity") {
		if set, ret := h.GetCpuAffinity(most); ret == nv.SUCCESS {
			cpus = cpuList(set)
		}
	}
	if !d.hasPCI {
		return numa, cpus
	}
	sysNUMA, sysCPUs := placeOf(pciDevices, d.pci)
	if numa == "" {
		numa = sysNUMA
	}
	if cpus == "" {
		cpus = sysCPUs
	}
	return numa, cpus
}

// placeOf asks Linux.
func placeOf(root string, pci pciAddress) (numa, cpus string) {
	dir := filepath.Join(root, pci.linux())
	if b, err := os.ReadFile(filepath.Join(dir, "numa_node")); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && n >= 0 { // -1: the firmware does not say
			numa = strconv.Itoa(n)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "local_cpulist")); err == nil {
		cpus = strings.TrimSpace(string(b))
	}
	return numa, cpus
}

// cpuList writes a bitmap as Linux does: 0-15,32-47.
func cpuList(set []uint) string {
	var b strings.Builder
	from := -1
	for i := range len(set)*bits.UintSize + 1 {
		in := i < len(set)*bits.UintSize && set[i/bits.UintSize]&(1<<(i%bits.UintSize)) != 0
		switch {
		case in && from < 0:
			from = i
		case !in && from >= 0:
			if b.Len() > 0 {
				b.WriteByte(',')
			}
			b.WriteString(strconv.Itoa(from))
			if i-1 > from {
				b.WriteString("-" + strconv.Itoa(i-1))
			}
			from = -1
		}
	}
	return b.String()
}
