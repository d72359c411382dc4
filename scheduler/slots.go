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

// closest takes n slots, by each level from the nearest neighbourhood outwards: of one NVLink island where one has enough, the fullest that does,
// and within it, or where there are no islands, of one NUMA node. Where none has enough it takes the largest whole and looks for the rest.
func closest(among []*slot, n int, levels ...func(*slot) int) []*slot {
	if len(levels) == 0 || n >= len(among) {
		return among[:min(n, len(among))]
	}
	of := levels[0]
	best, least, largest, most := 0, 0, 0, 0
	for _, x := range among {
		g := of(x)
		if g == 0 || g == best || g == largest {
			continue
		}
		size := 0
		for _, y := range among {
			if of(y) == g {
				size++
			}
		}
		if size >= n && (best == 0 || size < least || size == least && g < best) {
			best, least = g, size
		}
		if size > most || size == most && g < largest {
			largest, most = g, size
		}
	}
	parted := func(g int) (in, out []*slot) {
		for _, x := range among {
			if of(x) == g {
				in = append(in, x)
			} else {
				out = append(out, x)
			}
		}
		return in, out
	}
	switch {
	case best != 0:
		in, _ := parted(best)
		return closest(in, n, levels[1:]...)
	case largest != 0:
		in, rest := parted(largest)
		return append(in, closest(rest, n-len(in), levels...)...)
	}
	return closest(among, n, levels[1:]...)
}

// numaOf is the number of the NUMA node that a GPU is next to, from 1; 0: not known.
func numaOf(g *forge.GPU) int {
	n, err := strconv.ParseUint(g.NUMA, 10, 16)
	if err != nil {
		return 0
	}
	return int(n) + 1
}
