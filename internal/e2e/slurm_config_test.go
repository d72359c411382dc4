//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
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

// TestADryRunPrintsTheJobAndARunStartsInTheSoftwareThatItNames: what is printed is what Slurm gets, and what it may not get is refused.
func TestADryRunPrintsTheJobAndARunStartsInTheSoftwareThatItNames(t *testing.T) {
	ctx, s, c := onSlurm(t, slurmtest.Options{Nodes: 2, GPUs: 2}, "      allow: [--comment]\n      partitions: [{name: main, cpus_per_gpu: 3, memory_per_gpu: 700M}]\n      owners: {default: {group: daemon, umask: \"0007\"}}\n")
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "run.yaml"), `recipe: look
nodes: 2
batch: {partition: main, raw: ["--comment=it's $HOME"]}
runtime: {kind: script, path: `+write(t, filepath.Join(dir, "env.sh"), "export FROM_SCRIPT=yes\n")+`, setup: ["export FROM_SETUP=$((20+1))"]}
`)
	printed, err := s.Ctl(ctx, "run", "submit", "-f", file, "--dry-run")
	must(t, err)
	for _, want := range []string{"--nodes=2", "--gpus-per-node=1", "--ntasks-per-node=1", "--cpus-per-task=3", "--mem=700M", "--no-requeue", "--export-file=/dev/null", "--partition=main", "runtime.kind\tscript\trun", "umask 0007", "shim --run-dir"} {
		if !strings.Contains(printed, want) {
			t.Errorf("%q is not in\n%s", want, printed)
		}
	}
	if out := c.Must(t, "squeue", "-h", "-t", "all", "-o", "%j"); out != "" {
		t.Errorf("a dry run submitted %s", out)
	}
	// What is printed can be given to a shell, and Slurm takes it.
	_, sbatch, _ := strings.Cut(printed, "\nsbatch ")
	out, err := exec.CommandContext(ctx, "/bin/bash", "-c", "export SLURM_CONF="+c.Conf+"; "+filepath.Join(c.Bin, "sbatch")+" --test-only "+strings.ReplaceAll(sbatch, "RUN", "01RUN")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "to start at") {
		t.Errorf("%v: %s\n%s", err, out, sbatch)
	}

	var sub api.Submitted
	must(t, s.CtlJSON(ctx, &sub, "run", "submit", "-f", file))
	r := until(t, ctx, s, fmt.Sprint(sub.Run.Number), "ended", ended)
	text := read(t, filepath.Join(s.RunDir(string(r.ID)), "attempts", "0001", "ranks", "0001", "stdout"))
	for _, want := range []string{"FROM_SCRIPT=yes", "FROM_SETUP=21", "UMASK 0007"} {
		if r.State != forge.RunCompleted || !strings.Contains(text, want+"\n") {
			t.Errorf("%s: a rank has no %s in\n%s", r.State, want, text)
		}
	}
	if os.Geteuid() == 0 {
		st, err := os.Stat(filepath.Join(s.RunDir(string(r.ID)), "attempts", "0001", "ranks", "0001", "stdout"))
		must(t, err)
		if g := st.Sys().(*syscall.Stat_t).Gid; g != 1 || st.Mode().Perm() != 0o660 {
			t.Errorf("what a rank wrote is of group %d, mode %v", g, st.Mode())
		}
	}
	must(t, s.CtlJSON(ctx, &sub, "run", "retry", fmt.Sprint(r.Number)))
	if b, rt := sub.Run.Spec.Batch, sub.Run.Spec.Runtime; b == nil || rt == nil || len(b.Raw) != 1 || len(rt.Setup) != 1 || sub.Run.Spec.Cluster != "hpc" {
		t.Errorf("a retry asks for %+v, %+v", b, rt)
	}
	until(t, ctx, s, fmt.Sprint(sub.Run.Number), "ended", ended)

	_, err = s.Ctl(ctx, "run", "submit", "look", "--cluster", "hpc", "--", "--req")
	refused(t, err, 2, "batch.raw", "--requeue", "each attempt is a job of its own")
	_, err = s.Ctl(ctx, "run", "submit", "look", "--cluster", "hpc", "--partition", "debug")
	refused(t, err, 2, "batch.partition", `"debug"`, "it has main")
	_, err = s.Ctl(ctx, "run", "submit", "look", "--nodelist", "/etc/hosts")
	refused(t, err, 2, "batch.nodelist", "/etc/hosts")

	// An environment that is not there is the node's fault, not the program's.
	must(t, s.CtlJSON(ctx, &sub, "run", "submit", "-f", write(t, filepath.Join(dir, "gone.yaml"), "recipe: look\nruntime: {kind: venv, path: /no/venv}\n")))
	gone := until(t, ctx, s, fmt.Sprint(sub.Run.Number), "failed once", func(r api.RunDetail) bool { return len(r.Attempts) > 0 && r.Attempts[0].Reason != "" })
	if gone.Attempts[0].Reason != forge.EndNodeEnv {
		t.Errorf("it ended with %s: %s", gone.Attempts[0].Reason, gone.Attempts[0].Detail)
	}
	_, _ = s.Ctl(ctx, "run", "cancel", fmt.Sprint(gone.Number), "--now")
	until(t, ctx, s, fmt.Sprint(gone.Number), "ended", ended)
}
