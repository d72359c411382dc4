//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/crash"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// forged dies on either side of sbatch, and comes back.
func TestForgedKilledAroundSbatchStartsTheGangOnce(t *testing.T) {
	for _, point := range crash.SlurmPoints {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			mark := filepath.Join(t.TempDir(), "fired")
			h := openSlurm(t, calm(t), func(o *hpcOptions) {
				o.site.Forged = filepath.Join(binDir(t), "forged-crash")
				o.site.ServeEnv = []string{"FORGE_CRASH_AT=" + point, "FORGE_CRASH_MARK=" + mark}
			})
			run := h.gang(40)
			h.wait("this point to be reached", func() bool { _, err := os.Stat(mark); return err == nil })
			<-h.Exited()
			h.strike()
			must(t, h.Start(h.ctx))
			h.survived(run, 40)
		})
	}
}

// A controller that hangs keeps sbatch waiting; forged dies meanwhile, and the job is created after its death.
func TestForgedKilledDuringSbatchStartsTheGangOnce(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 4, GPUs: 2, Conf: []string{"MessageTimeout=20"}})
	h := openSlurm(t, c)
	must(t, c.FreezeController())
	run := h.gang(40)
	h.wait("sbatch to run", func() bool { return len(h.processes("sbatch --")) > 0 })
	h.Kill()
	h.strike()
	must(t, c.ThawController())
	must(t, h.Start(h.ctx))
	h.survived(run, 40)
}

// sbatch says that it failed, and the controller creates the job all the same once it goes on.
func TestASubmissionThatFailedAndStillCreatedItsJobStartsTheGangOnce(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 4, GPUs: 2, Conf: []string{"MessageTimeout=2"}})
	h := openSlurm(t, c)
	must(t, c.FreezeController())
	h.strike()
	run := h.gang(40)
	h.wait("sbatch to run", func() bool { return len(h.processes("sbatch --")) > 0 })
	h.wait("sbatch to fail", func() bool { return len(h.processes("sbatch --")) == 0 })
	must(t, c.ThawController())
	h.survived(run, 40)
	if n := len(h.queue("-t", "all")); n == 0 {
		t.Error("the submission that failed created no job: this test shows nothing")
	}
}

// The gang goes on, ends, and is known to have ended, all while there is no controller.
func TestAControllerThatIsDeadMeanwhileCostsNoAttempt(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 4, GPUs: 2})
	h := openSlurm(t, c)
	short, long := h.gang(500), h.gang(900)
	h.half(short)
	r := h.half(long)
	h.saved(r)
	must(t, c.KillController())
	h.wait("the short gang to end", func() bool {
		exits, err := filepath.Glob(filepath.Join(h.RunDir(string(show(t, h.ctx, h.Site, short).ID)), "attempts", "0001", "nodes", "*", "exit.json"))
		return err == nil && len(exits) == 2
	})
	waits := h.gang(20) // asked for while nobody can take it
	must(t, c.StartController())
	for run, steps := range map[string]int{short: 500, long: 900} {
		if r := h.survived(run, steps); len(r.Attempts) != 1 {
			t.Errorf("run %s took %d attempts", run, len(r.Attempts))
		}
	}
	h.survived(waits, 20)
}

// saved waits until the controller would know after a restart that the job of a run runs: it saves every few seconds. That the job is
// there does not say so, since it was saved when it was submitted; a comment that was made while it runs does.
func (h *hpc) saved(r api.RunDetail) {
	h.t.Helper()
	mark := fmt.Sprintf("running-%s.%d", r.ID, r.Attempt)
	h.c.Must(h.t, "scontrol", "update", "JobId="+r.Attempts[len(r.Attempts)-1].Batch.ID, "Comment="+mark)
	h.wait("the controller to save that the job runs", func() bool { return bytes.Contains(h.jobState(), []byte(mark)) })
}

// jobState is what the controller has saved of its jobs.
func (h *hpc) jobState() []byte {
	b, _ := os.ReadFile(filepath.Join(h.c.Dir, "state", "job_state"))
	return b
}

// A controller that dies before it has saved a job has never heard of it, though it said that it took it.
func TestAJobThatTheControllerForgotIsStartedAgainOnce(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 4, GPUs: 2})
	h := openSlurm(t, c)
	state := filepath.Join(c.Dir, "state")
	run := h.gang(500)
	h.half(run)
	must(t, c.KillController())
	for _, name := range []string{"job_state", "job_state.old"} {
		_ = os.Remove(filepath.Join(state, name))
	}
	must(t, c.StartController())
	if r := h.survived(run, 500); len(r.Attempts) != 2 || r.Attempts[1].ResumeStep == 0 {
		t.Errorf("attempts: %+v", r.Attempts)
	}
}

// A controller that dies before it has saved that it started a job takes it for one that waits. It ends on the nodes what it does not
// know of, and starts the job anew; a node that still has it refuses, and cancels it in Slurm. Nobody asked for that end.
func TestAJobWhoseStartTheControllerForgotGoesOn(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 4, GPUs: 2})
	h := openSlurm(t, c)
	c.Must(t, "scontrol", "update", "PartitionName=main", "State=DOWN") // so that it waits until that is saved
	run := h.gang(500)
	var waiting []byte
	h.wait("the controller to save that the job waits", func() bool {
		waiting = h.jobState()
		return bytes.Contains(waiting, fmt.Appendf(nil, "forge-%s-%s.1", h.cluster, show(t, h.ctx, h.Site, run).ID))
	})
	c.Must(t, "scontrol", "update", "PartitionName=main", "State=UP")
	h.half(run)
	must(t, c.KillController())
	for _, name := range []string{"job_state", "job_state.old"} {
		must(t, os.WriteFile(filepath.Join(c.Dir, "state", name), waiting, 0o600))
	}
	must(t, c.StartController())
	if r := h.survived(run, 500); len(r.Attempts) != 2 || r.Attempts[1].ResumeStep == 0 {
		t.Errorf("attempts: %+v", r.Attempts)
	}
}

// Slurm has forgotten the job before forged looks again, and nothing else remembers it: there is no accounting.
func TestAJobForgottenBetweenTwoLooksIsKnownByItsRecords(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 4, GPUs: 2, Conf: []string{"MinJobAge=2"}})
	h := openSlurm(t, c, func(o *hpcOptions) { o.slurm.Poll = "8s" })
	if out, err := c.Run("sacct", "-n"); err == nil {
		t.Fatalf("this cluster has accounting: %s", out)
	}
	h.strike()
	good := h.gang(10)
	bad := h.gang(10, "--set", "fail_at=5", "--set", "fail_rank=3", "--set", "fail_code=41")
	h.wait("Slurm to forget both", func() bool {
		return len(h.starts(show(t, h.ctx, h.Site, bad).ID)) == 4 && len(h.queue("-t", "all")) == 0
	})
	r := h.until(bad, "ended", ended)
	if r.State != forge.RunFailed || r.Reason != forge.EndUserExit || len(r.Attempts) != 1 {
		t.Errorf("%s (%s): %+v", r.State, r.Reason, r.Attempts)
	}
	h.once(r)
	if r := h.survived(good, 10); len(r.Attempts) != 1 {
		t.Errorf("%d attempts", len(r.Attempts))
	}
}

// A squeue that hangs, says nothing once, or says nonsense is no answer, and no answer is never "gone".
func TestASqueueThatHangsLiesOrRavesChangesNothing(t *testing.T) {
	for _, mode := range []string{"hang", "empty", "garbage", "half"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			c := calm(t)
			bin, sick := t.TempDir(), filepath.Join(t.TempDir(), "sick")
			programs, err := os.ReadDir(c.Bin)
			must(t, err)
			for _, p := range programs {
				if p.Name() != "squeue" {
					must(t, os.Symlink(filepath.Join(c.Bin, p.Name()), filepath.Join(bin, p.Name())))
				}
			}
			write(t, filepath.Join(bin, "squeue"), fmt.Sprintf(`#!/bin/bash
if [ -e %[1]q ]; then
  echo asked >>%[1]q.asked
  case %[2]s in
    hang) exec sleep 1000 ;;
    empty) exit 0 ;;
    garbage) head -c 300 /dev/urandom; echo '|||||'; exit 0 ;;
    half) %[3]q "$@" | head -c 40; exit 0 ;;
  esac
fi
exec %[3]q "$@"
`, sick, mode, filepath.Join(c.Bin, "squeue")))
			must(t, os.Chmod(filepath.Join(bin, "squeue"), 0o755))
			h := openSlurm(t, c, func(o *hpcOptions) { o.slurm.Bin, o.slurm.Settings = bin, append(o.slurm.Settings, "timeout: 2s") })
			run := h.gang(300)
			r := h.half(run)
			write(t, sick, "")
			h.wait("forged to have asked three times, or to need no answer", func() bool {
				b, _ := os.ReadFile(sick + ".asked")
				return len(b) >= len("asked\n")*3 || len(b) > 0 && ended(show(t, h.ctx, h.Site, run))
			})
			if now := show(t, h.ctx, h.Site, run); now.State != forge.RunRunning && now.State != forge.RunCompleted || len(now.Attempts) != 1 {
				t.Errorf("%s, attempts %+v", now.State, now.Attempts)
			}
			must(t, os.Remove(sick))
			if r = h.survived(run, 300); len(r.Attempts) != 1 {
				t.Errorf("%d attempts", len(r.Attempts))
			}
		})
	}
}
