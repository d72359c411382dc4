package pii

import forge "github.com/forge-ml/forge-ml"

// ibanLen is how long the IBANs of a country are.
var ibanLen [26 * 26]uint8

func loadIBAN() {
	const countries = "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24FI18FK18FO18FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30" +
		"KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC27MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28TL23TN24TR26UA29VA22VG24XK20YE30"
	for i := 0; i < len(countries); i += 4 {
		ibanLen[int(countries[i]-'A')*26+int(countries[i+1]-'A')] = (countries[i+2]-'0')*10 + countries[i+3] - '0'
	}
}

// iban looks for one whose two letters begin at start and whose first digit is i: a country, its length, mod 97; in one piece or in fours.
func (s *Scanner) iban(start, i int) int {
	t := s.text
	if i-start != 2 || !isLetter(t[start]) || !isLetter(t[start+1]) || !isDigit(at(t, start+3)) {
		return 0
	}
	want := int(ibanLen[int(t[start]|0x20-'a')*26+int(t[start+1]|0x20-'a')])
	if want == 0 {
		return s.likeIBAN(start)
	}
	var b [34]byte
	n, run, j, end := 0, 0, start, start
	var by byte
	for j < len(t) && n < want {
		c, size := fold(t, j)
		switch {
		case c == gone:
		case isAlnum(c):
			b[n] = c
			n, run, end = n+1, run+1, j+size
		case (c == ' ' || c == '-') && run > 0 && (by == 0 || by == c):
			by, run = c, 0
		default:
			return s.likeIBAN(start)
		}
		j += size
	}
	next, _ := fold(t, min(end, len(t)-1))
	if n < want || end < len(t) && isASCIIWord(next) {
		return s.likeIBAN(start)
	}
	if !mod97(b[:n]) {
		if s.around(start, end).dist(tIBAN) > 0 {
			s.add(start, end, forge.PIIIBAN, low)
		}
		return end
	}
	c := high
	if !isUpper(b[0]) && s.around(start, end).dist(tIBAN) == 0 {
		c = medium
	}
	s.add(start, end, forge.PIIIBAN, c)
	return end
}

// likeIBAN looks for a token whose check holds though no country has IBANs of its length: one number in 97 is so by chance.
func (s *Scanner) likeIBAN(start int) int {
	end := start
	for isAlnum(at(s.text, end)) {
		end++
	}
	if n := end - start; n < 14 || n > 34 || !isUpper(s.text[start]) || isASCIIWord(at(s.text, end)) || !mod97(s.text[start:end]) {
		return 0
	}
	if d := s.around(start, end).dist(tIBAN); d == 0 || d > 6 {
		return 0
	}
	s.add(start, end, forge.PIIIBAN, medium)
	return end
}
