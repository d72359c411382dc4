package dataset

import (
	"bytes"
	"fmt"
	"math/bits"
	"strconv"

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

// String is FILE:LINE.
func (p place) String() string { return p.file + ":" + strconv.FormatInt(p.line, 10) }

// signature is what must be the same in every row: which of the columns that make a kind are
// there, and which of them are lists of messages and not strings.
type signature struct{ has, list columnSet }

// cell is what stands in one column of the kind: its texts are spans[from:to], or its turns are turns[from:to].
type cell struct {
	from, to int
	list     bool
}

// turnAt is one turn of a list: a role, a content, the texts of its tool calls.
type turnAt struct {
	role       string
	content    int // index in spans; -1: none
	from, till int // of the calls
}

// row reads one row of the kind; blank says that the line is none.
func (s *scanner) row(p *plan, number int64) (sig signature, blank bool, bad *problem) {
	s.space()
	if s.i == len(s.b) {
		return sig, true, nil
	}
	if s.peek() != '{' {
		return sig, false, s.notAnObject(number)
	}
	if sig, bad = s.columns(p); bad != nil {
		return sig, false, bad
	}
	s.space()
	if s.i < len(s.b) {
		return sig, false, s.bad("after the object comes %s; one object a line", s.found())
	}
	sig.has = sig.has.settled()
	switch kind, ok := sig.has.kind(); {
	case !ok, p.kind != "" && kind != p.kind:
		return sig, false, p.wrongColumns(s.b)
	case sig.list != 0 && sig.list != sig.has&^colLabel:
		return sig, false, &problem{why: fmt.Sprintf("%s is a list of messages and %s a string; want all of one sort", sig.list, sig.has&^sig.list&^colLabel)}
	}
	s.pair(sig)
	return sig, false, nil
}

func (s *scanner) notAnObject(number int64) *problem {
	start := s.i
	what := map[byte]string{'[': "an array", '"': "a string", 't': "a boolean", 'f': "a boolean", 'n': "null"}[s.peek()]
	p := s.value(nil)
	if p == nil {
		if what == "" {
			what = "a number"
		}
		p = &problem{at: start, why: "the row is " + what + "; a row is one JSON object"}
	}
	if number == 1 && s.b[start] == '[' {
		p.hint = "A JSON array is read from a file that is named *.json; or convert it with: jq -c '.[]' in.json > out.jsonl"
	}
	return p
}

// columns reads the row itself.
func (s *scanner) columns(p *plan) (sig signature, bad *problem) {
	o, bad := s.enterObject()
	if bad != nil {
		return sig, bad
	}
	s.tree.root.open()
	for {
		key, bad := s.member(&o)
		if bad != nil || key == nil {
			return sig, bad
		}
		if len(key) == 0 || len(key) > maxColumnName {
			return sig, &problem{at: s.i, why: fmt.Sprintf("a column name has %d bytes; want 1 to %d", len(key), maxColumnName)}
		}
		n := s.inside(s.tree.root, key)
		has, list := n.col, false
		switch has {
		case 0:
			bad = s.value(n)
		case colLabel:
			has, bad = s.label(p, n)
		default:
			list, bad = s.cell(has, n)
		}
		if bad != nil {
			return sig, bad
		}
		sig.has |= has
		if list {
			sig.list |= has
		}
	}
}

// label reads true or false; anything else is a column like any other, unless labels were asked for.
func (s *scanner) label(p *plan, n *node) (columnSet, *problem) {
	at, first, spans := s.i, s.peek(), len(s.spans)
	if bad := s.value(n); bad != nil {
		return 0, bad
	}
	is := first == 't'
	if p.texts() && first == '"' && len(s.spans) > spans {
		switch text := s.text(spans); {
		case bytes.EqualFold(text, []byte("true")):
			first, is = 't', true
		case bytes.EqualFold(text, []byte("false")):
			first, is = 'f', false
		}
	}
	if first != 't' && first != 'f' {
		if p.kind == forge.KindUnpaired {
			return 0, &problem{at: at, why: fmt.Sprintf("label is %s; want true or false", kindOfValue(first))}
		}
		return 0, nil
	}
	s.good = is
	return colLabel, nil
}

// cell reads the value of a column that makes a kind: a string, or a list of messages.
func (s *scanner) cell(c columnSet, n *node) (list bool, p *problem) {
	start, at := s.i, &s.cells[bits.TrailingZeros16(uint16(c))]
	switch {
	case s.peek() == '"' && c != colMessages:
		*at = cell{from: len(s.spans)}
		raw, escaped, p := s.string(n)
		if p == nil && len(raw) == 0 && c != colPrompt {
			p = &problem{at: start, why: fmt.Sprintf("%s is empty", c)}
		}
		at.to = len(s.spans)
		s.single(c, text{raw, escaped})
		return false, p
	case s.peek() == '[' && c != colText:
		*at = cell{from: len(s.turns), list: true}
		p := s.messages(c, n)
		at.to = len(s.turns)
		return true, p
	}
	if p := s.value(n); p != nil {
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
func (s *scanner) messages(c columnSet, at *node) *problem {
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
			t, p := s.message(c, n, s.below(at))
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
func (s *scanner) message(c columnSet, n int, here *node) (t turn, p *problem) {
	start := s.i
	not := func(at int, format string, args ...any) (turn, *problem) {
		return turn{}, &problem{at: at, why: fmt.Sprintf("%s[%d]: ", c, n) + fmt.Sprintf(format, args...)}
	}
	if s.peek() != '{' {
		if p := s.value(here); p != nil {
			return turn{}, p
		}
		return not(start, "is %s; want an object {role, content}", kindOfValue(s.b[start]))
	}
	o, p := s.enterObject()
	if p != nil {
		return turn{}, p
	}
	here.open()
	where := turnAt{content: -1}
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
		spans := len(s.spans)
		if first == '"' {
			raw, escaped, p = s.string(s.inside(here, key))
		} else {
			p = s.value(s.inside(here, key))
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
			if first == '"' {
				where.content = spans
			}
		case "tool_calls":
			if calls = first; first == '[' && isEmptyArray(s.b[at:s.i]) {
				calls = 0
			}
			t.calls = calls == '['
			where.from, where.till = spans, len(s.spans)
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
	where.role = t.role
	s.turns = append(s.turns, where)
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
