package pii

// extension is where ", ext. 12", "x12" or "#12" behind a phone's number ends; end when there is none.
func (s *Scanner) extension(end int) int {
	t, i := s.text, end
	if at(t, i) == ',' {
		i++
	}
	if at(t, i) == ' ' {
		i++
	}
	switch c := at(t, i) | 0x20; {
	case c == 'e' && at(t, i+1)|0x20 == 'x' && at(t, i+2)|0x20 == 't':
		i += 3
		for n := 0; isLetter(at(t, i)) && n < 6; n++ {
			i++
		}
		for n := 0; n < 2 && (at(t, i) == '.' || at(t, i) == ' ' || at(t, i) == ':'); n++ {
			i++
		}
	case c == 'x' && i == end || c == 'x' && isDigit(at(t, i+1)):
		i++
		if at(t, i) == '.' {
			i++
		}
		if at(t, i) == ' ' {
			i++
		}
	case at(t, i) == '#' && i <= end+1:
		i++
	default:
		return end
	}
	from := i
	for isDigit(at(t, i)) {
		i++
	}
	if i == from || i-from > 6 || isASCIIWord(at(t, i)) {
		return end
	}
	return i
}

// wholePhone is the span of a phone's number in groups a to b, with bracket and extension.
func (s *Scanner) wholePhone(a, b int) (start, end int) {
	c := &s.num
	start = c.begin(a)
	if a > 0 {
		if sep := c.sep(a); sep[len(sep)-1] == '(' {
			if p, size := foldBefore(s.text, start); p == '(' {
				start -= size
			}
		}
	}
	return start, s.extension(c.end(b))
}

// phone looks for the number of a phone from group g on: the longest run of groups that one of the known forms fits.
func (s *Scanner) phone(g, last int) (n int, best confidence, _ entity) {
	c := &s.num
	bracket := g == 0 && c.paren || g > 0 && c.sep(g)[len(c.sep(g))-1] == '('
	plus := g == 0 && c.plus
	if !plus && !bracket && !s.leftFree(g) {
		return 0, none, ePhone
	}
	if plus {
		// 1e+10, a+12345678
		if b, _ := foldBefore(s.text, c.from); isASCIIWord(b) && b != 0 && !isEscape(s.text, c.from) || b == ')' || b == '=' && at(s.text, c.from-2) == '+' {
			return 0, none, ePhone
		}
	}
	most, digits := g, 0
	for h := g; h <= last && h < g+8; h++ {
		if h > g && !joinsPhone(c.sep(h)) {
			break
		}
		if digits += int(c.len[h]); digits > 16 {
			break
		}
		most = h
	}
	var near *surroundings
	for h := most; h >= g; h-- {
		d := c.count(g, h)
		if d < 7 {
			break
		}
		if !s.rightFree(h, last) && !(h < last && c.sep(h + 1)[0] == '/' && d >= 9) {
			continue
		}
		if near == nil {
			near = s.around(c.begin(g), s.extension(c.end(h)))
		}
		conf := s.phoneForm(g, h, d, plus, bracket, near)
		if conf > best {
			n, best = h-g+1, conf
		}
		if best == high {
			break
		}
	}
	return n, best, ePhone
}

func isEscape(t []byte, i int) bool {
	return i >= 2 && t[i-2] == '\\' && (t[i-1] == 'n' || t[i-1] == 't' || t[i-1] == 'r')
}

// joinsPhone says whether a separator may stand inside a phone's number: one byte, or brackets with a blank or dash.
func joinsPhone(sep []byte) bool {
	if len(sep) == 1 {
		return true
	}
	brackets, blanks := 0, 0
	for _, b := range sep {
		switch b {
		case '(', ')':
			brackets++
		case ' ':
			blanks++
		case '-', '/', '.':
		default:
			return false
		}
	}
	return brackets > 0 && len(sep) <= 3 || len(sep) == 3 && blanks == 2
}

// phoneForm says how sure groups g to h are a phone's number.
func (s *Scanner) phoneForm(g, h, d int, plus, bracket bool, near *surroundings) confidence {
	c := &s.num
	speaks, denied := near.speaks(tPhone) && near.dist(tPhone) <= 6, near.denies(tPhone)
	var buf [20]byte
	all := c.digits(buf[:0], g, h)
	if plus {
		return s.international(all, g, h, speaks)
	}
	if three := h == g+2 && c.len[g] == 3 && c.len[g+1] == 2 && c.len[g+2] == 4; three || h == g+3 && c.sep(g + 1)[0] == '.' && s.oneSep(g, h) && c.len[g] <= 3 && c.len[g+1] <= 3 && c.len[g+2] <= 3 && c.len[g+3] <= 3 {
		return none // of the form of a social security number, of an address
	}
	if !bracket && g > 0 && len(c.sep(g)) == 1 && h > g && c.len[g-1] == 4 && c.sep(g)[0] == c.sep(g + 1)[0] {
		return none // the end of a longer row
	}
	form := s.inland(all, g, h, d, bracket)
	switch {
	case form == none && d <= 15:
		// Any other row of digits is one when the words beside it say so, unless it is a decimal number or thousands.
		if speaks && near.dist(tPhone) <= 4 && !same(all) && !(h == g+1 && c.sep(h)[0] == '.' && !(c.len[g] >= 3 && c.len[g] <= 4 && c.len[h] == 4 && near.dist(tPhone) <= 2)) && (h > g || d >= 8 || near.dist(tPhone) <= 2) && (near.dist(tVersion) == 0 || near.dist(tVersion) > near.dist(tPhone)) {
			return medium
		}
		return none
	case denied && form < high:
		return low
	case denied && !bracket:
		return low
	case speaks && form > none:
		return high
	case form == low && h > g && s.extension(c.end(h)) > c.end(h):
		return medium
	}
	return form
}

// international judges what follows a plus: the country, and how many digits its numbers have.
func (s *Scanner) international(all []byte, g, h int, speaks bool) confidence {
	if all[0] == '0' {
		return none
	}
	// +44 (0)20 …: the zero is for those who call from inside.
	zero := 0
	for k := g + 1; k <= h; k++ {
		if s.num.len[k] == 1 && s.num.group(k)[0] == '0' || len(s.num.sep(k)) > 0 && s.num.group(k)[0] == '0' && k == g+1 {
			zero = 1
			break
		}
	}
	cc, least, most := country(all)
	if cc == 0 {
		return none
	}
	switch n := len(all) - cc; {
	case n >= least && n <= most+zero:
		return high
	case n >= 6 && len(all) >= 8 && len(all) <= 15 && speaks:
		return high
	case n >= 6 && n <= 12 && len(all) <= 15 && h > g:
		return medium
	}
	return low
}

// country is the length of the country's code that digits begin with, and how many digits follow it; 0 when none has that code.
func country(d []byte) (cc, least, most int) {
	p2 := value(d[:min(2, len(d))])
	switch d[0] {
	case '0':
		return 0, 0, 0
	case '1':
		return 1, 10, 10
	case '7':
		return 1, 10, 10
	}
	switch p2 {
	case 20, 27, 30, 31, 32, 33, 34, 36, 39, 40, 41, 43, 44, 45, 46, 47, 48, 49, 51, 52, 53, 54, 55, 56, 57, 58, 60, 61, 62, 63, 64, 65, 66, 81, 82, 84, 86, 90, 91, 92, 93, 94, 95, 98:
		switch p2 {
		case 33, 34, 31, 48, 61, 27, 32, 41:
			return 2, 8, 10
		case 91:
			return 2, 10, 10
		case 45, 47, 65:
			return 2, 8, 8
		case 49, 43:
			return 2, 6, 12
		case 44:
			return 2, 9, 10
		}
		return 2, 7, 11
	}
	switch p2 {
	case 21, 22, 23, 24, 25, 26, 29, 35, 37, 38, 42, 50, 59, 67, 68, 69, 80, 85, 87, 88, 96, 97, 99:
		return 3, 6, 11
	}
	return 0, 0, 0
}

// nanp says whether ten digits may be a number of North America: neither area nor exchange begins with 0 or 1.
func nanp(d []byte) bool {
	return d[0] >= '2' && d[3] >= '2' && !(d[1] == '1' && d[2] == '1') && !same(d[:9])
}

// inland knows the forms in which numbers are written inside of a country.
func (s *Scanner) inland(all []byte, g, h, d int, bracket bool) confidence {
	c := &s.num
	l := c.len[g : h+1]
	one := h > g && s.oneSep(g, h)
	by := byte(0)
	if one {
		by = c.sep(g + 1)[0]
	}
	shape := func(want ...uint8) bool {
		if len(l) != len(want) {
			return false
		}
		for i, n := range want {
			if l[i] != n {
				return false
			}
		}
		return true
	}
	closed := h > g && bracket && c.sep(g + 1)[0] == ')'
	switch {
	case bracket && !closed && h > g:
		return none
	case bracket && h == g:
		return none
	case closed:
		switch {
		case shape(3, 3, 4):
			if nanp(all) {
				return high
			}
			return medium
		case d >= 9 && d <= 12 && (all[0] == '0' || l[0] == 2):
			return high
		case d >= 8 && d <= 11 && l[0] >= 2:
			return medium
		}
		return none
	case shape(3, 3, 4) && one:
		switch {
		case by == '-' && nanp(all):
			return medium
		case (by == '.' || by == ' ') && nanp(all):
			return medium
		case all[0] == '0' && by != '.':
			return medium
		case by == '-' || by == '.':
			return low
		}
	case shape(1, 3, 3, 4) && all[0] == '1' && nanp(all[1:]):
		return medium
	case shape(1, 3, 3, 2, 2) && (all[0] == '8' || all[0] == '7'):
		return medium
	case shape(1, 3, 7) && all[0] == '8':
		return low
	case shape(3, 3, 2, 2) && one && by != '.', shape(3, 7) && by == '-' && nanp(all):
		return low
	case all[0] == '0' && all[1] == '0' && len(all) >= 10:
		if cc, least, most := country(all[2:]); cc > 0 && len(all)-2-cc >= least && len(all)-2-cc <= most+1 && h > g {
			return medium
		}
		return low
	case shape(2, 2, 2, 2, 2) && one && all[0] == '0' && all[1] >= '1':
		return high
	case shape(3, 4, 4) && one && all[0] == '1' && all[1] >= '3' && by != '.':
		return medium
	case shape(5, 5) && one && all[0] >= '6' && by != '.' && by != '/':
		return low
	case all[0] == '0' && h > g && l[0] >= 2 && l[0] <= 6 && d >= 9 && d <= 13:
		if by == '.' && h == g+1 {
			return low
		}
		for _, n := range l[1:] {
			if n == 1 {
				return low
			}
		}
		return medium
	case h == g && d >= 9 && d <= 12 && all[0] == '0' && all[1] >= '1':
		return low
	case h == g && d == 10 && nanp(all), h == g && d == 11 && all[0] == '1' && all[1] >= '3':
		return low
	}
	return none
}
