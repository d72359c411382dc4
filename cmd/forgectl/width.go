package main

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// textWidth is how many cells of a terminal a text takes. Names are people's: in Chinese, Japanese and
// Korean, and in emoji, a character takes two.
func textWidth(s string) int {
	if plain(s) {
		return len(s)
	}
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case r == 0x200d, r >= 0xfe00 && r <= 0xfe0f, unicode.In(r, unicode.Mn, unicode.Me):
		return 0 // joined to the one before it
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// fitWidth cuts a text to a width, and shows that it did.
func fitWidth(s string, most int) string {
	if textWidth(s) <= most {
		return s
	}
	head, _ := splitWidth(s, most-1)
	return head + "…"
}

// splitWidth splits where a width is full.
func splitWidth(s string, most int) (head, rest string) {
	n := 0
	for i, r := range s {
		w := runeWidth(r)
		if n+w > most && i > 0 {
			return s[:i], s[i:]
		}
		n += w
	}
	return s, ""
}

// wrap breaks a text into lines of a width, between words where it can: a path or a digest that is
// longer than a line is broken inside, so that nothing of it is lost.
func wrap(s string, most int) []string {
	if most < 1 || textWidth(s) <= most {
		return []string{s}
	}
	var lines []string
	for textWidth(s) > most {
		head, rest := splitWidth(s, most)
		if at := strings.LastIndexByte(head, ' '); at > 0 && !strings.HasPrefix(rest, " ") {
			head, rest = s[:at], s[at:]
		}
		if rest == "" {
			break
		}
		lines = append(lines, strings.TrimRight(head, " "))
		s = strings.TrimLeft(rest, " ")
		if _, n := utf8.DecodeRuneInString(s); n == 0 {
			return lines
		}
	}
	return append(lines, s)
}
