package pii

import (
	"cmp"
	"slices"
)

// appendBest appends, in order, what is left when of findings that overlap the surer stays, then the longer, then the first.
func appendBest(dst, found []Finding) []Finding {
	if len(found) < 2 {
		return append(dst, found...)
	}
	slices.SortStableFunc(found, func(a, b Finding) int { return cmp.Compare(a.Start, b.Start) })
	for i := 0; i < len(found); {
		end, j := found[i].End, i+1
		for j < len(found) && found[j].Start < end {
			end = max(end, found[j].End)
			j++
		}
		dst = appendFrom(dst, found[i:j])
		i = j
	}
	return dst
}

// appendFrom does it for findings that hang together.
func appendFrom(dst, some []Finding) []Finding {
	if len(some) == 1 {
		return append(dst, some[0])
	}
	slices.SortStableFunc(some, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(rank(b.Confidence), rank(a.Confidence)), cmp.Compare(b.End-b.Start, a.End-a.Start))
	})
	from := len(dst)
	for _, f := range some {
		// What has been taken is in order and apart: a binary search finds the neighbours.
		k, _ := slices.BinarySearchFunc(dst[from:], f.Start, func(a Finding, start int) int { return cmp.Compare(a.Start, start) })
		k += from
		if k < len(dst) && dst[k].Start < f.End || k > from && dst[k-1].End > f.Start {
			continue
		}
		dst = slices.Insert(dst, k, f)
	}
	return dst
}
