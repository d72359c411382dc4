package dataset

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// span is one text of a row: what stands between its quotes, until somebody asks for it without escapes.
type span struct {
	at      *node
	from    int // of raw in the row
	raw     []byte
	escaped bool
}

// text is the span without escapes, valid until the next row.
func (s *scanner) text(i int) []byte {
	t := &s.spans[i]
	if t.escaped {
		from := len(s.plain)
		s.plain = appendUnescaped(s.plain, t.raw)
		t.raw, t.escaped = s.plain[from:len(s.plain):len(s.plain)], false
	}
	return t.raw
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special marks the lowest of eight bytes that a string does not hold as it is: ", \ or a control. Marks above the lowest may be wrong.
func special(x uint64) uint64 {
	q, b := x^('"'*ones), x^('\\'*ones)
	return ((q-ones)&^q | (b-ones)&^b | (x-0x20*ones)&^x) & highs
}

// ordinary marks the bytes that a string may hold as they are: all but ", \ and controls.
var ordinary = func() (t [256]bool) {
	for c := 0x20; c < 256; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// skipOrdinary is the index of the first byte from i on that a string does not hold as it is, or len(b).
func skipOrdinary(b []byte, i int) int {
	for i+8 <= len(b) {
		if m := special(binary.LittleEndian.Uint64(b[i:])); m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
		i += 8
	}
	for i < len(b) && ordinary[b[i]] {
		i++
	}
	return i
}

// appendUnescaped appends the text of what stands between the quotes of a string that str has accepted.
func appendUnescaped(dst, raw []byte) []byte {
	for i := 0; i < len(raw); {
		n := skipOrdinary(raw, i)
		dst = append(dst, raw[i:n]...)
		if i = n; i >= len(raw) {
			break
		}
		if i+1 >= len(raw) || raw[i] != '\\' {
			dst = append(dst, raw[i])
			i++
			continue
		}
		c := raw[i+1]
		i += 2
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r := hexRune(raw, i)
			i += 4
			if r >= 0xd800 && r <= 0xdbff {
				r = 0x10000 + (r-0xd800)<<10 + hexRune(raw, i+2) - 0xdc00
				i += 6
			}
			dst = utf8.AppendRune(dst, r)
			continue
		}
		dst = append(dst, c)
	}
	return dst
}

func hexRune(b []byte, i int) (r rune) {
	for _, c := range b[min(i, len(b)):min(i+4, len(b))] {
		switch {
		case c <= '9':
			r = r<<4 | rune(c-'0')
		default:
			r = r<<4 | rune(c|0x20-'a'+10)
		}
	}
	return r
}

// appendQuoted appends text as a JSON string. What is no UTF-8 stays as it is, for the checks of the row to find.
func appendQuoted(dst, text []byte) []byte {
	const hexDigits = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(text); {
		n := skipOrdinary(text, i)
		dst = append(dst, text[i:n]...)
		if i = n; i >= len(text) {
			break
		}
		switch c := text[i]; c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		case 0:
			dst = append(dst, 0)
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
	}
	return append(dst, '"')
}

// characters counts them in UTF-8: the bytes that do not continue one.
func characters(b []byte) int {
	n, i := len(b), 0
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		n -= bits.OnesCount64(x & ^(x << 1) & highs) // 10xxxxxx
	}
	for ; i < len(b); i++ {
		if b[i]&0xc0 == 0x80 {
			n--
		}
	}
	return n
}
