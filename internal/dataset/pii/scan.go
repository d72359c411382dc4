package pii

import (
	"encoding/binary"
	"sync"
)

// The bytes at which the scan stops to look: everything else is passed over, eight bytes at a time.
const (
	plain   = iota
	number  // a digit: numbers, tokens with digits in them
	atSign  // e-mail, passwords in URLs
	assigns // ':' and '=': what is assigned to a name that says secret
	joins   // '-' and '_': the prefixes of tokens, private keys
	seldom  // letters that few words have and whose keys need no digit
	opens   // '[' and '(' : name [at] example [dot] org
	wide    // first byte of full-width forms
)

var class [256]uint8

// wordByte says whether a byte is an ASCII letter, digit or '_', tokenByte whether it is one of those or '-'.
var wordByte, tokenByte [256]bool

// stops says whether one of two bytes is one to stop at.
var stops [1 << 16]uint8

// load makes the tables when the first scanner is made: most commands make none, and start faster without.
var load = sync.OnceFunc(func() {
	c := &class
	for b := byte('0'); b <= '9'; b++ {
		c[b] = number
	}
	c['@'], c[':'], c['='], c['-'], c['_'], c['['], c['('] = atSign, assigns, assigns, joins, joins, opens, opens
	c['J'], c['K'], c['z'], c[0xEF] = seldom, seldom, seldom, wide
	for w := range stops {
		stops[w] = class[byte(w)] | class[byte(w>>8)]
	}
	for b := range wordByte {
		wordByte[b] = isAlnum(byte(b)) || b == '_'
		tokenByte[b] = wordByte[b] || b == '-'
	}
	topics, keysBy, pointed = loadTopics(), loadKeys(), loadPointed()
	loadTopicForms()
	loadDomains()
	loadNamesBy()
	loadEndsName()
	loadIBAN()
})

// Scanner looks through texts, one after another: one per goroutine.
type Scanner struct {
	national bool
	text     []byte
	done     int // before it, no token or number begins that has not been looked at
	found    []Finding
	num      cluster
	near     surroundings
	again    [2][]byte
	edits    []Finding
	last     []Finding
}

// New makes a scanner.
func New(o Options) *Scanner {
	load()
	return &Scanner{national: o.National}
}

// Scan appends the findings in text, which is UTF-8, to dst: in order, none overlapping another. Bytes that are no UTF-8 do no harm.
func (s *Scanner) Scan(dst []Finding, text []byte) []Finding {
	s.text, s.done, s.found = text, 0, s.found[:0]
	for i := 0; i < len(text); {
		for i+8 <= len(text) {
			w := binary.LittleEndian.Uint64(text[i:])
			a, b := stops[uint16(w)], stops[uint16(w>>16)]
			if a|b|stops[uint16(w>>32)]|stops[uint16(w>>48)] != plain {
				if a|b == plain {
					i += 4
				}
				break
			}
			i += 8
		}
		for i < len(text) && class[text[i]] == plain {
			i++
		}
		switch {
		case i == len(text):
		case class[text[i]] == number:
			i = s.digits(i)
		case class[text[i]] == opens && i+1 < len(text) && text[i+1]|0x20 != 'a': // of all brackets, hardly one begins [at]
			i++
		default:
			i = s.look(i)
		}
	}
	s.text = nil
	return appendBest(dst, s.found)
}

// look is called at a byte that may belong to a finding, and says where to go on: always further.
func (s *Scanner) look(i int) int {
	switch class[s.text[i]] {
	case number:
		return s.digits(i)
	case atSign:
		return s.email(i, i+1)
	case assigns:
		s.assigned(i)
	case joins:
		if i+1 == len(s.text) {
			return i + 1
		}
		switch next := s.text[i+1]; {
		case next == '-' && s.text[i] == '-':
			return s.dashes(i)
		case next == ' ' || i == 0 || s.text[i-1] == ' ': // a dash between words
			return i + 1
		}
		return s.word(i)
	case seldom:
		return s.seldom(i)
	case opens:
		return s.spelled(i)
	case wide:
		b, size := fold(s.text, i)
		switch {
		case isDigit(b):
			return s.digits(i)
		case b == '@':
			return s.email(i, i+size)
		}
		return i + size
	}
	return i + 1
}

func (s *Scanner) add(start, end int, e entity, c confidence) {
	if c > none && end > start {
		s.found = append(s.found, Finding{Start: start, End: end, Entity: e, Confidence: c.public()})
	}
}

// seldom stands at a J, K or z: in most texts a name's, seldom that of eyJ, AKIA, AIza.
func (s *Scanner) seldom(i int) int {
	t := s.text
	if i == 0 {
		return i + 1
	}
	switch p := t[i-1]; {
	case t[i] == 'J' && p == 'y', t[i] == 'K' && p == 'A', t[i] == 'z' && p == 'I':
		return s.word(i)
	}
	return i + 1
}

// word looks at the token of letters, digits, '-' and '_' around i for the prefix of a key.
func (s *Scanner) word(i int) int {
	start := s.tokenStart(i)
	if end := s.secretAt(start); end > i {
		s.done = end
		return end
	}
	return i + 1
}

// tokenStart is where the token around i begins. It goes back no further than keys' prefixes are long, and to nothing that has been looked at.
func (s *Scanner) tokenStart(i int) int {
	low := max(s.done, i-24)
	start := i
	for start > low && isToken(s.text[start-1]) {
		start--
	}
	// In JSON within a string, the n of a \n belongs to no token.
	if start > 0 && start < i && s.text[start-1] == '\\' {
		switch s.text[start] {
		case 'n', 't', 'r':
			start++
		case 'u':
			if start+5 <= i {
				start += 5
			}
		}
	}
	// SG.… and hvs.… have a point in their prefix.
	if start > 1 && s.text[start-1] == '.' {
		for _, p := range pointed {
			if hasSuffix(s.text[:start], p) && !isASCIIWord(at(s.text, start-len(p)-1)) {
				return start - len(p)
			}
		}
	}
	return start
}

func isDigit(b byte) bool { return b-'0' <= 9 }
func isLetter(b byte) bool {
	return b|0x20 >= 'a' && b|0x20 <= 'z'
}
func isUpper(b byte) bool { return b >= 'A' && b <= 'Z' }
func isAlnum(b byte) bool { return isDigit(b) || isLetter(b) }
func isToken(b byte) bool { return tokenByte[b] }
func isHex(b byte) bool   { return isDigit(b) || b|0x20 >= 'a' && b|0x20 <= 'f' }
func lower(b byte) byte {
	if isUpper(b) {
		return b | 0x20
	}
	return b
}

// at is the byte at i, and 0 beyond the ends.
func at(t []byte, i int) byte {
	if i < 0 || i >= len(t) {
		return 0
	}
	return t[i]
}
