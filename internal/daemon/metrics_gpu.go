package daemon

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	dto "github.com/prometheus/client_model/go"

	forge "github.com/forge-ml/forge-ml"
)

// metricsGPUs is how many GPUs have series of their own on /metrics, in the order of cluster, node and slot: some 40 series each. Beyond it there are
// sums alone, and forge_gpus_left_out says how many GPUs are in those.
const metricsGPUs = 4096

// gpuMetric is one family that a reading has at most one value of. Readings that are old have none: a series ends rather than stands still.
type gpuMetric struct {
	name, help string
	kind       dto.MetricType
	value      func(*forge.GPUReading) (float64, bool)
}

const (
	gauge   = dto.MetricType_GAUGE
	counter = dto.MetricType_COUNTER
	mebi    = 1 << 20
	mega    = 1e6
)

func times[T int | int64 | float64](v *T, by float64) (float64, bool) {
	if v == nil {
		return 0, false
	}
	return float64(*v) * by, true
}

func flag(v *bool) (float64, bool) {
	if v == nil {
		return 0, false
	}
	return oneIf(*v), true
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// gpuMetrics are in base units: bytes, seconds, hertz, joules, ratios.
var gpuMetrics = []gpuMetric{
	{"forge_gpu_utilization_ratio", "Part of the time in which the GPU computed, 0 to 1.", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.UtilPercent, .01) }},
	{"forge_gpu_memory_utilization_ratio", "Part of the time in which its memory was read or written, 0 to 1.", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.MemoryUtilPercent, .01) }},
	{"forge_gpu_memory_total_bytes", "Memory.", gauge, func(g *forge.GPUReading) (float64, bool) { return float64(g.MemoryMiB) * mebi, g.MemoryMiB > 0 }},
	{"forge_gpu_memory_used_bytes", "Memory in use, without what the driver reserves.", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.MemoryUsedMiB, mebi) }},
	{"forge_gpu_memory_reserved_bytes", "Memory that the driver reserves.", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.MemoryReservedMiB, mebi) }},
	{"forge_gpu_temperature_celsius", "Temperature of the GPU.", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.TemperatureC, 1) }},
	{"forge_gpu_memory_temperature_celsius", "Temperature of its memory.", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.MemoryTemperatureC, 1) }},
	{"forge_gpu_power_watts", "Power that it draws.", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.PowerWatts, 1) }},
	{"forge_gpu_power_limit_watts", "Power that it may draw.", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.PowerLimitWatts, 1) }},
	{"forge_gpu_energy_joules_total", "Energy since the driver was loaded.", counter, func(g *forge.GPUReading) (float64, bool) { return times(g.EnergyJoules, 1) }},
	{"forge_gpu_sm_clock_hertz", "Clock of its processors.", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.SMClockMHz, mega) }},
	{"forge_gpu_memory_clock_hertz", "Clock of its memory.", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.MemoryClockMHz, mega) }},
	{"forge_gpu_ecc_corrected_total", "Memory errors that were corrected, since the driver was loaded.", counter, func(g *forge.GPUReading) (float64, bool) { return times(g.ECCCorrected, 1) }},
	{"forge_gpu_ecc_uncorrected_total", "Memory errors that were not, since the driver was loaded.", counter, func(g *forge.GPUReading) (float64, bool) { return times(g.ECCUncorrected, 1) }},
	{"forge_gpu_remapped_rows_corrected", "Memory rows that were replaced after corrected errors.", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.RemapCorrected, 1) }},
	{"forge_gpu_remapped_rows_uncorrected", "Memory rows that were replaced after uncorrected errors.", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.RemapUncorrect, 1) }},
	{"forge_gpu_remap_pending", "1 when a row is to be replaced at the next reset.", gauge, func(g *forge.GPUReading) (float64, bool) { return flag(g.RemapPending) }},
	{"forge_gpu_remap_failure", "1 when a row could not be replaced.", gauge, func(g *forge.GPUReading) (float64, bool) { return flag(g.RemapFailure) }},
	{"forge_gpu_retired_pages", "Memory pages that are retired, of GPUs before Ampere.", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.RetiredPages, 1) }},
	{"forge_gpu_nvlinks_up", "NVLinks that are up.", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.LinksUp, 1) }},
	{"forge_gpu_nvlinks_down", "NVLinks that could be up and are not.", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.LinksDown, 1) }},
	{"forge_gpu_nvlink_replays_total", "Repeats on its NVLinks.", counter, func(g *forge.GPUReading) (float64, bool) { return times(g.LinkReplays, 1) }},
	{"forge_gpu_nvlink_recoveries_total", "Recoveries of its NVLinks.", counter, func(g *forge.GPUReading) (float64, bool) { return times(g.LinkRecovered, 1) }},
	{"forge_gpu_nvlink_crc_errors_total", "Checksum errors on its NVLinks.", counter, func(g *forge.GPUReading) (float64, bool) { return times(g.LinkCRC, 1) }},
	{"forge_gpu_pcie_replays_total", "Repeats on PCIe.", counter, func(g *forge.GPUReading) (float64, bool) { return times(g.PCIeReplays, 1) }},
	{"forge_gpu_recovery_action", "What the driver wants done: 0 nothing, 1 GPU reset, 2 node reboot, 3 drain P2P, 4 drain and reset, 5 IMEX, 6 bus reset, 7 system reboot.", gauge, func(g *forge.GPUReading) (float64, bool) { return times(g.Recovery, 1) }},
	{"forge_nvml_call_hung_seconds", "How long a call of NVML about the GPU has not returned; absent while all return.", gauge, func(g *forge.GPUReading) (float64, bool) { return float64(g.HungSince), g.HungSince > 0 }},
}

// throttles are the reasons for low clocks that a page has a series of. Those that say only that nothing is to be done are left out.
var throttles = []forge.ThrottleReason{forge.ThrottlePowerCap, forge.ThrottleHWSlowdown, forge.ThrottleSWThermal, forge.ThrottleHWThermal, forge.ThrottleBrake}

// gpuState is how a GPU stands for whoever places.
type gpuState string

const (
	gpuReady   gpuState = "ready"
	gpuDrained gpuState = "drained" // its node is
	gpuSick    gpuState = "sick"
	gpuUnknown gpuState = "unknown" // its node does not answer
)

var gpuStates = []gpuState{gpuReady, gpuDrained, gpuSick, gpuUnknown}

func stateOf(n *forge.Node, r *gpuRow) gpuState {
	switch {
	case r.place != nil && r.place.Sick != "":
		return gpuSick
	case n.State == forge.NodeUnknown:
		return gpuUnknown
	case n.State == forge.NodeDrained:
		return gpuDrained
	}
	return gpuReady
}

// families gathers metrics as Prometheus' own writer takes them. The registry would hold each series of each GPU against all the others at every
// scrape; here no two can be equal, since UUIDs and slots are not.
type families struct {
	by   map[string]*dto.MetricFamily
	room []filled
}

// filled is a metric with all that it points to.
type filled struct {
	m dto.Metric
	g dto.Gauge
	c dto.Counter
	v float64
}

func (f *families) add(name, help string, kind dto.MetricType, labels []*dto.LabelPair, v float64) {
	fam := f.by[name]
	if fam == nil {
		fam = &dto.MetricFamily{Name: &name, Help: &help, Type: &kind}
		f.by[name] = fam
	}
	if len(f.room) == 0 {
		f.room = make([]filled, 512)
	}
	x := &f.room[0]
	f.room = f.room[1:]
	x.v, x.m.Label = v, labels
	if kind == counter {
		x.c.Value, x.m.Counter = &x.v, &x.c
	} else {
		x.g.Value, x.m.Gauge = &x.v, &x.g
	}
	fam.Metric = append(fam.Metric, &x.m)
}

// labels makes pairs of names and values; what has no value is left out.
func labels(pairs ...string) []*dto.LabelPair {
	out := make([]*dto.LabelPair, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			out = append(out, &dto.LabelPair{Name: &pairs[i], Value: &pairs[i+1]})
		}
	}
	return out
}

func with(l []*dto.LabelPair, pairs ...string) []*dto.LabelPair {
	return append(slices.Clip(l), labels(pairs...)...)
}

// gpuFamilies is what /metrics says of GPUs now.
func (d *Daemon) gpuFamilies() []*dto.MetricFamily {
	cfg := d.live().cfg.GPUs
	f := families{by: map[string]*dto.MetricFamily{}}
	known, holds := d.board.shown(nil), d.gpuHolders()
	names := tenantNames{d: d}
	type sum struct {
		cluster forge.ClusterName
		state   gpuState
	}
	sums := map[sum]int{}
	left, out := metricsGPUs, 0
	for _, n := range d.world.nodeList() {
		at := nodeKey{n.Cluster, n.Name}
		k := known[at]
		rows := gpuRows(&n, k, holds[at])
		for i := range rows {
			sums[sum{n.Cluster, stateOf(&n, &rows[i])}]++
		}
		if left < len(rows) {
			out += len(rows) // a node is on the page whole or not at all
			continue
		}
		left -= len(rows)
		on := []string{"cluster", string(n.Cluster), "node", string(n.Name)}
		if k != nil && !k.Got.IsZero() && (k.fresh || d.direct(n.Cluster)) { // elsewhere nobody looks while nothing runs
			l := labels(on...)
			f.add("forge_nvml_up", "1 when the last look at a node's GPUs went well, and is not old. Where only runs look, nodes without one are left out.", gauge, l, oneIf(k.fresh && k.State == forge.NVMLOK))
			f.add("forge_nvml_look_age_seconds", "How long ago that was.", gauge, l, max(0, d.board.now().Sub(k.Got).Seconds()))
		}
		for i := range rows {
			f.gpu(&n, &rows[i], k, on)
			if cfg.JobMetrics && rows[i].run != "" {
				if r, ok := d.world.run(rows[i].run); ok {
					f.add("forge_gpu_job_info", "1; the labels say who has the GPU. Only with gpus.job_metrics.", gauge,
						with(gpuLabels(&rows[i], on), "tenant", names.of(r.Tenant), "user", r.User, "run", strconv.FormatInt(r.Number, 10)), 1)
				}
			}
		}
		if cfg.DCGM && k != nil {
			f.dcgm(&n, k)
		}
	}
	for _, s := range slices.SortedFunc(maps.Keys(sums), func(a, b sum) int { return cmp.Or(cmp.Compare(a.cluster, b.cluster), cmp.Compare(a.state, b.state)) }) {
		f.add("forge_gpus_by_state", "GPUs by cluster and state, all of them; CPU slots are not counted.", gauge, labels("cluster", string(s.cluster), "state", string(s.state)), float64(sums[s]))
	}
	if out > 0 {
		f.add("forge_gpus_left_out", "GPUs that have no series of their own, since there are too many.", gauge, nil, float64(out))
	}
	return slices.SortedFunc(maps.Values(f.by), func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
}

// gpuLabels name a GPU: gpu is its slot, where it has one, and else its index.
func gpuLabels(r *gpuRow, on []string) []*dto.LabelPair {
	gpu, uuid := "", ""
	if r.place != nil {
		gpu, uuid = strconv.Itoa(r.place.Slot), r.place.UUID
	}
	if r.seen != nil {
		gpu, uuid = cmp.Or(gpu, strconv.Itoa(r.seen.Index)), cmp.Or(uuid, r.seen.UUID)
	}
	return labels(append(slices.Clone(on), "gpu", gpu, "uuid", uuid)...)
}

func (f *families) gpu(n *forge.Node, r *gpuRow, k *nodeShown, on []string) {
	l := gpuLabels(r, on)
	var typ, mig, driver, pci string
	if r.place != nil {
		typ, mig, pci = r.place.Type, r.place.MIG, r.place.PCI
	}
	s := r.seen
	if s != nil {
		typ, mig, pci, driver = cmp.Or(typ, s.Type), cmp.Or(mig, s.MIG), cmp.Or(s.PCI, pci), k.Driver
	}
	f.add("forge_gpu_info", "1; the labels say what GPU it is.", gauge, with(l, "type", typ, "mig", mig, "pci", pci, "driver", driver), 1)
	is := stateOf(n, r)
	for _, st := range gpuStates {
		f.add("forge_gpu_state", "1 for the state that the GPU is in: ready, drained (its node), sick (nothing new is placed on it), unknown (its node does not answer).", gauge, with(l, "state", string(st)), oneIf(st == is))
	}
	if s == nil {
		return
	}
	for _, x := range slices.Sorted(maps.Keys(s.xids)) {
		word := "other"
		if x != otherXID {
			word = strconv.Itoa(x)
		}
		f.add("forge_gpu_xid_total", "Errors that the driver told since forged began, by number: sixteen of a GPU, the rest as other.", counter, with(l, "xid", word), float64(s.xids[x]))
	}
	if !s.fresh {
		return
	}
	for i := range gpuMetrics {
		m := &gpuMetrics[i]
		if v, ok := m.value(&s.GPUReading); ok {
			f.add(m.name, m.help, m.kind, l, v)
		}
	}
	if s.SMClockMHz != nil || len(s.Throttle) > 0 {
		for _, t := range throttles {
			f.add("forge_gpu_throttled", "1 for each reason that holds its clocks down.", gauge, with(l, "reason", string(t)), oneIf(slices.Contains(s.Throttle, t)))
		}
	}
	if s.MemoryUsedMiB != nil {
		v := 0.0
		if r.run == "" {
			v = float64(*s.MemoryUsedMiB) * mebi
		}
		f.add("forge_gpu_unaccounted_memory_bytes", "Memory in use on a GPU that no run of forge has; 0 while one has it.", gauge, l, v)
	}
}
