package scheduler

import (
	"slices"
	"strconv"

	forge "github.com/forge-ml/forge-ml"
)

// Which slots of a bin a run gets.

// claimed counts the free slots that are kept for a run.
func (b *bin) claimed(run forge.RunID) int {
	n := 0
	for _, sl := range b.slots {
		if sl.claim == run && !sl.sick && !sl.held {
			n++
		}
	}
	return n
}

// pickSlots chooses free slots of the bin, those that are claimed for the run first, ascending. Of what is free to all it takes those that are
// closest to each other.
func (b *bin) pickSlots(run forge.RunID, n int) []int {
	out := make([]int, 0, n)
	for _, sl := range b.slots {
		if len(out) < n && run != "" && sl.claim == run && !sl.sick && !sl.held {
			out = append(out, sl.n)
		}
	}
	if need := n - len(out); need > 0 {
		free := make([]*slot, 0, len(b.slots))
		for _, sl := range b.slots {
			if sl.free() {
				free = append(free, sl)
			}
		}
		for _, sl := range closest(free, need, slotIsland, slotNUMA) {
			out = append(out, sl.n)
		}
	}
	slices.Sort(out)
	return out
}

func slotIsland(s *slot) int { return s.island }
func slotNUMA(s *slot) int   { return s.numa }

// closest takes n slots of one NVLink island where one has enough, the fullest that does, and within it, or where no island has, of one NUMA node.
// Where none of either has enough it takes the largest island whole and looks for the rest.
func closest(among []*slot, n int, levels ...func(*slot) int) []*slot {
	if n >= len(among) {
		return among[:min(n, len(among))]
	}
	for i, of := range levels {
		if tight, _ := grouping(among, n, of); tight != 0 {
			in, _ := parted(among, tight, of)
			return closest(in, n, slices.Delete(slices.Clone(levels), i, i+1)...)
		}
	}
	for _, of := range levels {
		if _, largest := grouping(among, n, of); largest != 0 {
			in, rest := parted(among, largest, of)
			return append(in, closest(rest, n-len(in), levels...)...)
		}
	}
	return among[:n]
}

// grouping finds the smallest group that has n, and the largest; 0 where there is none. What is in no group counts for none.
func grouping(among []*slot, n int, of func(*slot) int) (tight, largest int) {
	least, most := 0, 0
	for _, x := range among {
		g := of(x)
		if g == 0 || g == tight || g == largest {
			continue
		}
		size := 0
		for _, y := range among {
			if of(y) == g {
				size++
			}
		}
		if size >= n && (tight == 0 || size < least || size == least && g < tight) {
			tight, least = g, size
		}
		if size > most || size == most && g < largest {
			largest, most = g, size
		}
	}
	return tight, largest
}

func parted(among []*slot, g int, of func(*slot) int) (in, rest []*slot) {
	for _, x := range among {
		if of(x) == g {
			in = append(in, x)
		} else {
			rest = append(rest, x)
		}
	}
	return in, rest
}

// numaOf is the number of the NUMA node that a GPU is next to, from 1; 0: not known.
func numaOf(g *forge.GPU) int {
	if g.NUMA == "" { // of thousands, and each error is made
		return 0
	}
	n, err := strconv.ParseUint(g.NUMA, 10, 16)
	if err != nil {
		return 0
	}
	return int(n) + 1
}
