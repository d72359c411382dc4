package daemon

import (
	"cmp"
	"strconv"

	forge "github.com/forge-ml/forge-ml"
)

// dcgmMetrics are those of dcgm-exporter's default list that NVML answers, under its names and in its units, so that dashboards and rules that were
// made for it go on. DCGM_FI_DEV_XID_ERRORS has labels of its own, and is made in dcgm.
var dcgmMetrics = []gpuMetric{
	{"DCGM_FI_DEV_SM_CLOCK", "SM clock frequency (in MHz).", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.SMClockMHz, 1) }},
	{"DCGM_FI_DEV_MEM_CLOCK", "Memory clock frequency (in MHz).", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.MemoryClockMHz, 1) }},
	{"DCGM_FI_DEV_MEMORY_TEMP", "Memory temperature (in C).", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.MemoryTemperatureC, 1) }},
	{"DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.TemperatureC, 1) }},
	{"DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.PowerWatts, 1) }},
	{"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "Total energy consumption since boot (in mJ).", counter, func(g *forge.GPUReading) (float64, bool) { return times(g.EnergyJoules, 1000) }},
	{"DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "Total number of PCIe retries.", counter, func(g *forge.GPUReading) (float64, bool) { return times(g.PCIeReplays, 1) }},
	{"DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.UtilPercent, 1) }},
	{"DCGM_FI_DEV_MEM_COPY_UTIL", "Memory utilization (in %).", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.MemoryUtilPercent, 1) }},
	{"DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).", gauge, func(g *forge.GPUReading) (float64, bool) {
		if g.MemoryUsedMiB == nil || g.MemoryMiB == 0 {
			return 0, false
		}
		free := g.MemoryMiB - *g.MemoryUsedMiB
		if g.MemoryReservedMiB != nil {
			free -= *g.MemoryReservedMiB
		}
		return float64(max(0, free)), true
	}},
	{"DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB).", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.MemoryUsedMiB, 1) }},
	{"DCGM_FI_DEV_FB_RESERVED", "Framebuffer memory reserved (in MiB).", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.MemoryReservedMiB, 1) }},
	{"DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "Number of remapped rows for uncorrectable errors", counter, func(g *forge.GPUReading) (float64, bool) { return times(g.RemapUncorrect, 1) }},
	{"DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", "Number of remapped rows for correctable errors", counter, func(g *forge.GPUReading) (float64, bool) { return times(g.RemapCorrected, 1) }},
	{"DCGM_FI_DEV_ROW_REMAP_FAILURE", "Whether remapping of rows has failed", gauge, func(g *forge.GPUReading) (float64, bool) { return flag(g.RemapFailure) }},
}

const (
	dcgmXID    = "DCGM_FI_DEV_XID_ERRORS"
	dcgmNoXID  = "No Error"
	dcgmVendor = "NVIDIA "
)

// dcgm adds a node's GPUs in dcgm-exporter's form. A MIG instance has its parent's index, UUID and address, as there.
func (f *families) dcgm(n *forge.Node, k *nodeShown) {
	by := map[string]*gpuShown{}
	for i := range k.gpus {
		by[k.gpus[i].UUID] = &k.gpus[i]
	}
	for i := range k.gpus {
		s := &k.gpus[i]
		if !s.fresh {
			continue
		}
		whole, profile, id := s, "", ""
		if s.MIG != "" {
			if whole = by[s.Parent]; whole == nil || s.MIGID == nil {
				continue
			}
			profile, id = s.MIG, strconv.Itoa(*s.MIGID)
		}
		index := strconv.Itoa(whole.Index)
		l := labels("gpu", index, "UUID", whole.UUID, "pci_bus_id", whole.PCI, "device", "nvidia"+index, "modelName", dcgmVendor+whole.Type,
			"GPU_I_PROFILE", profile, "GPU_I_ID", id, "hostname", string(n.Name), "DCGM_FI_DRIVER_VERSION", k.Driver)
		for i := range dcgmMetrics {
			m := &dcgmMetrics[i]
			if v, ok := m.value(&s.GPUReading); ok {
				f.add(m.name, m.help, m.kind, l, v)
			}
		}
		words := dcgmNoXID
		if s.XID != 0 {
			words = cmp.Or(xidWords(s.XID), "Unknown Error")
		}
		f.add(dcgmXID, "Value of the last XID error encountered.", gauge, with(l, "err_code", strconv.Itoa(s.XID), "err_msg", words), float64(s.XID))
	}
}
