//go:build linux && cgo

package nvml_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

// busy is a GPU of which everything is told, and nothing is the fake's default.
var busy = []string{"count 1", "driver 580.1", "gpu.0.uuid GPU-a", "gpu.0.minor 5", "gpu.0.pci 0:3b:0", "gpu.0.mem.used 1073741824", "gpu.0.mem.reserved 536870912",
	"gpu.0.util.gpu 97", "gpu.0.util.mem 41", "gpu.0.temp 71", "gpu.0.temp.mem 80", "gpu.0.temp.margin 15", "gpu.0.temp.slowdown 88", "gpu.0.temp.shutdown 93",
	"gpu.0.temp.max 86", "gpu.0.temp.mem_max 96", "gpu.0.power 651234", "gpu.0.power.limit 690000", "gpu.0.energy 123456789", "gpu.0.clock.sm 1755",
	"gpu.0.clock.mem 2618", "gpu.0.throttle 0x1ff", "gpu.0.ecc.corrected 5", "gpu.0.ecc.uncorrected 6", "gpu.0.remap.corrected 7", "gpu.0.remap.uncorrected 8",
	"gpu.0.remap.pending 1", "gpu.0.remap.failure 1", "gpu.0.pcie.replay 9", "gpu.0.recovery 4", "gpu.0.procs 101:1048576,102:-,103:4194304", "gpu.0.procs.graphics 104:2097152,101:1",
	"gpu.0.procs.mps 105:3145728", "gpu.0.link.0 0:80:0", "gpu.0.link.1 down", "gpu.0.link.2 0:81:0", "gpu.0.link.0.replay 10", "gpu.0.link.2.replay 1",
	"gpu.0.link.0.recovery 20", "gpu.0.link.2.crc 30"}

const busyJSON = `{"uuid":"GPU-a","index":0,"minor":5,"pci":"00000000:3B:00.0","type":"H100 80GB HBM3","util_percent":97,"memory_util_percent":41,
"memory_mib":81559,"memory_used_mib":1024,"memory_reserved_mib":512,"temperature_c":71,"memory_temperature_c":80,"margin_c":15,"slowdown_c":88,"shutdown_c":93,
"max_c":86,"memory_max_c":96,"power_watts":651.234,"power_limit_watts":690,"energy_joules":123456.789,"sm_clock_mhz":1755,"memory_clock_mhz":2618,
"throttle":["idle","clocks_set","power_cap","hw_slowdown","sync_boost","sw_thermal","hw_thermal","power_brake","display_clock"],
"ecc_corrected":5,"ecc_uncorrected":6,"remap_corrected":7,"remap_uncorrected":8,"remap_pending":true,"remap_failure":true,"pcie_replays":9,"recovery_action":4,
"nvlinks_up":2,"nvlinks_down":1,"nvlink_replays":11,"nvlink_recoveries":20,"nvlink_crc_errors":30,"processes_told":true,
"processes":[{"pid":101,"memory_mib":1,"kind":"compute"},{"pid":102,"kind":"compute"},{"pid":103,"memory_mib":4,"kind":"compute"},
{"pid":105,"memory_mib":3,"kind":"mps"},{"pid":104,"memory_mib":2,"kind":"graphics"}]}`

// said is a reading as the keys of its document.
func said(t *testing.T, r forge.GPUReading) map[string]any {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, string(text))
}

func decode(t *testing.T, text string) (m map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func wantSaid(t *testing.T, l forge.GPULook, want map[string]any) {
	t.Helper()
	if l.State != forge.NVMLOK || len(l.GPUs) != 1 {
		t.Fatalf("got %+v", l)
	}
	got := said(t, l.GPUs[0])
	for _, k := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[k]; !ok {
			t.Errorf("%s is %v, want it absent", k, got[k])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if !reflect.DeepEqual(got[k], want[k]) {
			t.Errorf("%s is %v, want %v", k, got[k], want[k])
		}
	}
}

func TestEachValueIsReadInItsUnit(t *testing.T) {
	_, l := watchChild(t, fakeLibrary(t), nil, busy...)
	wantSaid(t, l, decode(t, busyJSON))
	if l.Driver != "580.1" || len(l.Boot) != 36 {
		t.Errorf("driver %q, boot %q", l.Driver, l.Boot)
	}
}

// optional are the functions that a driver may lack, with what is absent then, and what is when one is there and fails.
var optional = []struct{ function, missing, failing string }{
	{"nvmlDeviceGetMinorNumber", "", ""}, // then it is the index
	{"nvmlDeviceGetMemoryInfo_v2", "memory_used_mib memory_reserved_mib", "memory_used_mib memory_reserved_mib"},
	{"nvmlDeviceGetUtilizationRates", "util_percent memory_util_percent", "util_percent memory_util_percent"},
	{"nvmlDeviceGetTemperature", "", ""}, // TemperatureV says it too
	{"nvmlDeviceGetTemperatureV", "", ""},
	{"nvmlDeviceGetTemperatureThreshold", "memory_max_c", "memory_max_c"}, // the margin and the fields say the others
	{"nvmlDeviceGetMarginTemperature", "margin_c", "margin_c"},
	{"nvmlDeviceGetPowerUsage", "power_watts", "power_watts"},
	{"nvmlDeviceGetEnforcedPowerLimit", "power_limit_watts", "power_limit_watts"},
	{"nvmlDeviceGetTotalEnergyConsumption", "energy_joules", "energy_joules"},
	{"nvmlDeviceGetClockInfo", "sm_clock_mhz memory_clock_mhz", "sm_clock_mhz memory_clock_mhz"},
	{"nvmlDeviceGetCurrentClocksEventReasons", "", ""}, // ThrottleReasons is its older name
	{"nvmlDeviceGetCurrentClocksThrottleReasons", "", ""},
	{"nvmlDeviceGetTotalEccErrors", "ecc_corrected ecc_uncorrected", "ecc_corrected ecc_uncorrected"},
	{"nvmlDeviceGetRemappedRows", "remap_corrected remap_uncorrected remap_pending remap_failure", "remap_corrected remap_uncorrected remap_pending remap_failure"},
	{"nvmlDeviceGetRetiredPages", "", ""},
	{"nvmlDeviceGetRetiredPagesPendingStatus", "", ""},
	{"nvmlDeviceGetPcieReplayCounter", "pcie_replays", "pcie_replays"},
	{"nvmlDeviceGetFieldValues", "memory_temperature_c recovery_action", "memory_temperature_c recovery_action"},
	{"nvmlDeviceGetNvLinkState", "nvlinks_up nvlinks_down nvlink_replays nvlink_recoveries nvlink_crc_errors", "nvlinks_up nvlinks_down nvlink_replays nvlink_recoveries nvlink_crc_errors"},
	{"nvmlDeviceGetNvLinkErrorCounter", "nvlink_replays nvlink_recoveries nvlink_crc_errors", "nvlink_replays nvlink_recoveries nvlink_crc_errors"},
	{"nvmlDeviceGetComputeRunningProcesses_v3", "processes processes_told", "processes processes_told"},
	{"nvmlDeviceGetGraphicsRunningProcesses_v3", "processes", "processes processes_told"},
	{"nvmlDeviceGetMPSComputeRunningProcesses_v3", "processes", "processes processes_told"},
	{"nvmlDeviceGetMigMode", "", ""},
	{"nvmlDeviceGetMaxMigDeviceCount", "", ""},
	{"nvmlEventSetCreate", "", ""},
	{"nvmlDeviceRegisterEvents", "", ""},
	{"nvmlDeviceGetSupportedEventTypes", "", ""},
	{"nvmlEventSetWait_v2", "", ""},
}

// wantBut is everything but some keys; of processes only that they were not all told, or fewer.
func wantBut(t *testing.T, l forge.GPULook, function, keys string) {
	t.Helper()
	want := decode(t, busyJSON)
	got := l.GPUs[0]
	for key := range strings.FieldsSeq(keys) {
		if key == "processes" {
			if len(got.Processes) >= 5 {
				t.Errorf("%d processes", len(got.Processes))
			}
			want[key] = said(t, got)[key]
			if got.Processes != nil {
				continue
			}
		}
		delete(want, key)
	}
	switch function {
	case "nvmlDeviceGetMinorNumber":
		want["minor"] = 0.0
	case "nvmlDeviceGetTemperatureThreshold": // 71 + 15 degrees is the point of no margin
		want["slowdown_c"], want["shutdown_c"], want["max_c"] = 88.0, 94.0, 86.0
	}
	wantSaid(t, l, want)
}

func TestAFunctionThatTheDriverLacksIsNeverCalledAndTheRestIsTold(t *testing.T) {
	fake := fakeLibrary(t)
	for _, c := range optional {
		t.Run(c.function, func(t *testing.T) {
			_, l := watchChild(t, without(t, fake, c.function), nil, busy...)
			wantBut(t, l, c.function, c.missing)
		})
	}
}

// without is the library less a function. Its name is overwritten, which costs no compiler; the names in its own messages go with it.
func without(t *testing.T, library, function string) string {
	t.Helper()
	const file = "libnvidia-ml.so.1"
	b, err := os.ReadFile(filepath.Join(library, file))
	if err != nil {
		t.Fatal(err)
	}
	less := bytes.ReplaceAll(b, []byte("\x00"+function+"\x00"), []byte("\x00x"+function[1:]+"\x00"))
	if bytes.Equal(less, b) {
		t.Fatalf("the fake has no %s", function)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, file), less, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAFunctionThatFailsLeavesOnlyItsOwnValuesOut(t *testing.T) {
	for _, c := range optional {
		if strings.HasPrefix(c.function, "nvmlEvent") || c.function == "nvmlDeviceGetMinorNumber" {
			continue
		}
		t.Run(c.function, func(t *testing.T) {
			_, l := watchChild(t, fakeLibrary(t), nil, append(busy, "fail."+c.function+" 999")...)
			wantBut(t, l, c.function, c.failing)
		})
	}
}

func TestAnswersThatSayMoreThanThatAValueIsAbsent(t *testing.T) {
	w, _ := watchChild(t, fakeLibrary(t), nil, busy...)
	for _, fn := range []string{"nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetUUID", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetFieldValues", "nvmlDeviceGetNvLinkState", "nvmlDeviceGetComputeRunningProcesses_v3"} {
		r := w.ask(append(busy, "gpu.0.fail."+fn+" 16")...).GPUs[0]
		if !r.Reset || r.Lost || !strings.Contains(r.Problem, "reset") || r.UUID != "GPU-a" {
			t.Errorf("%s says that a reset is required: %+v", fn, r)
		}
		r = w.ask(append(busy, "gpu.0.fail."+fn+" 15")...).GPUs[0]
		if !r.Lost || r.Reset || !strings.Contains(r.Problem, "lost") || r.UUID != "GPU-a" {
			t.Errorf("%s says that the GPU is lost: %+v", fn, r)
		}
	}
	if r := w.ask(append(busy, "gpu.0.fail.nvmlDeviceGetHandleByIndex_v2 999")...).GPUs[0]; r.Lost || !strings.Contains(r.Problem, "999") || r.Told || r.TemperatureC != nil {
		t.Errorf("a GPU that answers nothing: %+v", r)
	}
	wantSaid(t, w.ask(busy...), decode(t, busyJSON))
}

func TestWhatAGPUDoesNotHaveIsAbsent(t *testing.T) {
	w, l := watchChild(t, fakeLibrary(t), nil, "count 1", "gpu.0.ecc.corrected -", "gpu.0.ecc.uncorrected -", "gpu.0.temp.mem 0", "gpu.0.recovery -", "gpu.0.power -",
		"gpu.0.remap.corrected -", "gpu.0.retired.sbe 2", "gpu.0.retired.dbe 3", "gpu.0.retired.pending 1", "gpu.0.throttle 0")
	r := l.GPUs[0]
	if r.ECCCorrected != nil || r.ECCUncorrected != nil || r.MemoryTemperatureC != nil || r.Recovery != nil || r.PowerWatts != nil || r.LinksUp != nil || r.RemapPending != nil || r.Throttle != nil || r.Problem != "" {
		t.Errorf("got %+v", r)
	}
	if r.RetiredPages == nil || *r.RetiredPages != 5 || !*r.RetirePending {
		t.Errorf("the retired pages of a GPU before Ampere: %+v", r)
	}
	r = w.ask("count 1", "gpu.0.procs -", "gpu.0.procs.mps -", "gpu.0.procs.graphics -").GPUs[0]
	if r.Told || r.RetiredPages != nil {
		t.Errorf("a GPU that does not list processes: %+v", r)
	}
}
