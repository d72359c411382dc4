package dataset

import (
	"bytes"
	"encoding/json"
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

func (p *problem) report(line []byte, shown string, number int64) error {
	what := ""
	if p.malformed {
		what = "malformed JSON: "
	}
	col := utf8.RuneCount(line[:min(p.at, len(line))]) + 1
	e := forge.Invalidf("path", "%s: line %d, column %d: %s%s", shown, number, col, what, p.why)
	e.Hint = p.hint
	return e
}

// scanner walks the JSON of one line without building it.
type scanner struct {
	b     []byte
	i     int
	depth int
	keys  [][]byte // of the objects that are open, innermost last

	faults           faultSet
	chosen, rejected answer
	asked            string // role of the last turn of the prompt
}

func (s *scanner) reset(line []byte) {
	s.b, s.i, s.depth, s.keys = line, 0, 0, s.keys[:0]
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

// value skips one JSON value.
func (s *scanner) value() *problem {
	switch c := s.peek(); {
	case c == '"':
		_, _, p := s.str()
		return p
	case c == '{':
		return s.object()
	case c == '[':
		return s.array()
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

// noValue says why no value starts here; the guesses are the usual exports from Python.
func (s *scanner) noValue() *problem {
	rest := s.b[s.i:]
	for word, instead := range map[string]string{"NaN": "null", "Infinity": "null", "None": "null", "True": "true", "False": "false"} {
		if bytes.HasPrefix(rest, []byte(word)) {
			return s.bad("%s is not JSON; write %s", word, instead)
		}
	}
	if s.peek() == '\'' {
		return s.bad("strings stand in double quotes, not in single ones")
	}
	if s.i >= len(s.b) {
		return s.bad("the line ends where a value is wanted; a row is one object on one line")
	}
	return s.bad("want a value, found %s", s.found())
}

func (s *scanner) literal(word string) *problem {
	if !bytes.HasPrefix(s.b[s.i:], []byte(word)) {
		return s.bad("want %s, found something else", word)
	}
	s.i += len(word)
	return nil
}

func (s *scanner) digits() bool {
	from := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > from
}

func (s *scanner) number() *problem {
	if s.peek() == '-' {
		s.i++
		if s.peek() == 'I' {
			return s.bad("-Infinity is not JSON; write null")
		}
	}
	if s.peek() == '0' {
		s.i++
		if c := s.peek(); c >= '0' && c <= '9' {
			return s.bad("a number does not start with 0")
		}
	} else if !s.digits() {
		return s.bad("want a digit, found %s", s.found())
	}
	if s.peek() == '.' {
		s.i++
		if !s.digits() {
			return s.bad("want a digit after the decimal point, found %s", s.found())
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.i++
		if c := s.peek(); c == '+' || c == '-' {
			s.i++
		}
		if !s.digits() {
			return s.bad("want a digit in the exponent, found %s", s.found())
		}
	}
	return nil
}

func (s *scanner) array() *problem {
	if p := s.enter(); p != nil {
		return p
	}
	for n := 0; ; n++ {
		more, p := s.element(n)
		if p != nil || !more {
			return p
		}
		if p := s.value(); p != nil {
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

func (s *scanner) object() *problem {
	o, p := s.enterObject()
	if p != nil {
		return p
	}
	for {
		key, p := s.member(&o)
		if p != nil || key == nil {
			return p
		}
		if p := s.value(); p != nil {
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

// plain marks the bytes that a string may hold as they are: all but ", \ and controls.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 256; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// str steps over a string and returns what stands between its quotes.
func (s *scanner) str() (raw []byte, escaped bool, p *problem) {
	b, i := s.b, s.i+1
	from := i
	for {
		for i < len(b) && plain[b[i]] {
			i++
		}
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
		if p := s.escape(); p != nil {
			return nil, false, p
		}
		i = s.i
	}
}

// escape steps over one escape sequence, a surrogate pair counting as one.
func (s *scanner) escape() *problem {
	at := s.i
	s.i++
	switch c := s.peek(); c {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i++
		return nil
	case 'u':
	default:
		return s.bad("want an escape like \\n or \\u00e9 after the backslash, found %s", s.found())
	}
	u, p := s.hex4()
	switch {
	case p != nil || u < 0xd800 || u > 0xdfff:
		return p
	case u <= 0xdbff && s.i+1 < len(s.b) && s.b[s.i] == '\\' && s.b[s.i+1] == 'u':
		s.i++
		low, p := s.hex4()
		if p != nil || low >= 0xdc00 && low <= 0xdfff {
			return p
		}
	}
	// encoding/json puts U+FFFD here in silence; Python keeps it and its tokenizers then raise.
	return &problem{at: at, why: fmt.Sprintf(`\u%04x is half of a surrogate pair and no character`, u)}
}

// hex4 reads the four digits after the u on which it stands.
func (s *scanner) hex4() (u rune, p *problem) {
	s.i++
	for range 4 {
		c := s.peek()
		switch {
		case c >= '0' && c <= '9':
			u = u<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			u = u<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, s.bad("want four hexadecimal digits after \\u, found %s", s.found())
		}
		s.i++
	}
	return u, nil
}

// unescape returns the text of a quoted string that str has accepted.
func unescape(quoted []byte) []byte {
	var t string
	if err := json.Unmarshal(quoted, &t); err != nil {
		return quoted // str accepted it, so this cannot be
	}
	return []byte(t)
}
