package health

import (
	"fmt"
	"strconv"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// signal is a rule of the readings: a number, and the threshold beyond which something follows.
type signal struct {
	rule    forge.HealthRule
	unit    string  // of its threshold; "": it is there or is not
	reach   bool    // the threshold itself is beyond it
	steps   bool    // it is a growth, which does not last
	window  bool    // its time is that over which it is counted
	least   float64 // that a site may set its threshold to
	most    float64
	measure func(at *moment) (float64, string, bool) // false: nothing is known this time
}

// on says whether a value is beyond the threshold.
func (s *signal) on(v float64) bool {
	if s.rule.Above == nil {
		return v > 0
	}
	return v > *s.rule.Above || s.reach && v == *s.rule.Above
}

// off says whether a value is back far enough.
func (s *signal) off(v float64) bool {
	if s.rule.Clear != nil {
		return v <= *s.rule.Clear
	}
	return !s.on(v)
}

func ptr[T any](v T) *T { return &v }

// clearFor is how long most signals have to be away before they are over.
const clearFor = 2 * time.Minute

type signalRow struct {
	name  string
	class string
	run   forge.RunAct
	hold  forge.HoldAct

	above    float64
	unit     string
	reach    bool
	lasts    time.Duration
	clear    *float64
	clearFor time.Duration
	words    string
	source   string
	least    float64
	most     float64
	steps    bool
	window   bool
	measure  func(at *moment) (float64, string, bool)
}

// big is above every count that makes sense.
const big = 1e15

// gpuSignals are those of one GPU; nodeSignals those of the node as a whole.
var gpuSignals = []signalRow{
	{name: "gpu_lost", class: classNode, run: forge.RunElsewhere, hold: forge.HoldNode, unit: "", clearFor: clearFor, measure: lost, most: 0,
		words: "the driver no longer reaches the GPU", source: "NVML ERROR_GPU_IS_LOST, " + srcGPUd},
	{name: "gpu_missing", class: classNode, run: forge.RunElsewhere, hold: forge.HoldNode, unit: "", clearFor: clearFor, measure: missing,
		words: "a GPU that the node has is not there", source: srcGPUd + ", AKS node problem detector"},
	{name: "reset_required", class: classGPU, run: forge.RunElsewhere, hold: forge.HoldGPU, clearFor: clearFor, measure: wantsReset,
		words: "the driver wants the GPU reset before it is used again", source: "NVML ERROR_RESET_REQUIRED, recovery actions 1 and 6"},
	{name: "drain_and_reset", class: classGPU, run: forge.RunGoesOn, hold: forge.HoldGPU, clearFor: clearFor, measure: recovery(4),
		words: "the driver wants the GPU drained, then reset", source: "recovery action 4, " + srcDCGM},
	{name: "reboot_required", class: classNode, run: forge.RunElsewhere, hold: forge.HoldNode, clearFor: clearFor, measure: recovery(2, 7),
		words: "the driver wants the machine restarted", source: "recovery actions 2 and 7, " + srcDCGM},
	{name: "drain_peers", class: classLink, run: forge.RunGoesOn, hold: forge.HoldDrain, clearFor: clearFor, measure: recovery(3),
		words: "the driver wants traffic between GPUs to stop", source: "recovery action 3, " + srcDCGM},
	{name: "fabric_recovery", class: classWarn, run: forge.RunGoesOn, hold: forge.HoldWarn, clearFor: clearFor, measure: recovery(5),
		words: "the driver wants the NVLink fabric between machines recovered", source: "recovery action 5"},
	{name: "temperature_max", class: classWarn, run: forge.RunGoesOn, hold: forge.HoldWarn, above: 0, unit: "°C over the highest it is made to work at", clear: ptr(-3.),
		clearFor: clearFor, measure: overMax, least: -50, most: 100, words: "hotter than it is made to work at", source: srcGPUd},
	{name: "memory_temperature_max", class: classWarn, run: forge.RunGoesOn, hold: forge.HoldWarn, above: 0, unit: "°C over the highest of its memory", clear: ptr(-3.),
		clearFor: clearFor, measure: overMemoryMax, least: -50, most: 100, words: "memory hotter than it is made to work at", source: srcGPUd},
	{name: "temperature_slowdown", class: classGPU, run: forge.RunGoesOn, hold: forge.HoldDrain, above: 0, unit: "°C over the slowdown", lasts: 5 * time.Minute, clear: ptr(-5.),
		clearFor: 5 * time.Minute, measure: overSlowdown, least: -50, most: 100, words: "so hot that it slows down", source: srcGPUd},
	{name: "temperature_shutdown", class: classGPU, run: forge.RunElsewhere, hold: forge.HoldDrain, above: -1, unit: "°C over the shutdown", reach: true, clear: ptr(-10.),
		clearFor: 5 * time.Minute, measure: overShutdown, least: -50, most: 100, words: "about to switch itself off", source: srcGPUd},
	{name: "hw_slowdown", class: classGPU, run: forge.RunGoesOn, hold: forge.HoldDrain, above: 6, unit: "minutes", reach: true, lasts: 10 * time.Minute, window: true, clear: ptr(2.),
		clearFor: clearFor, measure: slowMinutes, least: 1, most: 1440, words: "slowed down by heat or power in many minutes", source: srcGPUd},
	{name: "ecc_uncorrected", class: classGPU, run: forge.RunGoesOn, hold: forge.HoldDrain, above: 0, unit: "errors since the driver was loaded", clearFor: clearFor,
		measure: eccUncorrected, most: big, words: "uncorrected memory errors", source: srcGCM + ", " + srcDCGM},
	{name: "ecc_uncorrected_grew", class: classJob, run: forge.RunElsewhere, hold: forge.HoldDrain, above: 0, unit: "new errors", clearFor: 10 * time.Minute, steps: true,
		measure: eccGrew, most: big, words: "an uncorrected memory error while a run had the GPU", source: srcGCM + ", " + srcDCGM},
	{name: "ecc_corrected", class: classWarn, run: forge.RunGoesOn, hold: forge.HoldWarn, above: 50_000_000, unit: "errors since the driver was loaded", clearFor: clearFor,
		measure: eccCorrected, most: big, words: "very many corrected memory errors", source: srcGCM},
	{name: "remap_pending", class: classGPU, run: forge.RunGoesOn, hold: forge.HoldDrain, clearFor: clearFor, measure: remapPending,
		words: "a memory row is replaced at the next reset", source: "A100 memory error guide, " + srcNVS},
	{name: "remap_failure", class: classGPU, run: forge.RunGoesOn, hold: forge.HoldGPU, clearFor: clearFor, measure: remapFailure,
		words: "a memory row could not be replaced: the GPU has to be", source: "A100 memory error guide, " + srcDCGM},
	{name: "retired_pages", class: classGPU, run: forge.RunGoesOn, hold: forge.HoldGPU, above: 10, unit: "pages", clearFor: clearFor, measure: retiredPages, most: 1000,
		words: "many memory pages are retired", source: srcGCM + " (" + srcDCGM + ": 63)"},
	{name: "retire_pending", class: classGPU, run: forge.RunGoesOn, hold: forge.HoldGPU, clearFor: clearFor, measure: retirePending,
		words: "a memory page is retired at the next reset", source: srcGCM},
	{name: "nvlink_down", class: classLink, run: forge.RunGoesOn, hold: forge.HoldDrain, above: 0, unit: "links", lasts: 30 * time.Second, clearFor: clearFor,
		measure: linksDown, most: 100, words: "NVLinks that were up are down", source: "NVIDIA health validation"},
	{name: "nvlink_replays", class: classLink, run: forge.RunGoesOn, hold: forge.HoldDrain, above: 1, unit: "new replays", reach: true, clearFor: 10 * time.Minute, steps: true,
		measure: grew("replays", func(g forge.GPUReading) *int64 { return g.LinkReplays }), least: 1, most: big, words: "NVLink had to send again", source: srcDCGM},
	{name: "nvlink_recoveries", class: classLink, run: forge.RunGoesOn, hold: forge.HoldDrain, above: 1, unit: "new recoveries", reach: true, clearFor: 10 * time.Minute, steps: true,
		measure: grew("recoveries", func(g forge.GPUReading) *int64 { return g.LinkRecovered }), least: 1, most: big, words: "an NVLink failed and recovered", source: srcDCGM},
	{name: "nvlink_crc", class: classWarn, run: forge.RunGoesOn, hold: forge.HoldWarn, above: 1, unit: "new errors", reach: true, clearFor: 10 * time.Minute, steps: true,
		measure: grew("CRC errors", func(g forge.GPUReading) *int64 { return g.LinkCRC }), least: 1, most: big, words: "checksum errors on NVLink", source: srcDCGM},
	{name: "nvlink_crc_rate", class: classLink, run: forge.RunGoesOn, hold: forge.HoldDrain, above: 100, unit: "errors a second", reach: true, clearFor: 10 * time.Minute, steps: true,
		measure: crcRate, least: 1, most: big, words: "many checksum errors on NVLink", source: srcDCGM},
	{name: "memory_held", class: classGPU, run: forge.RunGoesOn, hold: forge.HoldDrain, above: 15, unit: "MiB", lasts: time.Minute, clearFor: 30 * time.Second,
		measure: memoryHeld, most: 1e6, words: "memory is used that no run of ours has", source: srcGCM},
	{name: "foreign_use", class: classGPU, run: forge.RunGoesOn, hold: forge.HoldDrain, clearFor: 10 * time.Second, measure: foreignUse,
		words: "somebody else's process uses the GPU", source: "forge"},
	{name: "process_stuck", class: classGPU, run: forge.RunGoesOn, hold: forge.HoldDrain, above: 300, unit: "seconds", clearFor: 30 * time.Second, measure: stuckOnGPU, most: 86400,
		words: "a process that cannot be ended holds the GPU", source: srcGCM},
	{name: "nvml_hung_gpu", class: classGPU, run: forge.RunGoesOn, hold: forge.HoldDrain, above: 10, unit: "seconds", reach: true, clearFor: clearFor, measure: hung, least: 1, most: 3600,
		words: "a question about the GPU does not come back from the driver", source: srcNVS},
	{name: "nvml_hung_long", class: classNode, run: forge.RunGoesOn, hold: forge.HoldNode, above: 60, unit: "seconds", reach: true, clearFor: clearFor, measure: hung, least: 1, most: 3600,
		words: "a question about a GPU does not come back from the driver for long", source: srcNVS},
	{name: "gpu_silent", class: classGPU, run: forge.RunGoesOn, hold: forge.HoldDrain, lasts: time.Minute, clearFor: clearFor, measure: silent,
		words: "the GPU does not answer, for another reason", source: srcK8S},
}

var nodeSignals = []signalRow{
	{name: "gpu_count", class: classNode, run: forge.RunGoesOn, hold: forge.HoldNode, above: 0, unit: "GPUs too few", clearFor: clearFor, measure: tooFew, most: 1000,
		words: "the node has fewer GPUs than it should", source: srcGPUd + ", AKS node problem detector"},
	{name: "driver_missing", class: classNode, run: forge.RunGoesOn, hold: forge.HoldNode, lasts: time.Minute, clearFor: clearFor, measure: driverMissing,
		words: "there is no NVIDIA driver on a node that has GPUs", source: srcGPUd},
	{name: "nvml_hung_node", class: classNode, run: forge.RunGoesOn, hold: forge.HoldNode, lasts: time.Minute, clearFor: clearFor, measure: allHung,
		words: "the driver does not answer", source: srcNVS},
	{name: "zombie", class: classWarn, run: forge.RunGoesOn, hold: forge.HoldWarn, above: 300, unit: "seconds", clearFor: 30 * time.Second, measure: stuckOnNode, most: 86400,
		words: "a process cannot be ended", source: srcGCM},
	{name: "clock_skew", class: classWarn, run: forge.RunGoesOn, hold: forge.HoldWarn, above: 60, unit: "seconds", clear: ptr(30.), clearFor: clearFor, measure: skew, least: 1, most: 86400,
		words: "the clock of the node is not forged's", source: "forge"},
}

// escalations are rules of more than one XID; Node.EventOf asks them.
var escalations = []signalRow{
	{name: "xid_many_runs", class: classGPU, run: forge.RunGoesOn, hold: forge.HoldDrain, above: 3, unit: "runs", reach: true, lasts: 24 * time.Hour, clearFor: xidQuiet, least: 2, most: 1000,
		words: "XID 13 or 31 on one GPU in different runs: it is rather the GPU", source: "forge, after NVIDIA's workflows for XID 13 and 31"},
	{name: "xid_again", class: classNode, run: forge.RunGoesOn, hold: forge.HoldNode, above: 2, unit: "times", reach: true, lasts: 24 * time.Hour, clearFor: xidQuiet, least: 2, most: 1000,
		words: "a fault of the GPU's own, again", source: srcGPUd},
}

func (r signalRow) signal() *signal {
	rule := forge.HealthRule{Name: r.name, Class: r.class, Run: r.run, Hold: r.hold, Words: r.words, Source: r.source, For: r.lasts, Clear: r.clear, ClearFor: r.clearFor}
	if r.unit != "" {
		rule.Above = ptr(r.above)
	}
	return &signal{rule: rule, unit: r.unit, reach: r.reach, steps: r.steps, window: r.window, least: r.least, most: r.most, measure: r.measure}
}

// Threshold says a signal's threshold in words; empty: it has none, or there is no such signal.
func (t *Table) Threshold(name string) string {
	for _, s := range t.signals() {
		if s.rule.Name != name || s.rule.Above == nil {
			continue
		}
		sign := ">"
		if s.reach {
			sign = "≥"
		}
		return fmt.Sprintf("%s %s %s", sign, strconv.FormatFloat(*s.rule.Above, 'f', -1, 64), s.unit)
	}
	return ""
}
