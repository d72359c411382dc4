package shim

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	forge "github.com/forge-ml/forge-ml"
)

// shareCPUs gives CPUs to the local ranks: what a batch system left to this process is split among them, and elsewhere each has those next to its GPU.
// An element that is nil is not bound.
func (s *shim) shareCPUs() [][]int {
	n := s.perNode[s.node]
	var mask unix.CPUSet
	if unix.SchedGetaffinity(0, &mask) != nil {
		return make([][]int, n)
	}
	switch {
	case s.job == nil && s.launch.Spec.Launch != forge.LaunchNode:
		return nearCPUs(localDevices(s.launch, s.node), &mask, siblings)
	case s.job == nil || n < 2:
		return make([][]int, n)
	}
	return splitCPUs(cores(&mask, siblings), n)
}

// nearCPUs gives each rank the CPUs next to its GPU that this process may use; ranks whose GPUs are next to the same CPUs share them. Where it is not
// known which they are, or there are fewer than ranks, these are not bound. A launcher that starts the ranks itself is not: its GPUs may be apart.
func nearCPUs(gpus []forge.GPU, mask *unix.CPUSet, siblings func(cpu int) []int) [][]int {
	out := make([][]int, len(gpus))
	by := map[string][]int{}
	for i, g := range gpus {
		if g.CPUs != "" && g.Kind == forge.GPUDevice {
			by[g.CPUs] = append(by[g.CPUs], i)
		}
	}
	for list, ranks := range by {
		var near unix.CPUSet
		for _, cpu := range numbers(splitList(list)) {
			if cpu < len(near)*64 && mask.IsSet(cpu) {
				near.Set(cpu)
			}
		}
		for i, cpus := range splitCPUs(cores(&near, siblings), len(ranks)) {
			out[ranks[i]] = cpus
		}
	}
	return out
}

// cores groups the CPUs of a mask by the core that they are threads of, in the order of their first thread.
func cores(mask *unix.CPUSet, siblings func(cpu int) []int) [][]int {
	var out [][]int
	seen := map[int]bool{}
	for cpu := range len(mask) * 64 {
		if !mask.IsSet(cpu) || seen[cpu] {
			continue
		}
		core := []int{}
		for _, c := range append(siblings(cpu), cpu) {
			if c >= 0 && c < len(mask)*64 && mask.IsSet(c) && !seen[c] {
				seen[c] = true
				core = append(core, c)
			}
		}
		slices.Sort(core)
		out = append(out, core)
	}
	return out
}

// siblings are the threads of a CPU's core; none where the kernel does not say.
func siblings(cpu int) []int {
	data, err := os.ReadFile(fmt.Sprintf("/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu))
	if err != nil {
		return nil
	}
	return numbers(splitList(strings.TrimSpace(string(data))))
}

// splitCPUs gives each of n ranks neighbouring cores, whole ones where there are enough of them.
func splitCPUs(cores [][]int, n int) [][]int {
	out := make([][]int, n)
	units := cores
	if len(units) < n {
		units = nil
		for _, core := range cores {
			for _, cpu := range core {
				units = append(units, []int{cpu})
			}
		}
	}
	if len(units) < n {
		return out
	}
	for i := range n {
		for _, unit := range units[i*len(units)/n : (i+1)*len(units)/n] {
			out[i] = append(out[i], unit...)
		}
	}
	return out
}

// withCPUs calls f on CPUs of their own; what f forks inherits them. The thread is locked, and has its own mask back
// afterwards. Binding is a courtesy: where it cannot be had, f runs all the same.
func withCPUs(cpus []int, f func() error) error {
	var before, set unix.CPUSet
	if len(cpus) == 0 || unix.SchedGetaffinity(0, &before) != nil {
		return f()
	}
	for _, c := range cpus {
		set.Set(c)
	}
	if unix.SchedSetaffinity(0, &set) == nil {
		defer func() { _ = unix.SchedSetaffinity(0, &before) }()
	}
	return f()
}
