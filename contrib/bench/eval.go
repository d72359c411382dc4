package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

const (
	evalSuite  = "default-offline"
	evalSuites = "recipes/python/src/forge_train/suites"
	evalPairs  = 4
	evalBound  = 15 * time.Minute
	evalLimit  = 1.05
)

// evalOverhead is the user and system time of a whole eval, from start to stored scores: of the rank and its shim as a forged of this machine runs them, against lm-eval's own
// command over the same tasks, in interleaved pairs. The value is the median of the pairs' ratios.
func evalOverhead(ctx context.Context, e env) ([]figure, error) {
	ctx, cancel := context.WithTimeout(ctx, evalBound)
	defer cancel()
	s, err := newSchool(ctx, e, forgedtest.Options{})
	if err != nil {
		return nil, err
	}
	tasks, err := bareSuite(filepath.Join(s.Dir, "include"))
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	var ratios []float64
	for n := range evalPairs {
		var ours, bare float64
		sides := []func() error{
			func() (err error) { bare, err = s.bareEval(ctx, n, tasks); return err },
			func() (err error) { ours, err = s.evalCPU(ctx); return err },
		}
		for i := range sides { // who is first alternates
			if err := sides[(i+n)%len(sides)](); err != nil {
				return nil, errors.Join(err, s.Close())
			}
		}
		ratios = append(ratios, ours/bare)
		fmt.Fprintf(os.Stderr, "eval_overhead: pair %d of %d: %.2f s-cpu, bare %.2f, ratio %.4f\n", n+1, evalPairs, ours, bare, ours/bare)
	}
	return []figure{atMost("eval_overhead", median(ratios), "x", "bare", 1, evalLimit)}, s.Close()
}

// bareSuite lays a suite's tasks out as lm-eval's command wants them, and names them.
func bareSuite(dir string) (tasks []string, err error) {
	from := filepath.Join(evalSuites, evalSuite)
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		return nil, err
	}
	if err := os.Remove(filepath.Join(dir, "suite.yaml")); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		data := strings.TrimSuffix(filepath.Base(f), ".yaml") + ".jsonl"
		b = bytes.ReplaceAll(b, []byte("test: "+data), []byte("test: "+filepath.Join(dir, data)))
		for line := range bytes.Lines(b) {
			if name, ok := bytes.CutPrefix(line, []byte("task: ")); ok {
				tasks = append(tasks, string(bytes.TrimSpace(name)))
			}
		}
		if err := os.WriteFile(f, b, 0o600); err != nil {
			return nil, err
		}
	}
	if len(tasks) == 0 {
		return nil, fmt.Errorf("%s names no task", from)
	}
	return tasks, nil
}

// bareEval runs lm-eval's command and measures its process.
func (s *school) bareEval(ctx context.Context, n int, tasks []string) (float64, error) {
	dir := filepath.Join(s.Dir, fmt.Sprint("bare-eval-", n))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return 0, err
	}
	args := append([]string{"-m", "lm_eval", "run", "--model", "hf", "--model_args", "pretrained=" + s.tiny, "--tasks"}, tasks...)
	args = append(args, "--include_path", filepath.Join(s.Dir, "include"), "--output_path", filepath.Join(dir, "out"), "--log_samples", "--device", "cpu", "--batch_size", "8")
	cmd := exec.CommandContext(ctx, s.python, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C.UTF-8", "CUDA_VISIBLE_DEVICES=", "OMP_NUM_THREADS=1", "TQDM_DISABLE=1",
		"HF_HUB_OFFLINE=1", "HF_DATASETS_OFFLINE=1", "TRANSFORMERS_OFFLINE=1", "HF_HOME=" + filepath.Join(dir, "hf")}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("lm_eval: %w\n%s", err, out)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "out", "*", "results_*.json")); len(left) == 0 {
		return 0, fmt.Errorf("lm_eval left no results:\n%s", out)
	}
	return (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), nil
}

// evalCPU does the same with a run: what its rank and its shim had taken when they were last seen.
func (s *school) evalCPU(ctx context.Context) (float64, error) {
	run, err := submitTo(ctx, s.Site, "eval", "--model", "tiny", "--suite", evalSuite, "--gpus-per-node", "1", "--cpus-per-gpu", "1", "--mem-per-gpu", "2G", "--time", "1h")
	if err != nil {
		return 0, err
	}
	dir := attemptDir(s.Site, run.ID, 1)
	started, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	l, err := liveIn(dir)
	for ; err != nil; l, err = liveIn(dir) {
		if pause(started, 5*time.Millisecond) != nil {
			return 0, fmt.Errorf("no rank of the eval started: %w", err)
		}
	}
	last := map[int]int64{}
	for alive := true; alive; {
		alive = false
		for _, pid := range []int{l.Pid, l.Ranks[0].Pid} {
			if ticks, err := cpuTicks(pid); err == nil {
				last[pid], alive = max(last[pid], ticks), true
			}
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return 0, err
		}
	}
	if _, err := completed(ctx, s.Site, run); err != nil {
		return 0, err
	}
	return float64(last[l.Pid]+last[l.Ranks[0].Pid]) / clockTicks, nil
}
