package dataset

import (
	"fmt"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// Bounds of what is kept of problems: Rows are listed, the first few stand in the message.
const (
	maxProblems   = 1000
	shownProblems = 5
)

// Problems is the error of data that has rows, or files, that are none: all of them up to a bound, and how many there are.
type Problems struct {
	Rows  []forge.RowProblem // in the order of the files; at most 1,000
	Total int64
}

func (p *Problems) add(r forge.RowProblem) {
	if p.Total++; len(p.Rows) < maxProblems {
		p.Rows = append(p.Rows, r)
	}
}

// Error has the first few.
func (p *Problems) Error() string { return p.Unwrap().Error() }

// Unwrap gives it as a forge.Error of KindInvalid with Field "path".
func (p *Problems) Unwrap() error {
	var text []string
	hint := ""
	for _, r := range p.Rows[:min(len(p.Rows), shownProblems)] {
		text = append(text, Words(r))
		if hint == "" {
			hint = r.Hint
		}
	}
	all := strings.Join(text, "\n")
	if n := p.Total - int64(len(text)); n > 0 {
		all += fmt.Sprintf("\nand %d more", n)
	}
	if p.Total > 1 {
		all = fmt.Sprintf("%d problems:\n%s", p.Total, all)
	}
	e := forge.Invalidf("path", "%s", all)
	e.Hint = hint
	return e
}

// Words says one problem in one line.
func Words(r forge.RowProblem) string {
	switch {
	case r.Line == 0:
		return r.File + " " + r.Why
	case r.Column == 0:
		return fmt.Sprintf("%s: line %d %s", r.File, r.Line, r.Why)
	}
	return fmt.Sprintf("%s: line %d, column %d: %s", r.File, r.Line, r.Column, r.Why)
}
