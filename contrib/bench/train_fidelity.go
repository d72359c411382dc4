package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

const (
	fidelityBound     = 5 * time.Minute
	fidelityTolerance = 1e-6
)

func fidelitySFT(ctx context.Context, e env) ([]figure, error) {
	return fidelity(ctx, e, "fidelity_sft", "lora_sft")
}

func fidelityDPO(ctx context.Context, e env) ([]figure, error) {
	return fidelity(ctx, e, "fidelity_dpo", "dpo")
}

// fidelity is the largest difference, over all steps, between the loss that a run reports and that of the same TRL script run bare.
func fidelity(ctx context.Context, e env, name, recipe string) ([]figure, error) {
	ctx, cancel := context.WithTimeout(ctx, fidelityBound)
	defer cancel()
	s, err := newSchool(ctx, e, forgedtest.Options{})
	if err != nil {
		return nil, err
	}
	worst, err := s.differs(ctx, e, recipe)
	if err = errors.Join(err, s.Close()); err != nil {
		return nil, err
	}
	return []figure{atMost(name, worst, "loss", "tolerance", fidelityTolerance, 1)}, nil
}

func (s *school) differs(ctx context.Context, e env, recipe string) (float64, error) {
	params, err := paramsIn(bareParams)
	if err != nil {
		return 0, err
	}
	steps, _ := params["train.max_steps"].(float64)
	dir := filepath.Join(s.Dir, "bare-"+recipe)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return 0, err
	}
	var want []struct{ Loss float64 }
	if err := lastLineOf(s.bare(ctx, dir, recipe, int(steps)), &want); err != nil {
		return 0, err
	}
	got, err := s.learnt(ctx, recipe, params)
	if err != nil {
		return 0, err
	}
	if len(want) != int(steps) || len(got) != len(want) {
		return 0, fmt.Errorf("%v steps were asked for; the bare script reports %d and the run %d", steps, len(want), len(got))
	}
	worst := 0.0
	for i, m := range got {
		loss, ok := m.Values["loss"]
		if !ok || m.Step != int64(i+1) {
			return 0, fmt.Errorf("line %d of the run is of step %d: %v", i+1, m.Step, m.Values)
		}
		worst = max(worst, math.Abs(loss-want[i].Loss))
		if e.verbose {
			fmt.Printf("  %s step %d: bare %v, run %v\n", recipe, m.Step, want[i].Loss, loss)
		}
	}
	if first, last := want[0].Loss, want[len(want)-1].Loss; last == first {
		return 0, fmt.Errorf("the bare script learns nothing (loss %v), so that equal losses say nothing", first)
	}
	return worst, nil
}

// learnt is what a run of a recipe reports, once it has completed.
func (s *school) learnt(ctx context.Context, recipe string, params map[string]any) ([]reported, error) {
	run, err := s.train(ctx, recipe, params)
	if err != nil {
		return nil, err
	}
	r, err := completed(ctx, s.Site, run)
	if err != nil {
		return nil, err
	}
	return metricsOf(attemptDir(s.Site, run.ID, r.Attempt))
}

// lastLineOf runs a bare script, and reads the JSON that it prints last.
func lastLineOf(bare *exec.Cmd, into any) error {
	var diagnostics strings.Builder
	bare.Stderr = &diagnostics
	out, err := bare.Output()
	if err != nil {
		return fmt.Errorf("the bare script: %w\n%s", err, &diagnostics)
	}
	text := strings.TrimSpace(string(out))
	if err := json.Unmarshal([]byte(text[strings.LastIndexByte(text, '\n')+1:]), into); err != nil {
		return fmt.Errorf("the bare script printed %q: %w", text, err)
	}
	return nil
}

func paramsIn(path string) (map[string]any, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var params map[string]any
	return params, json.Unmarshal(b, &params)
}
