//go:build linux && cgo

package nvml

import (
	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	forge "github.com/forge-ml/forge-ml"
)

// readFaults fills what has gone wrong in a GPU's memory.
func (s *sampler) readFaults(r *forge.GPUReading, p *trouble) {
	h := s.card.handle
	fields := s.fields(p, nv.FI_DEV_MEMORY_TEMP)
	if c, ok := fields[nv.FI_DEV_MEMORY_TEMP]; ok && c > 0 { // 0 is the answer of memory without a sensor
		r.MemoryTemperatureC = ptr(int(c))
	}
	if s.ask.to("nvmlDeviceGetTotalEccErrors") {
		if n, ret := h.GetTotalEccErrors(nv.MEMORY_ERROR_TYPE_CORRECTED, nv.VOLATILE_ECC); p.value("nvmlDeviceGetTotalEccErrors", ret) {
			r.ECCCorrected = ptr(int64(n))
		}
		if n, ret := h.GetTotalEccErrors(nv.MEMORY_ERROR_TYPE_UNCORRECTED, nv.VOLATILE_ECC); p.value("nvmlDeviceGetTotalEccErrors", ret) {
			r.ECCUncorrected = ptr(int64(n))
		}
	}
	remaps := false
	if s.ask.to("nvmlDeviceGetRemappedRows") {
		corrected, uncorrected, pending, failure, ret := h.GetRemappedRows()
		if remaps = p.value("nvmlDeviceGetRemappedRows", ret); remaps {
			r.RemapCorrected, r.RemapUncorrect, r.RemapPending, r.RemapFailure = &corrected, &uncorrected, &pending, &failure
		}
	}
	if !remaps {
		s.readRetired(r, p)
	}
}

// readSlow fills what the driver wants done, what has gone wrong on the way to the machine, and what the GPU has used.
func (s *sampler) readSlow(r *forge.GPUReading, p *trouble) {
	h := s.card.handle
	if action, ok := s.fields(p, nv.FI_DEV_GET_GPU_RECOVERY_ACTION)[nv.FI_DEV_GET_GPU_RECOVERY_ACTION]; ok {
		r.Recovery = ptr(int(action))
	}
	if s.ask.to("nvmlDeviceGetPcieReplayCounter") {
		if n, ret := h.GetPcieReplayCounter(); p.value("nvmlDeviceGetPcieReplayCounter", ret) {
			r.PCIeReplays = ptr(int64(n))
		}
	}
	if s.ask.to("nvmlDeviceGetTotalEnergyConsumption") {
		if mj, ret := h.GetTotalEnergyConsumption(); p.value("nvmlDeviceGetTotalEnergyConsumption", ret) {
			r.EnergyJoules = ptr(float64(mj) / 1000)
		}
	}
}

// readRetired fills what GPUs before Ampere have in place of remapped rows.
func (s *sampler) readRetired(r *forge.GPUReading, p *trouble) {
	if s.ask.to("nvmlDeviceGetRetiredPages") {
		single, ret := s.card.handle.GetRetiredPages(nv.PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS)
		if p.value("nvmlDeviceGetRetiredPages", ret) {
			double, ret := s.card.handle.GetRetiredPages(nv.PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR)
			if p.value("nvmlDeviceGetRetiredPages", ret) {
				r.RetiredPages = ptr(len(single) + len(double))
			}
		}
	}
	if s.ask.to("nvmlDeviceGetRetiredPagesPendingStatus") {
		if pending, ret := s.card.handle.GetRetiredPagesPendingStatus(); p.value("nvmlDeviceGetRetiredPagesPendingStatus", ret) {
			r.RetirePending = ptr(pending == nv.FEATURE_ENABLED)
		}
	}
}

// readLinks fills the state and the counters of all NVLinks.
func (s *sampler) readLinks(r *forge.GPUReading, p *trouble) {
	h := s.card.handle
	counters := []struct {
		counter nv.NvLinkErrorCounter
		to      **int64
	}{{nv.NVLINK_ERROR_DL_REPLAY, &r.LinkReplays}, {nv.NVLINK_ERROR_DL_RECOVERY, &r.LinkRecovered}, {nv.NVLINK_ERROR_DL_CRC_FLIT, &r.LinkCRC}}
	for link := range nv.NVLINK_MAX_LINKS {
		if !s.ask.to(symbolLink) {
			return
		}
		up, ret := h.GetNvLinkState(link)
		if !p.value(symbolLink, ret) {
			if ret == nv.ERROR_NOT_SUPPORTED || ret == nv.ERROR_INVALID_ARGUMENT || p.ret != nv.SUCCESS { // no NVLink, or no more of them
				return
			}
			continue
		}
		if r.LinksUp == nil {
			r.LinksUp, r.LinksDown = new(int), new(int)
		}
		if up != nv.FEATURE_ENABLED {
			*r.LinksDown++
			continue
		}
		*r.LinksUp++
		for _, c := range counters {
			if !s.ask.to("nvmlDeviceGetNvLinkErrorCounter") {
				break
			}
			if n, ret := h.GetNvLinkErrorCounter(link, c.counter); p.value("nvmlDeviceGetNvLinkErrorCounter", ret) {
				if *c.to == nil {
					*c.to = new(int64)
				}
				**c.to += int64(n)
			}
		}
	}
}
