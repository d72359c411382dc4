package forge_test

import (
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

func TestAWordForATypeOfGPUMeansWholeWordsOfItsName(t *testing.T) {
	for _, c := range []struct {
		asked, typ string
		want       bool
	}{
		{"h100", "H100 80GB HBM3", true}, {"H100 80GB HBM3", "H100 80GB HBM3", true}, {"h100-80gb", "H100 80GB HBM3", true},
		{"a100-sxm4", "A100-SXM4-80GB", true}, {"cpu", "cpu", true}, {"3g.40gb", "A100 MIG 3g.40gb", true},
		{"h10", "H100 80GB HBM3", false}, {"l40", "L40S", false}, {"h100 pcie", "H100 80GB HBM3", false}, {"", "H100", false}, {"-", "H100", false},
	} {
		if got := forge.NamesGPUType(c.asked, c.typ); got != c.want {
			t.Errorf("%q for %q: %v", c.asked, c.typ, got)
		}
	}
}

func TestConstraintsSayWhichNodesAndGPUsWillDo(t *testing.T) {
	n := forge.Node{Name: "n1", Labels: map[string]string{"rack": "r1", "empty": ""}}
	for name, c := range map[string]struct {
		where *forge.Constraints
		want  bool
	}{
		"nothing asked":            {nil, true},
		"its label":                {&forge.Constraints{Labels: map[string]string{"rack": "r1"}}, true},
		"another value":            {&forge.Constraints{Labels: map[string]string{"rack": "r2"}}, false},
		"a label that it lacks":    {&forge.Constraints{Labels: map[string]string{"room": ""}}, false},
		"one of two that it lacks": {&forge.Constraints{Labels: map[string]string{"rack": "r1", "room": "x"}}, false},
		"another is excluded":      {&forge.Constraints{Exclude: []forge.NodeName{"n2"}}, true},
		"it is excluded":           {&forge.Constraints{Exclude: []forge.NodeName{"n2", "n1"}}, false},
	} {
		if got := c.where.Node(&n); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	g := forge.GPU{Type: "h100", MemoryMiB: 81559}
	unknown := forge.GPU{Type: "h100"}
	for name, c := range map[string]struct {
		where *forge.Constraints
		gpu   forge.GPU
		want  bool
	}{
		"nothing asked":                  {nil, g, true},
		"one of its types":               {&forge.Constraints{GPUTypes: []string{"a100", "h100"}}, g, true},
		"another type":                   {&forge.Constraints{GPUTypes: []string{"a100"}}, g, false},
		"enough memory":                  {&forge.Constraints{GPUMemoryMiB: 81559}, g, true},
		"too little":                     {&forge.Constraints{GPUMemoryMiB: 81560}, g, false},
		"memory that nobody knows":       {&forge.Constraints{GPUMemoryMiB: 1}, unknown, false},
		"memory that nobody asks about":  {&forge.Constraints{GPUTypes: []string{"h100"}}, unknown, true},
		"the right type with too little": {&forge.Constraints{GPUTypes: []string{"h100"}, GPUMemoryMiB: 90000}, g, false},
	} {
		if got := c.where.GPU(&c.gpu); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
