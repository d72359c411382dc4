package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/slurm"
)

func TestAReloadChangesWhatLaterJobsOfASlurmClusterLookLike(t *testing.T) {
	r := startReloader(t)
	root := filepath.Join(t.TempDir(), "runs")
	text := func(more string) string {
		return fmt.Sprintf("%sclusters:\n  - {name: local}\n  - {name: hpc, kind: slurm, run_root: %s, slurm: {bin: /nowhere, %s}}\n", r.base, root, more)
	}
	if v, _ := r.reload(text("max_pending: 3")); v.Refused != "" || !slices.Contains(v.Changed, "clusters.hpc: unset → slurm") {
		t.Fatalf("%+v", v)
	}
	if _, err := os.Stat(filepath.Join(root, ".forge", "python")); err != nil {
		t.Errorf("nodes find no training package: %v", err)
	}
	c := r.live().clusters["hpc"]
	if c.Binding != forge.BindEager || c.MaxPending != 3 || c.Modules {
		t.Errorf("%+v", c)
	}
	executor := c.Executor
	v, _ := r.reload(text("max_pending: 5, network: true, allow: [--comment], partitions: [{name: gpu, env: {TOKEN: hunter2}}]"))
	want := []string{"clusters.hpc.slurm.allow.0: unset → --comment", "clusters.hpc.slurm.max_pending: 3 → 5", "clusters.hpc.slurm.network: false → true", "clusters.hpc.slurm.partitions.0.env.TOKEN: set", "clusters.hpc.slurm.partitions.0.name: unset → gpu"}
	for _, w := range want {
		if !slices.Contains(v.Changed, w) {
			t.Errorf("it does not say %q but %q", w, v.Changed)
		}
	}
	if strings.Contains(fmt.Sprint(v)+r.log.String(), "hunter2") {
		t.Error("a value of the partition's environment was told")
	}
	c = r.live().clusters["hpc"]
	l := forge.Launch{Run: "R", Attempt: 1, RunDir: root + "/R", Spec: forge.RunSpec{Entry: forge.Entry{Command: []string{"true"}}, Gang: forge.Gang{Nodes: 1, GPUsPerNode: 1}}}
	job, err := slurm.Render(l, *c.Slurm)
	if err != nil || c.MaxPending != 5 || c.Executor != executor || !slices.Contains(job.Args, "--partition=gpu") {
		t.Errorf("%v %+v %q", err, c, job.Args)
	}
	for more, says := range map[string]string{
		"binding: late": "clusters.hpc.slurm.binding", "poll_every: 20s": "clusters.hpc.slurm.poll_every", "conf: /etc/other": "clusters.hpc.slurm.conf", "owners: {lab: {group: no-such-group-here}}": "no-such-group-here",
	} {
		if v, _ := r.reload(text("max_pending: 5, " + more)); !strings.Contains(v.Refused, says) {
			t.Errorf("%s: %+v", more, v)
		}
	}
	if v, _ := r.reload(strings.Replace(text("max_pending: 5"), "kind: slurm", "kind: slurm, artifact_root: /no/such/place", 1)); !strings.Contains(v.Refused, "clusters[1].artifact_root") {
		t.Errorf("%+v", v)
	}
}
