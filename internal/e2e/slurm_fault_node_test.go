//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/forgedtest"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// A dead slurmd leaves its tasks running. They must change nothing once the run has gone on elsewhere.
func TestANodeWhoseSlurmdDiesIsLeftAndItsTasksAreFenced(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 3, GPUs: 2})
	h := openSlurm(t, c)
	run := h.gang(1200)
	r := h.half(run)
	node := string(r.Attempts[0].Placement[0].Node) // rank 0 is there: it is the one that writes
	must(t, c.KillNode(node))
	r = h.survived(run, 1200)
	if len(r.Attempts) != 2 || r.Attempts[0].Reason != forge.EndNodeLost {
		t.Errorf("attempts: %+v", r.Attempts)
	}
	elsewhere(t, r, node)
}

func TestANodeThatLosesPowerIsLeft(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 3, GPUs: 2})
	h := openSlurm(t, c)
	run := h.gang(150)
	r := h.half(run)
	node := string(r.Attempts[0].Placement[1].Node)
	must(t, c.LosePower(node))
	r = h.survived(run, 150)
	if len(r.Attempts) < 2 || r.Attempts[1].ResumeStep == 0 {
		t.Errorf("attempts: %+v", r.Attempts)
	}
	elsewhere(t, r, node)
}

func TestABatchScriptThatIsKilledEndsTheAttemptAndTheNextOneResumes(t *testing.T) {
	t.Parallel()
	h := openSlurm(t, calm(t))
	run := h.gang(120)
	r := h.half(run)
	h.killAll("bin/srun ") // the script has become srun
	r = h.survived(run, 120)
	if len(r.Attempts) != 2 || r.Attempts[1].ResumeStep == 0 {
		t.Errorf("attempts: %+v", r.Attempts)
	}
}

// The step daemon of a node dies with its tasks running on. Slurm says RUNNING all the while.
func TestAShimThatIsKilledEndsTheGang(t *testing.T) {
	t.Parallel()
	h := openSlurm(t, calm(t))
	run := h.gang(120)
	r := h.half(run)
	pids := h.processes("shim --run-dir " + h.RunDir(string(r.ID)))
	shims := pids[:0]
	for _, pid := range pids { // srun names the shim in its command line too
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && filepath.Base(exe) == "forged" {
			shims = append(shims, pid)
		}
	}
	if len(shims) != 2 {
		t.Fatalf("%d shims, want one per node", len(shims))
	}
	must(t, syscall.Kill(shims[1], syscall.SIGKILL))
	r = h.survived(run, 120)
	if len(r.Attempts) != 2 || r.Attempts[1].ResumeStep == 0 {
		t.Errorf("attempts: %+v", r.Attempts)
	}
}

// One rank fails and the others take no notice, not even of TERM.
func TestARankThatFailsEndsAGangThatHangs(t *testing.T) {
	t.Parallel()
	h := openSlurm(t, calm(t))
	h.strike()
	run := h.gang(1_000_000, "--set", "fail_at=20", "--set", "fail_rank=3", "--set", "fail_code=41", "--set", "deaf=1")
	r := h.until(run, "ended", ended)
	if r.State != forge.RunFailed || r.Reason != forge.EndUserExit || !strings.Contains(r.Attempts[0].Detail, "rank 3") || !strings.Contains(r.Attempts[0].Detail, "41") {
		t.Errorf("%s (%s): %+v", r.State, r.Reason, r.Attempts)
	}
	h.once(r)
	h.row(r)
	h.wait("Slurm to have nothing of it", func() bool { return len(h.jobs()) == 0 })
}

// A full filesystem under the run directories: nothing can be saved or recorded, and nothing is made of that.
func TestAFullRunDirectoryLosesNothing(t *testing.T) {
	t.Parallel()
	root, err := os.MkdirTemp("/tmp", "fhpcfull")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	if err := syscall.Mount("tmpfs", root, "tmpfs", 0, "size=4m,mode=0755"); err != nil {
		t.Fatalf("a small tmpfs cannot be mounted (this test needs root): %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(root, syscall.MNT_DETACH) })
	h := openSlurm(t, calm(t), func(o *hpcOptions) { o.site.RunRoot = root })
	running := h.gang(200)
	h.half(running)
	ballast := filepath.Join(root, "ballast")
	fill(t, ballast)
	late := h.gang(20) // cannot be written down where its ranks would read it
	h.wait("the ranks to have failed", func() bool { return len(h.processes("proberank")) == 0 })
	must(t, os.Remove(ballast))
	h.survived(late, 20)
	r := h.until(running, "ended", ended)
	h.once(r)
	h.row(r)
	if r.State == forge.RunCompleted && *r.Loss != forgedtest.ProbeLoss(200) {
		t.Errorf("another result: %v", *r.Loss)
	}
	if r.State == forge.RunFailed { // its own program could not write: that is an error of the program
		if _, err := h.Ctl(h.ctx, "run", "retry", running); err != nil {
			t.Error(err)
		}
	}
}

// The run root belongs to somebody else who lets nobody in.
func TestARunRootThatIsClosedIsSaidAndTriedAgain(t *testing.T) {
	t.Parallel()
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 2, GPUs: 2, User: nobody})
	bin := filepath.Join(t.TempDir(), "bin")
	copyBin(t, bin)
	h := openSlurm(t, c, func(o *hpcOptions) { o.site.Bin, o.site.User = bin, nobody })
	root := filepath.Join(h.Dir, "scratch")
	must(t, os.Chown(root, 1234, 1234))
	must(t, os.Chmod(root, 0o700))
	h.strike()
	run := h.gang(20)
	h.wait("an operator to be told", func() bool { return strings.Contains(h.LogTail(), "permission denied") })
	h.wait("its owner to be told", func() bool {
		why, err := h.Ctl(h.ctx, "run", "why", run)
		return err == nil && strings.Contains(why, "could not be handed over") && strings.Contains(why, "permission denied")
	})
	if len(h.queue("-t", "all")) != 0 {
		t.Error("a job was handed over whose files could not be written")
	}
	must(t, os.Chown(root, 65534, 65534))
	if show(t, h.ctx, h.Site, run).Hold != nil {
		_, err := h.Ctl(h.ctx, "run", "release", run)
		must(t, err)
	}
	h.survived(run, 20)
}

// The software is not there on one node. That node is to blame, and the next attempt runs elsewhere.
func TestAnEnvironmentThatIsMissingOnOneNodeSendsTheRunElsewhere(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 3, GPUs: 2})
	h := openSlurm(t, c, func(o *hpcOptions) {
		o.slurm.Lines = []string{"runtime:", "  kind: script", "  path: " + brokenOn(t, "n1")}
	})
	h.strike()
	run := h.gang(20)
	r := h.survived(run, 20)
	if len(r.Attempts) < 2 || r.Attempts[0].Reason != forge.EndNodeEnv {
		t.Errorf("attempts: %+v", r.Attempts)
	}
	elsewhere(t, r, "n1")
}

// brokenOn is a file to source that fails on one node.
func brokenOn(t *testing.T, node string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "fhpcenv")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return write(t, filepath.Join(dir, "env.sh"), "[ \"${SLURMD_NODENAME:-}\" != "+node+" ] || { echo 'no such environment here' >&2; return 1; }\n")
}

// The link of a node is cut: it cannot reach the controller nor the other nodes, and its ranks work on. When the link is
// back they have changed nothing that counts.
func TestALinkThatIsCutAndComesBackChangesNothing(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 3, GPUs: 2, Netns: true})
	h := openSlurm(t, c)
	run := h.gang(1200)
	r := h.half(run)
	node := string(r.Attempts[0].Placement[0].Node)
	must(t, c.CutLink(node))
	r = h.until(run, "in its second attempt", func(r api.RunDetail) bool { return r.Attempt == 2 && r.State == forge.RunRunning || ended(r) })
	must(t, c.JoinLink(node))
	r = h.survived(run, 1200)
	if len(r.Attempts) != 2 || r.Attempts[0].Reason != forge.EndNodeLost {
		t.Errorf("attempts: %+v", r.Attempts)
	}
	elsewhere(t, r, node)
}
