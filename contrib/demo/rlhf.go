package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
)

// From a base model to an evaluated policy in one file: SFT, a reward model, PPO that is killed twice, an eval. Then the PPO step once more,
// undisturbed: every byte must be the same.
const (
	ppoUpdates = 12
	ppoSave    = 2
)

// ppoKills are the updates after which a rank is killed, one attempt after the other.
var ppoKills = []int64{5, 9}

type pipeline struct {
	*demo
	of map[string]api.RunDetail // by step
}

func fromHumanFeedback(d *demo) []chapter {
	d.last = "\nNext: docs/training.md for rewards of your own, docs/pipelines.md for chains, docs/evals.md for suites.\n"
	p := &pipeline{demo: d, of: map[string]api.RunDetail{}}
	return []chapter{
		{"start forged on a state directory of its own", d.start},
		{"a tiny base model, conversations, preferences and prompts", p.inputs},
		{"what it will take, before anything runs", p.estimate},
		{"SFT, reward model, PPO and eval in one file", p.submit},
		{"PPO is killed twice", p.kill},
		{"what came out", p.result},
		{"the same PPO undisturbed", p.compare},
	}
}

func (p *pipeline) inputs(ctx context.Context) error {
	tiny, err := p.tinyModel(ctx)
	if err != nil {
		return err
	}
	data := filepath.Dir(p.data)
	for _, args := range [][]string{
		{"model", "import", "tiny", tiny, "--license", "Apache-2.0"},
		{"dataset", "add", "chat", p.data, "--license", "Apache-2.0"},
		{"dataset", "add", "pairs", filepath.Join(data, "support_preference.jsonl"), "--license", "Apache-2.0"},
		{"dataset", "add", "prompts", filepath.Join(data, "support_prompts.jsonl"), "--license", "Apache-2.0"},
	} {
		if err := p.show(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// steps is the file that a person would write.
func (p *pipeline) steps() string {
	small := "    gpus_per_node: 1\n    cpus_per_gpu: 1\n    memory_mib_per_gpu: 2048\n    time_limit: 20m\n"
	return "pipeline: assistant\nsteps:\n" +
		"  sft:\n    recipe: lora_sft\n    dataset: chat\n    base: tiny\n    register: tiny-chat\n" + small +
		"    params: {train.max_steps: 20, train.batch_size: 4, train.learning_rate: 5.0e-3}\n" +
		"  reward:\n    recipe: reward\n    dataset: pairs\n    base: tiny\n    register: tiny-judge\n" + small +
		"    params: {train.max_steps: 20, train.batch_size: 4, train.learning_rate: 5.0e-3}\n" +
		"  rlhf:\n    recipe: rlhf\n    dataset: prompts\n    base: step:sft\n    reward_model: step:reward\n    register: tiny-rlhf\n" + small +
		fmt.Sprintf("    params: {rlhf.algorithm: ppo, train.max_steps: %d, checkpoint.every_steps: %d, train.batch_size: 4, train.learning_rate: 1.0e-3, generation.max_new_tokens: 16}\n", ppoUpdates, ppoSave) +
		"  eval:\n    recipe: eval\n    model: step:rlhf\n    suite: default-offline\n" + small
}

func (p *pipeline) submit(ctx context.Context) error {
	file := filepath.Join(p.site.Dir, "pipeline.yaml")
	if err := os.WriteFile(file, []byte(p.steps()), 0o644); err != nil {
		return err
	}
	fmt.Printf("  $ cat pipeline.yaml\n%s", indent(p.steps()))
	if err := p.show(ctx, "run", "submit", "-f", file); err != nil {
		return err
	}
	var why api.Why
	if err := p.site.CtlJSON(ctx, &why, "run", "why", "3"); err != nil {
		return err
	}
	return p.claim(why.State == forge.RunPending && strings.Contains(why.Sentence, "run"), "forgectl run why 3", "each step is a run, and waits for those before it: %s", why.Sentence)
}

func indent(s string) string {
	return "      " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n      ") + "\n"
}

func (p *pipeline) kill(ctx context.Context) error {
	if err := p.until(ctx, "3", "the start of PPO", func(now api.RunDetail) bool { return now.State == forge.RunRunning }); err != nil {
		return err
	}
	watch := p.follow(ctx, "3")
	defer watch()
	for i, at := range ppoKills {
		var r api.RunDetail
		if err := p.until(ctx, "3", fmt.Sprintf("update %d in attempt %d", at, i+1), func(now api.RunDetail) bool {
			r = now
			return now.Attempt == i+1 && now.Step >= at && now.State == forge.RunRunning
		}); err != nil {
			return err
		}
		pid, err := rankPid(p.site.RunDir(string(r.ID)), i+1, 0)
		if err != nil {
			return err
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return err
		}
		fmt.Printf("\n  >>> kill -9 %d   # attempt %d, update %d\n", pid, i+1, r.Step)
	}
	for _, run := range []string{"3", "4"} {
		if err := p.until(ctx, run, "the end", func(now api.RunDetail) bool { return now.State.Terminal() }); err != nil {
			return err
		}
	}
	watch()
	for n, step := range []string{"sft", "reward", "rlhf", "eval"} {
		var r api.RunDetail
		if err := p.site.CtlJSON(ctx, &r, "run", "show", fmt.Sprint(n+1)); err != nil {
			return err
		}
		if r.State != forge.RunCompleted {
			return fmt.Errorf("step %s is %s: %s", step, r.State, r.Reason)
		}
		p.of[step] = r
	}
	if err := p.show(ctx, "run", "show", "3"); err != nil {
		return err
	}
	attempts := p.of["rlhf"].Attempts
	killed := slices.IndexFunc(attempts, func(a forge.Attempt) bool { return a.ResumeStep == 0 && a.Number > 1 }) < 0
	return p.claim(len(attempts) == len(ppoKills)+1 && killed, "forgectl run show 3", "PPO went on from a checkpoint each time (updates %d and %d), with its value model", attempts[1].ResumeStep, attempts[2].ResumeStep)
}

func (p *pipeline) result(ctx context.Context) error {
	for _, args := range [][]string{{"run", "metrics", "3", "--plot", "--key", "objective/scores"}, {"run", "samples", "3", "--last", "2"}, {"eval", "show", "4"}} {
		if err := p.show(ctx, args...); err != nil {
			return err
		}
	}
	var found struct {
		Scores []struct {
			Task, Metric string
			Value        float64
			N            int
		} `json:"scores"`
	}
	if err := p.site.CtlJSON(ctx, &found, "eval", "show", "4"); err != nil {
		return err
	}
	return p.claim(len(found.Scores) > 0 && found.Scores[0].N > 0, "forgectl eval show 4", "%d scores, each over its samples, stored with the run's end", len(found.Scores))
}

func (p *pipeline) compare(ctx context.Context) error {
	if err := p.show(ctx, "run", "retry", "3"); err != nil {
		return err
	}
	var calm api.RunDetail
	if err := p.until(ctx, "5", "the end", func(now api.RunDetail) bool { calm = now; return now.State.Terminal() }); err != nil {
		return err
	}
	if calm.State != forge.RunCompleted || calm.Attempt != 1 {
		return fmt.Errorf("the undisturbed run is %s in attempt %d", calm.State, calm.Attempt)
	}
	killed := p.of["rlhf"]
	at := func(r api.RunDetail, file string) string {
		return filepath.Join(p.site.RunDir(string(r.ID)), "attempts", fmt.Sprintf("%04d", r.Attempt), file)
	}
	last := fmt.Sprintf("checkpoints/checkpoint-%d", ppoUpdates)
	for _, file := range []string{"output/adapter_model.safetensors", last + "/optimizer.pt", last + "/value.safetensors"} {
		x, err := digestOf(at(killed, file))
		if err != nil {
			return err
		}
		y, err := digestOf(at(calm, file))
		if err != nil {
			return err
		}
		if err := p.claim(x == y, "sha256sum "+filepath.Join("RUN/attempts/N", file), "%s: the same bytes, killed twice and undisturbed, %.12s…", file, x); err != nil {
			return err
		}
	}
	return nil
}

// measured is a run whose tensors are counted while it trains: a model with the proportions of real ones, adapted in bf16.
const measured = "sft_lora_bf16_qwen2"

func (p *pipeline) estimate(ctx context.Context) error {
	dir := filepath.Join(p.site.Dir, "counted")
	cmd := exec.CommandContext(ctx, p.python, "recipes/python/tests/footprint_models.py", dir, measured)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.site.Dir, "PYTHONPATH=recipes/python/src", "OMP_NUM_THREADS=1", "CUDA_VISIBLE_DEVICES="}
	fmt.Printf("  $ python recipes/python/tests/footprint_models.py DIR %s   # trains, and counts the bytes of its tensors\n", measured)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the run that is counted: %w\n%s", err, out)
	}
	var counted struct {
		Params map[string]any
		Held   map[string]any
	}
	b, err := os.ReadFile(filepath.Join(dir, measured+".json"))
	if err := errors.Join(err, json.Unmarshal(b, &counted)); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"model", "import", "sized", filepath.Join(dir, measured, "base")},
		{"dataset", "add", "rows", filepath.Join(dir, measured, "rows.jsonl")},
	} {
		if _, err := p.site.Ctl(ctx, args...); err != nil {
			return err
		}
	}
	if shape, ok := counted.Held["tokens"].([]any); ok && len(shape) == 2 { // an estimate takes rows to be full
		counted.Params["train.max_length"] = shape[1]
	}
	args := []string{"run", "estimate", "lora_sft", "--dataset", "rows", "--base", "sized"}
	for _, name := range slices.Sorted(maps.Keys(counted.Params)) {
		args = append(args, "--set", fmt.Sprintf("%s=%v", name, counted.Params[name]))
	}
	if err := p.show(ctx, args...); err != nil {
		return err
	}
	var said api.Estimate
	if err := p.site.CtlJSON(ctx, &said, args...); err != nil {
		return err
	}
	worst, parts := 0.0, 0
	for _, part := range said.Parts {
		held, ok := counted.Held[part.Name].(float64)
		if !ok || held == 0 {
			continue
		}
		off := math.Abs(float64(part.Bytes)-held) / held * 100
		fmt.Printf("      %-12s estimated %10d bytes, counted %10.0f: %.2f %% off\n", part.Name, part.Bytes, held, off)
		worst, parts = max(worst, off), parts+1
	}
	return p.claim(parts >= 5 && worst <= 10, "forgectl run estimate", "from config.json and the headers of the weights alone, %d parts of what a run really held are met to %.2f %%", parts, worst)
}
