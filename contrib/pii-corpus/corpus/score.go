package corpus

import (
	"fmt"
	"maps"
	"slices"
)

// Score counts what a scanner found of the labels of one entity.
type Score struct {
	Found, Right  int // findings, and those that overlap a label of their entity
	Labels, Known int // labels, and those that a finding of their entity overlaps
}

// Precision is how many findings were right, Recall how many labels were found; 1 of none.
func (s Score) Precision() float64 { return ratio(s.Right, s.Found) }

// Recall is how many labels were found.
func (s Score) Recall() float64 { return ratio(s.Known, s.Labels) }

func ratio(a, b int) float64 {
	if b == 0 {
		return 1
	}
	return float64(a) / float64(b)
}

func (s Score) String() string {
	return fmt.Sprintf("precision %.4f (%d of %d) recall %.4f (%d of %d)", s.Precision(), s.Right, s.Found, s.Recall(), s.Known, s.Labels)
}

// Mistake is a finding without a label, or a label without a finding.
type Mistake struct {
	Row    int
	Missed bool
	Label
}

// Judge holds what was found in each row against its labels: by entity, all together under "", and every mistake.
func Judge(rows []Row, found [][]Label) (map[string]Score, []Mistake) {
	by, wrong := map[string]Score{}, []Mistake{}
	for i, r := range rows {
		for _, f := range found[i] {
			s, right := by[f.Entity], slices.ContainsFunc(r.Labels, f.meets)
			s.Found++
			if right {
				s.Right++
			} else {
				wrong = append(wrong, Mistake{i, false, f})
			}
			by[f.Entity] = s
		}
		for _, l := range r.Labels {
			s, known := by[l.Entity], slices.ContainsFunc(found[i], l.meets)
			s.Labels++
			if known {
				s.Known++
			} else {
				wrong = append(wrong, Mistake{i, true, l})
			}
			by[l.Entity] = s
		}
	}
	var all Score
	for s := range maps.Values(by) {
		all = Score{all.Found + s.Found, all.Right + s.Right, all.Labels + s.Labels, all.Known + s.Known}
	}
	by[""] = all
	return by, wrong
}

func (l Label) meets(o Label) bool { return l.Entity == o.Entity && l.Start < o.End && o.Start < l.End }
