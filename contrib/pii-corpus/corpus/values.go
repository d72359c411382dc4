package corpus

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	alnum  = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	lowers = "abcdefghijklmnopqrstuvwxyz"
	hexes  = "0123456789abcdef"
	uppers = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	urlish = alnum + "-_"
	base64 = alnum + "+/"
)

var (
	names    = strings.Fields("Anna James María Wei Priya Lars Chloé Mehmet Olga Kenji Fatima João Zofia Liam Aisha Björn Giulia Omar Ingrid Tomás")
	surnames = strings.Fields("Smith Müller García Chen Patel Hansen Dubois Yılmaz Ivanova Tanaka Haddad Silva Kowalska Murphy Khan Lindqvist Rossi Nasser Berg Novák")
	domains  = []string{"example.com", "example.org", "gmail.com", "yahoo.co.uk", "hotmail.fr", "web.de", "mail.ru", "corp.example.net", "uni-heidelberg.de", "smith-jones.biz", "garcia.info", "qq.com", "outlook.com", "proton.me",
		"nguyen.io", "mcdonald.dev", "sub.dept.example.edu", "acme-labs.ai", "libero.it", "wp.pl", "orange.fr", "interia.pl", "bigpond.com.au", "uol.com.br", "example.co.jp", "xn--bcher-kva.de", "startup.tech"}
)

// values makes personal data by kind, and says what it is.
var values = map[string]func(*gen) (string, string){
	"email":  func(g *gen) (string, string) { return g.email(), "email" },
	"phone":  func(g *gen) (string, string) { return g.phone(), "phone" },
	"digits": func(g *gen) (string, string) { return g.bare(), "phone" },
	"card":   func(g *gen) (string, string) { return g.card(), "credit_card" },
	"iban":   func(g *gen) (string, string) { return g.iban(), "iban" },
	"ssn":    func(g *gen) (string, string) { return g.ssn("-"), "us_ssn" },
	"ssn9":   func(g *gen) (string, string) { return g.ssn(""), "us_ssn" },
	"ip":     func(g *gen) (string, string) { return g.ip(), "ip_address" },
	"key":    func(g *gen) (string, string) { return g.key(), "secret" },
	"pw":     func(g *gen) (string, string) { return g.password(), "secret" },
	"token":  func(g *gen) (string, string) { return g.token(), "secret" },
	"aws":    func(g *gen) (string, string) { return g.of(base64, 40), "secret" },
	"pem": func(g *gen) (string, string) {
		kind := pick(g, []string{"RSA ", "EC ", "OPENSSH ", "", "ENCRYPTED "})
		s := "-----BEGIN " + kind + "PRIVATE KEY-----\n"
		for range 3 + g.IntN(6) {
			s += g.of(base64, 64) + "\n"
		}
		return s + "-----END " + kind + "PRIVATE KEY-----", "secret"
	},
	"mac": func(g *gen) (string, string) {
		s := g.of("0123456789abcdef", 2)
		by := pick(g, []string{":", ":", "-"})
		for range 5 {
			s += by + g.of(hexes, 2)
		}
		if g.chance(40) {
			s = strings.ToUpper(s)
		}
		return s, "mac_address"
	},
	"nino": func(g *gen) (string, string) {
		s := g.of("ABCEGHJKLMNPRSTWXYZ", 1) + g.of("CEHJLMPRSWX", 1)
		return pick(g, []string{s + g.digits("######"), s + " " + g.digits("## ## ##") + " "}) + g.of("ABCD", 1), "uk_nino"
	},
	"nhs": func(g *gen) (string, string) {
		for {
			d := g.digits("%########")
			sum := 0
			for i := range 9 {
				sum += int(d[i]-'0') * (10 - i)
			}
			if c := (11 - sum%11) % 11; c != 10 {
				d += strconv.Itoa(c)
				return pick(g, []string{d, d[:3] + " " + d[3:6] + " " + d[6:]}), "uk_nhs"
			}
		}
	},
	"nif": func(g *gen) (string, string) {
		n := g.IntN(100_000_000)
		return fmt.Sprintf("%08d%c", n, "TRWAGMYFPDXBNJZSQVHLCKE"[n%23]), "es_nif"
	},
	"cpf": func(g *gen) (string, string) {
		d := g.digits("%########")
		for n := 10; n <= 11; n++ {
			sum := 0
			for i := range len(d) {
				sum += int(d[i]-'0') * (n - i)
			}
			d += strconv.Itoa(sum * 10 % 11 % 10)
		}
		return d[:3] + "." + d[3:6] + "." + d[6:9] + "-" + d[9:], "br_cpf"
	},
	"bsn": func(g *gen) (string, string) {
		for {
			d := g.digits("%#######")
			sum := 0
			for i := range 8 {
				sum += int(d[i]-'0') * (9 - i)
			}
			if sum%11 < 10 {
				return d + strconv.Itoa(sum%11), "nl_bsn"
			}
		}
	},
	"personnummer": func(g *gen) (string, string) {
		d := fmt.Sprintf("%02d%02d%02d%03d", g.IntN(100), 1+g.IntN(12), 1+g.IntN(28), g.IntN(1000))
		d += checkDigit(d)
		return d[:6] + "-" + d[6:], "se_personnummer"
	},
}

func (g *gen) email() string {
	first, last := ascii(pick(g, names)), ascii(pick(g, surnames))
	local := pick(g, []string{first + "." + last, first + last + g.digits("##"), first[:1] + last, last + "_" + first, first + "+" + pick(g, []string{"news", "shop", "2024"}), g.of(lowers, 6) + g.digits("####"), first + "-" + last, g.of(lowers, 1)})
	if g.chance(10) {
		local = strings.ToUpper(local)
	}
	return local + "@" + pick(g, domains)
}

func ascii(s string) string {
	return strings.NewReplacer("í", "i", "é", "e", "ã", "a", "ö", "o", "á", "a", "ü", "u", "ı", "i").Replace(strings.ToLower(s))
}

// phones are forms by country, as the people there and the generators of test data write them.
var phones = []string{
	"(NNN) N##-####", "(NNN)N##-####", "NNN-N##-####", "NNN.N##.####", "NNN N## ####", "+1-NNN-N##-####", "+1 (NNN) N##-####", "001-NNN-N##-####", "NNN-N##-####x###", "(NNN)N##-####x####", "+1-NNN-N##-####x####", "NNN.N##.####x##", "1-NNN-N##-####", "+1NNNN######",
	"+44 20 7### ####", "+44(0)1## ### ####", "+44 7### ######", "020 7### ####", "(0%##) ### ####", "07### ######", "0%### ######", "+44(0)%#########",
	"+49 30 %#######", "+49 (0)89 %######", "+49(0)%### ######", "030 %######", "0%##/%######", "(0%###) %#####", "+49 15# ########", "0%### %#####",
	"+33 1 ## ## ## ##", "+33 (0)6 ## ## ## ##", "06 ## ## ## ##", "01.##.##.##.##", "+336########", "02-##-##-##-##",
	"+34 6## ### ###", "+34 9## ## ## ##", "+34 7########", "+39 02 #######", "+39 3## #######", "+39 0## ### ####", "+31 6 ########", "+31 (0)20 ### ####", "06-########", "020-#######", "+48 5## ### ###", "+48 22 ### ## ##",
	"+46 70 ### ## ##", "+46 (0)8 ### ### ##", "08-### ### ##", "070-### ## ##", "+47 ## ## ## ##", "+45 ## ## ## ##", "+358 40 ### ####", "+7 (9##) ###-##-##", "8 (9##) ###-##-##", "+7 9## ###-##-##",
	"+86 138 #### ####", "138-####-####", "+86 1############"[:14], "+81 90-####-####", "090-####-####", "03-####-####", "+82 10-####-####", "010-####-####", "+91 9#### #####", "+91-9#########", "+91 ##########",
	"+55 11 9####-####", "(11) 9####-####", "+55 (21) ####-####", "(21) ####-####", "+61 4## ### ###", "04## ### ###", "(02) 9### ####", "+61 2 9### ####", "+90 5## ### ## ##", "+90(5##)#######", "0 (5##) ### ## ##", "+52 55 #### ####",
	"+971 50 ### ####", "+65 8### ####", "+27 82 ### ####", "+353 1 ### ####", "+32 4## ## ## ##", "+41 79 ### ## ##", "+43 664 #######", "+972-5#-###-####", "+380 50 ### ## ##", "+420 7## ### ###",
}

func (g *gen) phone() string {
	s := g.digits(pick(g, phones))
	switch g.IntN(40) {
	case 0:
		s = strings.ReplaceAll(s, " ", "\u00a0")
	case 1:
		s = strings.ReplaceAll(s, "-", "\u2011")
	}
	return s
}

// bare is a phone's number in a form that only the words around it tell.
func (g *gen) bare() string {
	return g.digits(pick(g, []string{"NNNN######", "NNNN######", "0%########", "07#########"[:11], "13#########", "9#########", "6## ### ###", "N##-####", "6## ## ## ##", "## ## ## ##", "5## ### ###", "0033 6 ## ## ## ##"}))
}

func checkDigit(d string) string {
	sum := 0
	for i := range len(d) {
		v := int(d[len(d)-1-i] - '0')
		if i%2 == 0 {
			if v *= 2; v > 9 {
				v -= 9
			}
		}
		sum += v
	}
	return strconv.Itoa((10 - sum%10) % 10)
}

func (g *gen) cardDigits() string {
	form := pick(g, []string{"4##############", "4##############", "51#############", "54#############", "2221###########", "6011###########", "65#############", "3530###########", "34############", "37############", "36###########"})
	d := g.digits(form)
	return d + checkDigit(d)
}

func (g *gen) card() string {
	d := g.cardDigits()
	by := pick(g, []string{" ", "-", "", "", "\u00a0"})
	if by == "" || len(d) == 14 && by != " " {
		return d
	}
	if len(d) == 15 || len(d) == 14 {
		return d[:4] + by + d[4:10] + by + d[10:]
	}
	return d[:4] + by + d[4:8] + by + d[8:12] + by + d[12:]
}

func (g *gen) iban() string {
	f := pick(g, []string{"DE18#", "FR23#", "GB4A14#", "NL4A10#", "ES20#", "IT1A22#", "PL24#", "BE12#", "CH17#", "AT16#", "SE20#", "NO11#", "DK14#", "PT21#", "IE4A14#", "FI14#", "CZ20#", "TR22#", "LU16#", "SA20#"})
	body := ""
	for rest := f[2:]; rest != ""; {
		n := 0
		for rest[0] >= '0' && rest[0] <= '9' {
			n, rest = n*10+int(rest[0]-'0'), rest[1:]
		}
		body += g.digits(strings.Repeat(rest[:1], n))
		rest = rest[1:]
	}
	r := 0
	for _, c := range body + f[:2] + "00" {
		if c >= 'A' {
			r = (r*100 + int(c-'A') + 10) % 97
		} else {
			r = (r*10 + int(c-'0')) % 97
		}
	}
	s := fmt.Sprintf("%s%02d%s", f[:2], 98-r, body)
	if g.chance(50) {
		var parts []string
		for s != "" {
			n := min(4, len(s))
			parts, s = append(parts, s[:n]), s[n:]
		}
		s = strings.Join(parts, " ")
	}
	return s
}

func (g *gen) ssn(by string) string {
	for {
		a, b, c := 1+g.IntN(899), 1+g.IntN(99), 1+g.IntN(9999)
		if a != 666 {
			return fmt.Sprintf("%03d%s%02d%s%04d", a, by, b, by, c)
		}
	}
}

func (g *gen) ip() string {
	if g.chance(25) {
		s := pick(g, []string{"2a02", "2600", "2001:4860", "2a00:1450", "2606:4700"})
		for strings.Count(s, ":") < 7 {
			s += ":" + strconv.FormatInt(int64(1+g.IntN(65535)), 16)
		}
		if g.chance(40) {
			p := strings.Split(s, ":")
			s = strings.Join(p[:4], ":") + "::" + p[7]
		}
		return s
	}
	for {
		a, b := 1+g.IntN(223), g.IntN(256)
		if a == 10 || a == 127 || a == 100 || a == 169 || a == 172 || a == 192 || a == 198 || a == 203 {
			continue
		}
		return fmt.Sprintf("%d.%d.%d.%d", a, b, g.IntN(256), 1+g.IntN(254))
	}
}

func (g *gen) key() string {
	return pick(g, []func() string{
		func() string { return "AKIA" + g.of(uppers, 16) }, func() string { return "ghp_" + g.of(alnum, 36) }, func() string { return "github_pat_" + g.of(alnum, 22) + "_" + g.of(alnum, 59) },
		func() string { return "glpat-" + g.of(urlish, 20) }, func() string { return "xoxb-" + g.digits("###########-############-") + g.of(alnum, 24) }, func() string { return "sk_live_" + g.of(alnum, 24) },
		func() string { return "sk-proj-" + g.of(urlish, 74) + "T3BlbkFJ" + g.of(urlish, 74) }, func() string { return "sk-" + g.of(alnum, 20) + "T3BlbkFJ" + g.of(alnum, 20) },
		func() string { return "sk-ant-api03-" + g.of(urlish, 93) + "AA" }, func() string { return "hf_" + g.of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", 34) }, func() string { return "AIza" + g.of(urlish, 35) },
		func() string { return "npm_" + g.of(alnum, 36) }, func() string { return "pypi-AgEIcHlwaS5vcmc" + g.of(urlish, 120) }, func() string { return "SG." + g.of(urlish, 22) + "." + g.of(urlish, 43) },
		func() string { return "SK" + g.of(hexes, 32) }, func() string { return g.digits("%#########") + ":AA" + g.of(urlish, 33) }, func() string { return "dop_v1_" + g.of(hexes, 64) }, func() string { return "glsa_" + g.of(alnum, 32) + "_" + g.of(hexes, 8) },
		func() string { return "eyJhbGciOiJIUzI1NiJ9.eyJ" + g.of(urlish, 60) + "." + g.of(urlish, 43) }, func() string { return "shpat_" + g.of(hexes, 32) }, func() string { return "rk_live_" + g.of(alnum, 24) },
	})()
}

func (g *gen) password() string {
	w := pick(g, strings.Fields("Summer winter dragon Falcon monkey Correct trouble Sunset purple horse"))
	return pick(g, []string{w + g.digits("####"), w + "!" + g.digits("##"), g.of(alnum, 8) + g.digits("##"), w + "_" + g.of(lowers, 3) + g.digits("#"), "P@" + w + g.digits("#%")})
}

func (g *gen) token() string {
	return pick(g, []string{g.of(hexes, 32), g.of(hexes, 40), g.of(alnum, 32), g.of(urlish, 43)})
}
