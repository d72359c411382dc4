package pii

// A nationalID is a country's number of digits: how it is written, its check, and how sure it is written so, without separators, and beside its words.
type nationalID struct {
	entity entity
	forms  []string // "ddd ddd dddd": groups and what stands between them; a form without separators is bare
	valid  func(d []byte) bool
	plain  confidence // written in groups, without words
	bare   confidence
	named  confidence // with the country's own words
	words  topic
}

var nationalIDs = []nationalID{
	{"uk_nhs", []string{"ddd ddd dddd", "ddd-ddd-dddd", "dddddddddd"}, func(d []byte) bool {
		c := 11 - weighted(d, 10, 9, 8, 7, 6, 5, 4, 3, 2)%11
		return c != 10 && c%11 == int(d[9]-'0') && !same(d)
	}, low, none, high, tNHS},
	{"de_tax_id", []string{"dd ddd ddd ddd", "dddddddddddd"[:11]}, func(d []byte) bool { return d[0] != '0' && mod11x10(d) && repeats(d[:10]) }, medium, low, high, tDE | tTax},
	{"fr_nir", []string{"d dd dd dd ddd ddd dd", "ddddddddddddddd", "ddddddddddddd dd", "d dd dd dd ddd ddd"}, func(d []byte) bool {
		if d[0] != '1' && d[0] != '2' || value(d[3:5]) == 0 || value(d[3:5]) > 12 && value(d[3:5]) < 20 {
			return false
		}
		n := 0
		for _, c := range d[:13] {
			n = (n*10 + int(c-'0')) % 97
		}
		return len(d) == 13 || 97-n == value(d[13:])
	}, high, medium, high, tFR},
	{"pl_pesel", []string{"ddddddddddd"}, func(d []byte) bool {
		return (10-weighted(d, 1, 3, 7, 9, 1, 3, 7, 9, 1, 3)%10)%10 == int(d[10]-'0') && day([]byte{'0' + (d[2]-'0')%2, d[3]}, d[4:6])
	}, low, low, high, tPL},
	{"nl_bsn", []string{"ddddddddd", "dddd.dd.ddd", "ddd.ddd.ddd", "dddd dd ddd"}, func(d []byte) bool {
		return weighted(d, 9, 8, 7, 6, 5, 4, 3, 2, -1)%11 == 0 && !same(d)
	}, low, none, high, tNL},
	{"se_personnummer", []string{"dddddd-dddd", "dddddddd-dddd", "dddddddddddd", "dddddddddd"}, func(d []byte) bool {
		if len(d) == 12 && (d[0] != '1' || d[1] != '9') && (d[0] != '2' || d[1] != '0') {
			return false
		}
		d = d[len(d)-10:]
		return day(d[2:4], d[4:6]) && luhn(d)
	}, medium, none, high, tSE},
	{"br_cpf", []string{"ddd.ddd.ddd-dd", "ddddddddddd"}, func(d []byte) bool {
		c1, c2 := weighted(d, 10, 9, 8, 7, 6, 5, 4, 3, 2)*10%11%10, weighted(d, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2)*10%11%10
		return c1 == int(d[9]-'0') && c2 == int(d[10]-'0') && !same(d)
	}, high, low, high, tBR},
	{"br_cnpj", []string{"dd.ddd.ddd/dddd-dd", "dddddddddddddd"}, func(d []byte) bool {
		c := func(n int) int {
			r := n % 11
			if r < 2 {
				return 0
			}
			return 11 - r
		}
		return c(weighted(d, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)) == int(d[12]-'0') && c(weighted(d, 6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)) == int(d[13]-'0') && !same(d)
	}, high, none, high, tBR},
	{"in_aadhaar", []string{"dddd dddd dddd", "dddd-dddd-dddd", "dddddddddddd"}, func(d []byte) bool { return d[0] >= '2' && verhoeff(d) && !same(d) }, low, none, high, tIN},
	{"au_tfn", []string{"ddd ddd ddd", "ddddddddd"}, func(d []byte) bool { return weighted(d, 1, 4, 3, 7, 5, 8, 6, 9, 10)%11 == 0 && !same(d) }, low, none, high, tAU | tTax},
	{"au_abn", []string{"dd ddd ddd ddd", "ddddddddddd"}, func(d []byte) bool {
		return d[0] != '0' && (weighted(d, 10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19)-10)%89 == 0
	}, medium, none, high, tAU},
	{"au_medicare", []string{"dddd ddddd d", "dddddddddd"}, func(d []byte) bool {
		return d[0] >= '2' && d[0] <= '6' && weighted(d, 1, 3, 7, 9, 1, 3, 7, 9)%10 == int(d[8]-'0')
	}, medium, none, high, tAU},
	{"ca_sin", []string{"ddd-ddd-ddd", "ddd ddd ddd", "ddddddddd"}, func(d []byte) bool { return d[0] != '0' && d[0] != '8' && luhn(d) && !same(d) }, low, none, high, tCA},
	{"cn_resident_id", []string{"dddddddddddddddddd"}, chineseID, high, high, high, tOther},
	{"kr_rrn", []string{"dddddd-ddddddd"}, func(d []byte) bool {
		return day(d[2:4], d[4:6]) && d[6] >= '1' && d[6] <= '8' && (11-weighted(d, 2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)%11)%10 == int(d[12]-'0')
	}, high, none, high, tOther},
	{"za_id", []string{"ddddddddddddd"}, func(d []byte) bool { return day(d[2:4], d[4:6]) && d[10] <= '1' && luhn(d) }, low, low, high, tTax | tOther},
	{"tr_kimlik", []string{"ddddddddddd"}, func(d []byte) bool {
		odd, even := weighted(d, 1, 0, 1, 0, 1, 0, 1, 0, 1), weighted(d, 0, 1, 0, 1, 0, 1, 0, 1)
		return d[0] != '0' && ((odd*7-even)%10+10)%10 == int(d[9]-'0') && (odd+even+int(d[9]-'0'))%10 == int(d[10]-'0')
	}, low, low, high, tOther},
	{"be_national", []string{"dd.dd.dd-ddd.dd", "ddddddddddd"}, func(d []byte) bool {
		n := value(d[:9])
		return day(d[2:4], d[4:6]) && (97-n%97 == value(d[9:]) || 97-(2_000_000_000+n)%97 == value(d[9:]))
	}, high, low, high, tOther | tTax},
	{"cz_birth_number", []string{"dddddd/dddd"}, func(d []byte) bool {
		n := 0
		for _, c := range d {
			n = (n*10 + int(c-'0')) % 11
		}
		return n == 0 && day([]byte{'0' + (d[2]-'0')%5, d[3]}, d[4:6])
	}, medium, none, high, tOther},
	{"dk_cpr", []string{"dddddd-dddd"}, func(d []byte) bool { return day(d[2:4], d[:2]) }, low, none, high, tOther},
	{"ch_ahv", []string{"ddd.dddd.dddd.dd", "ddddddddddddd"}, func(d []byte) bool { return string(d[:3]) == "756" && ean(d) }, high, medium, high, tOther},
	{"us_itin", []string{"ddd-dd-dddd", "ddddddddd"}, func(d []byte) bool {
		m := value(d[3:5])
		return d[0] == '9' && (m >= 50 && m <= 65 || m >= 70 && m <= 88 || m >= 90 && m <= 92 || m >= 94)
	}, low, none, high, tITIN | tTax},
	{"us_ein", []string{"dd-ddddddd"}, func(d []byte) bool { return value(d[:2]) > 0 && !same(d) }, low, none, high, tEIN | tTax},
	{"passport", []string{"ddddddddd", "dddddddd"}, func(d []byte) bool { return !same(d) }, none, none, medium, tPassport},
}

// repeats is Germany's rule: one digit twice or three times among the first ten, the others once.
func repeats(d []byte) bool {
	var n [10]int
	for _, c := range d {
		n[c-'0']++
	}
	more := 0
	for _, k := range n {
		if k > 3 {
			return false
		}
		if k > 1 {
			more++
		}
	}
	return more == 1 || more == 2
}

func chineseID(d []byte) bool {
	if d[6] != '1' && d[6] != '2' || !day(d[10:12], d[12:14]) {
		return false
	}
	const check = "10X98765432"
	last := d[17]
	return check[weighted(d, 7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)%11] == last || last == 'x' && check[weighted(d, 7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)%11] == 'X'
}

// fits says how many groups from g on are written as a form says, or 0.
func (c *cluster) fits(form string, g, last int) int {
	n, k := 0, 0
	for n <= last-g {
		run := 0
		for k < len(form) && form[k] == 'd' {
			run, k = run+1, k+1
		}
		if int(c.len[g+n]) != run {
			return 0
		}
		n++
		if k == len(form) {
			return n
		}
		if g+n > last {
			return 0
		}
		if sep := c.sep(g + n); len(sep) != 1 || sep[0] != form[k] {
			return 0
		}
		k++
	}
	return 0
}

// nationalNumber looks for a number of the second set from group g on.
func (s *Scanner) nationalNumber(g, last int) (n int, best confidence, e entity) {
	c := &s.num
	if !s.national || g == 0 && (c.plus || c.paren) {
		return 0, none, ""
	}
	var near *surroundings
	for k := range nationalIDs {
		id := &nationalIDs[k]
		for _, form := range id.forms {
			m := c.fits(form, g, last)
			if m == 0 || !s.alone(g, g+m-1, last) || m > 1 && s.goesOn(g, g+m-1, last) {
				continue
			}
			var buf [20]byte
			if !id.valid(c.digits(buf[:0], g, g+m-1)) {
				continue
			}
			if near == nil {
				near = s.around(c.begin(g), c.end(g+m-1))
			}
			conf := id.plain
			if m == 1 {
				conf = id.bare
			}
			switch {
			case near.speaks(id.words):
				conf = id.named
			case near.denies(id.words), near.speaks(tPhone | tCard):
				conf = min(conf, low)
			}
			if conf > best {
				n, best, e = m, conf, id.entity
			}
		}
	}
	return n, best, e
}

// nationalToken looks for ids with letters that begin at i.
func (s *Scanner) nationalToken(i int) int {
	t := s.text
	end := i
	for end < len(t) && end-i < 20 && isAlnum(t[end]) {
		end++
	}
	if isASCIIWord(at(t, i-1)) || isASCIIWord(at(t, end)) {
		return 0
	}
	w := t[i:end]
	form := func(want string) bool {
		if len(w) != len(want) {
			return false
		}
		for k, c := range w {
			switch want[k] {
			case 'd':
				if !isDigit(c) {
					return false
				}
			case 'A':
				if !isUpper(c) {
					return false
				}
			default:
				if !isAlnum(c) {
					return false
				}
			}
		}
		return true
	}
	found := func(e entity, plain, named confidence, words topic) int {
		near := s.around(i, end)
		switch {
		case near.speaks(words):
			plain = named
		case near.denies(words):
			plain = min(plain, low)
		}
		s.add(i, end, e, plain)
		return end
	}
	switch {
	case form("AAddddddA"):
		if nino(w) {
			return found("uk_nino", high, high, tNINO|tTax)
		}
	case form("ddddddddA"):
		if dni(w[:8], w[8]) {
			return found("es_nif", medium, high, tES)
		}
	case form("AdddddddA"):
		switch {
		case (w[0] == 'X' || w[0] == 'Y' || w[0] == 'Z'):
			b := [8]byte{'0' + w[0] - 'X'}
			copy(b[1:], w[1:8])
			if dni(b[:], w[8]) {
				return found("es_nie", medium, high, tES)
			}
		case w[0] == 'S' || w[0] == 'T' || w[0] == 'F' || w[0] == 'G' || w[0] == 'M':
			if nric(w) {
				return found("sg_nric", medium, high, tSG)
			}
		}
		if s.around(i, end).speaks(tPassport) {
			return found("passport", medium, medium, tPassport)
		}
	case form("AAAAAAddAddAdddA"):
		if codiceFiscale(w) {
			return found("it_codice_fiscale", high, high, tIT)
		}
	case form("AAAAAddddA"):
		if bytesIn("PCHFATBLJGK", w[3]) {
			return found("in_pan", medium, high, tIN|tTax)
		}
	case form("dddddddddddddddddA"):
		if chineseID(w) {
			return found("cn_resident_id", high, high, tOther)
		}
	case form("AAAAddddddAAAAAA??"):
		if day(w[6:8], w[8:10]) && (w[10] == 'H' || w[10] == 'M') && curpCheck(w) {
			return found("mx_curp", high, high, tOther)
		}
	case form("Adddddddd"), form("AAddddddd"), form("AAdddddd"), form("Addddddd"), form("AAAdddddd"), form("ddAAddddd"), form("A?d?d?d?d"), form("Addddddd?"):
		if s.around(i, end).speaks(tPassport) {
			return found("passport", medium, medium, tPassport)
		}
	}
	return 0
}

// numberWithLetters looks for ids that begin with the digits of the cluster, or with letters and a blank before them.
func (s *Scanner) numberWithLetters(i int) int {
	t := s.text
	switch n := s.num.len[0]; {
	case n == 2 && i >= 3 && isUpper(t[i-2]) && isUpper(t[i-3]) && !isASCIIWord(at(t, i-4)):
		return s.spacedNINO(i - 3)
	case n == 6:
		return s.hetu(i)
	case n == 8 && (at(t, i+8) == '-' || at(t, i+8) == ' ') && isUpper(at(t, i+9)) && !isASCIIWord(at(t, i+10)) && dni(t[i:i+8], t[i+9]):
		s.add(i, i+10, "es_nif", high)
		return i + 10
	}
	return 0
}

func bytesIn(set string, c byte) bool {
	for i := range len(set) {
		if set[i] == c {
			return true
		}
	}
	return false
}

// nino says whether the letters are some that the UK gives.
func nino(w []byte) bool {
	a, b, last := w[0], w[1], w[len(w)-1]
	if bytesIn("DFIQUV", a) || bytesIn("DFIOQUV", b) || last < 'A' || last > 'D' {
		return false
	}
	switch string(w[:2]) {
	case "BG", "GB", "KN", "NK", "NT", "TN", "ZZ":
		return false
	}
	return true
}

// spacedNINO is AB 12 34 56 C.
func (s *Scanner) spacedNINO(i int) int {
	const form = "AA dd dd dd A"
	t := s.text
	if i+len(form) > len(t) {
		return 0
	}
	w := t[i : i+len(form)]
	for k, c := range w {
		if form[k] == 'A' && !isUpper(c) || form[k] == 'd' && !isDigit(c) || form[k] == ' ' && c != ' ' && c != '-' {
			return 0
		}
	}
	if !nino(w) || isASCIIWord(at(t, i+len(form))) {
		return 0
	}
	s.add(i, i+len(form), "uk_nino", high)
	return i + len(form)
}

func dni(d []byte, letter byte) bool { return "TRWAGMYFPDXBNJZSQVHLCKE"[value(d)%23] == letter }

func nric(w []byte) bool {
	sum := weighted(w[1:8], 2, 7, 6, 5, 4, 3, 2)
	switch w[0] {
	case 'T', 'G':
		sum += 4
	case 'M':
		sum += 3
	}
	switch w[0] {
	case 'S', 'T':
		return "JZIHGFEDCBA"[sum%11] == w[8]
	case 'M':
		return "KLJNPQRTUWX"[10-sum%11] == w[8]
	}
	return "XWUTRQPNMLK"[sum%11] == w[8]
}

func codiceFiscale(w []byte) bool {
	const odd = "\x01\x00\x05\x07\x09\x0d\x0f\x11\x13\x15\x02\x04\x12\x14\x0b\x03\x06\x08\x0c\x0e\x10\x0a\x16\x19\x18\x17"
	sum := 0
	for i, c := range w[:15] {
		v := int(c - '0')
		if !isDigit(c) {
			v = int(c - 'A')
		}
		if i%2 == 0 {
			v = int(odd[v])
		}
		sum += v
	}
	return int(w[15]-'A') == sum%26 && bytesIn("ABCDEHLMPRST", w[8])
}

// hetu is Finland's ddmmyy-nnnC.
func (s *Scanner) hetu(i int) int {
	t := s.text
	if i+11 > len(t) || isASCIIWord(at(t, i+11)) {
		return 0
	}
	w := t[i : i+11]
	for k, c := range w[:10] {
		if k != 6 && !isDigit(c) {
			return 0
		}
	}
	if !bytesIn("-+ABCDEFYXWVU", w[6]) || !day(w[2:4], w[:2]) {
		return 0
	}
	n := value(w[:6])*1000 + value(w[7:10])
	if "0123456789ABCDEFHJKLMNPRSTUVWXY"[n%31] != w[10] {
		return 0
	}
	// One number of 31 passes by chance, and Sweden's are of the same form.
	if isDigit(w[10]) && !s.around(i, i+11).speaks(tFI) {
		s.add(i, i+11, "fi_hetu", low)
		return 0
	}
	s.add(i, i+11, "fi_hetu", high)
	return i + 11
}

// curpCheck is the last digit of a CURP: each sign's place among digits and letters, Ñ one of them, times 18 to 2.
func curpCheck(w []byte) bool {
	sum := 0
	for i, c := range w[:17] {
		v := int(c - '0')
		if c >= 'A' {
			if v = int(c-'A') + 10; c > 'N' {
				v++
			}
		}
		sum += v * (18 - i)
	}
	return int(w[17]-'0') == (10-sum%10)%10
}
