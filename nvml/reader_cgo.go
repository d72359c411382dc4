//go:build linux && cgo

package nvml

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/NVIDIA/go-nvml/pkg/dl"
	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	forge "github.com/forge-ml/forge-ml"
)

const libraryName = "libnvidia-ml.so.1"

// needed are the functions without which there is no inventory. Calling one that the library
// lacks ends the process, so all are looked up before the first call.
var needed = []string{
	"nvmlInit_v2", "nvmlShutdown", "nvmlErrorString", "nvmlSystemGetDriverVersion",
	"nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetPciInfo_v3",
	"nvmlDeviceGetUUID", "nvmlDeviceGetName", "nvmlDeviceGetMemoryInfo",
}

// The functions that newer drivers have; used when they are there.
const (
	symbolMemoryV2 = "nvmlDeviceGetMemoryInfo_v2"
	symbolMIGMode  = "nvmlDeviceGetMigMode"
	symbolLink     = "nvmlDeviceGetNvLinkState"
	symbolLinkedTo = "nvmlDeviceGetNvLinkRemotePciInfo_v2"
)

type reader struct {
	lib nv.Interface
	has func(function string) bool // whether the library has it; the needed ones it has
}

// Open loads the library and initialises it. Call it in a child process only.
func Open() (Reader, error) {
	// go-nvml's Init drops the loader's message, and with it the difference between "not there"
	// and "there and broken". The handle is never closed: go-nvml shares it.
	lib := dl.New(libraryName, dl.RTLD_LAZY|dl.RTLD_GLOBAL)
	if err := lib.Open(); err != nil {
		if text := err.Error(); strings.Contains(text, libraryName+":") && strings.Contains(text, "No such file or directory") {
			return nil, errNoLibrary
		}
		return nil, fmt.Errorf("the NVML library does not load: %w", err)
	}
	var missing []string
	for _, name := range needed {
		if lib.Lookup(name) != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("the driver's NVML library lacks %s: it is too old for forged", strings.Join(missing, ", "))
	}
	r := &reader{lib: nv.New(), has: remembered(func(name string) bool { return lib.Lookup(name) == nil })}
	if ret := r.lib.Init(); ret != nv.SUCCESS {
		return nil, failure("nvmlInit", ret)
	}
	return r, nil
}

// remembered asks once for each name.
func remembered(has func(string) bool) func(string) bool {
	var known sync.Map
	return func(name string) bool {
		if v, ok := known.Load(name); ok {
			return v.(bool)
		}
		v := has(name)
		known.Store(name, v)
		return v
	}
}

func failure(call string, ret nv.Return) error {
	return fmt.Errorf("NVML: %s: %s (%d)", call, ret.Error(), int32(ret))
}

func (r *reader) Close() error {
	if ret := r.lib.Shutdown(); ret != nv.SUCCESS {
		return failure("nvmlShutdown", ret)
	}
	return nil
}

func (r *reader) Driver() (string, error) {
	v, ret := r.lib.SystemGetDriverVersion()
	if ret != nv.SUCCESS {
		return "", failure("nvmlSystemGetDriverVersion", ret)
	}
	return v, nil
}

func (r *reader) Inventory(ctx context.Context) ([]forge.GPU, error) {
	n, ret := r.lib.DeviceGetCount()
	if ret != nv.SUCCESS {
		return nil, failure("nvmlDeviceGetCount", ret)
	}
	devices := make([]device, 0, n)
	for i := range n {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		devices = append(devices, r.device(i))
	}
	return slots(devices), nil
}

// device asks one GPU for everything. A GPU that is lost still says what it can.
func (r *reader) device(index int) device {
	d := device{index: index}
	h, ret := r.lib.DeviceGetHandleByIndex(index)
	if ret != nv.SUCCESS {
		d.sick = sickness("nvmlDeviceGetHandleByIndex", ret)
		return d
	}
	check := func(call string, ret nv.Return) bool {
		if ret != nv.SUCCESS && d.sick == "" {
			d.sick = sickness(call, ret)
		}
		return ret == nv.SUCCESS
	}
	if pci, ret := h.GetPciInfo(); check("nvmlDeviceGetPciInfo", ret) {
		d.pci, d.hasPCI = pciAddress{pci.Domain, pci.Bus, pci.Device}, true
	}
	if uuid, ret := h.GetUUID(); check("nvmlDeviceGetUUID", ret) {
		d.uuid = uuid
	}
	if name, ret := h.GetName(); check("nvmlDeviceGetName", ret) {
		d.name = name
	}
	// Where GPU and CPU share their memory (Grace, Jetson) there is no figure; that is no fault.
	if total, ret := r.memory(h); ret != nv.ERROR_NOT_SUPPORTED && check("nvmlDeviceGetMemoryInfo", ret) {
		d.memory = total
	}
	if r.has(symbolMIGMode) {
		if mode, _, ret := h.GetMigMode(); ret == nv.SUCCESS && mode == nv.DEVICE_MIG_ENABLE && d.sick == "" {
			d.sick = "MIG mode is on, and MIG instances are not scheduled; switch it off with nvidia-smi -mig 0"
		}
	}
	if r.has(symbolLink) && r.has(symbolLinkedTo) && d.sick == "" {
		d.links = links(h)
	}
	return d
}

// links asks each NVLink that is up where it leads. What does not answer is not known, and no fault: most GPUs have none.
func links(h nv.Device) (to []pciAddress) {
	for link := range nv.NVLINK_MAX_LINKS {
		up, ret := h.GetNvLinkState(link)
		if ret == nv.ERROR_NOT_SUPPORTED || ret == nv.ERROR_INVALID_ARGUMENT { // it has no NVLink, or no more of them
			return to
		}
		if ret != nv.SUCCESS || up != nv.FEATURE_ENABLED {
			continue
		}
		pci, ret := h.GetNvLinkRemotePciInfo(link)
		if ret != nv.SUCCESS {
			continue
		}
		a := pciAddress{pci.Domain, pci.Bus, pci.Device}
		if hidden := pci.Bus == 0 && pci.Device == 0 || pci.Bus >= 0xff; !hidden && !slices.Contains(to, a) { // in a virtual machine the switches may be out of sight
			to = append(to, a)
		}
	}
	return to
}

// memory prefers v2, which does not count what the driver reserves as used.
func (r *reader) memory(h nv.Device) (total uint64, ret nv.Return) {
	if r.has(symbolMemoryV2) {
		if m, ret := h.GetMemoryInfo_v2(); ret == nv.SUCCESS {
			return m.Total, ret
		}
	}
	m, ret := h.GetMemoryInfo()
	return m.Total, ret
}

func sickness(call string, ret nv.Return) string {
	switch ret {
	case nv.ERROR_GPU_IS_LOST:
		return "lost: the driver no longer reaches it (fallen off the bus); the node needs a restart"
	case nv.ERROR_RESET_REQUIRED:
		return "needs a reset (nvidia-smi --gpu-reset) before it can be used again"
	}
	return failure(call, ret).Error()
}
