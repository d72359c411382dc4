package slurmtest_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
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
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
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
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
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

func TestACutLinkSeparatesANodeThatGoesOn(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 2, Netns: true})
	hosts := strings.Fields(c.Must(t, "srun", "--nodes=2", "--ntasks-per-node=1", "hostname"))
	slices.Sort(hosts)
	if !slices.Equal(hosts, []string{"n1", "n2"}) {
		t.Fatalf("hostnames are %q", hosts)
	}
	beat := filepath.Join(c.Dir, "beat")
	c.Must(t, "sbatch", "--nodelist=n2", "--output=/dev/null", "--wrap", "while echo x >>"+beat+"; do sleep 0.1; done")
	size := func() int64 {
		st, err := os.Stat(beat)
		if err != nil {
			return 0
		}
		return st.Size()
	}
	must(t, c.Until("the job runs", func() bool { return size() > 0 }))
	must(t, c.CutLink("n2"))
	must(t, c.Until("n2 is down", func() bool { return strings.HasPrefix(nodeState(t, c, "n2"), "down") }))
	before := size()
	must(t, c.Until("the job goes on all the same", func() bool { return size() > before }))
	must(t, c.JoinLink("n2"))
	must(t, c.Until("n2 is back", func() bool { return nodeState(t, c, "n2") == "idle" }))
}

func TestPowerLossEndsWhatRanOnTheNode(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 2})
	pids := func() int { b, _ := filepath.Glob(filepath.Join(c.Dir, "pid.*")); return len(b) }
	c.Must(t, "sbatch", "--nodes=2", "--output=/dev/null", "--wrap", "srun sh -c 'echo $$ >"+c.Dir+"/pid.$SLURMD_NODENAME; exec sleep 1000'")
	must(t, c.Until("both tasks run", func() bool { return pids() == 2 }))
	must(t, c.LosePower("n2"))
	for node, want := range map[string]bool{"n1": true, "n2": false} {
		b, err := os.ReadFile(filepath.Join(c.Dir, "pid."+node))
		must(t, err)
		if _, err := os.Stat("/proc/" + strings.TrimSpace(string(b)) + "/exe"); (err == nil) != want {
			t.Errorf("the task of %s runs: %v, want %v", node, err == nil, want)
		}
	}
}

func TestAccountingKnowsWhatRan(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 1, Accounting: true})
	_, err := c.Run("sbatch", "--wait", "--output=/dev/null", "--gpus=2", "--wrap", "exit 3")
	if err == nil {
		t.Fatal("exit 3 was lost")
	}
	var out string
	if err := c.Until("sacct has the job", func() bool {
		out = c.Must(t, "sacct", "-n", "-P", "-X", "-o", "State,ExitCode,AllocTRES")
		return strings.HasPrefix(out, "FAILED|3:0") && strings.Contains(out, "gres/gpu=2")
	}); err != nil {
		t.Fatalf("%v: %q", err, out)
	}
}

func TestTheOtherVersionIsTheOther(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 2, Version: "24.11"})
	out := c.Must(t, "srun", "--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=1", "bash", "-c", "scontrol --version; python3 -c 'print(6*7)'; echo \"$0\"", "two  words")
	for _, want := range []string{"slurm-wlm 24.11.", "42\n", "two  words\n"} {
		if strings.Count(out, want) != 2 {
			t.Errorf("the tasks said %q, want %q twice", out, want)
		}
	}
}

func TestItWorksWithoutRoot(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	t.Parallel()
	const nobody = 65534
	for _, o := range []slurmtest.Options{{}, {Version: "24.11", Accounting: true}} {
		o.Nodes, o.User = 2, &syscall.Credential{Uid: nobody, Gid: nobody}
		c := slurmtest.Up(t, o)
		out := c.Must(t, "srun", "--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=2", "bash", "-c", "id -u; echo $CUDA_VISIBLE_DEVICES")
		if strings.Count(out, "65534\n") != 2 || strings.Count(out, "0,1\n") != 2 {
			t.Errorf("%+v: %q", o, out)
		}
	}
}

func TestDownLeavesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	t.Parallel()
	c, err := slurmtest.Start(t.Context(), slurmtest.Options{Nodes: 2})
	must(t, err)
	// One task that starts a session of its own and forgets who it was.
	c.Must(t, "sbatch", "--nodes=2", "--output=/dev/null", "--wrap", "srun sh -c 'touch "+c.Dir+"/run/$SLURMD_NODENAME.task; setsid sleep 1000'")
	must(t, c.Until("both tasks run", func() bool { b, _ := filepath.Glob(filepath.Join(c.Dir, "run", "*.task")); return len(b) == 2 }))
	must(t, c.KillController())
	must(t, c.KillNode("n1"))
	must(t, c.Down())
	if _, err := os.Stat(c.Dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", c.Dir, err)
	}
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	must(t, err)
	for _, path := range all {
		if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), c.Dir) {
			cmd, _ := os.ReadFile(strings.TrimSuffix(path, "environ") + "cmdline")
			t.Errorf("%s is of the cluster: %q", path, cmd)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func nodeState(t testing.TB, c *slurmtest.Cluster, node string) string {
	return strings.TrimSpace(c.Must(t, "sinfo", "-h", "-n", node, "-p", "main", "-o", "%T"))
}

func TestClustersLiveSideBySide(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	t.Parallel()
	a := slurmtest.Up(t, slurmtest.Options{Nodes: 1})
	b := slurmtest.Up(t, slurmtest.Options{Nodes: 1, Version: "24.11", Netns: true})
	a.Must(t, "sbatch", "--job-name=of-a", "--output=/dev/null", "--wrap", "sleep 1000")
	if out := b.Must(t, "squeue", "-h", "-o", "%j"); out != "" {
		t.Errorf("b has %q in its queue, which is of a", out)
	}
	must(t, b.Down())
	if out := a.Must(t, "squeue", "-h", "-o", "%j"); strings.TrimSpace(out) != "of-a" {
		t.Errorf("after the end of b, a has %q in its queue", out)
	}
}

func TestLinesForSlurmConfReplaceWhatIsThere(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 2, Conf: []string{"MinJobAge=7", "PartitionName=main Nodes=n2 Default=YES MaxTime=1 State=UP", "PartitionName=more Nodes=n1"}})
	if out := c.Must(t, "scontrol", "show", "config"); !strings.Contains(out, "MinJobAge               = 7 sec") {
		t.Errorf("no MinJobAge of 7 in %s", out)
	}
	out := strings.Fields(c.Must(t, "sinfo", "-h", "-o", "%P|%l|%N"))
	slices.Sort(out)
	if !slices.Equal(out, []string{"low|infinite|n[1-2]", "main*|1:00|n2", "more|infinite|n1"}) {
		t.Errorf("the partitions are %q", out)
	}
}

func TestAClusterThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	c, err := slurmtest.Start(t.Context(), slurmtest.Options{Nodes: 1, Conf: []string{"SchedulerType=sched/none-of-these"}})
	if err == nil {
		must(t, c.Down())
		t.Fatal("it started")
	}
	for _, want := range []string{"slurmctld has ended", "none-of-these"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in %v", want, err)
		}
	}
}
