package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	forge "github.com/forge-ml/forge-ml"
)

// problemsMost is how many bad rows people are shown; programs get all that are known.
const problemsMost = 20

// problemLine is FILE:LINE:COLUMN: why; what is wrong with a file as a whole is said of the file.
func problemLine(p forge.RowProblem) string {
	if p.Line == 0 {
		return clean(p.File + " " + p.Why)
	}
	return clean(problemPlace(p) + ": " + p.Why)
}

// problemPlace is where a row is, as editors and grep write it.
func problemPlace(p forge.RowProblem) string {
	s := p.File
	if p.Line > 0 {
		s += ":" + strconv.FormatInt(p.Line, 10)
		if p.Column > 0 {
			s += ":" + strconv.Itoa(p.Column)
		}
	}
	return s
}

// problemGroup is what is wrong in the same way.
type problemGroup struct {
	why  string
	rows []forge.RowProblem
}

// problemGroups puts rows with the same cause together, the most frequent cause first.
func problemGroups(rows []forge.RowProblem) []problemGroup {
	at := map[string]int{}
	var out []problemGroup
	for _, r := range rows {
		i, there := at[r.Why]
		if !there {
			i = len(out)
			at[r.Why] = i
			out = append(out, problemGroup{why: r.Why})
		}
		out[i].rows = append(out[i].rows, r)
	}
	slices.SortStableFunc(out, func(a, b problemGroup) int { return cmp.Compare(len(b.rows), len(a.rows)) })
	return out
}

// groupFrom is from how many rows of the same cause on they are said in one line.
const groupFrom = 4

// problemLines says which rows are none: FILE:LINE:COLUMN: why, at most 20 lines; all is how many there are.
func problemLines(rows []forge.RowProblem, all int64) []string {
	var out []string
	var told int64
	hints := map[string]bool{}
	hint := func(r forge.RowProblem) {
		if r.Hint != "" && !hints[r.Hint] {
			hints[r.Hint] = true
			out = append(out, "  hint: "+clean(r.Hint))
		}
	}
	lines := 0
	for _, g := range problemGroups(rows) {
		if lines >= problemsMost {
			break
		}
		if len(g.rows) >= groupFrom {
			first := make([]string, 0, placesMost)
			for _, r := range g.rows[:placesMost] {
				first = append(first, problemPlace(r))
			}
			out = append(out, problemLine(g.rows[0]),
				fmt.Sprintf("  and %s of the same, at %s", thousands(int64(len(g.rows)-1)), places(first[1:], int64(len(g.rows)-1))))
			hint(g.rows[0])
			told += int64(len(g.rows))
			lines++
			continue
		}
		for _, r := range g.rows {
			if lines >= problemsMost {
				break
			}
			out = append(out, problemLine(r))
			hint(r)
			told++
			lines++
		}
	}
	if rest := all - told; rest > 0 {
		out = append(out, "and "+thousands(rest)+" more; those that are known with -o json")
	}
	return out
}
