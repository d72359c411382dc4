//go:build e2e && long

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// sameLoss: torch adds up what four ranks have in another order in the first step after a start, which the last digit of a float32 shows.
const sameLoss = 1e-5

// Real PEFT and TRL on 2 nodes × 2 ranks. A node loses its power; the run goes on elsewhere and comes to the result
// of one that nothing disturbed.
func TestATrainingThatLosesANodeComesToTheSameResult(t *testing.T) {
	t.Parallel()
	python := os.Getenv("FORGE_PYTHON")
	if python == "" {
		t.Fatal("FORGE_PYTHON is not set; run these tests through make test-long")
	}
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 3, GPUs: 2})
	h := openSlurm(t, c, func(o *hpcOptions) {
		o.limit = 12 * time.Minute
		// The GPUs of a test cluster are Slurm's word only: train on CPUs.
		o.slurm.Lines = []string{fmt.Sprintf("runtime: {kind: venv, path: %q, setup: ['export CUDA_VISIBLE_DEVICES=']}", filepath.Dir(filepath.Dir(python)))}
	})
	tiny := filepath.Join(h.Dir, "tiny")
	packages, err := filepath.Glob(filepath.Join(h.State(), "python", "forge_train-*"))
	must(t, err)
	if len(packages) == 0 {
		t.Fatal("the training package was not unpacked")
	}
	maker := exec.CommandContext(h.ctx, python, "-m", "forge_train.tiny", tiny)
	maker.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + h.Dir, "PYTHONPATH=" + packages[0], "HF_HUB_OFFLINE=1", "OMP_NUM_THREADS=1"}
	if out, err := maker.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := filepath.Abs("../../recipes/python/data/support_chat.jsonl")
	must(t, err)
	for _, args := range [][]string{{"model", "import", "tiny", tiny, "--license", "Apache-2.0"}, {"dataset", "add", "chat", data, "--license", "Apache-2.0"}} {
		_, err := h.Ctl(h.ctx, args...)
		must(t, err)
	}
	train := func() string {
		var out api.Submitted
		must(t, h.CtlJSON(h.ctx, &out, "run", "submit", "lora_sft", "--dataset", "chat@1", "--base", "tiny", "--nodes", "2", "--gpus-per-node", "2",
			"--cluster", h.cluster, "--cpus-per-gpu", "1", "--mem-per-gpu", "2G", "--time", "30m", "--register", "bot",
			"--set", "train.max_steps=60", "--set", "checkpoint.every_steps=10", "--set", "train.learning_rate=5e-3", "--set", "train.batch_size=4"))
		return string(out.Run.ID)
	}
	undisturbed := train()
	over := func(r api.RunDetail) bool { return ended(r) || r.Hold != nil }
	calm := h.until(undisturbed, "ended or held", over)
	if calm.State != forge.RunCompleted {
		t.Fatalf("undisturbed it is %s (%s), hold %+v: %+v", calm.State, calm.Reason, calm.Hold, calm.Attempts)
	}
	run := train()
	r := h.until(run, "half-way", func(r api.RunDetail) bool { return r.Step >= 25 && r.SavedStep > 0 || ended(r) })
	node := string(r.Attempts[0].Placement[1].Node)
	h.strike()
	must(t, c.LosePower(node))
	r = h.until(run, "ended or held", over)
	h.row(r)
	elsewhere(t, r, node)
	if calm.State != forge.RunCompleted || r.State != forge.RunCompleted || len(r.Attempts) < 2 || r.Attempts[1].ResumeStep == 0 {
		t.Fatalf("undisturbed %s, disturbed %s: %+v", calm.State, r.State, r.Attempts)
	}
	if math.Abs(*calm.Loss-*r.Loss) > sameLoss {
		t.Errorf("last loss %v, undisturbed %v", *r.Loss, *calm.Loss)
	}
	t.Logf("last loss %v and %v, adapter %.12s… and %.12s…", *r.Loss, *calm.Loss, adapter(t, h.Site, r), adapter(t, h.Site, calm))
}

// adapter is the digest of the weights that a run made.
func adapter(t *testing.T, s *forgedtest.Site, r api.RunDetail) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(s.RunDir(string(r.ID)), "attempts", "*", "output", "adapter_model.safetensors"))
	must(t, err)
	if len(found) != 1 {
		t.Fatalf("adapters: %v", found)
	}
	b, err := os.ReadFile(found[0])
	must(t, err)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
