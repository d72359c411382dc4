package shim

import (
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	forge "github.com/forge-ml/forge-ml"
)

func TestARankIsBoundToTheCPUsNextToItsGPU(t *testing.T) {
	var mask unix.CPUSet
	for cpu := range 16 { // two sockets of four cores, with threads 0 and 8, 1 and 9, …
		mask.Set(cpu)
	}
	threads := func(cpu int) []int { return []int{cpu % 8, cpu%8 + 8} }
	gpu := func(cpus string) forge.GPU { return forge.GPU{Kind: forge.GPUDevice, CPUs: cpus} }
	const left, right = "0-3,8-11", "4-7,12-15"
	for _, c := range []struct {
		name string
		gpus []forge.GPU
		want [][]int
	}{
		{"one, all of its socket", []forge.GPU{gpu(right)}, [][]int{{4, 12, 5, 13, 6, 14, 7, 15}}},
		{"two of a socket, whole cores each", []forge.GPU{gpu(left), gpu(left)}, [][]int{{0, 8, 1, 9}, {2, 10, 3, 11}}},
		{"one of each", []forge.GPU{gpu(right), gpu(left)}, [][]int{{4, 12, 5, 13, 6, 14, 7, 15}, {0, 8, 1, 9, 2, 10, 3, 11}}},
		{"three of one and one of the other, fairly", []forge.GPU{gpu(left), gpu(right), gpu(left), gpu(left)}, [][]int{{0, 8}, {4, 12, 5, 13, 6, 14, 7, 15}, {1, 9}, {2, 10, 3, 11}}},
		{"CPUs that are not this process's do not count", []forge.GPU{gpu("6-7,14-99")}, [][]int{{6, 14, 7, 15}}},
		{"none of them is", []forge.GPU{gpu("64-127")}, [][]int{nil}},
		{"it is not known which", []forge.GPU{gpu(""), gpu(left)}, [][]int{nil, {0, 8, 1, 9, 2, 10, 3, 11}}},
		{"it is not readable", []forge.GPU{gpu("all"), gpu("3-")}, [][]int{nil, nil}},
		{"more ranks than CPUs", []forge.GPU{gpu("0"), gpu("0")}, [][]int{nil, nil}},
		{"a CPU slot", []forge.GPU{{Kind: forge.GPUCPUSlot, CPUs: left}}, [][]int{nil}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := nearCPUs(c.gpus, &mask, threads); !slices.EqualFunc(got, c.want, slices.Equal) {
				t.Errorf("got %v, want %v", fmt.Sprint(got), c.want)
			}
		})
	}
}
