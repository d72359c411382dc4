package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
)

const (
	// maxDepth bounds how deep a body nests. The deepest of ours has five levels.
	maxDepth = 32
	// maxNumber bounds how long a number is written; the longest float64 takes 24 characters.
	maxNumber = 64
	// fewKeys is up to how many keys of an object are compared one by one.
	fewKeys = 16
)

// checkJSON looks at a body before anything decodes it, and refuses what decoders answer
// differently or at great cost: deep nesting, a key given twice (encoding/json takes the last, others
// the first), bytes that are no text, characters that move a terminal's cursor, numbers that nobody can hold.
func checkJSON(b []byte) error {
	s := jsonScan{b: b}
	if err := s.value(0); err != nil {
		return err
	}
	s.space()
	if s.i < len(s.b) {
		return s.syntax("%s after the end of the value", s.here())
	}
	return nil
}

// jsonScan walks over one JSON text.
type jsonScan struct {
	b    []byte
	i    int
	path []string
	keys [][]byte // of the open objects, those of the innermost last
}

func (s *jsonScan) refuse(format string, args ...any) error {
	return &forge.Error{Kind: forge.KindInvalid, Field: strings.Join(s.path, "."), Err: fmt.Errorf(format, args...)}
}

func (s *jsonScan) syntax(format string, args ...any) error {
	return &forge.Error{Kind: forge.KindInvalid, Err: fmt.Errorf("the body is not JSON: "+format+" (byte %d)", append(args, s.i)...)}
}

// here names what stands at the current place.
func (s *jsonScan) here() string {
	if s.i >= len(s.b) {
		return "unexpected end"
	}
	r, _ := utf8.DecodeRune(s.b[s.i:])
	return fmt.Sprintf("unexpected %q", r)
}

func (s *jsonScan) space() {
	for s.i < len(s.b) && (s.b[s.i] == ' ' || s.b[s.i] == '\n' || s.b[s.i] == '\r' || s.b[s.i] == '\t') {
		s.i++
	}
}

// next skips white space and says what comes; 0 at the end.
func (s *jsonScan) next() byte {
	s.space()
	if s.i >= len(s.b) {
		return 0
	}
	return s.b[s.i]
}

func (s *jsonScan) value(depth int) error {
	switch c := s.next(); {
	case c == '{' || c == '[':
		if depth == maxDepth {
			s.path = nil // a path of that depth says nothing
			return s.refuse("the body nests deeper than the %d levels that are accepted", maxDepth)
		}
		if c == '{' {
			return s.object(depth + 1)
		}
		return s.array(depth + 1)
	case c == '"':
		_, err := s.text()
		return err
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(s.b[s.i:], []byte(word)) {
			s.i += len(word)
			return nil
		}
	}
	return s.syntax("%s", s.here())
}

func (s *jsonScan) array(depth int) error {
	s.i++
	if s.next() == ']' {
		s.i++
		return nil
	}
	for n := 0; ; n++ {
		s.path = append(s.path, strconv.Itoa(n))
		if err := s.value(depth); err != nil {
			return err
		}
		s.path = s.path[:len(s.path)-1]
		switch s.next() {
		case ',':
			s.i++
		case ']':
			s.i++
			return nil
		default:
			return s.syntax("%s, want , or ]", s.here())
		}
	}
}

func (s *jsonScan) object(depth int) error {
	s.i++
	if s.next() == '}' {
		s.i++
		return nil
	}
	first := len(s.keys)
	defer func() { s.keys = s.keys[:first] }()
	var many map[string]struct{}
	for {
		if s.next() != '"' {
			return s.syntax("%s, want a key in quotes", s.here())
		}
		key, err := s.text()
		if err != nil {
			return err
		}
		twice := false
		if mine := s.keys[first:]; len(mine) < fewKeys {
			for _, k := range mine {
				twice = twice || bytes.Equal(k, key)
			}
			s.keys = append(s.keys, key)
		} else {
			if many == nil {
				many = make(map[string]struct{}, 2*fewKeys)
				for _, k := range mine {
					many[string(k)] = struct{}{}
				}
			}
			_, twice = many[string(key)]
			many[string(key)] = struct{}{}
		}
		s.path = append(s.path, string(key[:min(len(key), maxNumber)]))
		if twice {
			return s.refuse("the key %.64q is given twice; an object has each key once", key)
		}
		if s.next() != ':' {
			return s.syntax("%s, want :", s.here())
		}
		s.i++
		if err := s.value(depth); err != nil {
			return err
		}
		s.path = s.path[:len(s.path)-1]
		switch s.next() {
		case ',':
			s.i++
		case '}':
			s.i++
			return nil
		default:
			return s.syntax("%s, want , or }", s.here())
		}
	}
}

func (s *jsonScan) number() error {
	began := s.i
	for s.i < len(s.b) && strings.IndexByte("+-.0123456789eE", s.b[s.i]) >= 0 {
		s.i++
	}
	text := s.b[began:s.i]
	if len(text) > maxNumber {
		return s.refuse("a number of %d characters; at most %d are accepted", len(text), maxNumber)
	}
	if !json.Valid(text) {
		return s.syntax("%q is no number", text)
	}
	if _, err := strconv.ParseFloat(string(text), 64); err != nil {
		return s.refuse("%s is outside of what a number can be (about ±1.8e308)", text)
	}
	return nil
}

// text reads a string and gives it decoded.
func (s *jsonScan) text() ([]byte, error) {
	s.i++
	began, plain := s.i, true
	for {
		if s.i >= len(s.b) {
			return nil, s.syntax("unexpected end in a string")
		}
		c := s.b[s.i]
		switch {
		case c == '"':
			raw := s.b[began:s.i]
			s.i++
			if plain {
				return raw, nil
			}
			return s.decode(raw)
		case c == '\\':
			plain = false
			s.i++ // what is escaped is never the end
		case c < ' ':
			return nil, s.syntax("a control character (%q) stands raw in a string", c)
		case c > '~':
			plain = false
		}
		s.i++
	}
}

// decode looks at a string that is not plain ASCII.
func (s *jsonScan) decode(raw []byte) ([]byte, error) {
	if !utf8.Valid(raw) {
		return nil, s.refuse("the text is not UTF-8")
	}
	var out string
	quoted := append(append([]byte{'"'}, raw...), '"')
	if err := json.Unmarshal(quoted, &out); err != nil {
		return nil, s.syntax("a string has an escape that does not exist")
	}
	// Half a surrogate pair decodes to U+FFFD: text that was not there.
	if strings.Count(out, "\uFFFD") != strings.Count(string(raw), "\uFFFD")+strings.Count(strings.ToLower(string(raw)), `\ufffd`) {
		return nil, s.refuse("the text has half of a surrogate pair (\\ud800 to \\udfff)")
	}
	if r, ok := unsafeRune(out, true); ok {
		return nil, s.refuse("the text has the control character %U, which is not accepted", r)
	}
	return []byte(out), nil
}

// unsafeRune finds what must not reach a log or a terminal: control characters, and those that turn the direction of
// writing around. Line breaks and tabs are text where there are lines.
func unsafeRune(text string, lines bool) (rune, bool) {
	for _, r := range text {
		if r < ' ' && lines && (r == '\n' || r == '\t' || r == '\r') {
			continue
		}
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return r, true
		}
	}
	return 0, false
}
