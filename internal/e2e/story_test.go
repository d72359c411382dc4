//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestTheMainJobForReal is `make demo`: real PEFT and TRL training on two ranks, a rank and then
// forged killed with -9, the same last loss as undisturbed, a registered model, nothing left.
func TestTheMainJobForReal(t *testing.T) { tell(t, "main") }

// TestAGangOnSlurm is `make demo-slurm`: a gang of 2 nodes × 2 ranks on a real Slurm cluster loses a node and then the
// controller, resumes elsewhere with the same result, and starts no rank twice.
func TestAGangOnSlurm(t *testing.T) { tell(t, "slurm") }

func tell(t *testing.T, story string) {
	t.Helper()
	python := os.Getenv("FORGE_PYTHON")
	if python == "" {
		t.Fatal("FORGE_PYTHON is not set; run these tests through make test")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	root, err := filepath.Abs("../..")
	must(t, err)
	demo := filepath.Join(t.TempDir(), "demo")
	build := exec.CommandContext(ctx, "go", "build", "-o", demo, "./contrib/demo")
	build.Dir = root
	out, err := build.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.CommandContext(ctx, demo, "--bin", binDir(t), "--python", python, "--story", story)
	cmd.Dir = root
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it tidies up after itself
	cmd.WaitDelay = 30 * time.Second
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	t.Log(log.String())
}
