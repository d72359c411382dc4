package pii

import forge "github.com/forge-ml/forge-ml"

// ipv4 looks for an address that the whole world can reach; others are nobody's.
func (s *Scanner) ipv4(g, last int) (int, confidence, entity) {
	c := &s.num
	if g+3 > last || c.len[g] > 3 || c.len[g+1] > 3 || c.len[g+2] > 3 || c.len[g+3] > 3 || !s.oneSep(g, g+3) || c.sep(g + 1)[0] != '.' {
		return 0, none, ""
	}
	var ip [4]byte
	largest := 0
	for k := range ip {
		w := c.group(g + k)
		v := value(w)
		if v > 255 || len(w) > 1 && w[0] == '0' {
			return 0, none, ""
		}
		ip[k], largest = byte(v), max(largest, v)
	}
	if g == 0 && c.plus || !publicIPv4(ip) {
		return 0, none, ""
	}
	// 1.2.3.4.5, 1.2.3.4-beta, pkg-1.2.3.4, Browser/1.2.3.4
	if g > 0 && len(c.sep(g)) == 1 && c.sep(g)[0] != ' ' && c.sep(g)[0] != '/' {
		return 0, none, ""
	}
	start, end := c.begin(g), c.end(g+3)
	if g+3 < last && len(c.sep(g+4)) == 1 && c.sep(g + 4)[0] == '.' {
		return 0, none, ""
	}
	l, r := at(s.text, start-1), at(s.text, end)
	switch {
	case l == '-' || l == '_' || l == '.' || l == '$' || l == '^' || l == '~' || l == '=' && (at(s.text, start-2) == '=' || at(s.text, start-2) == '>' || at(s.text, start-2) == '~'):
		return 0, none, ""
	case l == '/' && isASCIIWord(at(s.text, start-2)):
		return 0, none, ""
	case (r == '-' || r == '_' || r == '+') && isLetter(at(s.text, end+1)) || r == '.' && isDigit(at(s.text, end+1)) || r == '*':
		return 0, none, ""
	}
	near := s.around(start, end)
	v, p := near.dist(tVersion), near.dist(tIP)
	url := l == '/' || r == ':' && isDigit(at(s.text, end+1))
	switch {
	case v > 0 && v <= 2 && (p == 0 || v < p) && !url:
		return 4, low, eIP
	case url || p > 0 && p <= 6:
		return 4, high, eIP
	case v > 0 && v <= 4 || near.denies(tIP) || largest < 32:
		return 4, low, eIP
	}
	return 4, medium, eIP
}

func publicIPv4(p [4]byte) bool {
	a, b, c := p[0], p[1], p[2]
	switch {
	case a == 0, a == 10, a == 127, a >= 224, a == 100 && b >= 64 && b <= 127, a == 169 && b == 254, a == 172 && b >= 16 && b <= 31,
		a == 192 && b == 0 && (c == 0 || c == 2), a == 192 && b == 88 && c == 99, a == 192 && b == 168, a == 198 && (b == 18 || b == 19), a == 198 && b == 51 && c == 100,
		a == 203 && b == 0 && c == 113:
		return false
	}
	return true
}

// colons looks for hexadecimal groups with colons around i: an IPv6 address, or that of a network card.
func (s *Scanner) colons(i int) int {
	t := s.text
	start, floor := i, max(s.done, i-40)
	for start > floor && (isHex(t[start-1]) || t[start-1] == ':') {
		start--
	}
	end := i + 1
	for end < len(t) && end-start < 64 && (isHex(t[end]) || t[end] == ':' || t[end] == '.' && isDigit(at(t, end+1))) {
		end++
	}
	if s.national {
		if e := s.mac(i); e > i {
			return e
		}
	}
	if isASCIIWord(at(t, end)) || end-start < 6 {
		return 0
	}
	// "address: 2001:…" begins after the colon of the word before
	for start < i && t[start] == ':' && at(t, start+1) != ':' {
		start++
	}
	if isASCIIWord(at(t, start-1)) {
		return 0
	}
	for t[end-1] == ':' && at(t, end-2) != ':' {
		end--
	}
	var ip [16]byte
	groups, short := parseIPv6(t[start:end], &ip)
	if groups == 0 {
		return 0
	}
	if !publicIPv6(ip) {
		return end
	}
	near := s.around(start, end)
	p := near.dist(tIP)
	switch {
	case p > 0 && p <= 6:
		s.add(start, end, eIP, high)
	case !short && end-start <= 23: // eight pairs: a world wide name, part of a fingerprint
		s.add(start, end, eIP, low)
	case groups >= 4:
		s.add(start, end, eIP, high)
	case groups == 3 && ip[0] >= 0x20:
		s.add(start, end, eIP, medium)
	default:
		s.add(start, end, eIP, low)
	}
	return end
}

// parseIPv6 gives how many groups are written, 0 when it is none, and whether :: stands for some.
func parseIPv6(w []byte, ip *[16]byte) (groups int, short bool) {
	var v [8]int
	gap, k := -1, 0
	for i := 0; i < len(w); {
		if w[i] == ':' {
			if i+1 < len(w) && w[i+1] == ':' {
				if gap >= 0 {
					return 0, false
				}
				gap = k
				if i += 2; i < len(w) && w[i] == ':' {
					return 0, false
				}
				continue
			}
			if i++; i == 1 || i == len(w) {
				return 0, false
			}
			continue
		}
		if k == 8 {
			return 0, false
		}
		n := 0
		for ; i < len(w) && isHex(w[i]); i++ {
			if n++; n > 4 {
				return 0, false
			}
			v[k] = v[k]<<4 | hexValue(w[i])
		}
		if n == 0 || i < len(w) && w[i] == '.' {
			return 0, false
		}
		k++
	}
	if gap < 0 && k != 8 || gap >= 0 && k > 7 {
		return 0, false
	}
	for j := range k {
		to := j
		if gap >= 0 && j >= gap {
			to = 8 - k + j
		}
		ip[2*to], ip[2*to+1] = byte(v[j]>>8), byte(v[j])
	}
	return k, gap >= 0
}

func hexValue(c byte) int {
	if isDigit(c) {
		return int(c - '0')
	}
	return int(c|0x20-'a') + 10
}

func publicIPv6(p [16]byte) bool {
	switch {
	case p[0] == 0xFF, p[0]&0xFE == 0xFC, p[0] == 0xFE && p[1] >= 0x80, p[0] == 0x01 && p[1] == 0, p[0] == 0 && p[1] == 0,
		p[0] == 0x20 && p[1] == 0x01 && (p[2] == 0x0D && p[3] == 0xB8 || p[2] < 2), p[0] == 0x3F && p[1] == 0xFF && p[2] < 0x10, p[0] == 0x20 && p[1] == 0x02,
		p[0] == 0 && p[1] == 0x64 && p[2] == 0xFF:
		return false
	}
	return true
}

// mac looks for six pairs with colons or dashes, or three fours with points.
func (s *Scanner) mac(i int) int {
	t := s.text
	start := i
	for start > s.done && start > i-2 && isHex(t[start-1]) {
		start--
	}
	// letters alone may come first: aa:bb:cc:0d:…
	for n := 0; n < 5 && start-3 >= s.done && (t[start-1] == ':' || t[start-1] == '-') && isHex(t[start-2]) && isHex(t[start-3]); n++ {
		start -= 3
	}
	end := start + 17
	if end > len(t) || isASCIIWord(at(t, start-1)) || isASCIIWord(at(t, end)) {
		return 0
	}
	by, zero := t[start+2], true
	if by != ':' && by != '-' || at(t, end) == by || at(t, start-1) == by && by == ':' && isHex(at(t, start-2)) {
		return 0
	}
	for k := range 17 {
		c := t[start+k]
		if k%3 == 2 && c != by || k%3 != 2 && !isHex(c) {
			return 0
		}
		zero = zero && (k%3 == 2 || c == '0' || c|0x20 == 'f')
	}
	if zero {
		return end
	}
	c := high
	if by == '-' && s.around(start, end).dist(tMAC) == 0 {
		c = medium
	}
	s.add(start, end, forge.PIIMACAddress, c)
	return end
}
