package direct_test

import (
	"context"
	"maps"
	"testing"

	"github.com/rs/zerolog"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/direct"
)

func TestTheNodeIsShownWithItsLabelsAndWithTheIslandsOfItsGPUs(t *testing.T) {
	gpus := []forge.GPU{{Slot: 0, Kind: forge.GPUDevice, UUID: "a", Island: 1}, {Slot: 1, Kind: forge.GPUDevice, UUID: "b", Island: 2}}
	x, err := direct.New(direct.Options{Cluster: "local", NodeName: "n1", RunRoot: t.TempDir(), PortMin: 29500, PortMax: 29510, Log: zerolog.Nop(),
		With: direct.With{Labels: map[string]string{"rack": "r1"}}, CPUSlots: 1,
		GPUs: func(context.Context) ([]forge.GPU, error) { return gpus, nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	want := func(labels map[string]string) {
		t.Helper()
		nodes, err := x.Nodes(t.Context())
		if err != nil || len(nodes) != 1 || !maps.Equal(nodes[0].Labels, labels) {
			t.Fatalf("got %+v, %v; want the labels %v", nodes, err, labels)
		}
		if g := nodes[0].GPUs; len(g) != 3 || g[0].Island != 1 || g[1].Island != 2 || g[2].Island != 0 {
			t.Errorf("slots %+v", g)
		}
	}
	want(map[string]string{"rack": "r1"})
	x.Change(direct.With{Labels: map[string]string{"rack": "r2"}})
	want(map[string]string{"rack": "r2"})
}
