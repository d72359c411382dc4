package pii

// A cluster is digits in groups and what stands between them, in ASCII: "+49 (0)30 1234-567". Rules look at runs of its groups.
type cluster struct {
	b      [96]byte
	pos    [96]int32 // where each byte stands in the text
	to     [96]int32 // and where it ends
	n      int
	groups int
	start  [24]uint8 // of each group in b
	len    [24]uint8
	plus   bool // '+' right before the first group
	paren  bool // '(' right before the first group
	from   int  // where the first group begins in the text, with its plus and bracket
}

// sep is what stands between group g-1 and g.
func (c *cluster) sep(g int) []byte {
	if g <= 0 || g >= c.groups {
		return nil
	}
	return c.b[c.start[g-1]+c.len[g-1] : c.start[g]]
}

func (c *cluster) group(g int) []byte { return c.b[c.start[g] : c.start[g]+c.len[g]] }

// begin and end are where group g begins and ends in the text.
func (c *cluster) begin(g int) int {
	if g == 0 {
		return c.from
	}
	return int(c.pos[c.start[g]])
}

func (c *cluster) end(g int) int {
	return int(c.to[c.start[g]+c.len[g]-1])
}

// digits appends the digits of groups a to b to dst.
func (c *cluster) digits(dst []byte, a, b int) []byte {
	for g := a; g <= b; g++ {
		dst = append(dst, c.group(g)...)
	}
	return dst
}

func (c *cluster) count(a, b int) (n int) {
	for g := a; g <= b; g++ {
		n += int(c.len[g])
	}
	return n
}

// digits is called at a digit. It takes in the cluster or token that the digit belongs to, asks the rules, and says where to go on.
func (s *Scanner) digits(i int) int {
	t := s.text
	if i > s.done && isASCIIWord(t[i-1]) {
		return s.mixed(i)
	}
	// Most numbers in a text are short and stand alone.
	j := i
	for j < len(t) && isDigit(t[j]) {
		j++
	}
	if j-i > 40 { // no number of anybody's is so long
		s.done = j
		return j
	}
	if j-i < 7 && at(t, i-1) != '+' && at(t, i-1) != '(' {
		switch c := at(t, j); {
		case c >= 0x80 || c == ')' || c == '(' || c == ':' || isASCIIWord(c):
		case c == ' ' || c == '-' || c == '.' || c == '/':
			if d := at(t, j+1); c == '.' && !isDigit(d) || !isDigit(d) && d != '(' && d != ' ' && d != '-' && d < 0x80 {
				return j
			}
		default:
			return j
		}
	}
	if at(t, j) == ':' && at(t, j+1) == 'A' && at(t, j+2) == 'A' {
		if end := s.telegram(i, j+1); end > i {
			s.done = end
			return end
		}
	}
	if s.national && at(t, j) == '-' && j-i <= 2 {
		if end := s.mac(i); end > i {
			s.done = end
			return end
		}
	}
	if c := at(t, j); isASCIIWord(c) || c == ':' {
		if end := s.mixedAt(i, i); end > i {
			return end
		}
	}
	return s.cluster(i)
}

func isASCIIWord(b byte) bool { return isAlnum(b) || b == '_' }

// mixed is called at a digit that follows a letter, and takes in the token around it.
func (s *Scanner) mixed(i int) int {
	start := s.tokenStart(i)
	if start == i {
		return s.cluster(i)
	}
	s.told(i)
	end := s.mixedAt(start, i)
	if end <= i {
		for end = i + 1; isASCIIWord(at(s.text, end)); {
			end++
		}
	}
	s.done = end
	return end
}

// mixedAt asks the rules for tokens of letters and digits about the one from start on, of which i is the first digit. It gives the end of what it has dealt with, or 0.
func (s *Scanner) mixedAt(start, i int) int {
	if end := s.secretAt(start); end > i {
		return end
	}
	w := i
	for w > start && isAlnum(s.text[w-1]) {
		w--
	}
	if end := s.uuid(w); end > i {
		return end
	}
	if end := s.iban(w, i); end > i {
		return end
	}
	if end := s.colons(i); end > i {
		return end
	}
	if s.national {
		if end := s.nationalToken(w); end > i {
			return end
		}
	}
	return 0
}

// uuid passes over one, so that its groups of digits are not taken for numbers.
func (s *Scanner) uuid(i int) int {
	t := s.text
	if i+36 > len(t) || t[i+8] != '-' || t[i+13] != '-' || t[i+18] != '-' || t[i+23] != '-' {
		return 0
	}
	for k := range 36 {
		if c := t[i+k]; !isHex(c) && c != '-' {
			return 0
		}
	}
	return i + 36
}

// gather fills the cluster that begins with the digit at i and says where it ends.
func (s *Scanner) gather(i int) int {
	c, t := &s.num, s.text
	c.n, c.groups, c.plus, c.paren, c.from = 0, 0, false, false, i
	if b, size := foldBefore(t, i); b == '(' || b == '+' {
		c.from = i - size
		c.plus, c.paren = b == '+', b == '('
		if b == '(' {
			if b, more := foldBefore(t, c.from); b == '+' {
				c.from, c.plus = c.from-more, true
			}
		}
	}
	c.from = max(c.from, s.done)
	other, end := 0, i
	for i < len(t) && c.n < len(c.b) {
		b, size := fold(t, i)
		if isDigit(b) {
			if other > 0 || c.groups == 0 {
				if c.groups == len(c.start) {
					break
				}
				c.start[c.groups], c.len[c.groups] = uint8(c.n), 0
				c.groups++
			}
			c.len[c.groups-1]++
			other = 0
			c.b[c.n], c.pos[c.n], c.to[c.n] = b, int32(i), int32(i+size)
			c.n++
			i += size
			end = i
			continue
		}
		if b == gone {
			i += size
			continue
		}
		switch b {
		case ' ', '-', '.', '/', '(', ')':
		default:
			i = len(t)
			continue
		}
		if other++; other > 3 {
			break
		}
		c.b[c.n], c.pos[c.n] = b, int32(i)
		c.n++
		i += size
	}
	if c.paren && (c.groups < 2 || c.sep(1)[0] != ')') {
		c.paren = false // a bracket of the text's
		if !c.plus {
			c.from = int(c.pos[0])
		}
	}
	return end
}

// cluster takes in the numbers from i on and gives them to the rules.
func (s *Scanner) cluster(i int) int {
	end := s.gather(i)
	c := &s.num
	last := c.groups - 1
	if s.national {
		if e := s.numberWithLetters(i); e > i {
			s.done = e
			return e
		}
	}
	// What hangs on to letters is part of a token and not of a number; an extension is one of a phone's.
	if b := at(s.text, end); isASCIIWord(b) && s.extension(end) == end {
		if last == 0 {
			if e := s.mixedAt(i, i); e > i {
				return e
			}
			s.done = end
			return end
		}
		end = c.end(last - 1)
		last--
	}
	if last < 3 && c.count(0, last) < 7 {
		s.done = end
		return max(end, i+1)
	}
	for g := 0; g <= last; {
		n := s.rules(g, last)
		if n == 0 {
			n = 1
		}
		g += n
	}
	s.done = end
	return max(end, i+1)
}

// rules asks each rule about the number that begins with group g and says how many groups it was.
func (s *Scanner) rules(g, last int) int {
	if n := s.notANumber(g, last); n > 0 {
		return n
	}
	best, groups := none, 0
	for _, rule := range [...]func(*Scanner, int, int) (int, confidence, entity){(*Scanner).card, (*Scanner).ssn, (*Scanner).ipv4, (*Scanner).nationalNumber, (*Scanner).phone} {
		n, c, e := rule(s, g, last)
		if n > 0 && c > none {
			start, end := s.num.begin(g), s.num.end(g+n-1)
			if e == ePhone {
				start, end = s.wholePhone(g, g+n-1)
			}
			s.add(start, end, e, c)
			if c > best || c == best && n > groups {
				best, groups = c, n
			}
		}
	}
	if best < medium {
		return 0
	}
	return groups
}

// alone says whether the groups a to b stand by themselves: nothing hangs on to them by a point, dash, slash or bracket of its own.
func (s *Scanner) alone(a, b, last int) bool {
	return s.leftFree(a) && s.rightFree(b, last)
}

func (s *Scanner) leftFree(a int) bool {
	c := &s.num
	if a > 0 {
		sep := c.sep(a)
		return len(sep) > 1 || sep[0] == ' '
	}
	b, size := foldBefore(s.text, c.from)
	switch b {
	case '-', '.', '_', '/', '$', '#', '%', '\\':
		if b == '#' || b == '-' && size > 1 {
			return true
		}
		// "- 555" and "-- 555" are lists; a URL's // and a path's / before a letter are not.
		if p := at(s.text, c.from-2); b == '-' && (p == 0 || p == '\n') || b == '\\' {
			return true
		}
		return false
	}
	return !isASCIIWord(b)
}

func (s *Scanner) rightFree(b, last int) bool {
	c := &s.num
	if b < last {
		sep := c.sep(b + 1)
		return len(sep) > 1 || sep[0] == ' '
	}
	end := c.end(b)
	switch r := at(s.text, end); r {
	case '-', '_', '@', '%':
		next := at(s.text, end+1)
		if r == '-' && isLetter(next) {
			w := end + 1
			for isLetter(at(s.text, w)) {
				w++
			}
			return w-end > 3 && topics[string(lowered(&s.near.word, s.text[end+1:w]))]&tPhone != 0
		}
		return r == '-' && !isAlnum(next)
	case '.', '/', ',':
		return !isDigit(at(s.text, end+1)) || r == ','
	default:
		return !isASCIIWord(r) || s.extension(end) > end
	}
}

func lowered(to *[32]byte, w []byte) []byte {
	w = w[:min(len(w), len(to))]
	for i, c := range w {
		to[i] = lower(c)
	}
	return to[:len(w)]
}

// notANumber passes over dates, ISBNs, UUIDs of digits and the like.
func (s *Scanner) notANumber(g, last int) int {
	c := &s.num
	if g+2 <= last {
		a, b, d := c.group(g), c.group(g+1), c.group(g+2)
		one := len(c.sep(g+1)) == 1 && len(c.sep(g+2)) == 1 && c.sep(g + 1)[0] == c.sep(g + 2)[0]
		// a row of more twos is no date with a year of two digits
		if one && len(a) == 2 && len(d) == 2 && g+3 <= last && len(c.sep(g+3)) == 1 && c.sep(g + 3)[0] == c.sep(g + 1)[0] {
			one = false
		}
		switch {
		case one && c.sep(g + 1)[0] != ' ' && c.sep(g + 1)[0] != ')' && isDate(a, b, d):
			if g+3 <= last && c.sep(g + 1)[0] == '.' && len(c.sep(g+3)) == 1 && c.sep(g + 3)[0] == '.' {
				return 0
			}
			return 3
		case g+4 <= last && len(a) == 8 && len(b) == 4 && len(d) == 4 && len(c.group(g+3)) == 4 && len(c.group(g+4)) == 12:
			return 5
		}
	}
	// ISBN-13, in groups or not
	if f := c.group(g); len(f) >= 3 && f[0] == '9' && f[1] == '7' && (f[2] == '8' || f[2] == '9') {
		var buf [16]byte
		for h := g; h <= min(last, g+4); h++ {
			if d := c.digits(buf[:0], g, min(h, g+3)); len(d) > 13 {
				break
			}
			n := c.count(g, h)
			if n > 13 {
				break
			}
			if d := c.digits(buf[:0], g, h); len(d) == 13 && ean(d) {
				return h - g + 1
			}
		}
	}
	return 0
}

func isDate(a, b, d []byte) bool {
	v := [3]int{value(a), value(b), value(d)}
	year := func(n int, w []byte) bool { return len(w) == 4 && n >= 1900 && n < 2100 || len(w) == 2 }
	month := func(n int, w []byte) bool { return len(w) <= 2 && n >= 1 && n <= 12 }
	day := func(n int, w []byte) bool { return len(w) <= 2 && n >= 1 && n <= 31 }
	return len(a) == 4 && year(v[0], a) && month(v[1], b) && day(v[2], d) ||
		(month(v[0], a) && day(v[1], b) || day(v[0], a) && month(v[1], b)) && year(v[2], d)
}

func value(w []byte) (n int) {
	for _, c := range w[:min(len(w), 9)] {
		n = n*10 + int(c-'0')
	}
	return n
}
