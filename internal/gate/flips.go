package gate

import (
	"cmp"
	"math"
	"slices"

	forge "github.com/forge-ml/forge-ml"
)

// flips are the samples that were scored differently: the worse ones first, the largest change first; of equal ones in the order of the suite and its
// documents.
func flips(pairs []*paired, most int) []forge.Flip {
	if most <= 0 {
		return nil
	}
	type change struct {
		size    float64 // below 0: worse
		pair, i int
	}
	order := func(a, b change) int {
		if (a.size < 0) != (b.size < 0) {
			return cmp.Compare(a.size, 0)
		}
		return cmp.Or(cmp.Compare(math.Abs(b.size), math.Abs(a.size)), cmp.Compare(a.pair, b.pair), cmp.Compare(a.i, b.i))
	}
	var kept []change
	var last change // of those that are kept once there are enough
	full := false
	cut := func() {
		slices.SortFunc(kept, order)
		if len(kept) >= most {
			kept = kept[:most]
			last, full = kept[most-1], true
		}
	}
	for k, p := range pairs {
		for i := range p.doc {
			c := change{p.turned(i), k, i}
			if c.size == 0 || full && order(c, last) > 0 {
				continue
			}
			if kept = append(kept, c); len(kept) >= 2*most+64 {
				cut()
			}
		}
	}
	cut()
	out := make([]forge.Flip, len(kept))
	for k, c := range kept {
		p := pairs[c.pair]
		out[k] = forge.Flip{Task: p.Task, Filter: p.Filter, Metric: p.Metric, DocID: p.doc[c.i], Baseline: p.b[c.i], Candidate: p.c[c.i], Worse: c.size < 0}
		if p.task != nil {
			out[k].Task = p.task[c.i]
		}
	}
	return out
}
