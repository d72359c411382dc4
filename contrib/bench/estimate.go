package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/forge-ml/forge-ml/internal/dataset"
	"github.com/forge-ml/forge-ml/internal/footprint"
)

// estimateTime bounds the runs that tensors are counted in: each takes seconds, on a quiet machine.
const estimateTime = 15 * time.Minute

// estimateLimit is how far the worst part may be off, in percent.
const estimateLimit = 10

// counted is what recipes/python/tests/footprint_models.py writes of one run.
type counted struct {
	Recipe string           `json:"recipe"`
	Params map[string]any   `json:"params"`
	Base   string           `json:"base"`
	Held   map[string]any   `json:"held"`
	parts  map[string]int64 // of held
}

// estimateError is the worst part of the worst run: what internal/footprint says that it holds, beside the bytes of tensors that were counted while it ran.
func estimateError(ctx context.Context, e env) ([]figure, error) {
	dir, err := os.MkdirTemp("", "forge-estimate-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	tests, err := filepath.Abs("recipes/python/tests")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, estimateTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, e.python, filepath.Join(tests, "footprint_models.py"), dir)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+filepath.Join(filepath.Dir(tests), "src"), "OMP_NUM_THREADS=1", "CUDA_VISIBLE_DEVICES=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("the runs that are counted: %w\n%s", err, out[max(0, len(out)-3000):])
	}
	worst, err := judgeCounted(dir, e.verbose)
	if err != nil {
		return nil, err
	}
	return []figure{atMost("estimate_error", worst, "%", "counted tensors", estimateLimit, 1)}, nil
}

// judgeCounted compares all counted runs of a directory with what is estimated of them.
func judgeCounted(dir string, verbose bool) (worst float64, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) < 5 {
		return 0, fmt.Errorf("%d counted runs in %s, want 5 or more: %w", len(files), dir, err)
	}
	for _, path := range files {
		c, err := readCounted(path)
		if err != nil {
			return 0, err
		}
		info, err := dataset.InspectModel(c.Base)
		if err != nil {
			return 0, err
		}
		if shape, ok := c.Held["tokens"].([]any); ok && len(shape) == 2 { // rows are taken to be full
			c.Params["train.max_length"] = shape[1]
		}
		parts, err := footprint.Of(footprint.Job{Recipe: c.Recipe, Params: c.Params, Model: info.Shape, Ranks: 1, CPU: true})
		if err != nil {
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		said := map[string]int64{}
		for _, p := range parts {
			said[string(p.Name)] = p.Bytes
		}
		said["kv_cache"] = footprint.Cache(info.Shape, c.number("cache_tokens"), c.number("cache_bytes"))
		for _, name := range slices.Sorted(maps.Keys(c.parts)) {
			off := math.Abs(float64(said[name]-c.parts[name])) / float64(max(1, c.parts[name])) * 100
			if said[name] == c.parts[name] {
				off = 0
			}
			if verbose {
				fmt.Printf("  %-36s %-12s counted %11d estimated %11d off %5.1f %%\n", filepath.Base(path), name, c.parts[name], said[name], off)
			}
			worst = max(worst, off)
			delete(said, name)
		}
		for name, n := range said {
			if n > 0 {
				return 0, fmt.Errorf("%s: %d bytes of %s are estimated, and nobody counted any", path, n, name)
			}
		}
	}
	return worst, nil
}

func readCounted(path string) (counted, error) {
	var c counted
	b, err := os.ReadFile(path)
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	c.parts = map[string]int64{}
	for name := range c.Held {
		if name != "tokens" && name != "cache_tokens" && name != "cache_bytes" {
			c.parts[name] = int64(c.number(name))
		}
	}
	return c, nil
}

func (c counted) number(name string) float64 { v, _ := c.Held[name].(float64); return v }
