//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/forge-ml/forge-ml/internal/forgedtest"
)

// openForTraining starts a site that can really train, with the tiny model, made as a user makes it, and a chat dataset: tiny@1 and chat@1.
// It returns where the model lies.
func openForTraining(t *testing.T, more ...func(*forgedtest.Options)) (context.Context, *forgedtest.Site, string) {
	t.Helper()
	python := os.Getenv("FORGE_PYTHON")
	if python == "" {
		t.Fatal("FORGE_PYTHON is not set; run these tests through make test")
	}
	ctx, s := openFor(t, 10*time.Minute, append(more, func(o *forgedtest.Options) { o.Python = python })...)
	tiny := filepath.Join(s.Dir, "tiny")
	paths, err := filepath.Glob(filepath.Join(s.State(), "python", "forge_train-*"))
	must(t, err)
	made := exec.CommandContext(ctx, python, "-m", "forge_train.tiny", tiny)
	made.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.Dir, "PYTHONPATH=" + paths[0], "HF_HUB_OFFLINE=1", "OMP_NUM_THREADS=1"}
	if out, err := made.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := filepath.Abs("../../recipes/python/data/support_chat.jsonl")
	must(t, err)
	for _, args := range [][]string{{"model", "import", "tiny", tiny, "--license", "Apache-2.0"}, {"dataset", "add", "chat", data, "--license", "Apache-2.0"}} {
		_, err := s.Ctl(ctx, args...)
		must(t, err)
	}
	return ctx, s, tiny
}
