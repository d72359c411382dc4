package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// Training that goes on whatever comes: DPO on a preference set is killed, preempted and stopped by its time limit in one run, and ends with the
// bytes of an undisturbed one. Then a program of one's own under torchrun, on two nodes of a real Slurm cluster.
const (
	pairSteps  = 240
	pairSave   = 10
	pairKill   = 25  // a rank is killed once this step was reported
	pairYield  = 45  // somebody of a higher class comes once this step was reported
	pairReach  = 120 // an attempt's time limit is what the undisturbed run took to get here: too short for what is left then
	torchNodes = 2
	torchGPUs  = 2
)

type training struct {
	*demo
	hpc   hpc
	limit time.Duration // of an attempt of the disturbed run
}

func exactly(d *demo) []chapter {
	d.last = "\nNext: docs/training.md for your own data, docs/script.md for your own program.\n"
	t := &training{demo: d, hpc: hpc{demo: d}}
	return []chapter{
		{"forged on this machine and on a Slurm cluster of 2 nodes", t.start},
		{"a tiny base model and a set of preferences", t.inputs},
		{"DPO, undisturbed", t.calm},
		{"the same run: a rank is killed, it is preempted, its time limit comes", t.disturbed},
		{"the two beside each other", t.compare},
		{"a program of one's own under torchrun, on two nodes", t.script},
	}
}

func (t *training) start(ctx context.Context) error {
	c, err := slurmtest.Start(ctx, slurmtest.Options{Nodes: torchNodes, GPUs: torchGPUs})
	if err != nil {
		return err
	}
	t.slurm = c
	fmt.Printf("  $ NODES=%d GPUS=%d contrib/slurm-cluster/up %s\n", torchNodes, torchGPUs, c.Dir)
	venv := filepath.Dir(filepath.Dir(t.python))
	o := forgedtest.Options{Bin: t.bin, Python: t.python, KeepOnStop: t.keep, WithProbe: true}
	if err := o.OnSlurm(forgedtest.Slurm{Cluster: c, Name: hpcName, Poll: "1s", Lines: []string{
		fmt.Sprintf("user_programs: true\n    runtime:\n      kind: venv\n      path: %q\n      setup: ['export CUDA_VISIBLE_DEVICES='] # the GPUs are Slurm's word only: train on CPUs", venv)}}); err != nil {
		return err
	}
	o.Clusters += fmt.Sprintf("  - {name: local, kind: direct, node: host-1, cpu_slots: 2, cpus: 2, memory: 64G, network: none, poll_every: 200ms, python: %q, run_root: %q}\n",
		t.python, filepath.Join(o.Dir, "local"))
	s, err := forgedtest.New(ctx, o)
	if err != nil {
		return err
	}
	t.site = s
	if err := s.Start(ctx); err != nil {
		return err
	}
	var nodes []api.NodeView
	if err := t.hpc.eventually(ctx, "forged knows the nodes", func() (bool, error) {
		err := s.CtlJSON(ctx, &nodes, "node", "list")
		return len(nodes) == torchNodes+1, err
	}); err != nil {
		return err
	}
	return t.show(ctx, "recipe", "list")
}

func (t *training) inputs(ctx context.Context) error {
	tiny, err := t.tinyModel(ctx)
	if err != nil {
		return err
	}
	pairs := filepath.Join(filepath.Dir(t.data), "support_preference.jsonl")
	for _, args := range [][]string{{"model", "import", "tiny", tiny, "--license", "Apache-2.0"}, {"dataset", "add", "pairs", pairs, "--license", "Apache-2.0"}} {
		if err := t.show(ctx, args...); err != nil {
			return err
		}
	}
	_, refused := t.site.Ctl(ctx, "run", "submit", "lora_sft", "--dataset", "pairs", "--base", "tiny")
	if refused == nil {
		return errors.New("lora_sft took preferences")
	}
	return t.claim(strings.Contains(refused.Error(), "preference"), "forgectl run submit lora_sft --dataset pairs --base tiny", "what cannot be trained is refused before a GPU is asked for: %s", firstLine(refused))
}

func firstLine(err error) string {
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	i := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "preference") })
	return strings.TrimSpace(lines[max(0, i)])
}

func pairsSubmit(limit time.Duration) []string {
	return []string{"run", "submit", "dpo", "--cluster", "local", "--dataset", "pairs", "--base", "tiny", "--gpus-per-node", "2", "--cpus-per-gpu", "1", "--mem-per-gpu", "2G", "--priority", "10",
		"--time", limit.String(), "--total-time", "20m", "--set", fmt.Sprint("train.max_steps=", pairSteps), "--set", fmt.Sprint("checkpoint.every_steps=", pairSave),
		"--set", "lora.dropout=0.1", "--set", "train.batch_size=4", "--set", "train.learning_rate=5e-3"}
}

func (t *training) disturbed(ctx context.Context) error {
	if err := t.show(ctx, pairsSubmit(t.limit)...); err != nil {
		return err
	}
	watch := t.follow(ctx, "2")
	defer watch()
	var r api.RunDetail
	if err := t.until(ctx, "2", fmt.Sprintf("step %d", pairKill), func(now api.RunDetail) bool { r = now; return now.Step >= pairKill }); err != nil {
		return err
	}
	pid, err := rankPid(t.localDir(r), 1, 1)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	fmt.Printf("\n  >>> kill -9 %d   # rank 1 of 2\n", pid)
	if err := t.until(ctx, "2", fmt.Sprintf("step %d in a later attempt", pairYield), func(now api.RunDetail) bool {
		return now.Attempt >= 2 && now.Step >= pairYield && now.State == forge.RunRunning
	}); err != nil {
		return err
	}
	if err := t.show(ctx, "run", "submit", "probe", "--cluster", "local", "--gpus-per-node", "2", "--time", "5m", "--priority", "80", "--set", "steps=20", "--set", "step_ms=50"); err != nil {
		return err
	}
	if err := t.until(ctx, "2", "the end", func(now api.RunDetail) bool { r = now; return now.State.Terminal() }); err != nil {
		return err
	}
	watch()
	if err := t.show(ctx, "run", "show", "2"); err != nil {
		return err
	}
	count := map[forge.EndReason]int{}
	for _, a := range r.Attempts {
		count[a.Reason]++
	}
	if err := t.claim(count[forge.EndKilledExternally] == 1 && count[forge.EndCheckpointedPreempt] == 1 && count[forge.EndCheckpointedLimit] >= 1 && r.State == forge.RunCompleted,
		"forgectl run show 2", "%d attempts: 1 killed, 1 made room, %d ended at the limit of %s, and the run is %s at step %d", len(r.Attempts), count[forge.EndCheckpointedLimit], t.limit, r.State, r.Step); err != nil {
		return err
	}
	lost := int64(0)
	for i, a := range r.Attempts[:len(r.Attempts)-1] {
		if a.Reason != forge.EndKilledExternally {
			lost = max(lost, a.LastStep-r.Attempts[i+1].ResumeStep)
		}
	}
	if err := t.claim(lost == 0, "forgectl run show 2", "who was asked to stop lost no step: each next attempt went on from where the one before had saved"); err != nil {
		return err
	}
	return t.show(ctx, "run", "checkpoints", "2")
}

// localDir is where a run of the direct cluster lies.
func (t *training) localDir(r api.RunDetail) string {
	return filepath.Join(t.site.Dir, "local", string(r.ID))
}

// calm also measures how far this machine gets in what time: a limit in seconds would be too long for one and too short for another.
func (t *training) calm(ctx context.Context) error {
	if err := t.show(ctx, pairsSubmit(20*time.Minute)...); err != nil {
		return err
	}
	var r api.RunDetail
	if err := t.until(ctx, "1", fmt.Sprintf("step %d", pairReach), func(now api.RunDetail) bool { r = now; return now.Step >= pairReach }); err != nil {
		return err
	}
	t.limit = time.Since(r.Attempts[0].StartedAt).Round(time.Second)
	fmt.Printf("  step %d of %d was reached after %s: that will be the time limit of the next run's attempts\n", r.Step, pairSteps, t.limit)
	if err := t.until(ctx, "1", "the end", func(now api.RunDetail) bool { r = now; return now.State.Terminal() }); err != nil {
		return err
	}
	if r.State != forge.RunCompleted || r.Attempt != 1 {
		return fmt.Errorf("the undisturbed run is %s in attempt %d", r.State, r.Attempt)
	}
	return nil
}

func (t *training) compare(ctx context.Context) error {
	var calm, disturbed api.RunDetail
	if err := errors.Join(t.site.CtlJSON(ctx, &calm, "run", "show", "1"), t.site.CtlJSON(ctx, &disturbed, "run", "show", "2")); err != nil {
		return err
	}
	a, b := filepath.Join(t.localDir(disturbed), "attempts", fmt.Sprintf("%04d", disturbed.Attempt)), filepath.Join(t.localDir(calm), "attempts", "0001")
	last := fmt.Sprintf("checkpoints/checkpoint-%d", pairSteps)
	for _, file := range []string{"output/adapter_model.safetensors", last + "/optimizer.pt", last + "/rng_state_0.pth", last + "/rng_state_1.pth"} {
		x, err := digestOf(filepath.Join(a, file))
		if err != nil {
			return err
		}
		y, err := digestOf(filepath.Join(b, file))
		if err != nil {
			return err
		}
		if err := t.claim(x == y, "sha256sum "+filepath.Join("RUN/attempts/N", file), "%s: the same bytes, %.12s…", file, x); err != nil {
			return err
		}
	}
	return t.show(ctx, "run", "metrics", "2", "--plot", "--key", "rewards/margins")
}

func digestOf(path string) (string, error) {
	b, err := os.ReadFile(path)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), err
}

// script runs what the end-to-end test runs: a program that knows torch and, of forge, where to save and what to resume from.
func (t *training) script(ctx context.Context) error {
	work := filepath.Join(t.site.Dir, "my-project")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	program, err := os.ReadFile("internal/e2e/testdata/torchrun/train.py")
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(filepath.Join(work, "train.py"), program, 0o644), os.WriteFile(filepath.Join(work, "factor.txt"), []byte("0.5"), 0o644)); err != nil {
		return err
	}
	if err := t.show(ctx, "run", "submit", "script", "--cluster", hpcName, "--nodes", fmt.Sprint(torchNodes), "--gpus-per-node", fmt.Sprint(torchGPUs), "--cpus-per-gpu", "1", "--mem-per-gpu", "1G",
		"--time", "10m", "--max-retries", "1", "--launch", "node", "--workdir", work, "--", "torchrun", "train.py"); err != nil {
		return err
	}
	var r api.RunDetail
	if err := t.site.CtlJSON(ctx, &r, "run", "show", "4"); err != nil {
		return err
	}
	victim := filepath.Join(t.site.RunDir(string(r.ID)), "attempts", "0001", "victim")
	var pid int
	if err := t.hpc.eventually(ctx, "a process at step 12", func() (bool, error) {
		b, err := os.ReadFile(victim)
		if os.IsNotExist(err) {
			return false, nil
		}
		n, _ := fmt.Sscan(string(b), &pid)
		return n == 1, err
	}); err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	fmt.Printf("  >>> kill -9 %d   # one of the four processes, on the second node\n", pid)
	if err := t.until(ctx, "4", "the end", func(now api.RunDetail) bool { r = now; return now.State.Terminal() }); err != nil {
		return err
	}
	if err := t.show(ctx, "run", "show", "4"); err != nil {
		return err
	}
	if r.Attempt != 2 || len(r.Attempts) != 2 {
		return fmt.Errorf("the program is %s in attempt %d: %+v", r.State, r.Attempt, r.Attempts)
	}
	if err := t.claim(r.State == forge.RunCompleted && r.Attempts[1].ResumeStep == 10 && len(r.Attempts[0].Placement) == torchNodes, "forgectl run show 4",
		"a program that never heard of forge but for where to save: %s on %s, in attempt %d, from step %d", r.State, placedOn(r.Attempts[1]), r.Attempt, r.Attempts[1].ResumeStep); err != nil {
		return err
	}
	var got float64
	b, err := os.ReadFile(filepath.Join(t.site.RunDir(string(r.ID)), "attempts", "0002", "output", "total.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &got); err != nil {
		return err
	}
	want := 0.0
	for step := 1; step <= 20; step++ {
		want = want*0.5 + float64(10*step)
	}
	return t.claim(got == want, "cat RUN/attempts/0002/output/total.json", "its result is %v, as reckoned by hand", got)
}
