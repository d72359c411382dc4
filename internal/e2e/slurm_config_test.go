//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// onSlurm starts a site in front of a real Slurm; more are lines below its slurm block.
func onSlurm(t *testing.T, o slurmtest.Options, more string) (context.Context, *forgedtest.Site, *slurmtest.Cluster) {
	t.Helper()
	c := slurmtest.Up(t, o)
	root, err := os.MkdirTemp("/tmp", "fruns")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	ctx, s := openFor(t, 3*time.Minute, func(o *forgedtest.Options) {
		o.RunRoot = filepath.Join(root, "runs")
		o.ServeEnv = []string{"PLANTED_SECRET=plant3d", "SBATCH_EXPORT=ALL", "SLURM_EXPORT_ENV=ALL", "AWS_SECRET_ACCESS_KEY=plant3d"}
		o.Clusters = fmt.Sprintf(`  - name: hpc
    kind: slurm
    run_root: %s
    poll_every: 200ms
    env: {OF_CLUSTER: "yes", OF_BOTH: cluster}
    slurm:
      bin: %s
      conf: %s
      shim: %s
      poll_every: 1s
      nodes_every: 5s
      user_runtime: true
%s`, o.RunRoot, c.Bin, c.Conf, filepath.Join(o.Bin, "forged"), more)
	})
	must(t, os.WriteFile(filepath.Join(s.RecipesDir(), "look.yaml"), []byte(`name: look
doc: Prints what a rank finds
launch: rank
entry:
  command:
    - /bin/bash
    - -c
    - |
      echo UMASK $(umask); echo DIR $PWD; echo CGROUP; env -0 | tr '\0' '\n'
      echo PARENTS
      pid=$$
      while [ "$pid" -gt 1 ]; do
        echo "PROC $pid $(tr '\0' ' ' </proc/$pid/cmdline)"; tr '\0' '\n' </proc/$pid/environ
        pid=$(awk '/^PPid:/{print $2}' /proc/$pid/status)
      done
datasets: []
needs_dataset: false
needs_base: false
output: false
gang: {nodes: 1, gpus_per_node: 1, cpus_per_gpu: 1, memory_mib_per_gpu: 64}
limits: {time_limit: 10m, start_timeout: 1m, stall_timeout: 1m, grace: 2s}
params: []
`), 0o600))
	must(t, s.Stop(ctx))
	must(t, s.Start(ctx))
	return ctx, s, c
}

// TestNoSecretOfForgedsReachesARankOnSlurm looks where one could come out: in the ranks, the steps above them, the job as Slurm
// keeps it, and everything that was written.
func TestNoSecretOfForgedsReachesARankOnSlurm(t *testing.T) {
	ctx, s, c := onSlurm(t, slurmtest.Options{Nodes: 2, GPUs: 2}, `      allow: [--comment]
      partitions:
        - {name: main, gpu_type: h100, env: {OF_BOTH: partition, NCCL_SOCKET_IFNAME: lo}}
`)
	var out api.Submitted
	must(t, s.CtlJSON(ctx, &out, "run", "submit", "look", "-f", write(t, filepath.Join(t.TempDir(), "run.yaml"), "batch: {raw: [\"--comment=hello there\"]}\n"), "--nodes", "2", "--gpus-per-node", "2", "--cluster", "hpc"))
	run := fmt.Sprint(out.Run.Number)
	r := until(t, ctx, s, run, "ended", ended)
	if r.State != forge.RunCompleted {
		t.Fatalf("%s: %+v", r.State, r.Attempts)
	}
	dir := filepath.Join(s.RunDir(string(r.ID)), "attempts", "0001")
	seen := 0
	for rank := range 4 {
		text := read(t, filepath.Join(dir, "ranks", fmt.Sprintf("%04d", rank), "stdout"))
		seen += strings.Count(text, "\nPROC ")
		mine, _, _ := strings.Cut(text, "\nPARENTS\n")
		for _, want := range []string{"UMASK 0027", "OF_CLUSTER=yes", "OF_BOTH=partition", "NCCL_SOCKET_IFNAME=lo", "HF_HUB_OFFLINE=1", fmt.Sprintf("RANK=%d", rank), "WORLD_SIZE=4", "NNODES=2"} {
			if !strings.Contains(mine+"\n", want+"\n") {
				t.Errorf("rank %d has no %s in\n%s", rank, want, mine)
			}
		}
	}
	if seen < 12 { // rank, shim, slurmstepd
		t.Errorf("only %d processes above and with the ranks could be looked at", seen)
	}
	id := r.Attempts[0].Batch.ID
	job := c.Must(t, "scontrol", "-d", "show", "job", id)
	if !strings.Contains(job, "Comment=hello there") {
		t.Errorf("the comment did not arrive: %s", job)
	}
	script := c.Must(t, "scontrol", "write", "batch_script", id, "-")
	if !strings.Contains(script, "exec ") || strings.Contains(script, "OF_BOTH") {
		t.Errorf("the script that Slurm keeps is\n%s", script)
	}
	must(t, filepath.WalkDir(s.RunDir(string(r.ID)), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if strings.Contains(read(t, path), "plant3d") {
			t.Errorf("the secret is in %s", path)
		}
		return nil
	}))
	if strings.Contains(job+script, "plant3d") {
		t.Error("Slurm has the secret")
	}
}
