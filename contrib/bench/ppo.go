package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// barePPO is PPO with the trainer that TRL had until 1.12, which contrib/python-env/install --trl-ppo puts into a directory of its own, and barePPOParams its
// numbers as parameters. test_ppo_fidelity.py uses the same.
const (
	barePPO       = "recipes/python/tests/bare_ppo.py"
	barePPOParams = "recipes/python/tests/fidelity_ppo.json"
)

// Two mini batches and two passes, so that the order that both are drawn in matters. An update costs as much as several steps of the others.
var learnt = map[string]any{"train.max_steps": 24, "train.batch_size": 4, "ppo.mini_batches": 2, "ppo.epochs": 2}

func ppoResume(ctx context.Context, e env) ([]figure, error) {
	return resumeExact(ctx, e, "ppo", learnt, "value.safetensors", "ppo.json")
}

// fidelityPPO is the largest difference, over all updates, between the rewards and losses that a run of PPO reports and those of TRL's last PPO trainer.
func fidelityPPO(ctx context.Context, e env) ([]figure, error) {
	ctx, cancel := context.WithTimeout(ctx, fidelityBound)
	defer cancel()
	s, err := newSchool(ctx, e, forgedtest.Options{})
	if err != nil {
		return nil, err
	}
	worst, err := s.differsPPO(ctx, e)
	if err = errors.Join(err, s.Close()); err != nil {
		return nil, err
	}
	return []figure{atMost("fidelity_ppo", worst, "reward or loss", "tolerance", fidelityTolerance, 1)}, nil
}

func (s *school) differsPPO(ctx context.Context, e env) (float64, error) {
	params, err := paramsIn(barePPOParams)
	if err != nil {
		return 0, err
	}
	params["rlhf.reward_functions"] = "builtin:length"
	steps, _ := params["train.max_steps"].(float64)
	want, err := s.barePPO(ctx, int(steps))
	if err != nil {
		return 0, err
	}
	got, err := s.learnt(ctx, "rlhf", params)
	if err != nil {
		return 0, err
	}
	if len(want) != int(steps) || len(got) != len(want) {
		return 0, fmt.Errorf("%v updates were asked for; the bare script reports %d and the run %d", steps, len(want), len(got))
	}
	worst := 0.0
	for i, m := range got {
		for _, name := range []string{"objective/scores", "objective/rlhf_reward", "objective/non_score_reward", "loss/policy_avg", "loss/value_avg"} {
			ours, there := m.Values[name]
			theirs, too := want[i][name]
			if !there || !too || m.Step != int64(i+1) {
				return 0, fmt.Errorf("update %d: %s is not reported by both: %v, %v", i+1, name, m.Values, want[i])
			}
			worst = max(worst, math.Abs(ours-theirs))
			if e.verbose {
				fmt.Printf("  update %d: %s of the bare script %v, of the run %v\n", m.Step, name, theirs, ours)
			}
		}
	}
	if first, last := want[0]["loss/value_avg"], want[len(want)-1]["loss/value_avg"]; last == first {
		return 0, fmt.Errorf("the bare script learns nothing (loss %v), so that equal losses say nothing", first)
	}
	return worst, nil
}

// barePPO is what the bare script reports of each update.
func (s *school) barePPO(ctx context.Context, steps int) (reported []map[string]float64, err error) {
	find := exec.CommandContext(ctx, "contrib/python-env/install", "--trl-ppo")
	find.Stderr = os.Stderr
	trl, err := find.Output()
	if err != nil {
		return nil, fmt.Errorf("contrib/python-env/install --trl-ppo: %w", err)
	}
	dir := filepath.Join(s.Dir, "bare-ppo")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	cmd := s.bare(ctx, dir, "rlhf", steps)
	data := filepath.Join(trainData, promptData+".jsonl")
	cmd.Args = []string{s.python, barePPO, strings.TrimSpace(string(trl)), s.tiny, data, dir, fmt.Sprint(steps), `{"reward": "length"}`}
	err = lastLineOf(cmd, &reported)
	return reported, err
}
