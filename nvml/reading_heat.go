//go:build linux && cgo

package nvml

import (
	"encoding/binary"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	forge "github.com/forge-ml/forge-ml"
)

// readHeat fills the temperatures.
func (s *sampler) readHeat(r *forge.GPUReading, p *trouble) {
	if c, ok := s.temperature(p); ok {
		r.TemperatureC = &c
	}
	if s.ask.to("nvmlDeviceGetMarginTemperature") {
		if m, ret := s.card.handle.GetMarginTemperature(); p.value("nvmlDeviceGetMarginTemperature", ret) {
			r.MarginC = ptr(int(m.MarginTemperature))
		}
	}
}

// temperature asks by the older name first: it is in every driver, and a newer one that drops it says so.
func (s *sampler) temperature(p *trouble) (int, bool) {
	if s.ask.to("nvmlDeviceGetTemperature") {
		if c, ret := s.card.handle.GetTemperature(nv.TEMPERATURE_GPU); p.value("nvmlDeviceGetTemperature", ret) {
			return int(c), true
		}
	}
	if s.ask.to("nvmlDeviceGetTemperatureV") {
		if t, ret := s.card.handle.GetTemperatureV().V1(); p.value("nvmlDeviceGetTemperatureV", ret) {
			return int(t.Temperature), true
		}
	}
	return 0, false
}

// readLimits fills the temperatures at which the hardware acts. They do not change.
func (s *sampler) readLimits(r *forge.GPUReading) {
	limits := []struct {
		threshold nv.TemperatureThresholds
		field     uint32 // of GPUs that give no thresholds (Ada and later): so many degrees beside the point of no margin
		to        **int
	}{
		{nv.TEMPERATURE_THRESHOLD_SHUTDOWN, nv.FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT, &r.ShutdownC},
		{nv.TEMPERATURE_THRESHOLD_SLOWDOWN, nv.FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT, &r.SlowdownC},
		{nv.TEMPERATURE_THRESHOLD_GPU_MAX, nv.FI_DEV_TEMPERATURE_GPU_MAX_TLIMIT, &r.MaxC},
		{nv.TEMPERATURE_THRESHOLD_MEM_MAX, 0, &r.MemoryMaxC}, // the margin is the core's, so memory's limit does not follow from it
	}
	for _, l := range limits {
		if !s.ask.to("nvmlDeviceGetTemperatureThreshold") {
			break
		}
		if c, ret := s.card.handle.GetTemperatureThreshold(l.threshold); ret == nv.SUCCESS {
			*l.to = ptr(int(c))
		}
	}
	var now forge.GPUReading
	var ignored trouble // what is wrong with the GPU as a whole is seen by what is read each time
	s.readHeat(&now, &ignored)
	if now.TemperatureC == nil || now.MarginC == nil {
		return
	}
	for _, l := range limits {
		if *l.to != nil || l.field == 0 {
			continue
		}
		if beside, ok := s.fields(&ignored, l.field)[l.field]; ok {
			*l.to = ptr(*now.TemperatureC + *now.MarginC - int(beside))
		}
	}
}

// fields asks for values by number, in one call; only what was answered is in the result.
func (s *sampler) fields(p *trouble, ids ...uint32) map[uint32]int64 {
	if !s.ask.to("nvmlDeviceGetFieldValues") {
		return nil
	}
	values := make([]nv.FieldValue, len(ids))
	for i, id := range ids {
		values[i].FieldId = id
	}
	if !p.value("nvmlDeviceGetFieldValues", s.card.handle.GetFieldValues(values)) {
		return nil
	}
	got := map[uint32]int64{}
	for _, v := range values {
		if !p.value("nvmlDeviceGetFieldValues", nv.Return(v.NvmlReturn)) {
			continue
		}
		switch bits := binary.NativeEndian.Uint64(v.Value[:]); nv.ValueType(v.ValueType) {
		case nv.VALUE_TYPE_UNSIGNED_INT:
			got[v.FieldId] = int64(uint32(bits))
		case nv.VALUE_TYPE_SIGNED_INT:
			got[v.FieldId] = int64(int32(bits))
		case nv.VALUE_TYPE_UNSIGNED_LONG, nv.VALUE_TYPE_UNSIGNED_LONG_LONG, nv.VALUE_TYPE_SIGNED_LONG_LONG:
			got[v.FieldId] = int64(bits)
		case nv.VALUE_TYPE_UNSIGNED_SHORT:
			got[v.FieldId] = int64(uint16(bits))
		}
	}
	return got
}
