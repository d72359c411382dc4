package dataset

import (
	"bytes"
	"fmt"
)

// maxDigits bounds integers: Python refuses to read longer ones (sys.get_int_max_str_digits). Up to there it keeps them exactly.
const maxDigits = 4300

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
	from := s.i
	if s.peek() == '0' {
		s.i++
		if c := s.peek(); c >= '0' && c <= '9' {
			return s.bad("a number does not start with 0")
		}
	} else if !s.digits() {
		return s.bad("want a digit, found %s", s.found())
	}
	whole := s.i
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
	if n := whole - from; s.i == whole && n > maxDigits {
		return &problem{at: from, why: fmt.Sprintf("an integer of %d digits; Python reads at most %d", n, maxDigits), hint: "Write it as a string"}
	}
	return nil
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
	return appendUnescaped(make([]byte, 0, len(quoted)), quoted[1:len(quoted)-1])
}
