package recipes

import (
	"slices"
	"strings"
)

// nearest returns up to n names that somebody who typed s may have meant: those with the same
// last part first (learning_rate for train.learning_rate), then by edit distance.
func nearest(s string, names []string, n int) []string {
	const maxLen = 100 // longer input is no misspelling, and the distance costs its square
	if len(s) > maxLen {
		return nil
	}
	type scored struct {
		name string
		d    int
	}
	var out []scored
	for _, name := range names {
		d := distance(s, name)
		if lastPart(s) == lastPart(name) {
			d = 0
		} else if tail := distance(lastPart(s), lastPart(name)); tail < d && tail <= 2 && tail*3 <= len(lastPart(name)) {
			d = tail
		}
		if d <= max(2, len(name)/3) {
			out = append(out, scored{name, d})
		}
	}
	slices.SortStableFunc(out, func(a, b scored) int {
		if a.d != b.d {
			return a.d - b.d
		}
		return strings.Compare(a.name, b.name)
	})
	var res []string
	for _, c := range out[:min(n, len(out))] {
		res = append(res, c.name)
	}
	return res
}

func lastPart(s string) string { return s[strings.LastIndexByte(s, '.')+1:] }

// distance is Levenshtein's, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j+1]+1, row[j]+1, diag+cost)
			diag, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
