package daemon

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/store"
)

// scraped is the page as Prometheus reads it.
func (d *Daemon) scraped(t testing.TB) map[string]*dto.MetricFamily {
	t.Helper()
	page := httptest.NewRecorder()
	d.meter.handler().ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if page.Code != http.StatusOK {
		t.Fatalf("%d: %s", page.Code, page.Body)
	}
	p := expfmt.NewTextParser(model.UTF8Validation)
	all, err := p.TextToMetricFamilies(page.Body)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func labelsOf(m *dto.Metric) map[string]string {
	out := map[string]string{}
	for _, l := range m.Label {
		out[l.GetName()] = l.GetValue()
	}
	return out
}

// valued finds the value of a series by some of its labels.
func valued(f *dto.MetricFamily, pairs ...string) (float64, bool) {
	for _, m := range f.GetMetric() {
		l, all := labelsOf(m), true
		for i := 0; i < len(pairs); i += 2 {
			all = all && l[pairs[i]] == pairs[i+1]
		}
		if all {
			return m.GetGauge().GetValue() + m.GetCounter().GetValue(), true
		}
	}
	return 0, false
}

// fullReading is one of a GPU that tells all.
func fullReading(uuid string, index int) forge.GPUReading {
	return forge.GPUReading{UUID: uuid, Index: index, Minor: index, PCI: "00000000:3B:00.0", Type: "H100 80GB HBM3", UtilPercent: new(98), MemoryUtilPercent: new(40), MemoryMiB: 81559, MemoryUsedMiB: new(int64(1000)), MemoryReservedMiB: new(int64(559)),
		TemperatureC: new(64), MemoryTemperatureC: new(70), PowerWatts: new(512.5), PowerLimitWatts: new(700.0), EnergyJoules: new(1234.5), SMClockMHz: new(1980), MemoryClockMHz: new(2619), Throttle: []forge.ThrottleReason{forge.ThrottlePowerCap},
		ECCCorrected: new(int64(3)), ECCUncorrected: new(int64(1)), RemapCorrected: new(1), RemapUncorrect: new(2), RemapPending: new(false), RemapFailure: new(true), RetiredPages: new(0), LinksUp: new(18), LinksDown: new(0), LinkReplays: new(int64(5)),
		LinkRecovered: new(int64(6)), LinkCRC: new(int64(7)), PCIeReplays: new(int64(8)), Recovery: new(0), HungSince: 12}
}

func TestMetricsOfGPUsAreInBaseUnitsAndNameNobody(t *testing.T) {
	sick := ofGPUs("n1", 2)
	sick.GPUs[1].Sick = "XID 79"
	r := startRacked(t, sick)
	run := r.submit(t, script(1, func(s *forge.RunSpec) { s.Name = "secret-name" }))
	r.running(t, run)
	r.seen("n1", fullReading("GPU-n1-a", 0), fullReading("GPU-n1-b", 1))
	r.board.event(onN1, forge.GPUEvent{At: time.Now(), UUID: "GPU-n1-b", Kind: forge.GPUEventXID, XID: 79, Count: 3})
	all := r.scraped(t)
	for name, want := range map[string]float64{
		"forge_gpu_utilization_ratio": .98, "forge_gpu_memory_used_bytes": 1000 << 20, "forge_gpu_memory_reserved_bytes": 559 << 20, "forge_gpu_memory_total_bytes": 81559 << 20, "forge_gpu_temperature_celsius": 64, "forge_gpu_power_watts": 512.5,
		"forge_gpu_energy_joules_total": 1234.5, "forge_gpu_sm_clock_hertz": 1.98e9, "forge_gpu_remap_failure": 1, "forge_gpu_nvlink_crc_errors_total": 7, "forge_gpu_unaccounted_memory_bytes": 0, "forge_gpu_info": 1, "forge_nvml_call_hung_seconds": 12,
	} {
		if v, ok := valued(all[name], "cluster", "local", "node", "n1", "gpu", "0", "uuid", "GPU-n1-a"); !ok || v != want {
			t.Errorf("%s is %v (%v), want %v", name, v, ok, want)
		}
	}
	for i := range gpuMetrics {
		if f := all[gpuMetrics[i].name]; f == nil || f.GetType() != gpuMetrics[i].kind || strings.HasSuffix(f.GetName(), "_total") != (f.GetType() == counter) {
			t.Errorf("%s: %v", gpuMetrics[i].name, f.GetType())
		}
	}
	for _, c := range []struct {
		name  string
		pairs []string
		want  float64
	}{
		{"forge_gpu_state", []string{"gpu", "0", "state", "ready"}, 1}, {"forge_gpu_state", []string{"gpu", "1", "state", "sick"}, 1}, {"forge_gpu_state", []string{"gpu", "1", "state", "ready"}, 0},
		{"forge_gpu_xid_total", []string{"gpu", "1", "xid", "79"}, 3}, {"forge_gpu_throttled", []string{"gpu", "0", "reason", "power_cap"}, 1}, {"forge_gpu_throttled", []string{"gpu", "0", "reason", "hw_thermal"}, 0},
		{"forge_gpu_unaccounted_memory_bytes", []string{"gpu", "1"}, 1000 << 20}, {"forge_nvml_up", []string{"node", "n1"}, 1}, {"forge_gpus_by_state", []string{"cluster", "local", "state", "sick"}, 1},
		{"forge_gpu_info", []string{"gpu", "0", "type", "H100 80GB HBM3", "driver", "570.1", "pci", "00000000:3B:00.0"}, 1},
	} {
		if v, ok := valued(all[c.name], c.pairs...); !ok || v != c.want {
			t.Errorf("%s%v is %v (%v), want %v", c.name, c.pairs, v, ok, c.want)
		}
	}
	page := httptest.NewRecorder()
	r.meter.handler().ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, secret := range []string{"secret-name", string(run.ID), `tenant="`, `user="`, `run="`, "DCGM"} {
		if strings.Contains(page.Body.String(), secret) {
			t.Errorf("the page, which needs no key, has %q", secret)
		}
	}
	t.Run("who has a GPU is told where the site wants it", func(t *testing.T) {
		r.configure(func(c *Config) { c.GPUs.JobMetrics = true })
		defer r.configure(func(c *Config) { c.GPUs.JobMetrics = false })
		if f := r.scraped(t)["forge_gpu_job_info"]; len(f.GetMetric()) != 1 || labelsOf(f.Metric[0])["run"] != fmt.Sprint(run.Number) || labelsOf(f.Metric[0])["tenant"] != "default" {
			t.Errorf("%v", f)
		}
	})
	t.Run("readings that are old are left out, and not frozen", func(t *testing.T) {
		r.board.mu.Lock()
		r.board.now = func() time.Time { return time.Now().Add(time.Hour) }
		r.board.mu.Unlock()
		all := r.scraped(t)
		for i := range gpuMetrics {
			if all[gpuMetrics[i].name] != nil {
				t.Errorf("%s is still there", gpuMetrics[i].name)
			}
		}
		if v, ok := valued(all["forge_nvml_up"], "node", "n1"); !ok || v != 0 {
			t.Errorf("forge_nvml_up is %v (%v)", v, ok)
		}
		if _, ok := valued(all["forge_gpu_state"], "gpu", "1", "state", "sick"); !ok {
			t.Error("what is known of it is gone, too")
		}
	})
}

// dcgmDefaults are the metrics of dcgm-exporter's etc/default-counters.csv at d5e5f51 (May 2026) with their types, less what NVML does not answer:
// encoder and decoder, NVLink bandwidth, vGPU licence, and the DCGM_FI_PROF_ ones.
var dcgmDefaults = map[string]dto.MetricType{
	"DCGM_FI_DEV_SM_CLOCK": gauge, "DCGM_FI_DEV_MEM_CLOCK": gauge, "DCGM_FI_DEV_MEMORY_TEMP": gauge, "DCGM_FI_DEV_GPU_TEMP": gauge, "DCGM_FI_DEV_POWER_USAGE": gauge, "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": counter,
	"DCGM_FI_DEV_PCIE_REPLAY_COUNTER": counter, "DCGM_FI_DEV_GPU_UTIL": gauge, "DCGM_FI_DEV_MEM_COPY_UTIL": gauge, "DCGM_FI_DEV_XID_ERRORS": gauge, "DCGM_FI_DEV_FB_FREE": gauge, "DCGM_FI_DEV_FB_USED": gauge, "DCGM_FI_DEV_FB_RESERVED": gauge,
	"DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": counter, "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": counter, "DCGM_FI_DEV_ROW_REMAP_FAILURE": gauge,
}

func TestDCGMMetricsAreThoseOfDCGMExporter(t *testing.T) {
	r := startRacked(t, ofGPUs("n1", 2))
	whole := fullReading("GPU-n1-b", 1)
	part := fullReading("MIG-1", 0)
	part.MIG, part.Parent, part.MIGID, part.UtilPercent = "1g.10gb", "GPU-n1-b", new(7), nil
	r.seen("n1", fullReading("GPU-n1-a", 0), whole, part)
	r.configure(func(c *Config) { c.GPUs.DCGM = true })
	all := r.scraped(t)
	got := map[string]dto.MetricType{}
	for name, f := range all {
		if strings.HasPrefix(name, "DCGM_") {
			got[name] = f.GetType()
		}
	}
	if !maps.Equal(got, dcgmDefaults) {
		t.Errorf("got %v\nwant %v", got, dcgmDefaults)
	}
	usual := []string{"DCGM_FI_DRIVER_VERSION", "UUID", "device", "gpu", "hostname", "modelName", "pci_bus_id"}
	for name := range got {
		want := slices.Clone(usual)
		if name == dcgmXID {
			want = append(want, "err_code", "err_msg")
		}
		slices.Sort(want)
		for _, m := range all[name].Metric {
			l := labelsOf(m)
			names := slices.Sorted(maps.Keys(l))
			if l["GPU_I_ID"] != "" {
				names = slices.DeleteFunc(names, func(s string) bool { return s == "GPU_I_ID" || s == "GPU_I_PROFILE" })
			}
			if !slices.Equal(names, want) {
				t.Errorf("%s has the labels %v, want %v", name, names, want)
			}
		}
	}
	at := []string{"gpu", "1", "UUID", "GPU-n1-b", "pci_bus_id", "00000000:3B:00.0", "device", "nvidia1", "modelName", "NVIDIA H100 80GB HBM3", "hostname", "n1", "DCGM_FI_DRIVER_VERSION", "570.1"}
	for name, want := range map[string]float64{"DCGM_FI_DEV_FB_FREE": 80000, "DCGM_FI_DEV_FB_USED": 1000, "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 1234500, "DCGM_FI_DEV_SM_CLOCK": 1980, "DCGM_FI_DEV_XID_ERRORS": 0} {
		if v, ok := valued(all[name], at...); !ok || v != want {
			t.Errorf("%s is %v (%v), want %v", name, v, ok, want)
		}
	}
	if v, ok := valued(all["DCGM_FI_DEV_FB_USED"], append(at, "GPU_I_PROFILE", "1g.10gb", "GPU_I_ID", "7")...); !ok || v != 1000 {
		t.Errorf("of a MIG instance: %v (%v)", v, ok)
	}
}

func TestEveryMetricOfGPUsIsInTheDocumentation(t *testing.T) {
	b, err := os.ReadFile("../../docs/top.md")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"forge_gpu_info", "forge_gpu_state", "forge_gpus_by_state", "forge_gpus_left_out", "forge_gpu_throttled", "forge_gpu_xid_total", "forge_gpu_unaccounted_memory_bytes", "forge_gpu_job_info", "forge_nvml_up", "forge_nvml_look_age_seconds", dcgmXID}
	for _, list := range [][]gpuMetric{gpuMetrics, dcgmMetrics} {
		for _, m := range list {
			names = append(names, m.name)
		}
	}
	for _, n := range names {
		if !strings.Contains(string(b), "`"+n+"`") {
			t.Errorf("%s is not there", n)
		}
	}
}

// manyGPUs is a daemon that knows of nodes with GPUs, and of nothing else.
func manyGPUs(nodes, each int) *Daemon {
	now := time.Now()
	w := store.World{}
	d := &Daemon{board: newGPUBoard(), meter: newMeter("test")}
	d.board.now = func() time.Time { return now }
	d.settings.Store(&settings{})
	for n := range nodes {
		x := forge.Node{Cluster: "hpc", Name: forge.NodeName(fmt.Sprintf("n%04d", n)), State: forge.NodeReady}
		l := forge.GPULook{At: now, State: forge.NVMLOK, Driver: "570.1"}
		for i := range each {
			uuid := fmt.Sprintf("GPU-%04d-%02d", n, i)
			x.GPUs = append(x.GPUs, forge.GPU{Slot: i, Kind: forge.GPUDevice, UUID: uuid, Type: "H100 80GB HBM3"})
			g := fullReading(uuid, i)
			g.PCI = fmt.Sprintf("00000000:%02X:00.0", i)
			l.GPUs = append(l.GPUs, g)
		}
		w.Nodes = append(w.Nodes, x)
		d.board.look(nodeKey{x.Cluster, x.Name}, l)
	}
	d.world = newWorld(w, nil)
	d.meter.gpus = d.gpuFamilies
	return d
}

func TestThePageOfABigSiteIsBounded(t *testing.T) {
	d := manyGPUs(100, 64)
	all := map[string]*dto.MetricFamily{}
	for _, f := range d.gpuFamilies() {
		all[f.GetName()] = f
	}
	if n := len(all["forge_gpu_info"].GetMetric()); n != metricsGPUs {
		t.Errorf("%d GPUs have series of their own, want %d", n, metricsGPUs)
	}
	if v, ok := valued(all["forge_gpus_left_out"]); !ok || v != 6400-metricsGPUs {
		t.Errorf("%v are left out (%v)", v, ok)
	}
	if v, _ := valued(all["forge_gpus_by_state"], "state", "ready"); v != 6400 {
		t.Errorf("the sum is of %v", v)
	}
}

func BenchmarkThePageOf64000GPUs(b *testing.B) {
	d := manyGPUs(1000, 64)
	b.ResetTimer()
	for range b.N {
		page := httptest.NewRecorder()
		d.meter.handler().ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		b.ReportMetric(float64(page.Body.Len())/1e6, "MB")
	}
}
