package slurmtest_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

func TestAGangSeesItsGPUs(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{})
	out := c.Must(t, "srun", "--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=h100:4", "bash", "-c", "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	slices.Sort(lines)
	if !slices.Equal(lines, []string{"n1 0,1,2,3", "n2 0,1,2,3"}) {
		t.Fatalf("%q", out)
	}
}

func TestAKilledNodeIsDown(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 2})
	if err := c.KillNode("n2"); err != nil {
		t.Fatal(err)
	}
	state := func() string { return c.Must(t, "sinfo", "-h", "-n", "n2", "-p", "main", "-o", "%T") }
	if err := c.Until("n2 is down", func() bool { return strings.HasPrefix(state(), "down") }); err != nil {
		t.Fatal(err)
	}
	if err := c.StartNode("n2"); err != nil {
		t.Fatal(err)
	}
	if err := c.Until("n2 is idle", func() bool { return strings.HasPrefix(state(), "idle") }); err != nil {
		t.Fatal(err)
	}
}

func TestTheControllerComesBackWithItsJobs(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 1})
	job := strings.TrimSpace(c.Must(t, "sbatch", "--parsable", "--job-name=saved-job", "--output=/dev/null", "--wrap", "sleep 1000"))
	// What it has not saved yet, a killed controller has never heard of: it saves every few seconds.
	if err := c.Until("the controller has saved the job", func() bool {
		b, err := os.ReadFile(filepath.Join(c.Dir, "state", "job_state"))
		return err == nil && strings.Contains(string(b), "saved-job")
	}); err != nil {
		t.Fatal(err)
	}
	if err := c.KillController(); err != nil {
		t.Fatal(err)
	}
	if err := c.StartController(); err != nil {
		t.Fatal(err)
	}
	if out := c.Must(t, "squeue", "-h", "-o", "%i"); strings.TrimSpace(out) != job {
		t.Fatalf("squeue says %q, want %s", out, job)
	}
}
