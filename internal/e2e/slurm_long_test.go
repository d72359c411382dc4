//go:build e2e && long

package e2e

import (
	"syscall"
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// The shims are frozen and save nothing. Slurm's own limit ends the job, half a minute late as always.
func TestATimeoutWithoutASaveInTimeResumesFromTheLastCheckpoint(t *testing.T) {
	t.Parallel()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 2, GPUs: 2, Conf: []string{"PartitionName=main Nodes=ALL Default=YES MaxTime=1 State=UP"}})
	h := openSlurm(t, c, func(o *hpcOptions) { o.limit = 4 * time.Minute })
	run := h.gang(150)
	r := h.half(run)
	for _, part := range []string{"proberank", "shim --run-dir"} {
		for _, pid := range h.processes(part) {
			must(t, syscall.Kill(pid, syscall.SIGSTOP))
		}
	}
	r = h.survived(run, 150)
	if len(r.Attempts) != 2 || r.Attempts[0].Reason != forge.EndTimeLimit || r.Attempts[1].ResumeStep == 0 {
		t.Errorf("attempts: %+v", r.Attempts)
	}
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
