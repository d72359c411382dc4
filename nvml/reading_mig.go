//go:build linux && cgo

package nvml

import (
	"fmt"
	"math"
	"strings"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	forge "github.com/forge-ml/forge-ml"
)

// instance is a MIG instance as NVML described it.
type instance struct {
	handle  nv.Device
	uuid    string
	profile string
	gi, ci  int
	memory  uint64 // bytes
}

// migInstances lists the MIG instances of a GPU; on says whether it is in MIG mode, when it need not have any.
func migInstances(ask *asker, h nv.Device, p *trouble) (list []instance, on bool) {
	if !ask.to(symbolMIGMode) {
		return nil, false
	}
	if mode, _, ret := h.GetMigMode(); !p.value(symbolMIGMode, ret) || mode != nv.DEVICE_MIG_ENABLE {
		return nil, false
	}
	if !ask.to("nvmlDeviceGetMaxMigDeviceCount") {
		return nil, true
	}
	most, ret := h.GetMaxMigDeviceCount()
	if !p.value("nvmlDeviceGetMaxMigDeviceCount", ret) {
		return nil, true
	}
	for i := range most {
		if !ask.to("nvmlDeviceGetMigDeviceHandleByIndex") {
			break
		}
		m, ret := h.GetMigDeviceHandleByIndex(i)
		if !p.value("nvmlDeviceGetMigDeviceHandleByIndex", ret) { // indexes have gaps
			continue
		}
		if one, ok := migInstance(ask, h, m, p); ok {
			list = append(list, one)
		}
	}
	return list, true
}

// migInstance asks an instance who it is; one that does not say cannot be given to anybody.
func migInstance(ask *asker, parent, m nv.Device, p *trouble) (one instance, ok bool) {
	one.handle = m
	var ret nv.Return
	ask.to("nvmlDeviceGetUUID")
	if one.uuid, ret = m.GetUUID(); !p.value("nvmlDeviceGetUUID", ret) || one.uuid == "" {
		return one, false
	}
	if ask.to("nvmlDeviceGetGpuInstanceId") {
		if one.gi, ret = m.GetGpuInstanceId(); !p.value("nvmlDeviceGetGpuInstanceId", ret) {
			return one, false
		}
	}
	if ask.to("nvmlDeviceGetComputeInstanceId") {
		if one.ci, ret = m.GetComputeInstanceId(); !p.value("nvmlDeviceGetComputeInstanceId", ret) {
			one.ci = 0
		}
	}
	ask.to("nvmlDeviceGetMemoryInfo")
	if memory, ret := m.GetMemoryInfo(); p.value("nvmlDeviceGetMemoryInfo", ret) {
		one.memory = memory.Total
	}
	ask.to("nvmlDeviceGetName")
	if name, ret := m.GetName(); p.value("nvmlDeviceGetName", ret) {
		_, one.profile, _ = strings.Cut(name, " MIG ")
	}
	if one.profile == "" && ask.to("nvmlDeviceGetAttributes_v2") {
		if a, ret := m.GetAttributes(); p.value("nvmlDeviceGetAttributes", ret) {
			ask.to("nvmlDeviceGetMemoryInfo")
			whole, ret := parent.GetMemoryInfo()
			if p.value("nvmlDeviceGetMemoryInfo", ret) {
				one.profile = profileName(a, whole.Total)
			}
		}
	}
	return one, one.profile != ""
}

// profileName makes the name of a profile of what an instance has, as nvidia-smi and NVIDIA's device plugin do: of memory it names eighths of
// the whole, rounded up, in GB. Of drivers whose product names do not say it.
func profileName(a nv.DeviceAttributes, whole uint64) string {
	eighths := math.Ceil(float64(a.MemorySizeMB<<20) / float64(whole) * 8)
	gb := int(math.Round(eighths / 8 * math.Ceil(float64(whole)/(1<<30))))
	name := fmt.Sprintf("%dg.%dgb", a.GpuInstanceSliceCount, gb)
	if a.ComputeInstanceSliceCount != a.GpuInstanceSliceCount {
		name = fmt.Sprintf("%dc.%s", a.ComputeInstanceSliceCount, name)
	}
	return name
}

// readInstances reads the MIG instances of the GPU, nil when it has none. Each has memory and processes of its own and shares the rest; what is
// a sum over the whole GPU, as power is, would be counted once for each and is left out.
func (s *sampler) readInstances(list []instance, whole forge.GPUReading, p *trouble) (readings []forge.GPUReading) {
	for _, m := range list {
		r := whole
		r.UUID, r.MIG, r.Parent, r.MIGID = m.uuid, m.profile, whole.UUID, ptr(m.gi)
		r.Type = whole.Type + " MIG " + m.profile
		r.UtilPercent, r.MemoryUtilPercent = nil, nil
		r.PowerWatts, r.PowerLimitWatts, r.EnergyJoules = nil, nil, nil
		s.readMemory(m.handle, &r, p)
		s.readProcesses(m.handle, &r, p)
		readings = append(readings, r)
	}
	return readings
}
