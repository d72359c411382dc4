package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

const (
	resumeBound = 8 * time.Minute
	resumeSteps = 60
)

// Saves come every 4 steps and answers are learnt from in 3, so that a checkpoint has some that still are.
var compared = map[string]any{"rlhf.num_generations": 4, "rlhf.num_iterations": 3}

func grpoResume(ctx context.Context, e env) ([]figure, error) {
	return resumeExact(ctx, e, "grpo", compared, "rollouts_0.pt")
}

func rlooResume(ctx context.Context, e env) ([]figure, error) {
	return resumeExact(ctx, e, "rloo", compared, "rollouts_0.pt")
}

// resumeExact counts the bytes of weights, optimizer, scheduler, random state and the other files of the last checkpoint that differ between a run of rlhf
// whose rank, shim and forged were killed, one after the other, and one that nobody touched. A curve that differs, an orphan or a broken invariant is an error.
func resumeExact(ctx context.Context, e env, algorithm string, more map[string]any, files ...string) ([]figure, error) {
	ctx, cancel := context.WithTimeout(ctx, resumeBound)
	defer cancel()
	s, err := newSchool(ctx, e, forgedtest.Options{Extra: killsRetry, PollEvery: 200 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	params := map[string]any{"rlhf.algorithm": algorithm, "rlhf.reward_functions": "builtin:length", "generation.max_new_tokens": 16, "train.max_length": 128,
		"train.max_steps": resumeSteps, "train.batch_size": 8, "train.learning_rate": 5e-3, "train.deterministic": true, "lora.dropout": 0.1, "checkpoint.every_steps": 4}
	maps.Copy(params, more)
	steps, _ := params["train.max_steps"].(int)
	name := algorithm + "_resume_exact"
	k := &killing{name: name, e: e, steps: steps, program: "forge_train.rlhf", site: s.Site, rnd: e.random(name), began: time.Now(), did: map[string]int{}}
	bytes, err := k.interrupted(ctx, func() (forge.Run, error) { return s.train(ctx, "rlhf", params) }, files)
	if err != nil {
		if log := s.LogTail(); e.verbose {
			err = fmt.Errorf("%w\n%s", err, log)
		}
		return nil, errors.Join(err, s.Close())
	}
	fmt.Printf("  %s: %v in %d attempts, %.0f s\n", name, k.did, k.attempt, time.Since(k.began).Seconds())
	return []figure{{name, float64(bytes), "bytes", "kills", float64(len(k.did)), "0 differing bytes", bytes == 0}}, s.Close()
}

// interrupted lets one run be, and kills the other's rank, shim and forged at a step of its second, third and fourth quarter.
func (k *killing) interrupted(ctx context.Context, submit func() (forge.Run, error), files []string) (int, error) {
	undisturbed, err := submit()
	if err != nil {
		return 0, err
	}
	calm, err := completed(ctx, k.site, undisturbed)
	if err != nil {
		return 0, err
	}
	if k.run, err = submit(); err != nil {
		return 0, err
	}
	for i, victim := range []string{"rank", "shim", "forged"} {
		step := int64((i+1)*k.steps/4 + k.rnd.IntN(k.steps/6))
		if err := k.strike(ctx, victim, step, -1, 0); err != nil {
			return 0, fmt.Errorf("the kill of the %s at step %d: %w", victim, step, err)
		}
		k.did[victim]++
	}
	if err := k.heal(ctx, true); err != nil {
		return 0, err
	}
	killed, err := completed(ctx, k.site, k.run)
	if err != nil {
		return 0, err
	}
	k.attempt = killed.Attempt
	j := judged{k.site, k.steps, nil}
	wrong, err := j.of(ctx, calm, killed)
	for _, w := range wrong {
		err = errors.Join(err, errors.New(w))
	}
	if err != nil {
		return 0, err
	}
	last := fmt.Sprint("checkpoints/checkpoint-", k.steps)
	all := []string{"output/adapter_model.safetensors"}
	for _, file := range append([]string{"adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"}, files...) {
		all = append(all, filepath.Join(last, file))
	}
	total := 0
	for _, file := range all {
		n, err := j.differing(calm, killed, file)
		if err != nil {
			return 0, err
		}
		if n > 0 {
			fmt.Printf("  %s: %s differs in %d bytes\n", k.name, file, n)
		}
		total += n
	}
	return total, nil
}

// differing counts the bytes in which a file of two runs is not the same.
func (j judged) differing(a, b api.RunDetail, file string) (int, error) {
	one, err := j.content(a, file)
	if err != nil {
		return 0, err
	}
	two, err := j.content(b, file)
	if err != nil {
		return 0, err
	}
	n := max(len(one), len(two)) - min(len(one), len(two))
	for i := range min(len(one), len(two)) {
		if one[i] != two[i] {
			n++
		}
	}
	return n, nil
}
