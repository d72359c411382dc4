//go:build linux && cgo

package nvml_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/forge-ml/forge-ml/nvml"
)

func islandsOf(r nvml.Report) (out []int) {
	for _, g := range r.GPUs {
		out = append(out, g.Island)
	}
	return out
}

// eightGPUs stand at the PCI buses 1 to 8.
func TestGPUsThatReachEachOtherOverNVLinkAreOneIsland(t *testing.T) {
	fake := fakeLibrary(t)
	link := func(gpu, link int, to string) string { return fmt.Sprintf("gpu.%d.link.%d %s", gpu, link, to) }
	bus := func(gpu int) string { return fmt.Sprintf("0:%x:0", gpu+1) }
	pairs := func(gpus ...int) (state []string) { // each with the next one, as bridges do
		for i := 0; i+1 < len(gpus); i++ {
			state = append(state, link(gpus[i], 1, bus(gpus[i+1])), link(gpus[i+1], 0, bus(gpus[i])))
		}
		return state
	}
	var switched, halves []string
	for gpu := range 8 {
		for l := range 4 {
			switched = append(switched, link(gpu, l, fmt.Sprintf("0:%x:0", 0x80+l)))
		}
		halves = append(halves, link(gpu, 0, fmt.Sprintf("0:%x:0", 0x80+gpu/4)))
	}
	for name, c := range map[string]struct {
		state []string
		want  []int
	}{
		"no NVLink": {nil, []int{0, 0, 0, 0, 0, 0, 0, 0}},
		"two islands of four, chained, and in any order":         {append(pairs(4, 6, 5, 7), pairs(3, 1, 0, 2)...), []int{1, 1, 1, 1, 2, 2, 2, 2}},
		"two islands that are not neighbours":                    {append(pairs(0, 2, 4, 6), pairs(1, 3, 5, 7)...), []int{1, 2, 1, 2, 1, 2, 1, 2}},
		"bridges over pairs":                                     {append(pairs(0, 1), pairs(2, 3)...), []int{1, 1, 2, 2, 0, 0, 0, 0}},
		"all on four switches":                                   {switched, []int{1, 1, 1, 1, 1, 1, 1, 1}},
		"four on a switch each":                                  {halves, []int{1, 1, 1, 1, 2, 2, 2, 2}},
		"a link that is down":                                    {[]string{link(0, 0, "down"), link(1, 0, "down")}, []int{0, 0, 0, 0, 0, 0, 0, 0}},
		"a link behind one that is down":                         {[]string{link(0, 0, "down"), link(0, 9, bus(1))}, []int{1, 1, 0, 0, 0, 0, 0, 0}},
		"a link to nowhere that can be seen":                     {[]string{link(0, 0, "ffffffff:ff:1f"), link(1, 0, "ffffffff:ff:1f"), link(2, 0, "0:0:0"), link(3, 0, "0:0:0")}, []int{0, 0, 0, 0, 0, 0, 0, 0}},
		"one that is alone on its switch":                        {[]string{link(5, 0, "0:80:0")}, []int{0, 0, 0, 0, 0, 0, 0, 0}},
		"links whose ends are not told":                          {append(pairs(0, 1), "fail.nvmlDeviceGetNvLinkRemotePciInfo_v2 3"), []int{0, 0, 0, 0, 0, 0, 0, 0}},
		"links that are not told of":                             {append(pairs(0, 1), "fail.nvmlDeviceGetNvLinkState 999"), []int{0, 0, 0, 0, 0, 0, 0, 0}},
		"a lost GPU is in none, and the others reach each other": {append(switched, "gpu.2.lost 1"), []int{1, 1, 0, 1, 1, 1, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			r := look(t, prober(t, fake, append(c.state, eightGPUs()...)...))
			wantState(t, r, nvml.StateOK)
			if got := islandsOf(r); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			for i, g := range r.GPUs {
				if g.Sick != "" && !slices.Contains(c.state, "gpu.2.lost 1") {
					t.Errorf("slot %d is sick: %s", i, g.Sick)
				}
			}
		})
	}
	for _, symbol := range []string{"nvmlDeviceGetNvLinkState", "nvmlDeviceGetNvLinkRemotePciInfo_v2"} {
		t.Run("a library without "+symbol+" does", func(t *testing.T) {
			r := look(t, prober(t, without(t, fake, symbol), append(pairs(0, 1), eightGPUs()...)...))
			wantState(t, r, nvml.StateOK)
			if got := islandsOf(r); !slices.Equal(got, make([]int, 8)) {
				t.Errorf("got %v", got)
			}
		})
	}
}
