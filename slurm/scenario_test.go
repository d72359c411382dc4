package slurm_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
	"github.com/forge-ml/forge-ml/slurm"
)

var (
	hold  = executortest.Act{Hold: true}
	saves = executortest.Act{Hold: true, OnTerm: executortest.TermSaves, Lines: 3}
)

func TestGangOnSlurm(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	t.Parallel()
	slurmtest.OnEachVersion(t, slurmtest.Options{Nodes: 4, GPUs: 4}, gangOnSlurm)
}

func gangOnSlurm(t *testing.T, c *slurmtest.Cluster) {
	t.Run("goes from the queue to its nodes and ends whole", func(t *testing.T) {
		b := newBench(t, c, 2, 2, hold).submit()
		o := b.look()
		if o.State != forge.ObservQueued || o.Placement != nil || o.Batch == nil || o.Batch.ID == "" {
			t.Errorf("just handed over: %+v, %+v", o, o.Batch)
		}
		o = b.started()
		if len(o.Placement) != 2 || len(o.Placement[0].Slots) != 2 || o.Placement[0].Node == o.Placement[1].Node || o.Placement[0].CPUs != 2 {
			t.Errorf("placement %+v", o.Placement)
		}
		b.until("Slurm says that it runs", func(o forge.Observation) bool { return o.Batch.State == "RUNNING" && !o.Batch.StartedAt.IsZero() })
		if f := b.Find(t.Context(), b.l.Key, b.l.RunDir); f.State != forge.LookupFound || f.ID != b.id {
			t.Errorf("%+v", f)
		}
		if err := b.Signal(t.Context(), b.id, forge.SignalCancel); err != nil {
			t.Fatal(err)
		}
		if o := b.released(); o.State != forge.ObservExited || len(o.Exits) != 4 || o.Cause != forge.StopIntent {
			t.Errorf("%+v", o)
		}
	})
	t.Run("what waits is gone as soon as it is cancelled, whatever is asked", func(t *testing.T) {
		occupy(t, c)
		for _, s := range []forge.SignalKind{forge.SignalCheckpoint, forge.SignalCancel, forge.SignalKill} {
			b := newBench(t, c, 4, 4, hold).submit()
			b.state(forge.ObservQueued)
			if err := b.Signal(t.Context(), b.id, s); err != nil {
				t.Fatal(err)
			}
			if o := b.look(); o.State != forge.ObservAbsent || !o.Released {
				t.Errorf("after %s: %+v", s, o)
			}
			b.eventually("its job is out of the queue", func() bool { return len(b.jobs()) == 0 })
		}
	})
	t.Run("what waits is worth another nice when its run has another priority; what has begun is left alone", func(t *testing.T) {
		release := occupy(t, c)
		b := newBench(t, c, 4, 4, hold)
		b.l.Nice = 500
		b.submit()
		b.state(forge.ObservQueued)
		nice := func() string {
			for _, f := range strings.Fields(c.Must(t, "scontrol", "show", "job", b.jobs()[0])) {
				if v, ok := strings.CutPrefix(f, "Nice="); ok {
					return v
				}
			}
			return ""
		}
		if got := nice(); got != "500" {
			t.Errorf("handed over with nice %s", got)
		}
		for _, n := range []int{900, 100} {
			if err := b.Renice(t.Context(), b.id, n); err != nil {
				t.Fatal(err)
			}
			if got := nice(); got != strconv.Itoa(n) {
				t.Errorf("nice %s, want %d", got, n)
			}
		}
		release()
		b.started()
		if err := b.Renice(t.Context(), b.id, 300); err != nil || nice() != "100" {
			t.Errorf("what runs has nice %s, %v", nice(), err)
		}
		if err := b.Signal(t.Context(), b.id, forge.SignalKill); err != nil {
			t.Fatal(err)
		}
		b.released()
	})
	t.Run("what Slurm refuses is absent, with Slurm's words", func(t *testing.T) {
		b := newBench(t, c, 2, 1, hold)
		b.l.Spec.Batch = &forge.BatchOptions{Partition: "nosuch"}
		b.submit()
		o := b.look()
		reason, why := b.judge(o)
		if o.State != forge.ObservAbsent || reason != forge.EndRefused || !strings.Contains(why, "invalid partition") {
			t.Errorf("%+v: %s, %s", o, reason, why)
		}
		if again, err := b.Submit(t.Context(), b.l); err != nil || again != b.id {
			t.Errorf("a second time: %q, %v", again, err)
		}
		if f := b.Find(t.Context(), b.l.Key, b.l.RunDir); f.State != forge.LookupFound {
			t.Errorf("%+v", f)
		}
	})
	t.Run("a forged that comes back knows what ran and what ended meanwhile", func(t *testing.T) {
		b := newBench(t, c, 2, 1, saves).submit()
		b.started()
		next := *b
		next.Executor = newExecutor(t, b.o)
		if o := next.started(); len(o.Placement) != 2 {
			t.Errorf("%+v", o)
		}
		if err := b.Signal(t.Context(), b.id, forge.SignalCheckpoint); err != nil {
			t.Fatal(err)
		}
		b.released()
		last := *b
		last.Executor = newExecutor(t, b.o)
		if o := last.look(); o.State != forge.ObservExited || !o.Released || o.Exits[0].Code != forge.ExitCheckpointed {
			t.Errorf("%+v", o)
		}
	})
	t.Run("a second job of the same name does no work and is taken out", func(t *testing.T) {
		b := newBench(t, c, 2, 1, hold).submit()
		b.started()
		job, err := slurm.Render(b.l, b.o)
		if err != nil {
			t.Fatal(err)
		}
		twice(t, c, job)
		b.eventually("only the first job is left", func() bool { return len(b.jobs()) == 1 })
		if o := b.look(); o.State != forge.ObservRunning || b.starts() != 2 {
			t.Errorf("%d starts, %+v", b.starts(), o)
		}
	})
	t.Run("a job that comes after it was declared absent does no work", func(t *testing.T) {
		b := newBench(t, c, 2, 1, hold)
		if err := rundir.Prepare(rundir.LaunchFile{Launch: b.l, Options: rundir.LaunchOptions{Batch: rundir.BatchSlurm}}); err != nil {
			t.Fatal(err)
		}
		if f := b.Find(t.Context(), b.l.Key, b.l.RunDir); f.State != forge.LookupAbsent {
			t.Fatalf("%+v", f)
		}
		job, err := slurm.Render(b.l, b.o)
		if err != nil {
			t.Fatal(err)
		}
		job.Args = append(job.Args, "--hold")
		id := twice(t, c, job)
		b.id = forge.ExternalID("slurm::" + b.l.RunDir + "#1")
		b.eventually("it is taken out of the queue", func() bool { return len(b.jobs()) == 0 })
		c.Must(t, "scontrol", "-o", "show", "job", id)
		if o := b.look(); o.State != forge.ObservAbsent || b.starts() != 0 {
			t.Errorf("%d starts, %+v", b.starts(), o)
		}
	})
	t.Run("cancelled by somebody in Slurm", func(t *testing.T) {
		b := newBench(t, c, 2, 1, saves).submit()
		b.started()
		c.Must(t, "scancel", b.jobs()...)
		o := b.released()
		if reason, why := b.judge(o); reason != forge.EndCancelledBy || o.Batch.State != "CANCELLED" {
			t.Errorf("%s (%s), %+v, %+v", reason, why, o, o.Batch)
		}
	})
	t.Run("cancelled by somebody before it started", func(t *testing.T) {
		occupy(t, c)
		b := newBench(t, c, 4, 4, hold).submit()
		b.state(forge.ObservQueued)
		c.Must(t, "scancel", b.jobs()...)
		o := b.released()
		if reason, why := b.judge(o); o.State != forge.ObservAbsent || reason != forge.EndCancelledBy {
			t.Errorf("%s (%s), %+v", reason, why, o)
		}
	})
	t.Run("requeued by an admin it does not start a second time under the same name", func(t *testing.T) {
		b := newBench(t, c, 2, 1, saves).submit()
		b.started()
		id := b.jobs()[0]
		c.Must(t, "scontrol", "update", "jobid="+id, "requeue=1")
		c.Must(t, "scontrol", "requeue", id)
		o := b.released()
		if reason, why := b.judge(o); reason.Disposition() != forge.DisposeRequeue || b.starts() != 2 {
			t.Errorf("%s (%s), %d starts, %+v", reason, why, b.starts(), o)
		}
		b.eventually("its job is out of the queue", func() bool { return len(b.jobs()) == 0 })
	})
	t.Run("held by an admin it stays queued, and says so", func(t *testing.T) {
		occupy(t, c)
		b := newBench(t, c, 4, 4, hold).submit()
		b.state(forge.ObservQueued)
		c.Must(t, "scontrol", append([]string{"hold"}, b.jobs()...)...)
		o := b.until("held", func(o forge.Observation) bool { return strings.HasPrefix(o.Batch.Reason, "JobHeld") })
		if o.State != forge.ObservQueued {
			t.Errorf("%+v", o)
		}
	})
	t.Run("a shim that does not carry out a stop is ended by Slurm", func(t *testing.T) {
		b := newBench(t, c, 1, 1, hold)
		b.Hasten(200*time.Millisecond, 500*time.Millisecond, 1)
		b.l.Spec.Grace = forge.Duration(100 * time.Millisecond)
		b.submit()
		b.started()
		live, err := rundir.ReadLive(b.at, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := live.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if err := b.Signal(t.Context(), b.id, forge.SignalCancel); err != nil {
			t.Fatal(err)
		}
		if o := b.released(); o.State == forge.ObservAbsent {
			t.Errorf("%+v", o)
		}
		b.eventually("its job is over", func() bool { return len(b.jobs()) == 0 })
		if alive(live.PID) || alive(live.Ranks[0].PID) {
			t.Error("something of it is alive")
		}
	})
	t.Run("Remains names what is there and what is alive", func(t *testing.T) {
		b := newBench(t, c, 1, 1, hold).submit()
		b.started()
		list, err := b.Remains(t.Context())
		i := slices.IndexFunc(list, func(r forge.Remains) bool { return r.Run == b.l.Run })
		if err != nil || i < 0 || list[i].Newest != 1 || len(list[i].Alive[1]) != 1 {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

// occupy keeps every node busy with somebody else's job, until it is released or the test is over.
func occupy(t *testing.T, c *slurmtest.Cluster) (release func()) {
	t.Helper()
	id := strings.TrimSpace(c.Must(t, "sbatch", "--parsable", "--nodes="+strconv.Itoa(len(c.Nodes)), "--exclusive", "--output=/dev/null", "--wrap=sleep 600"))
	release = sync.OnceFunc(func() { c.Must(t, "scancel", id) })
	t.Cleanup(release)
	if err := c.Until("every node is taken", func() bool {
		out, err := c.Run("squeue", "-h", "-t", "running", "-j", id)
		return err == nil && strings.TrimSpace(out) != ""
	}); err != nil {
		t.Fatal(err)
	}
	return release
}

// twice hands a job to Slurm behind the executor's back.
func twice(t *testing.T, c *slurmtest.Cluster, job slurm.Job) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(c.Bin, "sbatch"), job.Args...)
	cmd.Env = c.Env()
	cmd.Stdin = strings.NewReader(job.Script)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestAnswerOfSbatchIsLost(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 2, GPUs: 2, Conf: []string{"MessageTimeout=3"}})
	b := newBench(t, c, 2, 1, hold)
	if err := c.FreezeController(); err != nil {
		t.Fatal(err)
	}
	if id, err := b.Submit(t.Context(), b.l); err == nil {
		t.Fatalf("a controller that does not answer took it: %s", id)
	}
	if f := b.Find(t.Context(), b.l.Key, b.l.RunDir); f.State != forge.LookupUnknown {
		t.Errorf("while nobody answers: %+v", f)
	}
	if _, err := b.Submit(t.Context(), b.l); err == nil {
		t.Error("it was handed over a second time")
	}
	if err := c.ThawController(); err != nil {
		t.Fatal(err)
	}
	b.id = forge.ExternalID("slurm::" + b.l.RunDir + "#1")
	// A question may overtake the submission that still lies in the controller's socket. The answer is "absent" then,
	// with the claim revoked (the conformance suite has that); here it is asked once the controller has read both.
	b.eventually("Slurm has made a job of it", func() bool { return len(b.jobs()) > 0 })
	var f forge.Lookup
	b.eventually("it is found", func() bool {
		f = b.Find(t.Context(), b.l.Key, b.l.RunDir)
		return f.State != forge.LookupUnknown
	})
	if f.State != forge.LookupFound || f.ID != b.id {
		t.Fatalf("the job that Slurm made of it: %+v", f)
	}
	t.Cleanup(b.end)
	b.started()
	if n := b.starts(); n != 2 || len(b.jobs()) != 1 {
		t.Errorf("%d starts in jobs %v", n, b.jobs())
	}
}

func TestControllerIsAway(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 2, GPUs: 2, Conf: []string{"MessageTimeout=3"}})
	b := newBench(t, c, 2, 1, saves).submit()
	b.started()
	if err := c.KillController(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(8 * time.Second) // more than two unanswered questions
	b.until("it goes on", func(o forge.Observation) bool {
		if o.State != forge.ObservRunning {
			t.Fatalf("%+v", o)
		}
		return time.Now().After(deadline)
	})
	if err := b.Signal(t.Context(), b.id, forge.SignalCheckpoint); err != nil {
		t.Errorf("the stop file needs no controller: %v", err)
	}
	if o := b.released(); o.State != forge.ObservExited || o.Exits[0].Code != forge.ExitCheckpointed {
		t.Errorf("%+v", o)
	}
	if err := c.StartController(); err != nil {
		t.Fatal(err)
	}
}

func TestNodeOfTheGangFails(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	t.Parallel()
	slurmtest.OnEachVersion(t, slurmtest.Options{Nodes: 3, GPUs: 2, Conf: []string{"MessageTimeout=2"}}, nodeOfTheGangFails)
}

func nodeOfTheGangFails(t *testing.T, c *slurmtest.Cluster) {
	b := newBench(t, c, 2, 1, saves).submit()
	o := b.started()
	lost := o.Placement[1].Node
	if err := c.LosePower(string(lost)); err != nil {
		t.Fatal(err)
	}
	o = b.released()
	if reason, why := b.judge(o); reason != forge.EndNodeLost || !strings.Contains(why, string(lost)) {
		t.Errorf("%s (%s), %+v, %+v", reason, why, o, o.Batch)
	}
}

func TestGangIsPreemptedBySlurm(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	t.Parallel()
	slurmtest.OnEachVersion(t, slurmtest.Options{Nodes: 2, GPUs: 2, Conf: []string{"PreemptType=preempt/partition_prio", "PreemptMode=CANCEL",
		"PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=10 State=UP", "PartitionName=first Nodes=ALL MaxTime=INFINITE PriorityTier=10 State=UP"}}, gangIsPreempted)
}

func gangIsPreempted(t *testing.T, c *slurmtest.Cluster) {
	b := newBench(t, c, 2, 2, saves).submit()
	b.started()
	c.Must(t, "sbatch", "--partition=first", "--nodes=2", "--gres=gpu:2", "--output=/dev/null", "--wrap=sleep 60")
	o := b.released()
	if reason, why := b.judge(o); reason != forge.EndCheckpointedPreempt || o.Cause != forge.StopPreempted {
		t.Errorf("%s (%s), %+v, %+v", reason, why, o, o.Batch)
	}
}

func TestAccountingSaysWhoCancelledIt(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	t.Parallel()
	slurmtest.OnEachVersion(t, slurmtest.Options{Nodes: 1, GPUs: 2, Accounting: true}, accountingSaysWhoCancelledIt)
}

func accountingSaysWhoCancelledIt(t *testing.T, c *slurmtest.Cluster) {
	b := newBench(t, c, 1, 1, saves).submit()
	b.started()
	c.Must(t, "scancel", b.jobs()...)
	o := b.released()
	if reason, why := b.judge(o); reason != forge.EndCancelledBy || o.ByUID != os.Getuid() || !strings.Contains(o.Detail, "uid "+strconv.Itoa(os.Getuid())) {
		t.Errorf("%s (%s), by %d: %s", reason, why, o.ByUID, o.Detail)
	}
}

func TestJobIsForgottenBeforeItIsAskedFor(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 1, GPUs: 2, Conf: []string{"MinJobAge=2"}})
	b := newBench(t, c, 1, 1, hold).submit()
	b.started()
	// Neither a record of its end nor a job in Slurm is left when forged looks again.
	live, err := rundir.ReadLive(b.at, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := live.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := c.Until("Slurm has forgotten it", func() bool {
		out, err := c.Run("squeue", "-h", "-t", "all", "--name="+b.name())
		return err == nil && strings.TrimSpace(out) == ""
	}); err != nil {
		t.Fatal(err)
	}
	b.Executor = newExecutor(t, b.o)
	o := b.released()
	if reason, why := b.judge(o); o.State != forge.ObservLost || reason != forge.EndExecutorLost {
		t.Errorf("%s (%s), %+v", reason, why, o)
	}
}

func TestQueueThatIsNotToWaitFor(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 2, GPUs: 2, Conf: []string{"PartitionName=main Nodes=ALL Default=YES MaxTime=1 State=UP"}})
	t.Run("a reason that never clears holds the run with Slurm's words", func(t *testing.T) {
		b := newBench(t, c, 1, 1, hold)
		b.Hasten(time.Minute, time.Minute, 100)
		b.l.Spec.TimeLimit = forge.Duration(time.Hour)
		b.submit()
		o := b.released()
		if reason, why := b.judge(o); reason != forge.EndRefused || !strings.Contains(why, "PartitionTimeLimit") {
			t.Errorf("%s (%s), %+v", reason, why, o)
		}
		b.eventually("its job is out of the queue", func() bool { return len(b.jobs()) == 0 })
	})
	t.Run("bound late, it is taken back when its nodes are not to be had", func(t *testing.T) {
		first := newBench(t, c, 2, 2, hold).submit()
		first.started()
		b := newBench(t, c, 1, 1, hold, func(o *slurm.Options) { o.Binding, o.BindTimeout = slurm.BindLate, 1500*time.Millisecond })
		b.l.Placement = []forge.Share{{Node: "n2", Slots: []int{0}, CPUs: 1}}
		b.l.Devices = []forge.GPU{{Slot: 0}}
		b.submit()
		o := b.released()
		if reason, why := b.judge(o); o.State != forge.ObservAbsent || reason != forge.EndWithdrawn {
			t.Errorf("%s (%s), %+v", reason, why, o)
		}
	})
}

// fakeSqueue puts a program in front of the cluster's own: it does what the file "mode" says, and else what the real one does.
func fakeSqueue(t *testing.T, c *slurmtest.Cluster) (bin string, mode func(string)) {
	t.Helper()
	bin = t.TempDir()
	programs, err := os.ReadDir(c.Bin)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		if p.Name() != "squeue" {
			if err := os.Symlink(filepath.Join(c.Bin, p.Name()), filepath.Join(bin, p.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	script := `#!/bin/bash
mode=$(cat "` + bin + `/mode" 2>/dev/null)
echo x >>"` + bin + `/calls"
case $mode in
  hang) sleep 60 ;;
  empty) exit 0 ;;
  garbage) printf 'slurm|is|not\nfeeling\xff\x00 well|||||||||||||||||\n1|DONE|x\n'; exit 0 ;;
  *) exec "` + c.Bin + `/squeue" "$@" ;;
esac
`
	if err := os.WriteFile(filepath.Join(bin, "squeue"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return bin, func(s string) {
		if err := os.WriteFile(filepath.Join(bin, "mode"), []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func calls(t *testing.T, bin string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(bin, "calls"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return len(b) / 2
}

func TestSqueueMisbehaves(t *testing.T) {
	if testing.Short() {
		t.Skip("not in test-fast: a Slurm cluster of its own")
	}
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 2, GPUs: 4})
	for _, what := range []string{"hang", "empty", "garbage"} {
		t.Run(what, func(t *testing.T) {
			bin, mode := fakeSqueue(t, c)
			change := func(o *slurm.Options) {
				o.Tools.Bin, o.Tools.Timeout, o.PollEvery = bin, time.Second, 200*time.Millisecond
			}
			b := newBench(t, c, 1, 1, saves, change).submit()
			b.started()
			waiting := newBench(t, c, 2, 4, hold)
			waiting.o = b.o
			waiting.Executor = b.Executor
			waiting.l.RunDir = filepath.Join(b.o.RunRoot, string(waiting.l.Run))
			waiting.at = rundir.At(waiting.l.RunDir, 1)
			waiting.submit()
			waiting.until("Slurm has it", func(o forge.Observation) bool { return o.State == forge.ObservQueued && o.Batch.State == "PENDING" })
			mode(what)
			before := calls(t, bin)
			b.eventually("it was asked several times", func() bool {
				for _, x := range []*bench{b, waiting} {
					began := time.Now()
					if o := x.look(); o.Released || o.State != forge.ObservRunning && o.State != forge.ObservQueued {
						t.Fatalf("%s: %+v", x.name(), o)
					}
					if took := time.Since(began); took > 5*time.Second {
						t.Fatalf("a look took %s", took)
					}
				}
				return calls(t, bin) >= before+4
			})
			mode("")
			if err := b.Signal(t.Context(), b.id, forge.SignalCheckpoint); err != nil {
				t.Fatal(err)
			}
			b.released()
			waiting.eventually("what waited runs", func() bool { return waiting.look().State == forge.ObservRunning })
		})
	}
}
