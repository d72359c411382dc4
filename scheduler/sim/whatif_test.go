package sim

import (
	"testing"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

func TestAWhatIfIsAnotherSnapshotAndLeavesTheFirstAsItWas(t *testing.T) {
	s := live(1)
	s.Nodes[0].CPUs, s.Nodes[0].MemoryMiB = 32, 1000
	runs(s, "a", "n1", []int{0, 1, 2, 3}, leftAsOf(time.Hour, noon))
	waits(s, "b", 4, left(time.Hour))
	waits(s, "c", 8, left(time.Hour))
	before := text(t, s)
	more, err := ParseNewNodes("2x8:SIM")
	if err != nil {
		t.Fatal(err)
	}
	with, err := WhatIf{Add: []NewNodes{more}}.Apply(*s)
	if err != nil {
		t.Fatal(err)
	}
	if n := with.Nodes[1]; len(with.Nodes) != 3 || n.CPUs != 64 || n.MemoryMiB != 2000 || len(n.GPUs) != 8 || n.Cluster != simCluster || n.State != forge.NodeReady {
		t.Errorf("%+v", n)
	}
	f := forecast(t, &with, "fair", ForecastOptions{})
	wantStart(t, f, "b", 0)
	wantStart(t, f, "c", 0)
	drained, err := WhatIf{Drain: []forge.NodeName{"n1"}}.Apply(*s)
	if err != nil {
		t.Fatal(err)
	}
	wantNever(t, forecast(t, &drained, "fair", ForecastOptions{}), "b")
	if text(t, s) != before {
		t.Error("the snapshot is another")
	}
}

func TestAWhatIfWithoutAMeaningIsRefused(t *testing.T) {
	s := live(1)
	_, err := WhatIf{Drain: []forge.NodeName{"n9"}}.Apply(*s)
	wantField(t, err, "drain")
	_, err = WhatIf{Add: []NewNodes{{Cluster{1, 1}, "h100"}}}.Apply(*s)
	wantField(t, err, "add-nodes")
	for _, bad := range []string{"", "4", "4x", "x:h100", "0x8:h100"} {
		_, err = ParseNewNodes(bad)
		wantField(t, err, "add-nodes")
	}
}
