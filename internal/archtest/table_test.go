package archtest_test

import (
	"regexp"
	"strings"
	"testing"
)

var codeSpan = regexp.MustCompile("`([^`]+)`")

// row is one line of a Markdown table, cell by cell.
type row []string

// words are the code spans of a cell.
func words(cell string) []string {
	var out []string
	for _, m := range codeSpan.FindAllStringSubmatch(cell, -1) {
		out = append(out, m[1])
	}
	return out
}

// word is the first code span of a cell, or its text where there is none.
func word(cell string) string {
	if w := words(cell); len(w) > 0 {
		return w[0]
	}
	return strings.TrimSpace(cell)
}

// table returns the rows below a heading, without the head of the table.
func table(t *testing.T, path, heading string) []row {
	t.Helper()
	rows := tableIn(read(t, path), heading)
	if len(rows) == 0 {
		t.Fatalf("%s has no table below %q", path, heading)
	}
	return rows
}

func tableIn(text, heading string) []row {
	var rows []row
	inside, seen := false, 0
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#"):
			inside = strings.TrimSpace(strings.TrimLeft(line, "#")) == heading
		case inside && strings.HasPrefix(line, "|"):
			if seen++; seen <= 2 {
				continue // the head and the rule below it
			}
			var r row
			for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
				r = append(r, strings.TrimSpace(cell))
			}
			rows = append(rows, r)
		case inside && seen > 0:
			return rows
		}
	}
	return rows
}
