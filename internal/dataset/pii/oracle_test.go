package pii_test

import (
	"math/big"
	"net/netip"
	"regexp"
	"strings"
	"unicode"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/dataset/pii"
)

// The slow oracle: regular expressions and checks written without a look at the scanner. What it finds is unmistakable, and the scanner must have found it too (complete);
// and what the scanner calls by a name must be one by its own rules (sound).

var oracles = []struct {
	entity forge.PIIEntity
	form   *regexp.Regexp
	valid  func(string) bool
}{
	{forge.PIIEmail, regexp.MustCompile(`(?:^|[ \n])e-mail: ([a-z][a-z0-9]*(?:[._][a-z0-9]+)*@[a-z][a-z0-9]+(?:-[a-z0-9]+)*\.(?:com|org|net|de|co\.uk))(?:$|[ \n])`), func(string) bool { return true }},
	{forge.PIICreditCard, regexp.MustCompile(`(?:^|\n)credit card ((?:4[0-9]{3}|5[1-5][0-9]{2})(?: [0-9]{4}){3}|(?:4[0-9]{3}|5[1-5][0-9]{2})(?:-[0-9]{4}){3})(?:$|\n)`), slowLuhn},
	{forge.PIIIBAN, regexp.MustCompile(`(?:^|[ \n])(DE[0-9]{20}|GB[0-9]{2}[A-Z]{4}[0-9]{14}|FR[0-9]{25})(?:$|[ \n])`), slowIBAN},
	{forge.PIISSN, regexp.MustCompile(`(?:^|\n)SSN ([0-9]{3}-[0-9]{2}-[0-9]{4})(?:$|\n)`), slowSSN},
	{forge.PIIIPAddress, regexp.MustCompile(`(?:^|\n)IP ((?:[0-9]{1,3}\.){3}[0-9]{1,3})(?:$|\n)`), slowPublic},
	{forge.PIIPhone, regexp.MustCompile(`(?:^|\n)phone (\+1-[2-9][0-9]{2}-[2-9][0-9]{2}-[0-9]{4})(?:$|\n)`), func(string) bool { return true }},
	{"secret_github", regexp.MustCompile(`(?:^|[ \n])(ghp_[A-Za-z0-9]{36})(?:$|[ \n])`), func(string) bool { return true }},
	{"secret_aws_access_key", regexp.MustCompile(`(?:^|[ \n])(AKIA[A-Z2-7]{16})(?:$|[ \n])`), func(string) bool { return true }},
}

// expected is what the oracle finds.
func expected(text string) (out []pii.Finding) {
	for _, o := range oracles {
		for at := 0; ; {
			m := o.form.FindStringSubmatchIndex(text[at:])
			if m == nil {
				break
			}
			if o.valid(text[at+m[2] : at+m[3]]) {
				out = append(out, pii.Finding{Start: at + m[2], End: at + m[3], Entity: o.entity})
			}
			at += m[3] // the blank behind may be the one before the next
		}
	}
	return out
}

// ascii writes full-width forms and blanks of all kinds as ASCII and leaves out what is not seen.
func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 0xFF01 && r <= 0xFF5E:
			return r - 0xFEE0
		case unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, s)
}

func onlyDigits(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, ascii(s))
}

func slowLuhn(s string) bool {
	d := onlyDigits(s)
	double, sum := false, 0
	for i := len(d) - 1; i >= 0; i-- {
		n := int(d[i] - '0')
		if double {
			n = n*2/10 + n*2%10
		}
		sum, double = sum+n, !double
	}
	return sum%10 == 0
}

func slowIBAN(s string) bool {
	var plain strings.Builder
	for _, r := range strings.ToUpper(ascii(s)) {
		if r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' {
			plain.WriteRune(r)
		}
	}
	p := plain.String()
	if len(p) < 5 {
		return false
	}
	digits := ""
	for _, r := range p[4:] + p[:4] {
		if r >= 'A' {
			digits += big.NewInt(int64(r - 'A' + 10)).String()
		} else {
			digits += string(r)
		}
	}
	n, ok := new(big.Int).SetString(digits, 10)
	return ok && n.Mod(n, big.NewInt(97)).Int64() == 1
}

var ssnForm = regexp.MustCompile(`^(\d{3})\D?(\d{2})\D?(\d{4})$`)

func slowSSN(s string) bool {
	m := ssnForm.FindStringSubmatch(onlyDigits(s))
	return m != nil && m[1] != "000" && m[1] != "666" && m[1][0] != '9' && m[2] != "00" && m[3] != "0000" && m[0] != "078051120" && strings.Trim(m[0], m[0][:1]) != ""
}

var reserved = func() (out []netip.Prefix) {
	for _, p := range strings.Fields(`0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/3
		::/16 64:ff9b::/32 100::/16 2001::/23 2001:db8::/32 2002::/16 3fff::/20 fc00::/7 fe80::/9 ff00::/8`) {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}()

func slowPublic(s string) bool {
	ip, err := netip.ParseAddr(ascii(s))
	if err != nil {
		return false
	}
	for _, p := range reserved {
		if p.Contains(ip) {
			return false
		}
	}
	return true
}

// sound says whether what the scanner calls by a name is one.
func sound(e forge.PIIEntity, match string) bool {
	d := onlyDigits(match)
	switch e {
	case forge.PIIEmail:
		return strings.Contains(ascii(match), "@") || strings.Contains(strings.ToLower(match), "at")
	case forge.PIICreditCard:
		return len(d) >= 12 && len(d) <= 19 && slowLuhn(match)
	case forge.PIIIBAN:
		return len(match) >= 14
	case forge.PIISSN:
		return slowSSN(match)
	case forge.PIIIPAddress:
		return slowPublic(match)
	case forge.PIIPhone:
		return len(d) >= 7 && len(d) <= 22
	}
	return true
}
