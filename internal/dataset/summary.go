package dataset

import (
	"fmt"
	"maps"
	"slices"
	"time"

	forge "github.com/forge-ml/forge-ml"
)

// summary is what all blocks so far hold. It sees them in order, so that first places are first ones.
type summary struct {
	o     Options
	files []forge.File
	names []string // for people, by their number
	first struct {
		sig signature
		at  place
	}
	rows     int64
	inFile   int64 // rows and problems of the file that is read
	columns  map[string]struct{}
	over     bool // more columns than there may be; said once
	faults   faults
	problems Problems
	lengths  [maxBins]int64
	same     duplicates
	near     *nearby
	pii      *personalData
	done     int64
	total    int64
}

func newSummary(o Options) *summary {
	s := &summary{o: o, columns: map[string]struct{}{}, same: duplicates{most: maxMarks}}
	if o.PII != nil {
		s.pii = newPersonalData()
	}
	if o.Near > 0 {
		s.near = newNearby(o.Near)
	}
	return s
}

func (s *summary) add(b *block, f *found) error {
	for len(s.names) <= b.file {
		s.names = append(s.names, b.shown)
		s.inFile = 0
	}
	if b.end != nil {
		s.files = append(s.files, *b.end)
		if s.inFile == 0 {
			s.problems.add(forge.RowProblem{File: b.shown, Why: "has no rows, only blank lines"})
		}
		s.progress(b.done)
		return nil
	}
	s.inFile += f.rows + f.wrong
	s.problems.take(f.problems, f.wrong)
	for _, c := range f.columns {
		s.column(c, b)
	}
	if s.first.sig.has == 0 {
		s.first.sig, s.first.at = f.sig, f.first
	}
	s.rows += f.rows
	s.progress(b.done)
	if s.problems.Total > 0 {
		return nil // it will be refused: what else is in it does not matter
	}
	s.faults.add(&f.faults)
	for i, n := range f.lengths {
		s.lengths[i] += n
	}
	if s.pii != nil {
		s.pii.add(&f.pii)
	}
	if s.near != nil {
		s.near.add(f.near, f.marks)
	}
	return s.same.add(f.marks)
}

func (s *summary) column(c columnAt, b *block) {
	if _, known := s.columns[c.name]; known || s.over {
		return
	}
	if len(s.columns) == maxColumns {
		s.over = true
		s.problems.add(forge.RowProblem{File: b.shown, Line: c.line, Column: 1,
			Why: fmt.Sprintf("more than %d different columns; is a value used as a key?", maxColumns)})
		return
	}
	s.columns[c.name] = struct{}{}
}

func (s *summary) progress(done int64) {
	if s.o.Progress != nil && done > s.done {
		s.done = done
		s.o.Progress(done, max(s.total, done), s.rows)
	}
}

// place names a row by its mark.
func (s *summary) place(at int64) string {
	return place{s.names[at>>lineBits], at & (1<<lineBits - 1)}.String()
}

// scanned is what it all comes to.
func (s *summary) scanned(began time.Time) (out forge.Scanned, err error) {
	kind, _ := s.first.sig.has.kind()
	out.Kind, out.Rows, out.Columns = kind, s.rows, slices.Sorted(maps.Keys(s.columns))
	out.Seen = forge.RowsSeen{Messages: s.first.sig.list != 0, Findings: s.faults.findings()}
	r := &out.Report
	r.Scanner, r.By, r.Lengths = s.o.Scanner, s.o.By, []forge.LengthBin{}
	if r.Duplicates, err = s.same.report(s.o.Fingerprints, s.place); err != nil {
		return out, err
	}
	if s.near != nil {
		s.near.report(&r.Duplicates, s.place)
	}
	for i, n := range s.lengths {
		if n > 0 {
			r.Lengths = append(r.Lengths, forge.LengthBin{Below: 1 << i, Rows: n})
		}
	}
	if s.pii != nil {
		r.PII = s.pii.report(*s.o.PII, s.rows)
	}
	r.At, r.Elapsed = time.Now().UTC(), forge.Duration(time.Since(began))
	return out, nil
}
