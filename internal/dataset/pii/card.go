package pii

import forge "github.com/forge-ml/forge-ml"

const (
	ePhone = forge.PIIPhone
	eCard  = forge.PIICreditCard
	eSSN   = forge.PIISSN
	eIP    = forge.PIIIPAddress
)

// issuer says how far the first digits and the length speak for a card: none, medium for those that few cards have, high.
func issuer(d []byte) confidence {
	n, p2, p3, p4 := len(d), value(d[:2]), value(d[:3]), value(d[:4])
	switch {
	case d[0] == '4' && n == 16, n == 16 && (p2 >= 51 && p2 <= 55 || p4 >= 2221 && p4 <= 2720), n == 15 && (p2 == 34 || p2 == 37),
		n == 15 && (p4 == 2131 || p4 == 1800), n == 14 && (p3 >= 300 && p3 <= 305 || p2 == 36 || p2 == 38), n == 16 && (p4 == 6011 || p2 == 65 || p3 >= 644 && p3 <= 649), n == 16 && p4 >= 3528 && p4 <= 3589:
		return high
	case d[0] == '4' && (n == 13 || n == 19), n == 14 && p2 == 39,
		n >= 16 && (p2 == 62 || p2 == 81), n >= 16 && p4 >= 2200 && p4 <= 2204, n == 16 && (p2 == 35 || p3 == 309 || p2 == 36 || p2 == 38 || p2 == 39 || p2 == 30),
		n >= 12 && (p2 == 50 || p2 >= 56 && p2 <= 69):
		return medium
	}
	return none
}

// card looks for a card's number from group g on.
func (s *Scanner) card(g, last int) (int, confidence, entity) {
	c := &s.num
	if c.plus && g == 0 {
		return 0, none, ""
	}
	for h := g; h <= min(last, g+4); h++ {
		n := c.count(g, h)
		if n > 19 {
			break
		}
		if n < 12 || h > g && !s.evenly(g, h) {
			continue
		}
		var buf [19]byte
		d := c.digits(buf[:0], g, h)
		by := issuer(d)
		if by == none || !luhn(d) || !s.alone(g, h, last) || s.goesOn(g, h, last) {
			continue
		}
		near := s.around(c.begin(g), c.end(h))
		switch {
		case near.denies(tCard):
			return h - g + 1, low, eCard
		case near.speaks(tCard), h == g && expires(s.text, c.end(h)):
			return h - g + 1, high, eCard
		case h > g && c.sep(g + 1)[0] == '.' && h-g == 1:
			return 0, none, ""
		case h > g:
			return h - g + 1, by, eCard
		case near.dist(tPhone) != 0 && near.dist(tPhone) <= 2:
			return h - g + 1, low, eCard
		case by == high:
			return 1, medium, eCard
		}
		return 1, low, eCard
	}
	return 0, none, ""
}

// expires says whether month and year follow: "…;12/29".
func expires(t []byte, i int) bool {
	for n := 0; n < 3 && (at(t, i) == ' ' || at(t, i) == ';' || at(t, i) == ',' || at(t, i) == '|' || at(t, i) == '\t'); n++ {
		i++
	}
	return isDigit(at(t, i)) && isDigit(at(t, i+1)) && at(t, i+2) == '/' && isDigit(at(t, i+3)) && isDigit(at(t, i+4)) && t[i] <= '1' && !isASCIIWord(at(t, i+5)) && at(t, i+5) != '/' ||
		isDigit(at(t, i)) && isDigit(at(t, i+1)) && at(t, i+2) == '/' && at(t, i+3) == '2' && at(t, i+4) == '0' && isDigit(at(t, i+5)) && isDigit(at(t, i+6)) && t[i] <= '1' && !isASCIIWord(at(t, i+7))
}

// evenly says whether groups a to b are as cards are printed: fours, or American Express's and Diners' 4-6-5 and 4-6-4, with one kind of separator.
func (s *Scanner) evenly(a, b int) bool {
	c := &s.num
	if !s.oneSep(a, b) {
		return false
	}
	l := c.len[a : b+1]
	switch len(l) {
	case 3:
		return l[0] == 4 && l[1] == 6 && (l[2] == 5 || l[2] == 4) || l[0] == 4 && l[1] == 4 && l[2] >= 4 && l[2] <= 7
	case 4, 5:
		for _, n := range l[:3] {
			if n != 4 {
				return false
			}
		}
		return l[3] == 4 && (len(l) == 4 || l[4] <= 3) || len(l) == 4 && l[3] <= 4
	}
	return false
}

// oneSep says whether between groups a to b stands one byte, the same everywhere.
func (s *Scanner) oneSep(a, b int) bool {
	c := &s.num
	first := c.sep(a + 1)
	for g := a + 1; g <= b; g++ {
		if sep := c.sep(g); len(sep) != 1 || sep[0] != first[0] || sep[0] == '(' || sep[0] == ')' || sep[0] == '/' {
			return false
		}
	}
	return true
}

// goesOn says whether the groups are part of a longer row of alike groups: a table of numbers.
func (s *Scanner) goesOn(a, b, last int) bool {
	c := &s.num
	if b == a {
		return false
	}
	sep := c.sep(a + 1)[0]
	if b < last && len(c.sep(b+1)) == 1 && c.sep(b + 1)[0] == sep && c.len[b+1] == c.len[a] {
		return true
	}
	return a > 0 && len(c.sep(a)) == 1 && c.sep(a)[0] == sep && c.len[a-1] == c.len[a]
}

// ssn looks for a US social security number: three digits, two, four. Areas, groups and serials that were never given are none.
func (s *Scanner) ssn(g, last int) (int, confidence, entity) {
	c := &s.num
	n := 3
	switch {
	case g == 0 && (c.plus || c.paren):
		return 0, none, ""
	case c.len[g] == 9:
		n = 1
	case g+2 > last || c.len[g] != 3 || c.len[g+1] != 2 || c.len[g+2] != 4 || !s.oneSep(g, g+2):
		return 0, none, ""
	}
	var buf [9]byte
	d := c.digits(buf[:0], g, g+n-1)
	area := value(d[:3])
	if area == 0 || area == 666 || area >= 900 || value(d[3:5]) == 0 || value(d[5:]) == 0 || same(d) || string(d) == "078051120" || !s.alone(g, g+n-1, last) || n > 1 && s.goesOn(g, g+n-1, last) {
		return 0, none, ""
	}
	near := s.around(c.begin(g), c.end(g+n-1))
	switch speaks := near.speaks(tSSN); {
	case n == 3 && speaks:
		return 3, high, eSSN
	case near.denies(tSSN):
		return n, low, eSSN
	case n == 3 && c.sep(g + 1)[0] == '-':
		return 3, medium, eSSN
	case n == 1 && speaks && near.dist(tSSN) <= 4:
		return 1, medium, eSSN
	case n == 1:
		return 0, none, ""
	}
	return n, low, eSSN
}
