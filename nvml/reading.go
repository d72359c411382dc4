//go:build linux && cgo

package nvml

import (
	"slices"
	"time"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	forge "github.com/forge-ml/forge-ml"
)

// slowEvery is how often a sampler reads what costs much and is not needed sooner. On an H100 under driver 580 the total of its energy takes 4 ms of
// CPU time, a hundred times as much as power, clocks, temperature, memory and processes together; replays of the bus and the mode of MIG take 0.15 ms
// each. NVLinks have three counters each. What the driver says by itself is followed by a look at everything.
const slowEvery = 30 * time.Second

// sampler reads one GPU. One goroutine uses it.
type sampler struct {
	lib   nv.Interface
	ask   *asker
	index int             // NVML's
	only  map[string]bool // UUIDs; nil: all
	wants bool            // whether the GPU, or an instance of it, is among them

	card   card
	slow   forge.GPUReading // only what readSlow fills
	parts  []instance       // read as rarely
	slowAt time.Time
	last   []forge.GPUReading // what is still true of it when it answers no more
}

// card is what does not change of a GPU; a GPU that is lost keeps it.
type card struct {
	handle  nv.Device
	uuid    string
	product string
	minor   int
	pci     pciAddress
	hasPCI  bool
	limits  forge.GPUReading // only its temperature limits
}

func (c card) reading(index int) forge.GPUReading {
	r := c.limits
	r.UUID, r.Index, r.Minor, r.Type = c.uuid, index, c.minor, c.product
	if c.hasPCI {
		r.PCI = c.pci.String()
	}
	return r
}

// read asks for everything. full leaves nothing for later.
func (s *sampler) read(full bool) []forge.GPUReading {
	defer s.ask.done()
	problem := s.identify()
	r := s.card.reading(s.index)
	if problem.ret != nv.SUCCESS {
		for i := range s.last {
			problem.tell(&s.last[i])
		}
		if s.last == nil {
			problem.tell(&r)
			return []forge.GPUReading{r}
		}
		return s.last
	}
	rare := full || time.Since(s.slowAt) >= slowEvery
	if rare {
		s.slowAt = time.Now()
		s.parts, _ = migInstances(s.ask, s.card.handle, &problem)
	}
	if s.wants = s.wanted(s.parts); !s.wants {
		return []forge.GPUReading{r}
	}
	s.readLoad(&r, &problem)
	s.readHeat(&r, &problem)
	s.readFaults(&r, &problem)
	if rare {
		s.slow = forge.GPUReading{}
		s.readSlow(&s.slow, &problem)
		s.readLinks(&s.slow, &problem)
	}
	r.LinksUp, r.LinksDown, r.LinkReplays, r.LinkRecovered, r.LinkCRC = s.slow.LinksUp, s.slow.LinksDown, s.slow.LinkReplays, s.slow.LinkRecovered, s.slow.LinkCRC
	r.EnergyJoules, r.Recovery, r.PCIeReplays = s.slow.EnergyJoules, s.slow.Recovery, s.slow.PCIeReplays
	readings := s.readInstances(s.parts, r, &problem)
	if readings == nil {
		s.readMemory(s.card.handle, &r, &problem)
		s.readProcesses(s.card.handle, &r, &problem)
		readings = []forge.GPUReading{r}
	}
	s.last = nil
	for i := range readings {
		problem.tell(&readings[i])
		s.last = append(s.last, unchanging(readings[i]))
	}
	return readings
}

func (s *sampler) wanted(instances []instance) bool {
	return s.only == nil || s.only[s.card.uuid] || slices.ContainsFunc(instances, func(m instance) bool { return s.only[m.uuid] })
}

// identify asks who it is, each time: the handle of an index is another GPU's after one before it has gone.
func (s *sampler) identify() (p trouble) {
	s.ask.to("nvmlDeviceGetHandleByIndex_v2")
	h, ret := s.lib.DeviceGetHandleByIndex(s.index)
	if !p.ok("nvmlDeviceGetHandleByIndex", ret) {
		return p
	}
	s.ask.to("nvmlDeviceGetUUID")
	uuid, ret := h.GetUUID()
	if !p.ok("nvmlDeviceGetUUID", ret) {
		return p
	}
	if s.card.handle != nil && uuid == s.card.uuid {
		s.card.handle = h
		return p
	}
	c := card{handle: h, uuid: uuid, minor: s.index}
	s.ask.to("nvmlDeviceGetPciInfo_v3")
	pci, ret := h.GetPciInfo()
	if !p.ok("nvmlDeviceGetPciInfo", ret) {
		return p
	}
	c.pci, c.hasPCI = pciAddress{pci.Domain, pci.Bus, pci.Device}, true
	s.ask.to("nvmlDeviceGetName")
	name, ret := h.GetName()
	if !p.ok("nvmlDeviceGetName", ret) {
		return p
	}
	c.product = productName(name)
	if s.ask.to("nvmlDeviceGetMinorNumber") {
		if minor, ret := h.GetMinorNumber(); ret == nv.SUCCESS {
			c.minor = minor
		}
	}
	s.card, s.slowAt, s.last = c, time.Time{}, nil
	s.readLimits(&s.card.limits)
	return p
}

// trouble is the first answer that says something of the GPU as a whole.
type trouble struct {
	call string
	ret  nv.Return
}

// ok notes an answer without which nothing goes on.
func (t *trouble) ok(call string, ret nv.Return) bool {
	if ret != nv.SUCCESS && t.ret == nv.SUCCESS {
		t.call, t.ret = call, ret
	}
	return ret == nv.SUCCESS
}

// value notes the answer to one value among many: only that the GPU is lost or wants a reset says more than that the value is absent.
func (t *trouble) value(call string, ret nv.Return) bool {
	if ret == nv.ERROR_GPU_IS_LOST || ret == nv.ERROR_RESET_REQUIRED {
		t.ok(call, ret)
	}
	return ret == nv.SUCCESS
}

func (t *trouble) tell(r *forge.GPUReading) {
	if t.ret == nv.SUCCESS {
		return
	}
	r.Problem = sickness(t.call, t.ret)
	r.Lost = t.ret == nv.ERROR_GPU_IS_LOST
	r.Reset = t.ret == nv.ERROR_RESET_REQUIRED
}

// readLoad fills what a GPU does at the moment.
func (s *sampler) readLoad(r *forge.GPUReading, p *trouble) {
	h := s.card.handle
	if s.ask.to("nvmlDeviceGetUtilizationRates") {
		if u, ret := h.GetUtilizationRates(); p.value("nvmlDeviceGetUtilizationRates", ret) {
			r.UtilPercent, r.MemoryUtilPercent = ptr(int(u.Gpu)), ptr(int(u.Memory))
		}
	}
	if s.ask.to("nvmlDeviceGetPowerUsage") {
		if mw, ret := h.GetPowerUsage(); p.value("nvmlDeviceGetPowerUsage", ret) {
			r.PowerWatts = ptr(float64(mw) / 1000)
		}
	}
	if s.ask.to("nvmlDeviceGetEnforcedPowerLimit") {
		if mw, ret := h.GetEnforcedPowerLimit(); p.value("nvmlDeviceGetEnforcedPowerLimit", ret) {
			r.PowerLimitWatts = ptr(float64(mw) / 1000)
		}
	}
	if s.ask.to("nvmlDeviceGetClockInfo") {
		if mhz, ret := h.GetClockInfo(nv.CLOCK_SM); p.value("nvmlDeviceGetClockInfo", ret) {
			r.SMClockMHz = ptr(int(mhz))
		}
		if mhz, ret := h.GetClockInfo(nv.CLOCK_MEM); p.value("nvmlDeviceGetClockInfo", ret) {
			r.MemoryClockMHz = ptr(int(mhz))
		}
	}
	if bits, ok := s.throttle(p); ok {
		r.Throttle = throttleReasons(bits)
	}
}

// throttle asks by the newer name first; R535 renamed the function.
func (s *sampler) throttle(p *trouble) (bits uint64, ok bool) {
	if s.ask.to("nvmlDeviceGetCurrentClocksEventReasons") {
		if bits, ret := s.card.handle.GetCurrentClocksEventReasons(); p.value("nvmlDeviceGetCurrentClocksEventReasons", ret) {
			return bits, true
		}
	}
	if s.ask.to("nvmlDeviceGetCurrentClocksThrottleReasons") {
		if bits, ret := s.card.handle.GetCurrentClocksThrottleReasons(); p.value("nvmlDeviceGetCurrentClocksThrottleReasons", ret) {
			return bits, true
		}
	}
	return 0, false
}

func throttleReasons(bits uint64) (reasons []forge.ThrottleReason) {
	for i, reason := range []forge.ThrottleReason{
		forge.ThrottleIdle, forge.ThrottleClocks, forge.ThrottlePowerCap, forge.ThrottleHWSlowdown, forge.ThrottleSync,
		forge.ThrottleSWThermal, forge.ThrottleHWThermal, forge.ThrottleBrake, forge.ThrottleDisplay,
	} {
		if bits&(1<<i) != 0 {
			reasons = append(reasons, reason)
		}
	}
	return reasons
}

// readMemory fills total and used, of the GPU or of a MIG instance.
func (s *sampler) readMemory(h nv.Device, r *forge.GPUReading, p *trouble) {
	if s.ask.to(symbolMemoryV2) {
		if m, ret := h.GetMemoryInfo_v2(); p.value(symbolMemoryV2, ret) {
			r.MemoryMiB, r.MemoryUsedMiB, r.MemoryReservedMiB = int64(m.Total>>20), ptr(int64(m.Used>>20)), ptr(int64(m.Reserved>>20))
			return
		}
	}
	s.ask.to("nvmlDeviceGetMemoryInfo")
	// It counts what the driver reserves as used, half a GiB on an idle GPU; so of what is used nothing is known.
	if m, ret := h.GetMemoryInfo(); p.value("nvmlDeviceGetMemoryInfo", ret) {
		r.MemoryMiB = int64(m.Total >> 20)
	}
}

func ptr[T any](v T) *T { return &v }
