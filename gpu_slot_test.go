package forge_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	forge "github.com/forge-ml/forge-ml"
)

func device(slot int, uuid, pci string) forge.GPU {
	return forge.GPU{Slot: slot, Kind: forge.GPUDevice, UUID: uuid, Type: "A100", PCI: pci}
}

func slotsByUUID(gpus []forge.GPU) map[string]int {
	out := map[string]int{}
	for _, g := range gpus {
		if g.UUID != "" {
			out[g.UUID] = g.Slot
		}
	}
	return out
}

func TestGPUsKeepTheirSlots(t *testing.T) {
	was := []forge.GPU{device(0, "a", "1"), device(1, "b", "2"), device(2, "c", "3"), {Slot: 3, Kind: forge.GPUCPUSlot, Type: "cpu"}}
	cpu := func(slot int) forge.GPU { return forge.GPU{Slot: slot, Kind: forge.GPUCPUSlot, Type: "cpu"} }
	for _, c := range []struct {
		name string
		now  []forge.GPU
		want string
	}{
		{"in another order they are where they were", []forge.GPU{device(0, "c", "3"), device(1, "a", "1"), device(2, "b", "2"), cpu(3)}, "0:a 1:b 2:c 3:-"},
		{"one that has gone stays, and nothing moves up", []forge.GPU{device(0, "b", "2"), device(1, "c", "3"), cpu(2)}, "0:a! 1:b 2:c 3:-"},
		{"none at all: all stay", nil, "0:a! 1:b! 2:c!"},
		{"one in the place of another takes its slot", []forge.GPU{device(0, "a", "1"), device(1, "new", "2"), device(2, "c", "3"), cpu(3)}, "0:a 1:new 2:c 3:-"},
		{"one in a new place takes a free slot", []forge.GPU{device(0, "new", "0"), device(1, "a", "1"), device(2, "b", "2"), device(3, "c", "3"), cpu(4)}, "0:a 1:b 2:c 3:- 4:new"},
		{"one that gives no UUID is still itself", []forge.GPU{device(0, "a", "1"), {Slot: 1, Kind: forge.GPUDevice, PCI: "2", Sick: "lost"}, device(2, "c", "3"), cpu(3)}, "0:a 1:b! 2:c 3:-"},
		{"one that is said twice is one", []forge.GPU{device(0, "a", "1"), device(1, "a", "1"), device(2, "c", "3"), cpu(3)}, "0:a 1:b! 2:c 3:-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := listed(forge.KeepSlots(was, c.now)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	t.Run("what has gone is where it was when it is back", func(t *testing.T) {
		if got := forge.KeepSlots(forge.KeepSlots(was, nil), was); !slices.Equal(got[:3], was[:3]) {
			t.Errorf("got %s", listed(got))
		}
	})
	t.Run("where no UUIDs are known, what the executor says is left as it is", func(t *testing.T) {
		slurm := []forge.GPU{{Slot: 0, Kind: forge.GPUDevice, Type: "A100"}}
		if got := forge.KeepSlots([]forge.GPU{{Slot: 0, Kind: forge.GPUDevice, Type: "H100"}, {Slot: 1, Kind: forge.GPUDevice, Type: "H100"}}, slurm); !slices.Equal(got, slurm) {
			t.Errorf("got %+v", got)
		}
	})
}

func listed(gpus []forge.GPU) (out string) {
	for _, g := range gpus {
		name := g.UUID
		if name == "" {
			name = "-"
		}
		if g.Sick != "" {
			name += "!"
		}
		out += fmt.Sprintf(" %d:%s", g.Slot, name)
	}
	return out[min(1, len(out)):]
}

func TestWhateverADriverSaysNoKnownGPUMoves(t *testing.T) {
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var known []forge.GPU
		for step := range 6 {
			var now []forge.GPU
			for i := range 8 {
				if rng.IntN(4) > 0 {
					uuid := fmt.Sprintf("g%d", i)
					if rng.IntN(8) == 0 {
						uuid = fmt.Sprintf("g%d-%d-%d", i, step, seed) // replaced
					}
					now = append(now, device(0, uuid, fmt.Sprint(i)))
				}
			}
			rng.Shuffle(len(now), func(i, j int) { now[i], now[j] = now[j], now[i] })
			for i := range now {
				now[i].Slot = i
			}
			for range rng.IntN(3) {
				now = append(now, forge.GPU{Slot: len(now), Kind: forge.GPUCPUSlot, Type: "cpu"})
			}
			got := forge.KeepSlots(known, now)
			taken := map[int]bool{}
			for _, g := range got {
				if taken[g.Slot] {
					t.Fatalf("seed %d: slot %d twice in %s", seed, g.Slot, listed(got))
				}
				taken[g.Slot] = true
			}
			before, after := slotsByUUID(known), slotsByUUID(got)
			for _, w := range known {
				if w.UUID == "" {
					continue
				}
				slot, there := after[w.UUID]
				i := slices.IndexFunc(got, func(g forge.GPU) bool { return g.Slot == w.Slot })
				replaced := i >= 0 && got[i].UUID != w.UUID && got[i].PCI == w.PCI && before[got[i].UUID] == 0
				if there && slot != w.Slot || !there && !replaced {
					t.Fatalf("seed %d: %s was in slot %d: %s", seed, w.UUID, w.Slot, listed(got))
				}
			}
			for _, g := range now {
				if g.UUID == "" {
					continue
				}
				i := slices.IndexFunc(got, func(x forge.GPU) bool { return x.UUID == g.UUID })
				if i < 0 || got[i].Missing() {
					t.Fatalf("seed %d: %s is there: %s", seed, g.UUID, listed(got))
				}
			}
			if again := forge.KeepSlots(got, now); !slices.Equal(again, got) && step > 0 {
				t.Fatalf("seed %d: the same again moves something:\n%s\n%s", seed, listed(got), listed(again))
			}
			known = got
		}
	}
}

func TestAHoldIsOfAGPUOrOfTheNode(t *testing.T) {
	n := forge.Node{Name: "n", State: forge.NodeReady, GPUs: []forge.GPU{device(0, "a", "1"), device(1, "b", "2"), {Slot: 2, UUID: "m1", Parent: "c"}, {Slot: 3, UUID: "m2", Parent: "c"}}}
	hold := func(uuid, rule string, act forge.HoldAct) forge.NodeHold {
		return forge.NodeHold{UUID: uuid, Rule: rule, Act: act, By: "forged", Reason: "why"}
	}
	got := n.Held([]forge.NodeHold{hold("a", "xid_48", forge.HoldGPU), hold("c", "xid_63", forge.HoldDrain), hold("gone", "xid_48", forge.HoldGPU)})
	if got.State != forge.NodeReady || got.GPUs[0].Sick != "held back by xid_48: why" || got.GPUs[1].Sick != "" || got.GPUs[2].Sick == "" || got.GPUs[3].Sick == "" {
		t.Errorf("%+v", got)
	}
	if n.GPUs[0].Sick != "" {
		t.Error("the node that it was made of has changed")
	}
	if got := n.Held([]forge.NodeHold{hold("a", "xid_79", forge.HoldNode)}); got.State != forge.NodeDrained || got.Reason != "held back by xid_79: why" || got.GPUs[0].Sick != "" {
		t.Errorf("%+v", got)
	}
	slurm := forge.Node{Name: "n", State: forge.NodeReady, GPUs: []forge.GPU{{Slot: 0, Kind: forge.GPUDevice}}}
	if got := slurm.Held([]forge.NodeHold{hold("a", "xid_48", forge.HoldGPU)}); got.State != forge.NodeDrained {
		t.Errorf("a batch system's: %+v", got)
	}
	n.State = forge.NodeUnknown
	if got := n.Held([]forge.NodeHold{hold("", "x", forge.HoldNode)}); got.State != forge.NodeUnknown {
		t.Errorf("one that does not answer is unknown all the same: %+v", got)
	}
	n.State = forge.NodeReady
	operator := forge.NodeHold{UUID: "a", Act: forge.HoldDrain, By: "ops", Reason: "fan"}
	if got := n.Held([]forge.NodeHold{hold("a", "xid_48", forge.HoldGPU), operator}); got.GPUs[0].Sick != "drained by ops: fan" {
		t.Errorf("a person's word first: %+v", got.GPUs[0])
	}
}
