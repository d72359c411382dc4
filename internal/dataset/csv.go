package dataset

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// table reads CSV as RFC 4180 has it: fields with commas, quotes and line ends stand in double quotes, the first record names the
// columns. All values are text; an empty field is an empty text. A line end in a field is \n, however it is written.
type table struct {
	r     *csv.Reader
	from  *allowance
	shown string
	names [][]byte // quoted, with the colon
	row   []byte
	field []byte
	lines int64 // of the record before
}

func newCSV(r io.Reader, shown string) *table {
	from := &allowance{r: r}
	c := csv.NewReader(bufio.NewReaderSize(from, chunk))
	c.ReuseRecord = true
	return &table{r: c, from: from, shown: shown}
}

// allowance bounds how much one record may read.
type allowance struct {
	r    io.Reader
	left int
}

var errRecordTooLong = errors.New("record too long")

func (a *allowance) Read(p []byte) (int, error) {
	if a.left <= 0 {
		return 0, errRecordTooLong
	}
	n, err := a.r.Read(p[:min(len(p), a.left)])
	a.left -= n
	return n, err
}

func (t *table) record() ([]string, error) {
	t.from.left = MaxLine
	rec, err := t.r.Read()
	if errors.Is(err, errRecordTooLong) {
		return nil, forge.Invalidf("path", "%s: a record after line %d is longer than 16 MiB", t.shown, t.lines).
			WithHint("Is a double quote not closed? A quote inside a quoted field is written twice")
	}
	return rec, err
}

func (t *table) header() error {
	rec, err := t.record()
	switch {
	case errors.Is(err, io.EOF):
		return forge.Invalidf("path", "%s has no rows, only blank lines", t.shown)
	case err != nil:
		return t.failed(err)
	}
	seen := map[string]bool{}
	for i, name := range rec {
		switch {
		case i == 0 && strings.HasPrefix(name, "\ufeff"):
			return forge.Invalidf("path", "%s: line 1 starts with a byte order mark, which would be part of a column's name", t.shown).
				WithHint(`Remove it: sed -i '1s/^\xEF\xBB\xBF//' FILE`)
		case name == "" || len(name) > maxColumnName:
			return forge.Invalidf("path", "%s: the name of column %d has %d bytes; want 1 to %d", t.shown, i+1, len(name), maxColumnName)
		case seen[name]:
			return forge.Invalidf("path", "%s: column %s stands twice in the header", t.shown, columnName([]byte(name)))
		case len(rec) > maxColumns:
			return forge.Invalidf("path", "%s has %d columns; want at most %d", t.shown, len(rec), maxColumns)
		}
		seen[name] = true
		t.names = append(t.names, append(appendQuoted(nil, []byte(name)), ':'))
	}
	t.lines, _ = t.position()
	return nil
}

func (t *table) position() (int64, int) {
	line, col := t.r.FieldPos(0)
	return int64(line), col
}

func (t *table) failed(err error) error {
	var at *csv.ParseError
	if errors.As(err, &at) {
		return forge.Invalidf("path", "%s: line %d, column %d: %v", t.shown, at.Line, at.Column, at.Err)
	}
	return err
}

func (t *table) next() ([]byte, int64, error) {
	if t.names == nil {
		if err := t.header(); err != nil {
			return nil, 0, err
		}
	}
	rec, err := t.record()
	var at *csv.ParseError
	switch {
	case err == nil:
	case errors.As(err, &at) && errors.Is(err, csv.ErrFieldCount):
		return nil, 0, &rowError{number: int64(at.StartLine), why: fmt.Sprintf("has %d fields; the header has %d", len(rec), len(t.names))}
	case errors.As(err, &at):
		return nil, 0, &rowError{number: int64(at.StartLine), why: fmt.Sprintf("is no CSV: %v at line %d, byte %d", at.Err, at.Line, at.Column),
			hint: "A field with a comma, a quote or a line end stands in double quotes, and a quote in it is written twice"}
	default:
		return nil, 0, err
	}
	t.row = append(t.row[:0], '{')
	for i, v := range rec {
		if i > 0 {
			t.row = append(t.row, ',')
		}
		t.field = append(t.field[:0], v...)
		t.row = append(t.row, t.names[i]...)
		t.row = appendQuoted(t.row, t.field)
	}
	line, _ := t.position()
	t.lines = line
	return append(t.row, '}'), line, nil
}
