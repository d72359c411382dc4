//go:build long

package shim_test

import (
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/executortest"
	"github.com/forge-ml/forge-ml/internal/rundir"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// Nobody told forge of the limit: 24.11 sets SLURM_JOB_END_TIME, and half a minute of a minute is left for the save.
func TestTheEndThatSlurmHasSetIsMetWithASave(t *testing.T) {
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 1, GPUs: 1, Version: "24.11"})
	a := handedOver(t, 1, 1, program(t, executortest.Act{Hold: true, OnTerm: executortest.TermSaves}), func(l *rundir.LaunchFile) { l.Spec.TimeLimit = 0 })
	id := sbatch(t, c, a, 1, 1, "--time=1")
	liveRanks(t, a, 1, 1)
	if err := c.Until("the job is near its end", func() bool { _, err := rundir.ReadExit(a, 0); return err == nil }); err != nil {
		t.Fatal(err)
	}
	if x := words(t, a, 1)[0]; x.Cause != forge.StopTimeLimit || x.Ranks[0].Code != forge.ExitCheckpointed {
		t.Errorf("%+v", x)
	}
	if out := c.Must(t, "scontrol", "-o", "show", "job", id); strings.Contains(out, "JobState=TIMEOUT") {
		t.Error("Slurm had to end it")
	}
}
