//go:build e2e && gpu

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// These run with a real driver and a real GPU (make test-gpu), and are no part of make test.

// smi asks the driver by NVIDIA's own program, which is what forge is held against.
func smi(t *testing.T, args ...string) [][]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "nvidia-smi", append(args, "--format=csv,noheader,nounits")...).Output()
	must(t, err)
	var rows [][]string
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); line != "" {
			rows = append(rows, strings.Split(line, ", "))
		}
	}
	return rows
}

func TestARunOnARealGPUIsPinnedToItAndResumesExactly(t *testing.T) {
	python := os.Getenv("FORGE_PYTHON")
	ctx, s := openFor(t, 9*time.Minute, func(o *forgedtest.Options) {
		o.CPUSlots, o.Python, o.PollEvery = 0, python, 100*time.Millisecond
	})
	cards := smi(t, "--query-gpu=uuid,name,memory.total")
	if len(cards) == 0 {
		t.Fatal("nvidia-smi names no GPU")
	}

	var nodes []forge.Node
	must(t, s.CtlJSON(ctx, &nodes, "node", "list"))
	if len(nodes) != 1 || len(nodes[0].GPUs) != len(cards) {
		t.Fatalf("forge sees %+v, nvidia-smi %v", nodes, cards)
	}
	for i, g := range nodes[0].GPUs {
		t.Logf("slot %d: %s %s, %d MiB, sick %q; nvidia-smi: %v", g.Slot, g.Type, g.UUID, g.MemoryMiB, g.Sick, cards[i])
		mem, err := strconv.ParseInt(cards[i][2], 10, 64)
		must(t, err)
		if g.Kind != forge.GPUDevice || g.UUID != cards[i][0] || !strings.Contains(cards[i][1], g.Type) || g.MemoryMiB < mem*9/10 || g.MemoryMiB > mem*11/10 || g.Sick != "" {
			t.Errorf("slot %d is %+v, nvidia-smi says %v", i, g, cards[i])
		}
	}

	tiny := filepath.Join(t.TempDir(), "tiny")
	make := exec.CommandContext(ctx, python, "-m", "forge_train.tiny", tiny)
	src, err := filepath.Abs("../../recipes/python/src")
	must(t, err)
	make.Env = append(os.Environ(), "PYTHONPATH="+src)
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := filepath.Abs("../../recipes/python/data/support_chat.jsonl")
	must(t, err)
	for _, args := range [][]string{{"model", "import", "tiny", tiny}, {"dataset", "add", "chat", data}} {
		_, err := s.Ctl(ctx, args...)
		must(t, err)
	}
	const steps = 120
	train := func() string {
		var out api.Submitted
		must(t, s.CtlJSON(ctx, &out, "run", "submit", "lora_sft", "--dataset", "chat", "--base", "tiny", "--gpus-per-node", "1", "--time", "10m", "--set", "train.deterministic=true",
			"--set", "lora.dropout=0.05", "--set", "train.max_steps="+strconv.Itoa(steps), "--set", "train.batch_size=4", "--set", "train.learning_rate=5e-3", "--set", "checkpoint.every_steps=10"))
		return fmt.Sprint(out.Run.Number)
	}
	calm := until(t, ctx, s, train(), "ended", ended)
	if calm.State != forge.RunCompleted {
		logs, _ := s.Ctl(ctx, "run", "logs", fmt.Sprint(calm.Number))
		t.Fatalf("%s %s %+v\n%s", calm.State, calm.Reason, calm.Attempts, logs)
	}

	number := train()
	hit := until(t, ctx, s, number, "at step 35", func(r api.RunDetail) bool { return r.Step >= 35 || ended(r) })
	pid := rankOf(t, s.RunDir(string(hit.ID)), 1)
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	must(t, err)
	if !bytes.Contains(env, []byte("\x00CUDA_VISIBLE_DEVICES="+cards[0][0]+"\x00")) {
		t.Errorf("the rank is not pinned to %s", cards[0][0])
	}
	if users := smi(t, "--query-compute-apps=pid,used_memory"); len(users) != 1 {
		t.Logf("processes on the GPU by nvidia-smi: %v (its pids may be of another namespace)", users)
	}
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	again := until(t, ctx, s, number, "ended", ended)
	if again.State != forge.RunCompleted || again.Attempt != 2 || again.Attempts[1].ResumeStep < 30 {
		t.Fatalf("%s after %+v", again.State, again.Attempts)
	}
	a, b := losses(t, s, calm.ID, 1), losses(t, s, again.ID, 2)
	worst := 0.0
	for step := 1; step <= steps; step++ {
		worst = math.Max(worst, math.Abs(a[step]-b[step]))
	}
	t.Logf("loss %.6f → %.6f; resumed from step %d; largest difference of any step %g", a[1], a[steps], again.Attempts[1].ResumeStep, worst)
	if len(a) != steps || len(b) != steps || worst > 1e-6 || a[steps] >= a[1] {
		t.Errorf("%d and %d steps, difference %g", len(a), len(b), worst)
	}
	if x, y := adapterOf(t, s, calm.ID, 1), adapterOf(t, s, again.ID, 2); x != y {
		t.Errorf("the adapter is %s undisturbed and %s after a kill", x, y)
	} else {
		t.Logf("adapter sha256 %s, undisturbed and resumed", x)
	}
	metrics, err := s.Ctl(ctx, "run", "metrics", number)
	must(t, err)
	t.Log("\n" + metrics)
	must(t, s.Stop(ctx))
	sound(t, ctx, s)
	if users := smi(t, "--query-compute-apps=pid,used_memory"); len(users) != 0 {
		t.Errorf("left on the GPU: %v", users)
	}
}

// rankOf is the pid of rank 0 of an attempt.
func rankOf(t *testing.T, runDir string, attempt int) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(runDir, "attempts", fmt.Sprintf("%04d", attempt), "nodes", "0000", "live.json"))
	must(t, err)
	var live struct{ Ranks []struct{ PID int } }
	must(t, json.Unmarshal(b, &live))
	return live.Ranks[0].PID
}

// losses are a run's by step, the newest attempt's line of each.
func losses(t *testing.T, s *forgedtest.Site, run forge.RunID, attempts int) map[int]float64 {
	t.Helper()
	out := map[int]float64{}
	for n := 1; n <= attempts; n++ {
		b, err := os.ReadFile(filepath.Join(s.RunDir(string(run)), "attempts", fmt.Sprintf("%04d", n), "metrics.jsonl"))
		must(t, err)
		for line := range bytes.Lines(b) {
			var m struct {
				Step   int
				Values map[string]float64
			}
			must(t, json.Unmarshal(line, &m))
			if l, ok := m.Values["loss"]; ok {
				out[m.Step] = l
			}
		}
	}
	return out
}

func adapterOf(t *testing.T, s *forgedtest.Site, run forge.RunID, attempt int) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.RunDir(string(run)), "attempts", fmt.Sprintf("%04d", attempt), "output", "adapter_model.safetensors"))
	must(t, err)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
