package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// bareTRL is the training as a person writes it without forge, and bareParams its numbers as parameters of a recipe; test_fidelity.py uses the same two.
const (
	bareTRL    = "recipes/python/tests/bare_trl.py"
	bareParams = "recipes/python/tests/fidelity.json"
	trainData  = "recipes/python/data"
)

// school is a forged on this machine that can really train: a tiny base model, the datasets that are shipped, one rank at a time.
type school struct {
	*forgedtest.Site
	python, tiny string
}

// newSchool starts it. forged asks its executor as often as an installation does, unless o says otherwise.
func newSchool(ctx context.Context, e env, o forgedtest.Options) (*school, error) {
	s := &school{python: e.python}
	if s.python == "" {
		cmd := exec.CommandContext(ctx, "contrib/python-env/install")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("contrib/python-env/install: %w", err)
		}
		s.python = filepath.Join(strings.TrimSpace(string(out)), "bin", "python")
	}
	o.Bin, o.CPUSlots, o.Network, o.Python = e.bin, 1, "none", s.python
	if o.PollEvery == 0 {
		o.PollEvery = defaultPoll
	}
	var err error
	if s.Site, err = forgedtest.New(ctx, o); err != nil {
		return nil, err
	}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *school) open(ctx context.Context) error {
	if err := s.Start(ctx); err != nil {
		return err
	}
	s.tiny = filepath.Join(s.Dir, "tiny")
	make := exec.CommandContext(ctx, s.python, "-m", "forge_train.tiny", s.tiny)
	make.Env = append(os.Environ(), "PYTHONPATH=recipes/python/src", "OMP_NUM_THREADS=1")
	if out, err := make.CombinedOutput(); err != nil {
		return fmt.Errorf("the tiny model: %w\n%s", err, out)
	}
	_, err := s.Ctl(ctx, "model", "import", "tiny", s.tiny, "--license", "Apache-2.0")
	for _, name := range []string{chatData, pairData, promptData} {
		path, abs := filepath.Abs(filepath.Join(trainData, name+".jsonl"))
		_, add := s.Ctl(ctx, "dataset", "add", name, path, "--license", "Apache-2.0")
		err = errors.Join(err, abs, add)
	}
	return err
}

const (
	defaultPoll = time.Second // daemon.DefaultPollEvery
	chatData    = "support_chat"
	pairData    = "support_preference"
	promptData  = "support_prompts"
)

// dataOf is what a recipe learns from here.
func dataOf(recipe string) string {
	switch recipe {
	case "lora_sft":
		return chatData
	case "rlhf":
		return promptData
	}
	return pairData
}

// train submits a run of a recipe on one CPU.
func (s *school) train(ctx context.Context, recipe string, params map[string]any) (forge.Run, error) {
	args := []string{recipe, "--dataset", dataOf(recipe), "--base", "tiny", "--gpus-per-node", "1", "--cpus-per-gpu", "1", "--mem-per-gpu", "2G", "--time", "1h"}
	for k, v := range params {
		args = append(args, "--set", fmt.Sprintf("%s=%v", k, v))
	}
	return submitTo(ctx, s.Site, args...)
}

func submitTo(ctx context.Context, s *forgedtest.Site, args ...string) (forge.Run, error) {
	var out api.Submitted
	err := s.CtlJSON(ctx, &out, append([]string{"run", "submit"}, args...)...)
	return out.Run, err
}

// bare is the same training without forge, in a directory of its own and with nothing of this process's environment.
func (s *school) bare(ctx context.Context, dir, recipe string, steps int) *exec.Cmd {
	data := filepath.Join(trainData, dataOf(recipe)+".jsonl")
	cmd := exec.CommandContext(ctx, s.python, bareTRL, recipe, s.tiny, data, dir, fmt.Sprint(steps))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C.UTF-8", "PYTHONUNBUFFERED=1", "CUDA_VISIBLE_DEVICES=", "OMP_NUM_THREADS=1"}
	return cmd
}

// shown reads a run until it is as wanted; one that ended or is held otherwise is an error.
func shown(ctx context.Context, s *forgedtest.Site, run forge.Run, what string, ok func(api.RunDetail) bool) (api.RunDetail, error) {
	for {
		var r api.RunDetail
		if err := s.CtlJSON(ctx, &r, "run", "show", fmt.Sprint(run.Number)); err != nil || ok(r) {
			return r, err
		}
		if r.State.Terminal() || r.Hold != nil {
			events, _ := s.Ctl(ctx, "run", "events", fmt.Sprint(run.Number))
			return r, fmt.Errorf("run %d was to be %s and is %s (%s), hold %+v\n%s", run.Number, what, r.State, r.Reason, r.Hold, events)
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return r, fmt.Errorf("run %d was to be %s and is %s at step %d: %w", run.Number, what, r.State, r.Step, err)
		}
	}
}

func completed(ctx context.Context, s *forgedtest.Site, run forge.Run) (api.RunDetail, error) {
	return shown(ctx, s, run, "completed", func(r api.RunDetail) bool { return r.State == forge.RunCompleted })
}

// reported is one line of a rank's metrics.
type reported struct {
	Step   int64
	Time   time.Time
	Values map[string]float64
}

func attemptDir(s *forgedtest.Site, run forge.RunID, attempt int) string {
	return filepath.Join(s.RunDir(string(run)), "attempts", fmt.Sprintf("%04d", attempt))
}

// metricsOf reads what an attempt has reported so far; a last line that is not whole yet is left out.
func metricsOf(attempt string) ([]reported, error) {
	b, err := os.ReadFile(filepath.Join(attempt, "metrics.jsonl"))
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	var all []reported
	for line := range bytes.Lines(b) {
		var r reported
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		if err := json.Unmarshal(line, &r); err != nil {
			return all, fmt.Errorf("%s: %q: %w", attempt, line, err)
		}
		all = append(all, r)
	}
	return all, nil
}

// lastStep is the newest step that an attempt has reported, 0 while there is none.
func lastStep(attempt string) (int64, error) {
	all, err := metricsOf(attempt)
	if err != nil || len(all) == 0 {
		return 0, err
	}
	return all[len(all)-1].Step, nil
}

// living are the processes of an attempt as its shim wrote them down (docs/run-directory.md).
type living struct {
	Pid   int
	Ranks []struct{ Pid int }
}

func liveIn(attempt string) (living, error) {
	var l living
	b, err := os.ReadFile(filepath.Join(attempt, "nodes", "0000", "live.json"))
	if err == nil {
		err = json.Unmarshal(b, &l)
	}
	if err == nil && len(l.Ranks) == 0 {
		err = fmt.Errorf("%s: live.json names no ranks", attempt)
	}
	return l, err
}
