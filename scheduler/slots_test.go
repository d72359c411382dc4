package scheduler_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/scheduler"
)

// machine is a node whose GPUs are told as ISLAND/NUMA, a word each; "-" is not known. held are the slots that somebody has.
func machine(gpus string, held ...int) forge.Snapshot {
	n := forge.Node{Cluster: "main", Name: "n1", CPUs: 64, MemoryMiB: 1 << 20, State: forge.NodeReady}
	for slot, w := range strings.Fields(gpus) {
		g := forge.GPU{Slot: slot, Kind: forge.GPUDevice, Type: "H100"}
		island, numa, _ := strings.Cut(w, "/")
		if numa != "-" {
			g.NUMA = numa
		}
		_, _ = fmt.Sscan(island, &g.Island)
		n.GPUs = append(n.GPUs, g)
	}
	s := forge.Snapshot{Now: epoch, Nodes: []forge.Node{n}}
	if len(held) > 0 {
		s.Active = []forge.ActiveAttempt{{Run: "x", Number: 1, Cluster: "main", State: forge.AttemptRunning, Placement: []forge.Share{{Node: "n1", Slots: held}}}}
	}
	return s
}

func TestAGangGetsTheGPUsOfANodeThatAreClosestToEachOther(t *testing.T) {
	const twoSockets = "1/0 1/0 1/1 1/1 1/0 1/0 1/1 1/1" // one island over both
	for _, c := range []struct {
		name string
		gpus string
		held []int
		want []int
	}{
		{"one NUMA node of an island", twoSockets, nil, []int{0, 1, 4, 5}},
		{"the NUMA node that has just enough", twoSockets, []int{0, 6}, []int{1, 4}},
		{"of two that are alike the first", twoSockets, []int{0, 2}, []int{1, 4}},
		{"an island before a NUMA node", "1/0 2/0 1/1 2/1", nil, []int{0, 2}},
		{"without islands a NUMA node", "-/0 -/1 -/0 -/1", []int{0}, []int{1, 3}},
		{"where none is large enough the largest whole, and the rest from where it fits best", "1/0 3/0 1/0 2/0 2/0 2/0", nil, []int{0, 2, 3, 4, 5}},
		{"where nothing is known by number", "-/- -/- -/- -/-", []int{1}, []int{0, 2}},
		{"what is known before what is not", "-/- -/0 -/0", nil, []int{1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := machine(c.gpus, c.held...)
			s.Pending = []forge.PendingRun{{ID: "a", Priority: 50, Gang: forge.Gang{Nodes: 1, GPUsPerNode: len(c.want)}}}
			plan := scheduler.Plan(s, preset("fair"))
			if len(plan.Place) != 1 || !slices.Equal(plan.Place[0].Shares[0].Slots, c.want) {
				t.Errorf("want slots %v of %q, got\n%s", c.want, c.gpus, tell(plan))
			}
		})
	}
}

// TestNoGangIsSpreadOverIslandsThatOneOfThemCouldHold, nor over NUMA nodes of the island that it is on.
func TestNoGangIsSpreadOverIslandsThatOneOfThemCouldHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var words []string
		var held []int
		for slot := range rapid.IntRange(1, 8).Draw(t, "gpus") {
			words = append(words, fmt.Sprintf("%d/%s", rapid.IntRange(0, 3).Draw(t, "island"), rapid.SampledFrom([]string{"-", "0", "1"}).Draw(t, "numa")))
			if rapid.IntRange(0, 3).Draw(t, "held") == 0 {
				held = append(held, slot)
			}
		}
		s := machine(strings.Join(words, " "), held...)
		n := rapid.IntRange(1, 8).Draw(t, "n")
		s.Pending = []forge.PendingRun{{ID: "a", Priority: 50, Gang: forge.Gang{Nodes: 1, GPUsPerNode: n}}}
		plan := scheduler.Plan(s, preset("fair"))
		if len(plan.Place) == 0 {
			return
		}
		var free, got []forge.GPU
		for _, g := range s.Nodes[0].GPUs {
			if !slices.Contains(held, g.Slot) {
				free = append(free, g)
			}
			if slices.Contains(plan.Place[0].Shares[0].Slots, g.Slot) {
				got = append(got, g)
			}
		}
		islands := func(g forge.GPU) string { return strings.Trim(fmt.Sprint(g.Island), "0") }
		numas := func(g forge.GPU) string { return g.NUMA }
		among := free
		for _, of := range []func(forge.GPU) string{islands, numas} {
			size, on := map[string]int{}, map[string]int{}
			for _, g := range among {
				size[of(g)]++
			}
			for _, g := range got {
				on[of(g)]++
			}
			for k, free := range size {
				if k == "" || free < n {
					continue
				}
				for mine := range on {
					if len(on) > 1 || mine == "" || size[mine] > free {
						t.Fatalf("%d GPUs of %v (held: %v): slots %v, and %q could hold them better", n, words, held, plan.Place[0].Shares[0].Slots, k)
					}
				}
			}
			if len(on) == 1 {
				among = slices.DeleteFunc(slices.Clone(among), func(g forge.GPU) bool { return on[of(g)] == 0 })
			}
		}
	})
}

func TestAMIGInstanceIsForARunOfOneGPU(t *testing.T) {
	mig := machine("-/0 -/0 -/0")
	for i := range mig.Nodes[0].GPUs {
		g := &mig.Nodes[0].GPUs[i]
		g.Type, g.MIG, g.Parent = "H100 1g.10gb", "1g.10gb", "GPU-0"
	}
	whole := machine("-/0 -/0")
	whole.Nodes[0].Name = "n2"
	for _, c := range []struct {
		name  string
		gang  forge.Gang
		nodes []forge.Node
		ok    bool
		on    forge.NodeName
	}{
		{"one", forge.Gang{Nodes: 1, GPUsPerNode: 1}, mig.Nodes, true, "n1"},
		{"two of a node", forge.Gang{Nodes: 1, GPUsPerNode: 2}, mig.Nodes, false, ""},
		{"one on each of two nodes", forge.Gang{Nodes: 2, GPUsPerNode: 1}, slices.Concat(mig.Nodes, []forge.Node{{Cluster: "main", Name: "n3", CPUs: 64, MemoryMiB: 1 << 20, State: forge.NodeReady, GPUs: mig.Nodes[0].GPUs}}), false, ""},
		{"two where there are whole GPUs as well", forge.Gang{Nodes: 1, GPUsPerNode: 2}, slices.Concat(mig.Nodes, whole.Nodes), true, "n2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ok, largest := scheduler.Fits(c.nodes, c.gang, "")
			if ok != c.ok {
				t.Errorf("fits: %v, %s", ok, largest)
			}
			if want := "MIG instances (H100 1g.10gb) take runs of 1 GPU only, since ranks on them cannot reach each other"; !ok && (!strings.Contains(largest, want) || !strings.Contains(largest, "the largest that fits is 1 node with 1 GPU")) {
				t.Errorf("%q does not say what is allowed", largest)
			}
			s := forge.Snapshot{Now: epoch, Nodes: c.nodes, Pending: []forge.PendingRun{{ID: "a", Priority: 50, Gang: c.gang}}}
			p := preset("fair")
			plan := scheduler.Plan(s, p)
			if err := scheduler.CheckPlan(s, p, plan); err != nil {
				t.Fatal(err)
			}
			switch {
			case c.ok && (len(plan.Place) != 1 || plan.Place[0].Shares[0].Node != c.on):
				t.Errorf("want it on %s:\n%s", c.on, tell(plan))
			case !c.ok && (len(plan.Place) != 0 || len(plan.Hold) != 1 || plan.Hold[0].Code != forge.HoldNever || !strings.Contains(plan.Hold[0].Text, "MIG instances")):
				t.Errorf("want it held for good, with words:\n%s", tell(plan))
			}
		})
	}
}
