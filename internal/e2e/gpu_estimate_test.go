//go:build e2e && gpu

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// measuredRun is what recipes/python/tests/test_gpu_*.py leaves of a run in FORGE_GPU_COUNTED.
type measuredRun struct {
	Recipe string         `json:"recipe"`
	Params map[string]any `json:"params"`
	Data   string         `json:"data"`
	Kind   string         `json:"kind"`
	Peak   int64          `json:"peak"` // bytes of tensors that torch had allocated at most
	Held   map[string]any `json:"held"` // the same by part, where they were counted
	Device string         `json:"device"`
}

// How far an estimate may be from what a run on a GPU has held: the sum from the peak, and each part of some size from the tensors that were counted.
const (
	estimateMayBeOff = 0.10
	aPartThatCounts  = 0.01 // of the peak
)

func TestWhatIsEstimatedIsWhatRunsOnARealGPUHaveHeld(t *testing.T) {
	dir := os.Getenv("FORGE_GPU_COUNTED")
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	must(t, err)
	if len(files) < 3 {
		t.Fatalf("FORGE_GPU_COUNTED=%q has %d measured runs: the tests in Python come first (make test-gpu)", dir, len(files))
	}
	dry := os.Getenv("FORGE_GPU_DRYRUN") != "" // on a CPU, to try this test itself
	ctx, s := openFor(t, 5*time.Minute, func(o *forgedtest.Options) {
		o.Python = os.Getenv("FORGE_PYTHON")
		if o.CPUSlots = 0; dry {
			o.CPUSlots = 1
		}
	})
	_, err = s.Ctl(ctx, "model", "import", "half", filepath.Join(dir, "base"))
	must(t, err)
	prompts, err := filepath.Abs("../../recipes/python/data/support_prompts.jsonl")
	must(t, err)
	_, err = s.Ctl(ctx, "dataset", "add", "prompts", prompts)
	must(t, err)

	for _, path := range files {
		b, err := os.ReadFile(path)
		must(t, err)
		var m measuredRun
		must(t, json.Unmarshal(b, &m))
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		set := "prompts"
		if m.Kind == "text" {
			set = strings.ReplaceAll(name, "_", "-")
			_, err = s.Ctl(ctx, "dataset", "add", set, filepath.Join(dir, m.Data))
			must(t, err)
		}
		args := []string{"run", "estimate", m.Recipe, "--base", "half", "--dataset", set, "--gpus-per-node", "1"}
		for _, key := range slices.Sorted(maps.Keys(m.Params)) {
			value := m.Params[key]
			if key == "rlhf.reward_functions" { // which memory does not follow from
				value = "builtin:length"
			}
			args = append(args, "--set", fmt.Sprintf("%s=%v", key, value))
		}
		var e api.Estimate
		must(t, s.CtlJSON(ctx, &e, args...))
		compareWithMeasured(t, name, m, e)
	}
}

func compareWithMeasured(t *testing.T, name string, m measuredRun, e api.Estimate) {
	t.Helper()
	var allowance int64
	lines := make([]string, 0, len(e.Parts))
	for _, p := range e.Parts {
		if p.Name == "allowance" {
			allowance = p.Bytes
			continue
		}
		line := fmt.Sprintf("%s %d", p.Name, p.Bytes>>20)
		if held, ok := m.Held[p.Name].(float64); ok {
			line += fmt.Sprintf(" (counted %d)", int64(held)>>20)
			if off := math.Abs(float64(p.Bytes)-held) / max(held, 1); off > estimateMayBeOff && held > aPartThatCounts*float64(m.Peak) {
				t.Errorf("%s: %s is estimated at %d bytes and %.0f were counted, %.1f %% off", name, p.Name, p.Bytes, held, off*100)
			}
		}
		lines = append(lines, line)
	}
	said := e.Bytes - allowance
	off := float64(said-m.Peak) / float64(m.Peak)
	t.Logf("%s on %s: %d weights; estimated %d MiB without the allowance of %d, held at most %d: %+.1f %%\n  MiB: %s", name, m.Device, e.Parameters, said>>20, allowance>>20, m.Peak>>20, off*100, strings.Join(lines, ", "))
	for _, g := range e.GPUs {
		t.Logf("  %s: fits %s, %d MiB left", g.Type, g.Fits, g.FreeBytes>>20)
	}
	// What a policy holds while it writes and while it learns is a guess (docs/estimate.md); it may be too high, which costs a GPU, but not too low.
	if off < -estimateMayBeOff || m.Recipe != "rlhf" && off > estimateMayBeOff {
		t.Errorf("%s: estimated %d bytes, and the run held %d at most", name, said, m.Peak)
	}
}
