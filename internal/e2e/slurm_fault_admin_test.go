//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// Jobs of forge are not to be requeued. An admin who insists gets a second start of the same job, which must not work.
func TestAnAdminsRequeueNeverStartsAnAttemptTwice(t *testing.T) {
	t.Parallel()
	c := calm(t)
	h := openSlurm(t, c)
	run := h.gang(120)
	h.half(run)
	id := h.job().id
	if out, err := c.Run("scontrol", "requeue", id); err == nil {
		t.Errorf("a plain requeue was not refused: %s", out)
	}
	c.Must(t, "scontrol", "update", "jobid="+id, "requeue=1")
	c.Must(t, "scontrol", "requeue", id)
	if r := h.survived(run, 120); len(r.Attempts) != 2 {
		t.Errorf("%d attempts, want 2", len(r.Attempts))
	}
}

// Who cancels a job cancels the run: starting it again would be a fight with a person. It has saved, and says what is
// known of who it was: without accounting, that it was not forge.
func TestAScancelFromOutsideCancelsTheRunWhichHasSaved(t *testing.T) {
	t.Parallel()
	c := calm(t)
	h := openSlurm(t, c)
	run := h.gang(300, neverSaves...)
	h.underway(run)
	c.Must(t, "scancel", h.job().id)
	r := h.until(run, "ended", ended)
	h.row(r)
	if r.State != forge.RunCancelled || r.Reason != forge.EndCancelledBy || len(r.Attempts) != 1 || !strings.Contains(r.Attempts[0].Detail, "not through forged") {
		t.Errorf("%s (%s): %+v", r.State, r.Reason, r.Attempts)
	}
	if r.SavedStep == 0 {
		t.Error("nothing was saved when the cancel came")
	}
	h.once(r)
}

// A job that an admin holds waits with the admin's word as its reason, however long, and runs once it is released.
func TestAHeldJobWaitsAndSaysWhy(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 2, GPUs: 2})
	h := openSlurm(t, c)
	busy := strings.TrimSpace(c.Must(t, "sbatch", "--parsable", "--nodes=2", "--gres=gpu:2", "--output=/dev/null", "--wrap=sleep 1000"))
	run := h.gang(20)
	id := h.job().id
	c.Must(t, "scontrol", "hold", id)
	c.Must(t, "scancel", busy)
	h.strike()
	r := h.until(run, "held in Slurm", func(r api.RunDetail) bool {
		return len(r.Attempts) == 1 && r.Attempts[0].Batch != nil && r.Attempts[0].Batch.Reason == "JobHeldAdmin"
	})
	if r.State != forge.RunPending {
		t.Errorf("the run is %s", r.State)
	}
	if why, err := h.Ctl(h.ctx, "run", "why", run); err != nil || !strings.Contains(why, "JobHeldAdmin") {
		t.Errorf("why does not say so: %v\n%s", err, why)
	}
	c.Must(t, "scontrol", "release", id)
	if r := h.survived(run, 20); len(r.Attempts) != 1 {
		t.Errorf("%d attempts", len(r.Attempts))
	}
}

func TestANodeThatAnAdminSetsDownEndsTheAttemptAndTheNextOneRunsElsewhere(t *testing.T) {
	t.Parallel()
	c := calm(t)
	h := openSlurm(t, c)
	run := h.gang(120)
	r := h.half(run)
	node := string(r.Attempts[0].Placement[1].Node)
	c.Must(t, "scontrol", "update", "nodename="+node, "state=down", "reason=burning")
	defer c.Must(t, "scontrol", "update", "nodename="+node, "state=resume")
	r = h.survived(run, 120)
	if len(r.Attempts) != 2 || r.Attempts[0].Reason != forge.EndNodeLost || r.Attempts[1].ResumeStep == 0 {
		t.Errorf("attempts: %+v", r.Attempts)
	}
	elsewhere(t, r, node)
}

// elsewhere: the last attempt has nothing on the node.
func elsewhere(t *testing.T, r api.RunDetail, node string) {
	t.Helper()
	last := r.Attempts[len(r.Attempts)-1]
	if len(last.Placement) == 0 {
		t.Error("nobody knows where the last attempt ran")
	}
	for _, share := range last.Placement {
		if string(share.Node) == node {
			t.Errorf("attempt %d ran on %s again", last.Number, node)
		}
	}
}

// Draining waits for what runs. What comes later goes elsewhere.
func TestADrainedNodeFinishesItsGangAndGetsNoNewOne(t *testing.T) {
	t.Parallel()
	c := calm(t)
	h := openSlurm(t, c)
	run := h.gang(120)
	r := h.half(run)
	node := string(r.Attempts[0].Placement[0].Node)
	c.Must(t, "scontrol", "update", "nodename="+node, "state=drain", "reason=service")
	defer c.Must(t, "scontrol", "update", "nodename="+node, "state=resume")
	next := h.gang(20)
	elsewhere(t, h.survived(next, 20), node)
	if r = h.survived(run, 120); len(r.Attempts) != 1 {
		t.Errorf("%d attempts", len(r.Attempts))
	}
}

// A partition that is taken out of slurm.conf ends its jobs as if a node had failed, even those that wait; and then
// there is nowhere to go on: the run is held with Slurm's own words, and goes on when the partition is back.
func TestAPartitionThatIsRemovedHoldsTheRunWithSlurmsWords(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 3, GPUs: 2, Conf: []string{"PartitionName=gone Nodes=n1,n2 MaxTime=INFINITE State=UP"}})
	h := openSlurm(t, c)
	run := h.gang(120, "--partition", "gone")
	h.half(run)
	conf := read(t, c.Conf)
	write(t, c.Conf, regexp.MustCompile(`(?m)^PartitionName=gone .*$`).ReplaceAllString(conf, ""))
	c.Must(t, "scontrol", "reconfigure")
	r := h.until(run, "held", func(r api.RunDetail) bool { return r.Hold != nil || ended(r) })
	if r.State != forge.RunPending || r.Hold == nil || !strings.Contains(strings.ToLower(r.Hold.Reason), "invalid partition") {
		t.Fatalf("%s, hold %+v", r.State, r.Hold)
	}
	h.row(r)
	write(t, c.Conf, conf)
	c.Must(t, "scontrol", "reconfigure")
	_, err := h.Ctl(h.ctx, "run", "release", run)
	must(t, err)
	h.survived(run, 120)
}

// Slurm's own preemption, by a partition of a higher tier or a QOS: the tasks get TERM and the grace.
func TestAGangThatAHigherTierPreemptsSavesAndResumes(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 2, GPUs: 2, Conf: []string{"PreemptType=preempt/partition_prio", "PreemptMode=CANCEL",
		"PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=10 State=UP", "PartitionName=first Nodes=ALL MaxTime=INFINITE PriorityTier=10 State=UP"}})
	h := openSlurm(t, c)
	run := h.gang(300, neverSaves...)
	h.underway(run)
	c.Must(t, "sbatch", "--partition=first", "--nodes=2", "--gres=gpu:2", "--output=/dev/null", "--wrap=sleep 3")
	preempted(t, h, run)
}

func TestAGangThatAHigherQOSPreemptsSavesAndResumes(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 2, GPUs: 2, Accounting: true, Conf: []string{"PreemptType=preempt/qos", "PreemptMode=CANCEL"}})
	c.Must(t, "sacctmgr", "-i", "modify", "qos", "normal", "set", "GraceTime=10")
	c.Must(t, "sacctmgr", "-i", "add", "qos", "urgent", "Preempt=normal", "Priority=1000")
	c.Must(t, "sacctmgr", "-i", "modify", "user", me(t), "set", "qos+=urgent")
	h := openSlurm(t, c)
	run := h.gang(300, neverSaves...)
	h.underway(run)
	c.Must(t, "sbatch", "--qos=urgent", "--nodes=2", "--gres=gpu:2", "--output=/dev/null", "--wrap=sleep 3")
	preempted(t, h, run)
}

func preempted(t *testing.T, h *hpc, run string) {
	t.Helper()
	r := h.survived(run, 300)
	if len(r.Attempts) != 2 || r.Attempts[0].Reason != forge.EndCheckpointedPreempt || r.Attempts[1].ResumeStep == 0 {
		t.Errorf("want a save when the preemption came, and a resume from it: %+v", r.Attempts)
	}
}

func me(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test needs root")
	}
	return "root"
}

// An account that may run one job at a time, and then none at all: the first is a wait, and so is the second, since
// limits are lifted as they are set. Both are told in Slurm's words.
func TestAnAccountLimitIsAWaitInSlurmsWords(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 4, GPUs: 2, Accounting: true, Conf: []string{"AccountingStorageEnforce=associations,limits,qos"}})
	h := openSlurm(t, c)
	c.Must(t, "sacctmgr", "-i", "modify", "user", me(t), "set", "MaxJobs=1")
	first := h.gang(200)
	h.half(first)
	second := h.gang(20)
	r := h.until(second, "waiting for the account", func(r api.RunDetail) bool {
		return len(r.Attempts) == 1 && r.Attempts[0].Batch != nil && strings.Contains(r.Attempts[0].Batch.Reason, "Limit")
	})
	if why, err := h.Ctl(h.ctx, "run", "why", second); err != nil || !strings.Contains(why, r.Attempts[0].Batch.Reason) {
		t.Errorf("why does not say %q: %v\n%s", r.Attempts[0].Batch.Reason, err, why)
	}
	h.rowOf(fmt.Sprint("PENDING ", r.Attempts[0].Batch.Reason), "waits, and says why")
	h.survived(first, 200)
	h.survived(second, 20)

	c.Must(t, "sacctmgr", "-i", "modify", "user", me(t), "set", "MaxJobs=-1", "MaxSubmitJobs=0")
	h.strike()
	third := h.gang(20)
	r = h.until(third, "sent back by the account", func(r api.RunDetail) bool { return r.Hold != nil || len(r.Attempts) > 0 && r.Attempts[0].Reason != "" })
	if r.Hold != nil || r.Attempts[0].Reason != forge.EndWithdrawn || !strings.Contains(r.Attempts[0].Detail, "SubmitJob") {
		t.Errorf("a limit on how many may be submitted at a time is no reason to hold: %+v, %+v", r.Hold, r.Attempts)
	}
	c.Must(t, "sacctmgr", "-i", "modify", "user", me(t), "set", "MaxSubmitJobs=-1")
	h.survived(third, 20)
}

// A controller that limits requests (24.11) makes its clients sleep: forged waits and asks less, and loses nothing.
// Root is exempt, so forged is somebody else.
func TestAControllerThatLimitsRequestsIsAskedLess(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 4, GPUs: 2, Version: "24.11",
		Conf: []string{"SlurmctldParameters=rl_enable,rl_bucket_size=4,rl_refill_rate=1,rl_refill_period=1"}})
	bin := filepath.Join(t.TempDir(), "bin")
	copyBin(t, bin)
	h := openSlurm(t, c, func(o *hpcOptions) {
		o.site.Bin, o.site.User = bin, &syscall.Credential{Uid: 65534, Gid: 65534}
	})
	h.strike()
	runs := []string{h.gang(40), h.gang(40), h.gang(40)}
	for _, run := range runs {
		if r := h.survived(run, 40); len(r.Attempts) != 1 {
			t.Errorf("run %s took %d attempts", run, len(r.Attempts))
		}
	}
	if n := strings.Count(read(t, filepath.Join(c.Dir, "log", "slurmctld.log")), "RPC rate limit exceeded"); n == 0 {
		t.Error("nothing was limited: this test shows nothing")
	} else {
		t.Logf("%d requests were limited", n)
	}
}
