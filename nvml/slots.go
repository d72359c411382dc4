package nvml

import (
	"cmp"
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
}

type pciAddress struct{ domain, bus, device uint32 }

func (a pciAddress) compare(b pciAddress) int {
	return cmp.Or(cmp.Compare(a.domain, b.domain), cmp.Compare(a.bus, b.bus), cmp.Compare(a.device, b.device))
}

// slots numbers the devices: by PCI address, around those that no longer have one.
func slots(devices []device) []forge.GPU {
	islands(devices)
	gpus := make([]forge.GPU, len(devices))
	taken := make([]bool, len(devices))
	var placed []device
	for _, d := range devices {
		if d.hasPCI || d.index < 0 || d.index >= len(devices) || taken[d.index] {
			placed = append(placed, d)
			continue
		}
		gpus[d.index], taken[d.index] = d.gpu(d.index), true
	}
	slices.SortStableFunc(placed, func(a, b device) int { return a.pci.compare(b.pci) })
	slot := 0
	for _, d := range placed {
		for taken[slot] {
			slot++
		}
		gpus[slot], taken[slot] = d.gpu(slot), true
	}
	return gpus
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

func (d device) gpu(slot int) forge.GPU {
	g := forge.GPU{Slot: slot, Kind: forge.GPUDevice, UUID: d.uuid, Type: productName(d.name), MemoryMiB: int64(d.memory >> 20), Island: d.island, Sick: d.sick}
	if g.Sick == "" && g.UUID == "" {
		g.Sick = "the driver gives it no UUID, so no job can be pinned to it"
	}
	return g
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
