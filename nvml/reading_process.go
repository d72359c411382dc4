//go:build linux && cgo

package nvml

import (
	"math"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	forge "github.com/forge-ml/forge-ml"
)

// readProcesses lists who uses a GPU or a MIG instance. The list is told as complete only when each of its parts was answered, or is not there.
func (s *sampler) readProcesses(h nv.Device, r *forge.GPUReading, p *trouble) {
	seen := map[int]bool{}
	add := func(kind string, list []nv.ProcessInfo) {
		for _, process := range list {
			if pid := int(process.Pid); !seen[pid] { // one that computes and draws is in two lists
				seen[pid] = true
				one := forge.GPUProcess{PID: pid, Kind: kind}
				if process.UsedGpuMemory != math.MaxUint64 {
					one.MemoryMiB = ptr(int64(process.UsedGpuMemory >> 20))
				}
				r.Processes = append(r.Processes, one)
			}
		}
	}
	// go-nvml takes the newest version of each that the library has.
	may := func(name string) bool { return s.ask.to(name+"_v3") || s.ask.to(name+"_v2") }
	if may("nvmlDeviceGetComputeRunningProcesses") {
		list, ret := h.GetComputeRunningProcesses()
		r.Told = p.value("nvmlDeviceGetComputeRunningProcesses", ret)
		add("compute", list)
	}
	if may("nvmlDeviceGetMPSComputeRunningProcesses") {
		list, ret := h.GetMPSComputeRunningProcesses()
		r.Told = (p.value("nvmlDeviceGetMPSComputeRunningProcesses", ret) || ret == nv.ERROR_NOT_SUPPORTED) && r.Told
		add("mps", list)
	}
	if may("nvmlDeviceGetGraphicsRunningProcesses") {
		list, ret := h.GetGraphicsRunningProcesses()
		r.Told = (p.value("nvmlDeviceGetGraphicsRunningProcesses", ret) || ret == nv.ERROR_NOT_SUPPORTED) && r.Told
		add("graphics", list)
	}
}
