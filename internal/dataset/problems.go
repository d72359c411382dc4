package dataset

import (
	"errors"
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

	Format forge.DatasetFormat // in those without lines, what is counted are rows
}

// fileProblem is what is wrong with a file as a whole.
func fileProblem(shown string, err error) forge.RowProblem {
	why := err.Error()
	var e *forge.Error
	if errors.As(err, &e) && e.Err != nil {
		why = e.Err.Error()
	}
	return forge.RowProblem{File: shown, Why: strings.TrimPrefix(why, shown+" "), Hint: forge.HintOf(err)}
}

func (p *Problems) add(r forge.RowProblem) {
	if p.Total++; len(p.Rows) < maxProblems {
		p.Rows = append(p.Rows, r)
	}
}

// take adds those of one block: the first of them, and how many there are.
func (p *Problems) take(rows []forge.RowProblem, total int64) {
	p.Total += total
	p.Rows = append(p.Rows, rows[:min(len(rows), maxProblems-len(p.Rows))]...)
}

// Error has the first few.
func (p *Problems) Error() string { return p.Unwrap().Error() }

// Unwrap gives it as a forge.Error of KindInvalid with Field "path".
func (p *Problems) Unwrap() error {
	var text []string
	hint := ""
	for _, r := range p.Rows[:min(len(p.Rows), shownProblems)] {
		text = append(text, p.Words(r))
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
func (p *Problems) Words(r forge.RowProblem) string {
	unit := "line"
	if p.Format != forge.FormatJSONL && p.Format != forge.FormatCSV {
		unit = "row"
	}
	switch {
	case r.Line == 0:
		return r.File + " " + r.Why
	case r.Column == 0:
		return fmt.Sprintf("%s: %s %d %s", r.File, unit, r.Line, r.Why)
	}
	return fmt.Sprintf("%s: %s %d, column %d: %s", r.File, unit, r.Line, r.Column, r.Why)
}
