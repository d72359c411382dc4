//go:build e2e && long

package e2e

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// The shims hang, and the ranks with them. Slurm's own limit ends the job, half a minute late as always. What Slurm sends before that, its
// warning too, wakes what is stopped for a moment; so the ranks are deaf as well.
func TestATimeoutWithoutASaveInTimeResumesFromTheLastCheckpoint(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 2, GPUs: 2, Conf: []string{"PartitionName=main Nodes=ALL Default=YES MaxTime=1 State=UP"}})
	h := openSlurm(t, c, func(o *hpcOptions) { o.limit = 4 * time.Minute })
	withoutLimit(t, h)
	run := h.gang(500, "--set", "deaf=1")
	h.half(run)
	job := h.job().id
	all := func() []int { return append(h.processes("proberank"), h.processes("shim --run-dir")...) }
	first := all()
	h.wait("Slurm's limit to end the job", func() bool {
		for _, pid := range all() {
			if slices.Contains(first, pid) {
				_ = syscall.Kill(pid, syscall.SIGSTOP)
			}
		}
		now := h.queue("-t", "all", "-j", job)
		return len(now) == 1 && now[0].state == "TIMEOUT"
	})
	r := h.survived(run, 500)
	if len(r.Attempts) != 2 || r.Attempts[0].Reason != forge.EndTimeLimit || r.Attempts[1].ResumeStep == 0 {
		t.Errorf("attempts: %+v", r.Attempts)
	}
}

// 24.11 tells the job when it ends.
func TestALimitOfThePartitionIsMetWithASaveUnder2411(t *testing.T) {
	t.Parallel()
	limitOfThePartition(t, "24.11")
}

// What a newer Slurm says of the commonest ends: other words, the same reasons.
func TestEndsUnder2411(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 4, GPUs: 2, Version: "24.11", Accounting: true, Conf: []string{"PreemptType=preempt/partition_prio", "PreemptMode=CANCEL",
		"PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=10 State=UP", "PartitionName=first Nodes=ALL MaxTime=INFINITE PriorityTier=10 State=UP"}})
	h := openSlurm(t, c)
	run := h.gang(300, neverSaves...)
	h.underway(run)
	c.Must(t, "scancel", h.job().id)
	if r := h.until(run, "ended", ended); r.State != forge.RunCancelled || r.Reason != forge.EndCancelledBy || r.SavedStep == 0 || !strings.Contains(r.Attempts[0].Detail, "uid 0") {
		t.Errorf("cancelled: %s (%s), saved step %d, %+v", r.State, r.Reason, r.SavedStep, r.Attempts)
	}
	run = h.gang(300, neverSaves...)
	h.underway(run)
	c.Must(t, "sbatch", "--partition=first", "--nodes=4", "--gres=gpu:2", "--output=/dev/null", "--wrap=sleep 3")
	preempted(t, h, run)
	run = h.gang(120)
	r := h.half(run)
	node := string(r.Attempts[0].Placement[1].Node)
	must(t, c.LosePower(node))
	r = h.survived(run, 120)
	if len(r.Attempts) != 2 || r.Attempts[0].Reason != forge.EndNodeLost || r.Attempts[1].ResumeStep == 0 {
		t.Errorf("a node was lost: %+v", r.Attempts)
	}
	elsewhere(t, r, node)
}

func TestAControllerThatIsDeadForAMinuteCostsNoAttempt(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 2, GPUs: 2})
	h := openSlurm(t, c, func(o *hpcOptions) { o.limit = 4 * time.Minute })
	run := h.gang(5000)
	r := h.half(run)
	h.saved(r)
	must(t, c.KillController())
	h.strike()
	h.wait("a minute to pass", func() bool { return time.Since(h.began) > time.Minute })
	must(t, c.StartController())
	if r := h.survived(run, 5000); len(r.Attempts) != 1 {
		t.Errorf("%d attempts", len(r.Attempts))
	}
}

// Two minutes of what `make bench` does for ten: slurmctld, slurmd, the power of nodes and forged, killed at random.
func TestSlurmTorture(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv("FORGE_TORTURE_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("FORGE_TORTURE_SEED: %v", err)
		}
	}
	t.Logf("FORGE_TORTURE_SEED=%d", seed)
	x := forgedtest.SlurmTorture{Bin: binDir(t), Runs: 60, Chaos: 2 * time.Minute, Settle: 3 * time.Minute, Seed: seed}
	v, err := x.Run(t.Context())
	defer func() { must(t, v.Close()) }()
	must(t, err)
	t.Logf("%d runs; done to it: %v", v.Runs, v.Did)
	for _, bad := range [][]string{v.Lost, v.Doubled, v.Stuck} {
		for _, words := range bad {
			t.Error(words)
		}
	}
	if t.Failed() {
		t.Logf("what was done:\n%s\nforged's log:\n%s", strings.Join(v.Story, "\n"), v.Site.LogTail())
	}
}
