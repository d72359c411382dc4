//go:build e2e && long

package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// The partition's own limit is shorter than the run, and forge was told nothing of it. The shim reads it from its job.
func TestALimitOfThePartitionIsMetWithASave(t *testing.T) {
	t.Parallel()
	limitOfThePartition(t, "")
}

func limitOfThePartition(t *testing.T, version string) {
	t.Helper()
	c := slurmtest.Up(t, slurmtest.Options{Nodes: 2, GPUs: 2, Version: version, Conf: []string{"PartitionName=main Nodes=ALL Default=YES MaxTime=1 State=UP"}})
	h := openSlurm(t, c)
	withoutLimit(t, h)
	h.strike()
	run := h.gang(1800, neverSaves...) // 36 s, of which a minute's job gives half
	r := h.survived(run, 1800)
	if len(r.Attempts) != 2 || r.Attempts[0].Reason != forge.EndCheckpointedLimit || r.Attempts[1].ResumeStep == 0 {
		t.Errorf("attempts: %+v", r.Attempts)
	}
}

// withoutLimit takes the recipe's own limit away.
func withoutLimit(t *testing.T, h *hpc) {
	t.Helper()
	path := filepath.Join(h.RecipesDir(), "probe.yaml")
	write(t, path, strings.Replace(read(t, path), "time_limit: 10m, ", "", 1))
	must(t, h.Stop(h.ctx))
	must(t, h.Start(h.ctx))
}
