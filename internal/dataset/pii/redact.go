package pii

import forge "github.com/forge-ml/forge-ml"

// rounds bounds how often a text is looked at again: what has been replaced may bring words nearer to a number that said nothing before.
const rounds = 8

// Redact appends text to dst with every finding of at least this confidence replaced by its placeholder, and calls note with each, in order and in the offsets of text.
// To redact what came out finds nothing and changes nothing.
func (s *Scanner) Redact(dst, text []byte, least forge.Confidence, note func(Finding)) []byte {
	s.edits = s.edits[:0]
	now := text
	for round := range rounds {
		s.last = s.Scan(s.last[:0], now)
		found := s.last[:0]
		for _, f := range s.last {
			if AtLeast(f.Confidence, least) {
				f.Start, f.End = s.origin(f.Start, false), s.origin(f.End, true)
				found = append(found, f)
			}
		}
		if len(found) == 0 {
			break
		}
		s.merge(found)
		now = s.apply(s.again[round%2][:0], text)
		s.again[round%2] = now
	}
	for _, f := range s.edits {
		note(f)
	}
	return append(dst, now...)
}

// apply appends text with all edits made.
func (s *Scanner) apply(dst, text []byte) []byte {
	at := 0
	for _, f := range s.edits {
		dst = append(dst, text[at:f.Start]...)
		dst = append(dst, Placeholder(f.Entity)...)
		at = f.End
	}
	return append(dst, text[at:]...)
}

// origin is where an offset in the text with all edits made so far stands in the text without. An offset inside of a placeholder stands at the beginning, or at the end, of what that has replaced.
func (s *Scanner) origin(i int, end bool) int {
	shift := 0 // how much longer the text without edits is, up to here
	for _, f := range s.edits {
		begin := f.Start - shift
		n := len(f.Entity) + 2
		if i <= begin {
			break
		}
		if i < begin+n {
			if end {
				return f.End
			}
			return f.Start
		}
		shift += f.End - f.Start - n
	}
	return i + shift
}

// merge adds findings of a round to the edits; one that covers others takes their place.
func (s *Scanner) merge(found []Finding) {
	if len(s.edits) == 0 {
		s.edits = append(s.edits, found...)
		return
	}
	var all []Finding
	i := 0
	for _, f := range found {
		for i < len(s.edits) && s.edits[i].End <= f.Start {
			all = append(all, s.edits[i])
			i++
		}
		for i < len(s.edits) && s.edits[i].Start < f.End {
			f.Start, f.End = min(f.Start, s.edits[i].Start), max(f.End, s.edits[i].End)
			i++
		}
		all = append(all, f)
	}
	s.edits = append(append(s.edits[:0:0], all...), s.edits[i:]...)
}

// Placeholder is what stands for a finding in redacted text, like [EMAIL].
func Placeholder(e forge.PIIEntity) string {
	out := make([]byte, 0, len(e)+2)
	out = append(out, '[')
	for i := range len(e) {
		c := e[i]
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		out = append(out, c)
	}
	return string(append(out, ']'))
}
