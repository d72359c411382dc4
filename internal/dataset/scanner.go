package dataset

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
)

// maxDepth bounds nesting: Python's json gives up near 1000, and the scanner recurses.
const maxDepth = 512

// problem is what is wrong in one line.
type problem struct {
	at        int    // byte offset in the line
	malformed bool   // not JSON, as opposed to not a row
	why       string // never quotes content other than keys and roles
	hint      string
}

func (p *problem) report(line []byte, shown string, number int64) forge.RowProblem {
	what := ""
	if p.malformed {
		what = "malformed JSON: "
	}
	return forge.RowProblem{File: shown, Line: number, Column: utf8.RuneCount(line[:min(p.at, len(line))]) + 1, Why: what + p.why, Hint: p.hint}
}

// scanner walks the JSON of one line without building it.
type scanner struct {
	b     []byte
	i     int
	depth int
	keys  [][]byte // of the objects that are open, innermost last

	tree  *tree  // where values stand; nil: nobody asks
	spans []span // the texts of the row
	plain []byte // those that had escapes
	cells [len(columnNames)]cell
	turns []turnAt
	good  bool // the label

	faults           faultSet
	chosen, rejected answer
	asked            string // role of the last turn of the prompt
}

func (s *scanner) reset(line []byte) {
	s.b, s.i, s.depth, s.keys = line, 0, 0, s.keys[:0]
	s.spans, s.plain, s.turns = s.spans[:0], s.plain[:0], s.turns[:0]
	s.faults, s.chosen, s.rejected, s.asked = 0, s.chosen[:0], s.rejected[:0], ""
}

func (s *scanner) bad(format string, args ...any) *problem {
	return &problem{at: s.i, malformed: true, why: fmt.Sprintf(format, args...)}
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\r', '\n':
			s.i++
		default:
			return
		}
	}
}

// peek is the next byte, 0 at the end of the line (a NUL byte never gets this far).
func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

// found describes the next byte for people.
func (s *scanner) found() string {
	if s.i >= len(s.b) {
		return "the end of the line"
	}
	r, _ := utf8.DecodeRune(s.b[s.i:])
	return fmt.Sprintf("%q", r)
}

// value skips one JSON value, which stands at n.
func (s *scanner) value(n *node) *problem {
	switch c := s.peek(); {
	case c == '"':
		_, _, p := s.string(n)
		return p
	case c == '{':
		return s.object(n)
	case c == '[':
		return s.array(n)
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	}
	return s.noValue()
}

func (s *scanner) array(at *node) *problem {
	if p := s.enter(); p != nil {
		return p
	}
	for n := 0; ; n++ {
		more, p := s.element(n)
		if p != nil || !more {
			return p
		}
		if p := s.value(s.below(at)); p != nil {
			return p
		}
	}
}

// enter steps over the opening bracket of an array or object.
func (s *scanner) enter() *problem {
	if s.depth++; s.depth > maxDepth {
		return &problem{at: s.i, why: fmt.Sprintf("nested deeper than %d", maxDepth)}
	}
	s.i++
	return nil
}

// element moves to element n of the array entered last; false at its end, which it leaves.
func (s *scanner) element(n int) (more bool, p *problem) {
	s.space()
	switch c := s.peek(); {
	case c == ']':
		s.i++
		s.depth--
		return false, nil
	case n == 0:
	case c == ',':
		s.i++
		s.space()
		if s.peek() == ']' {
			return false, s.bad("a comma before ]")
		}
	case s.i >= len(s.b):
		return false, s.bad("the line ends inside an array; a row is one object on one line")
	default:
		return false, s.bad("want , or ] after an array element, found %s", s.found())
	}
	return true, nil
}

func (s *scanner) object(at *node) *problem {
	o, p := s.enterObject()
	if p != nil {
		return p
	}
	at.open()
	for {
		key, p := s.member(&o)
		if p != nil || key == nil {
			return p
		}
		if p := s.value(s.inside(at, key)); p != nil {
			return p
		}
	}
}

// object remembers the keys of one open object, to find a second of the same name.
type object struct {
	base int                 // index of its first key in scanner.keys
	seen map[string]struct{} // replaces the linear search once there are many
}

const manyKeys = 24

func (s *scanner) enterObject() (object, *problem) {
	return object{base: len(s.keys)}, s.enter()
}

// member moves to the value of the next member and returns its key, unescaped; nil at the end
// of the object, which it leaves.
func (s *scanner) member(o *object) ([]byte, *problem) {
	s.space()
	first := len(s.keys) == o.base
	switch c := s.peek(); {
	case c == '}':
		s.i++
		s.depth--
		s.keys = s.keys[:o.base]
		return nil, nil
	case s.i >= len(s.b):
		return nil, s.bad("the line ends inside an object; a row is one object on one line")
	case first:
	case c == ',':
		s.i++
		s.space()
		if s.peek() == '}' {
			return nil, s.bad("a comma before }")
		}
	default:
		return nil, s.bad("want , or } after a member, found %s", s.found())
	}
	if s.peek() != '"' {
		return nil, s.bad("want a key in double quotes, found %s", s.found())
	}
	at := s.i
	key, escaped, p := s.str()
	if p != nil {
		return nil, p
	}
	if escaped {
		key = unescape(s.b[at:s.i])
	}
	s.space()
	if s.peek() != ':' {
		return nil, s.bad("want : after a key, found %s", s.found())
	}
	s.i++
	s.space()
	if o.duplicate(s.keys[o.base:], key) {
		return nil, &problem{at: at, why: fmt.Sprintf("key %.60q stands twice in one object", key)}
	}
	s.keys = append(s.keys, key)
	return key, nil
}

func (o *object) duplicate(keys [][]byte, key []byte) bool {
	if o.seen == nil {
		for _, k := range keys {
			if bytes.Equal(k, key) {
				return true
			}
		}
		if len(keys) < manyKeys {
			return false
		}
		o.seen = make(map[string]struct{}, 2*manyKeys)
		for _, k := range keys {
			o.seen[string(k)] = struct{}{}
		}
	}
	_, dup := o.seen[string(key)]
	o.seen[string(key)] = struct{}{}
	return dup
}

// string steps over a string that stands at n, and keeps it.
func (s *scanner) string(n *node) (raw []byte, escaped bool, p *problem) {
	from := s.i + 1
	if raw, escaped, p = s.str(); p == nil && s.tree != nil {
		s.spans = append(s.spans, span{n, from, raw, escaped})
	}
	return raw, escaped, p
}

// inside is the place of a key of the object at n, below that of the elements of a list.
func (s *scanner) inside(n *node, key []byte) *node {
	if s.tree == nil {
		return nil
	}
	return s.tree.child(n, key)
}

func (s *scanner) below(n *node) *node {
	if s.tree == nil {
		return nil
	}
	return s.tree.element(n)
}

// str steps over a string and returns what stands between its quotes.
func (s *scanner) str() (raw []byte, escaped bool, p *problem) {
	b, i := s.b, s.i+1
	from := i
	for {
		i = skipOrdinary(b, i)
		s.i = i
		switch {
		case i >= len(b):
			return nil, false, s.bad("the line ends inside a string")
		case b[i] == '"':
			s.i++
			return b[from:i], escaped, nil
		case b[i] != '\\':
			return nil, false, s.bad("control character 0x%02x inside a string; write it as \\u%04x", b[i], b[i])
		}
		escaped = true
		if i+1 < len(b) && b[i+1] == 'n' { // by far the most frequent
			i += 2
			continue
		}
		if p := s.escape(); p != nil {
			return nil, false, p
		}
		i = s.i
	}
}
