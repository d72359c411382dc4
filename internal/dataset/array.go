package dataset

import (
	"bufio"
	"errors"
	"io"

	forge "github.com/forge-ml/forge-ml"
)

// array reads a file that is one JSON array of objects, one element after another. It only finds where they end; what is in them
// is looked at later.
type array struct {
	r      *bufio.Reader
	shown  string
	number int64
	row    []byte
	begun  bool
}

func newArray(r io.Reader, shown string) *array {
	return &array{r: bufio.NewReaderSize(r, chunk), shown: shown}
}

func (a *array) invalid(format string, args ...any) error {
	return forge.Invalidf("path", "%s "+format, append([]any{a.shown}, args...)...)
}

// space skips white space and returns what follows, which is left to be read.
func (a *array) space() (byte, error) {
	for {
		c, err := a.r.ReadByte()
		if err != nil {
			return 0, err
		}
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		}
		return c, a.r.UnreadByte()
	}
}

func (a *array) cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return a.invalid("ends inside the array, after row %d: it is cut off", a.number)
	}
	return err
}

func (a *array) next() (row []byte, number int64, err error) {
	c, err := a.space()
	switch {
	case errors.Is(err, io.EOF) && !a.begun:
		return nil, 0, a.invalid("has no rows, only white space")
	case err != nil:
		return nil, 0, a.cutOff(err)
	case !a.begun && c == '{':
		return nil, 0, forge.Invalidf("path", "%s begins with an object; a .json file of data is one array of objects", a.shown).
			WithHint("If it holds one object a line, name it *.jsonl; else convert it: jq '[.]' in.json > out.json")
	case !a.begun && c != '[':
		if c >= 0x80 || c == 0 {
			return nil, 0, a.invalid("does not begin as JSON in UTF-8 does (byte 0x%02x); want one array of objects", c)
		}
		return nil, 0, a.invalid("begins with %q; want one array of objects", c)
	case !a.begun, c == ',':
		_, _ = a.r.Discard(1)
		comma := a.begun
		a.begun = true
		if c, err = a.space(); err != nil {
			return nil, 0, a.cutOff(err)
		}
		if c == ']' && !comma {
			return nil, 0, a.end()
		}
		if c == ']' || c == ',' {
			return nil, 0, a.invalid("is malformed JSON: after row %d a comma is followed by %q", a.number, c)
		}
	case c == ']':
		return nil, 0, a.end()
	default:
		return nil, 0, a.invalid("is malformed JSON: want , or ] after row %d, found another character", a.number)
	}
	a.number++
	if err := a.element(); err != nil {
		var wrong *rowError
		if errors.As(err, &wrong) {
			return nil, 0, err
		}
		return nil, 0, a.cutOff(err)
	}
	return a.row, a.number, nil
}

func (a *array) end() error {
	_, _ = a.r.Discard(1)
	if _, err := a.space(); err == nil {
		return a.invalid("goes on after the array has ended; want one array of objects")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return io.EOF
}

// element reads to the end of one value: where no bracket is open. A value of more than MaxLine is skipped and not held.
func (a *array) element() error {
	a.row = a.row[:0]
	depth, inString, escaped, long, size := 0, false, false, false, 0
	for {
		window, err := a.r.Peek(1)
		if err != nil {
			return err
		}
		window, _ = a.r.Peek(a.r.Buffered())
		n, ended := 0, false
		for n < len(window) && !ended {
			c := window[n]
			switch {
			case escaped:
				escaped = false
			case inString:
				if c != '"' && c != '\\' {
					n = skipOrdinary(window, n)
					if n < len(window) && window[n] != '"' && window[n] != '\\' {
						n++ // a control: the row's own check says so
					}
					continue
				}
				escaped, inString = c == '\\', c != '"'
				ended = c == '"' && depth == 0
			case c == '"':
				inString = true
			case c == '{' || c == '[':
				depth++
			case c == '}' || c == ']':
				if depth == 0 { // of the array: it is left
					window, ended = window[:n], true
					continue
				}
				depth--
				ended = depth == 0
			case depth == 0 && c == ',':
				window, ended = window[:n], true
				continue
			}
			n++
		}
		if size += n; size > MaxLine {
			long, a.row = true, a.row[:0]
		}
		if !long {
			a.row = append(a.row, window[:n]...)
		}
		if _, err := a.r.Discard(n); err != nil {
			return err
		}
		if !ended {
			continue
		}
		if long {
			return &rowError{number: a.number, why: "is longer than 16 MiB"}
		}
		return nil
	}
}
