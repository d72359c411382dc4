//go:build linux && cgo

package nvml_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/forge-ml/forge-ml/nvml"
)

// sliced is a machine of three GPUs, of which the second has MIG instances and the third has none in spite of its mode. Indexes have gaps.
var sliced = []string{"count 3", "gpu.0.uuid GPU-0", "gpu.0.mig 0", "gpu.1.uuid GPU-1", "gpu.1.mig 1", "gpu.2.uuid GPU-2", "gpu.2.mig 1", "gpu.1.mig.0.profile 3g.40gb",
	"gpu.1.mig.0.uuid MIG-c", "gpu.1.mig.0.gi 9", "gpu.1.mig.0.mem.total 42412802048", "gpu.1.mig.3.profile 1g.10gb", "gpu.1.mig.3.uuid MIG-a", "gpu.1.mig.3.gi 2",
	"gpu.1.mig.5.profile 1c.2g.20gb", "gpu.1.mig.5.uuid MIG-b", "gpu.1.mig.5.gi 3", "gpu.1.mig.5.mem.total 20937965568", "gpu.1.mig.5.mem.used 1073741824",
	"gpu.1.mig.5.procs 77:1073741824", "gpu.1.temp 61", "gpu.1.ecc.uncorrected 2", "gpu.1.cpus 0-3,8", "gpu.1.numa 1"}

func TestMIGInstancesAreGPUsOfTheirOwn(t *testing.T) {
	for name, lacks := range map[string]string{"named by the driver": "", "named after what they have": "name"} {
		t.Run(name, func(t *testing.T) {
			state := sliced
			if lacks != "" {
				state = append(state, "gpu.1.mig.anonymous 1")
			}
			r := look(t, prober(t, fakeLibrary(t), state...))
			wantState(t, r, nvml.StateOK)
			want := []string{
				"0 GPU-0 H100 80GB HBM3 81559 MiB",
				"1 MIG-a H100 80GB HBM3 MIG 1g.10gb 9984 MiB",
				"2 MIG-b H100 80GB HBM3 MIG 1c.2g.20gb 19968 MiB",
				"3 MIG-c H100 80GB HBM3 MIG 3g.40gb 40448 MiB",
				"4 GPU-2 H100 80GB HBM3 81559 MiB",
			}
			if len(r.GPUs) != len(want) {
				t.Fatalf("got %+v", r.GPUs)
			}
			for i, g := range r.GPUs {
				if got := fmt.Sprintf("%d %s %s %d MiB", g.Slot, g.UUID, g.Type, g.MemoryMiB); got != want[i] {
					t.Errorf("got %q, want %q", got, want[i])
				}
			}
			if g := r.GPUs[2]; g.MIG != "1c.2g.20gb" || g.Parent != "GPU-1" || g.PCI != "00000000:02:00.0" || g.CPUs != "0-3,8" || g.NUMA != "1" || g.Sick != "" || g.Island != 0 {
				t.Errorf("an instance: %+v", g)
			}
			if g := r.GPUs[4]; !strings.Contains(g.Sick, "no MIG instance") || g.MIG != "" {
				t.Errorf("a GPU in MIG mode without instances: %+v", g)
			}
			if g := r.GPUs[0]; g.Sick != "" || g.MIG != "" || g.Parent != "" {
				t.Errorf("a whole one: %+v", g)
			}
		})
	}
}

func TestAMIGInstanceIsReadWithItsOwnMemoryAndProcessesAndItsGPUsHealth(t *testing.T) {
	w, l := watchChild(t, fakeLibrary(t), nil, sliced...)
	wantOrder(t, l, "GPU-0 0, MIG-a 1, MIG-b 1, MIG-c 1, GPU-2 2")
	r := l.GPUs[2]
	if r.Type != "H100 80GB HBM3 MIG 1c.2g.20gb" || r.MIG != "1c.2g.20gb" || r.Parent != "GPU-1" || r.MIGID == nil || *r.MIGID != 3 {
		t.Errorf("who it is: %+v", r)
	}
	if r.MemoryMiB != 19968 || *r.MemoryUsedMiB != 1024 || !r.Told || len(r.Processes) != 1 || r.Processes[0].PID != 77 || len(l.GPUs[1].Processes) != 0 {
		t.Errorf("what is its own: %+v", r)
	}
	if *r.TemperatureC != 61 || *r.ECCUncorrected != 2 || *r.SlowdownC != 89 {
		t.Errorf("what it shares: %+v", r)
	}
	if r.PowerWatts != nil || r.EnergyJoules != nil || r.UtilPercent != nil {
		t.Errorf("sums over the whole GPU, which would be counted once an instance: %+v", r)
	}
	writeState(t, w.state, append(sliced, "event.1 1,8,31,3,0")...)
	if got := w.events(); got[0].UUID != "GPU-1" || *got[0].MIGID != 3 {
		t.Errorf("an XID of it names its parent and its id: %+v", got)
	}
	l = w.ask(append(sliced, "gpu.1.lost 1")...)
	for _, r := range l.GPUs[1:4] {
		if !r.Lost || r.Parent != "GPU-1" || r.UUID == "" {
			t.Errorf("an instance of a lost GPU: %+v", r)
		}
	}
}

func TestOneMIGInstanceOfManyCanBeWatched(t *testing.T) {
	_, l := watchChild(t, fakeLibrary(t), []string{"--uuids", "MIG-b"}, sliced...)
	wantOrder(t, l, "MIG-b 1")
}
