package dataset

import (
	"bytes"
	"fmt"

	forge "github.com/forge-ml/forge-ml"
)

// Bounds that no dataset meets and that keep a hostile file from filling memory.
const (
	maxColumns    = 1000
	maxColumnName = 256
)

// place is where a row stands.
type place struct {
	file string
	line int64
}

// signature is what must be the same in every row: which of the columns that make a kind are
// there, and which of them are lists of messages and not strings.
type signature struct{ has, list columnSet }

// table is what all rows so far have in common.
type table struct {
	s       scanner
	rows    int64
	kind    forge.DatasetKind
	sig     signature // of the first row
	first   place
	columns map[string]struct{}
	faults  faults
}

func newTable() *table { return &table{columns: map[string]struct{}{}} }

// row checks one line and adds it; a blank line is no row.
func (t *table) row(line []byte, at place) *problem {
	s := &t.s
	s.reset(line)
	s.space()
	if s.i == len(line) {
		return nil
	}
	if s.peek() != '{' {
		return t.notAnObject(at)
	}
	sig, p := t.object()
	if p != nil {
		return p
	}
	s.space()
	if s.i < len(line) {
		return s.bad("after the object comes %s; one object a line", s.found())
	}
	if p := t.add(sig, line, at); p != nil {
		return p
	}
	s.pair(sig)
	t.faults.note(s.faults, at)
	return nil
}

func (t *table) add(sig signature, line []byte, at place) *problem {
	if t.rows > 0 && sig == t.sig {
		t.rows++
		return nil
	}
	kind, ok := sig.has.kind()
	switch {
	case !ok:
		return wrongColumns(line)
	case sig.list != 0 && sig.list != sig.has:
		return &problem{why: fmt.Sprintf("%s is a list of messages and %s a string; want all of one sort", sig.list, sig.has&^sig.list)}
	case t.rows > 0:
		return &problem{why: fmt.Sprintf("this row has %s, but %s line %d has %s; all rows of a dataset are of one kind",
			sig, t.first.file, t.first.line, t.sig)}
	}
	t.kind, t.sig, t.first, t.rows = kind, sig, at, 1
	return nil
}

func (t *table) notAnObject(at place) *problem {
	s := &t.s
	start := s.i
	what := map[byte]string{'[': "an array", '"': "a string", 't': "a boolean", 'f': "a boolean", 'n': "null"}[s.peek()]
	p := s.value()
	if p == nil {
		if what == "" {
			what = "a number"
		}
		p = &problem{at: start, why: "the row is " + what + "; a row is one JSON object"}
	}
	if at.line == 1 && s.b[start] == '[' {
		p.hint = "A JSON array converts with: jq -c '.[]' in.json > out.jsonl"
	}
	return p
}

// object reads the row itself.
func (t *table) object() (sig signature, p *problem) {
	s := &t.s
	o, p := s.enterObject()
	if p != nil {
		return sig, p
	}
	for {
		key, p := s.member(&o)
		if p != nil || key == nil {
			return sig, p
		}
		if p := t.column(key); p != nil {
			return sig, p
		}
		c := columnOf(key)
		if c == 0 {
			if p := s.value(); p != nil {
				return sig, p
			}
			continue
		}
		list, p := s.cell(c)
		if p != nil {
			return sig, p
		}
		sig.has |= c
		if list {
			sig.list |= c
		}
	}
}

func (t *table) column(key []byte) *problem {
	if _, known := t.columns[string(key)]; known {
		return nil
	}
	switch {
	case len(key) == 0 || len(key) > maxColumnName:
		return &problem{at: t.s.i, why: fmt.Sprintf("a column name has %d bytes; want 1 to %d", len(key), maxColumnName)}
	case len(t.columns) == maxColumns:
		return &problem{at: t.s.i, why: fmt.Sprintf("more than %d different columns; is a value used as a key?", maxColumns)}
	}
	t.columns[string(key)] = struct{}{}
	return nil
}

// cell reads the value of a column that makes a kind: a string, or a list of messages.
func (s *scanner) cell(c columnSet) (list bool, p *problem) {
	start := s.i
	switch {
	case s.peek() == '"' && c != colMessages:
		raw, escaped, p := s.str()
		if p == nil && len(raw) == 0 && c != colPrompt {
			p = &problem{at: start, why: fmt.Sprintf("%s is empty", c)}
		}
		s.plain(c, text{raw, escaped})
		return false, p
	case s.peek() == '[' && c != colText:
		return true, s.messages(c)
	}
	if p := s.value(); p != nil {
		return false, p
	}
	want := "a string or a list of messages"
	switch c {
	case colText:
		want = "a string"
	case colMessages:
		want = "a list of messages"
	}
	return false, &problem{at: start, why: fmt.Sprintf("%s is %s; want %s", c, kindOfValue(s.b[start]), want)}
}

// messages reads a list of {role, content}.
func (s *scanner) messages(c columnSet) *problem {
	start, assistant := s.i, false
	var last turn
	if p := s.enter(); p != nil {
		return p
	}
	for n := 0; ; n++ {
		more, p := s.element(n)
		switch {
		case p != nil:
			return p
		case more:
			t, p := s.message(c, n)
			if p != nil {
				return p
			}
			if n > 0 {
				s.empty(last)
			}
			s.next(c, n, last, t)
			last, assistant = t, assistant || t.role == "assistant"
		case n == 0:
			return &problem{at: start, why: fmt.Sprintf("%s is an empty list", c)}
		case c == colMessages && !assistant:
			return &problem{at: start, why: "messages has no assistant turn, so there is nothing to learn from"}
		default:
			s.end(c, last)
			return nil
		}
	}
}

// message reads one turn.
func (s *scanner) message(c columnSet, n int) (t turn, p *problem) {
	start := s.i
	not := func(at int, format string, args ...any) (turn, *problem) {
		return turn{}, &problem{at: at, why: fmt.Sprintf("%s[%d]: ", c, n) + fmt.Sprintf(format, args...)}
	}
	if s.peek() != '{' {
		if p := s.value(); p != nil {
			return turn{}, p
		}
		return not(start, "is %s; want an object {role, content}", kindOfValue(s.b[start]))
	}
	o, p := s.enterObject()
	if p != nil {
		return turn{}, p
	}
	var content, calls byte // first byte of the value: 0 absent, 'n' null
	var contentAt int
	for {
		key, p := s.member(&o)
		if p != nil {
			return turn{}, p
		}
		if key == nil {
			break
		}
		at, first := s.i, s.peek()
		var raw []byte
		var escaped bool
		if first == '"' {
			raw, escaped, p = s.str()
		} else {
			p = s.value()
		}
		if p != nil {
			return turn{}, p
		}
		if first == 'n' && string(key) != "content" {
			t.null = true
		}
		switch string(key) {
		case "role":
			if escaped {
				raw = unescape(s.b[at:s.i])
			}
			if t.role = roleOf(raw); t.role == "" {
				if first != '"' {
					return not(at, "role is %s; want one of %s", kindOfValue(first), allRoles)
				}
				return not(at, "role %.40q is not one of %s", raw, allRoles)
			}
		case "content":
			content, contentAt = first, at
			t.text = text{raw, escaped}
		case "tool_calls":
			if calls = first; first == '[' && isEmptyArray(s.b[at:s.i]) {
				calls = 0
			}
			t.calls = calls == '['
		}
	}
	switch {
	case t.role == "":
		return not(start, "has no role; want one of %s", allRoles)
	case content == '"':
	case (content == 0 || content == 'n') && calls == '[':
	case content == 0:
		return not(start, "has no content and no tool_calls")
	default:
		return not(contentAt, "content is %s; want a string (lists of parts, as for images, are not supported)", kindOfValue(content))
	}
	return t, nil
}

const allRoles = "system, user, assistant, tool"

// roleOf returns the role as a constant, so that rows cost no allocation; empty when unknown.
func roleOf(raw []byte) string {
	switch string(raw) {
	case "system":
		return "system"
	case "user":
		return "user"
	case "assistant":
		return "assistant"
	case "tool":
		return "tool"
	}
	return ""
}

func isEmptyArray(b []byte) bool {
	return len(bytes.TrimSpace(b[1:len(b)-1])) == 0
}

func kindOfValue(first byte) string {
	switch first {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}
