//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/api"
	"github.com/forge-ml/forge-ml/internal/slurmtest"
)

// n1 and n2 have the feature rack1, n3 and n4 rack2.
func TestSlurmPutsARunWhereItAskedToGo(t *testing.T) {
	ctx, s, _ := onSlurm(t, slurmtest.Options{Nodes: 4, GPUs: 2}, "      labels: {rack: \"rack*\"}\n")
	on := func(want []forge.NodeName, args ...string) {
		t.Helper()
		var out api.Submitted
		must(t, s.CtlJSON(ctx, &out, append([]string{"run", "submit", "look", "--cluster", "hpc", "--nodes", "2"}, args...)...))
		r := until(t, ctx, s, fmt.Sprint(out.Run.Number), "ended", ended)
		var got []forge.NodeName
		for _, sh := range r.Attempts[0].Placement {
			got = append(got, sh.Node)
		}
		if slices.Sort(got); r.State != forge.RunCompleted || len(r.Attempts) != 1 || !slices.Equal(got, want) {
			t.Errorf("%v: %s on %v, want %v: %+v", args, r.State, got, want, r.Attempts)
		}
	}
	on([]forge.NodeName{"n3", "n4"}, "--gpu-type", "h100", "--label", "rack=rack2")
	on([]forge.NodeName{"n3", "n4"}, "--within", "rack", "--exclude", "n1")
	on([]forge.NodeName{"n1", "n4"}, "--exclude", "n[2-3]", "--preemptible=false")
	for says, args := range map[string][]string{
		`"h200": there are no such GPUs; there is h100`: {"--gpu-type", "h200"},
		"rack is rack1, rack2":                          {"--label", "rack=rack9"},
		"Slurm does not know how much memory GPUs have": {"--gpu-memory", "80G"},
		"the largest that fits is 1 node with 2 GPUs":   {"--within", "rack", "--exclude", "n1,n3"},
	} {
		_, err := s.Ctl(ctx, append([]string{"run", "submit", "look", "--cluster", "hpc", "--nodes", "2"}, args...)...)
		refused(t, err, 2, says)
	}
}
