package daemon

import (
	"unicode"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
)

// checkText accepts text for people that somebody will print: on a terminal, in a log line, in a table. What could move
// a cursor, end a line or turn the direction of writing around is refused. Look-alikes are not: text is
// no identity. What is one, a name, is ASCII (forge.CheckName).
func checkText(field, s string, most int) error {
	if !utf8.ValidString(s) {
		return forge.Invalidf(field, "%.80q is not valid UTF-8", s)
	}
	if n := utf8.RuneCountInString(s); n > most {
		return forge.Invalidf(field, "has %d characters; want at most %d", n, most)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return forge.Invalidf(field, "%.80q holds %q, which is no printable character; want one line of text", s, r)
		}
	}
	return nil
}
