package scheduler

import (
	"slices"

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

// pickSlots chooses free slots of the bin, those that are claimed for the run first, ascending. Of what is free to all it takes slots of one
// island where one has enough, the fullest that does.
func (b *bin) pickSlots(run forge.RunID, n int) []int {
	out := make([]int, 0, n)
	for _, sl := range b.slots {
		if len(out) < n && run != "" && sl.claim == run && !sl.sick && !sl.held {
			out = append(out, sl.n)
		}
	}
	if need := n - len(out); need > 0 {
		island := b.island(need)
		for _, only := range []bool{true, false} {
			for _, sl := range b.slots {
				if len(out) < n && sl.free() && (island == 0 || (sl.island == island) == only) && (island != 0 || only) {
					out = append(out, sl.n)
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// island is the one with the fewest free slots that still has n; 0 when none has, or none is known.
func (b *bin) island(n int) int {
	best, left := 0, 0
	for _, x := range b.slots {
		if x.island == 0 || !x.free() {
			continue
		}
		k := 0
		for _, y := range b.slots {
			if y.island == x.island && y.free() {
				k++
			}
		}
		if k >= n && (best == 0 || k < left || k == left && x.island < best) {
			best, left = x.island, k
		}
	}
	return best
}
