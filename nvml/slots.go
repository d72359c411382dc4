package nvml

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// device is one GPU as NVML described it.
type device struct {
	index  int // NVML's own, not stable over restarts of the driver
	pci    pciAddress
	hasPCI bool
	uuid   string
	name   string
	memory uint64 // bytes
	sick   string
	links  []pciAddress // what its NVLinks that are up lead to: other GPUs, or switches
	island int

	numa, cpus string
	instances  []slice // in MIG mode, by number
}

// slice is a MIG instance of a device.
type slice struct {
	uuid, profile string
	gi, ci        int    // GPU and compute instance
	memory        uint64 // bytes
}

type pciAddress struct{ domain, bus, device uint32 }

// String is as NVML and nvidia-smi write it.
func (a pciAddress) String() string {
	return fmt.Sprintf("%08X:%02X:%02X.0", a.domain, a.bus, a.device)
}

// linux is as /sys does.
func (a pciAddress) linux() string { return fmt.Sprintf("%04x:%02x:%02x.0", a.domain, a.bus, a.device) }

func (a pciAddress) compare(b pciAddress) int {
	return cmp.Or(cmp.Compare(a.domain, b.domain), cmp.Compare(a.bus, b.bus), cmp.Compare(a.device, b.device))
}

// slots numbers the devices: by PCI address, around those that no longer have one; the instances of one in MIG mode stand in its place.
func slots(devices []device) []forge.GPU {
	islands(devices)
	gpus := make([]device, len(devices))
	taken := make([]bool, len(devices))
	var placed []device
	for _, d := range devices {
		if d.hasPCI || d.index < 0 || d.index >= len(devices) || taken[d.index] {
			placed = append(placed, d)
			continue
		}
		gpus[d.index], taken[d.index] = d, true
	}
	slices.SortStableFunc(placed, func(a, b device) int { return a.pci.compare(b.pci) })
	slot := 0
	for _, d := range placed {
		for taken[slot] {
			slot++
		}
		gpus[slot], taken[slot] = d, true
	}
	out := make([]forge.GPU, 0, len(gpus))
	for _, d := range gpus {
		for _, g := range d.gpus() {
			g.Slot = len(out)
			out = append(out, g)
		}
	}
	return out
}

// islands numbers the groups of GPUs that reach each other over NVLink, directly, over others or over switches; by PCI address, so that
// equal machines have equal numbers. A GPU that reaches none is in no island.
func islands(devices []device) {
	leads := map[pciAddress]pciAddress{}
	var end func(a pciAddress) pciAddress
	end = func(a pciAddress) pciAddress {
		if to, ok := leads[a]; ok {
			return end(to)
		}
		return a
	}
	var gpus []*device
	for i := range devices {
		d := &devices[i]
		if !d.hasPCI {
			continue
		}
		gpus = append(gpus, d)
		for _, to := range d.links {
			if a, b := end(d.pci), end(to); a != b {
				leads[a] = b
			}
		}
	}
	size := map[pciAddress]int{}
	for _, d := range gpus {
		size[end(d.pci)]++
	}
	slices.SortFunc(gpus, func(a, b *device) int { return a.pci.compare(b.pci) })
	number := map[pciAddress]int{}
	for _, d := range gpus {
		at := end(d.pci)
		if size[at] < 2 {
			continue
		}
		if number[at] == 0 {
			number[at] = len(number) + 1
		}
		d.island = number[at]
	}
}

// gpus is what can be given away of a device: itself, or its MIG instances.
func (d device) gpus() []forge.GPU {
	g := forge.GPU{Kind: forge.GPUDevice, UUID: d.uuid, Type: productName(d.name), MemoryMiB: int64(d.memory >> 20), Island: d.island, Sick: d.sick, NUMA: d.numa, CPUs: d.cpus}
	if d.hasPCI {
		g.PCI = d.pci.String()
	}
	if g.Sick == "" && g.UUID == "" {
		g.Sick = "the driver gives it no UUID, so no job can be pinned to it"
	}
	if len(d.instances) == 0 {
		return []forge.GPU{g}
	}
	var out []forge.GPU
	for _, m := range d.instances {
		one := g
		one.UUID, one.Type, one.MIG, one.Parent = m.uuid, g.Type+" MIG "+m.profile, m.profile, d.uuid
		one.MemoryMiB, one.Island = int64(m.memory>>20), 0 // ranks on instances do not reach each other over NVLink
		out = append(out, one)
	}
	return out
}

// productName makes one type of what drivers before and after R470 call "A100-SXM4-40GB" and
// "NVIDIA A100-SXM4-40GB".
func productName(name string) string {
	name = strings.Join(strings.Fields(name), " ")
	name = strings.TrimPrefix(name, "NVIDIA ")
	if name == "" {
		return "unknown"
	}
	return name
}
