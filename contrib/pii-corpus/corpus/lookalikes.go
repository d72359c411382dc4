package corpus

import (
	"fmt"
	"strconv"
	"strings"
)

func (g *gen) date() string {
	y, m, d := 1990+g.IntN(40), 1+g.IntN(12), 1+g.IntN(28)
	return pick(g, []string{fmt.Sprintf("%d-%02d-%02d", y, m, d), fmt.Sprintf("%02d/%02d/%d", m, d, y), fmt.Sprintf("%02d.%02d.%d", d, m, y), fmt.Sprintf("%d/%02d/%02d", y, m, d), fmt.Sprintf("%02d-%02d-%d", d, m, y)})
}

// looks makes what is nobody's by kind.
var looks = map[string]func(*gen) string{
	"luhn":   func(g *gen) string { return g.cardDigits() },
	"luhn12": func(g *gen) string { d := g.digits("%##########"); return d + checkDigit(d) },
	"nocard": func(g *gen) string { // of a card's form, with a wrong check digit
		d := g.digits("4##############")
		c := (int(checkDigit(d)[0]-'0') + 1 + g.IntN(9)) % 10
		d += strconv.Itoa(c)
		return pick(g, []string{d, d[:4] + " " + d[4:8] + " " + d[8:12] + " " + d[12:]})
	},
	"version": func(g *gen) string {
		return pick(g, []string{g.digits("%.#.%"), g.digits("%.%.#.##"), g.digits("%#.#.%##.#"), g.digits("2024.%.#"), g.digits("%.%.%.%")})
	},
	"v4": func(g *gen) string { return g.digits(pick(g, []string{"%.%.%.%", "%.#.%#.#", "%#.#.%.#"})) },
	"hash": func(g *gen) string {
		return g.of(hexes, pick(g, []int{7, 32, 40, 64}))
	},
	"uuid": func(g *gen) string {
		s := g.of(hexes, 8) + "-" + g.of(hexes, 4) + "-4" + g.of(hexes, 3) + "-a" + g.of(hexes, 3) + "-" + g.of(hexes, 12)
		return pick(g, []string{s, strings.ToUpper(s), g.digits("########-####-4###-8###-############")})
	},
	"isbn": func(g *gen) string {
		d := g.digits("978#########")
		sum := 0
		for i := range 12 {
			sum += int(d[i]-'0') * (1 + i%2*2)
		}
		d += strconv.Itoa((10 - sum%10) % 10)
		return pick(g, []string{d, d[:3] + "-" + d[3:4] + "-" + d[4:7] + "-" + d[7:12] + "-" + d[12:], d[:3] + "-" + d[3:]})
	},
	"isbn10": func(g *gen) string {
		return g.digits(pick(g, []string{"0-###-#####-#", "%-##-######-#", "##########"}))
	},
	"private": func(g *gen) string {
		return pick(g, []string{g.digits("10.#.%#.%#"), g.digits("192.168.#.%#"), "172.16." + g.digits("%#.%"), "127.0.0.1", "0.0.0.0", "255.255.255.0", "192.0.2." + g.digits("%#"), "198.51.100." + g.digits("%"), "203.0.113." + g.digits("%#"),
			"169.254." + g.digits("%.%"), "::1", "fe80::" + g.of(hexes[1:], 4), "2001:db8::" + g.of(hexes[1:], 3), "fd" + g.of(hexes, 2) + ":" + g.of(hexes[1:], 4) + "::1", "100.64." + g.digits("%.%"), "224.0.0." + g.digits("%")})
	},
	"git": func(g *gen) string {
		return "git@" + pick(g, []string{"github.com", "gitlab.com", "bitbucket.org", "git.example.com"}) + ":" + g.of(lowers, 6) + "/" + g.of(lowers, 5) + ".git"
	},
	"scp": func(g *gen) string {
		return pick(g, []string{"deploy", "root", "ubuntu"}) + "@" + pick(g, []string{"build.example.com", "node1.cluster.org"}) + ":/srv/" + g.of(lowers, 5)
	},
	"sshurl": func(g *gen) string {
		return "ssh://git@" + pick(g, []string{"github.com", "git.example.org"}) + "/" + g.of(lowers, 6) + ".git"
	},
	"decorator": func(g *gen) string {
		return "@" + pick(g, []string{"app.route", "pytest.mark.slow", "dataclass.field", "router.get", "functools.cache"})
	},
	"asset": func(g *gen) string { return g.of(lowers, 5) + pick(g, []string{"@2x.png", "@3x.jpg", "@2x.webp"}) },
	"package": func(g *gen) string {
		return pick(g, []string{"react", "lodash", "@types/node", "vite"}) + "@" + g.digits("%#.#.%")
	},
	"unit": func(g *gen) string {
		return pick(g, []string{"getty@tty1.service", "user@1000.service", "wg-quick@wg0.service"})
	},
	"epoch": func(g *gen) string {
		return g.digits(pick(g, []string{"17########", "17###########", "17########.######", "16########"}))
	},
	"stamp": func(g *gen) string {
		return g.date()[:4] + pick(g, []string{g.digits("0%1%"), g.digits("-0%-1%T1#:%#:%#.###Z")[0:]})
	},
	"moment": func(g *gen) string {
		return fmt.Sprintf("2024-%02d-%02d %02d:%02d:%02d,%03d", 1+g.IntN(12), 1+g.IntN(28), g.IntN(24), g.IntN(60), g.IntN(60), g.IntN(1000))
	},
	"date":  func(g *gen) string { return g.date() },
	"place": func(g *gen) string { return g.digits("%#.######, -%#.######") },
	"decimal": func(g *gen) string {
		return pick(g, []string{g.digits("0.##############"), g.digits("%.########e-0%"), g.digits("-%##.#######"), g.digits("%,###,###,###"), g.digits("%## ### ###"), g.digits("%###########")})
	},
	"part": func(g *gen) string {
		return g.digits(pick(g, []string{"NNN-N##-####", "%##-####", "AA-####-####", "%###-####-##", "##-#####-##", "NNN-##-####", "AA###-##-####"}))
	},
	"order": func(g *gen) string {
		return g.digits(pick(g, []string{"##########", "112-#######-#######", "%#########", "ORD-########", "%#######", "#########", "%##############"}))
	},
	"track": func(g *gen) string {
		return pick(g, []string{"1Z" + g.of("0123456789ABCDEF", 16), g.digits("94##################"), g.digits("############"), g.digits("RA#########DE")})
	},
	"ean": func(g *gen) string { return g.digits("40###########") },
	"badssn": func(g *gen) string {
		return g.digits(pick(g, []string{"000-##-####", "666-##-####", "9##-##-####", "NNN-00-####", "NNN-##-0000"}))
	},
	"badiban": func(g *gen) string {
		s := g.iban()
		return s[:2] + fmt.Sprintf("%02d", (value2(s[2:4])+1+g.IntN(90))%97) + s[4:]
	},
	"time": func(g *gen) string { return fmt.Sprintf("%02d:%02d:%02d", g.IntN(24), g.IntN(60), g.IntN(60)) },
	"slice": func(g *gen) string {
		return pick(g, []string{"a[1::2]", "std::vector<int>::size", "x[::2]", "Foo::Bar", "ns::a1::b2"})
	},
	"nopass": func(g *gen) string {
		return pick(g, []string{"password: required", "password = getpass()", "password=os.environ['DB_PASSWORD']", `password: "${DB_PASSWORD}"`, "api_key = YOUR_API_KEY", `"token": null`, "secret: str", "password: ********", "api_key=<your-api-key>", "token = request.headers.get('X')",
			"max_tokens=4096", "password_field = forms.CharField()", `"password": {"type": "string"}`, "pwd: /home/user/project", "token_count: 1532", "pad_token_id: 50256", "secret_name: db-credentials", "eos_token: <|endoftext|>"})
	},
	"placekey": func(g *gen) string {
		return pick(g, []string{"sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "hf_your_token_here", "sk-ant-your-key-here", "AKIAXXXXXXXXXXXXXXXX", "xoxb-your-token"})
	},
	"pubkey": func(g *gen) string {
		return "-----BEGIN PUBLIC KEY-----\n" + g.of(base64, 64) + "\n-----END PUBLIC KEY-----"
	},
	"sshkey": func(g *gen) string { return "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + g.of(base64, 43) },
	"blob":   func(g *gen) string { return g.of(base64, 60+g.IntN(60)) + "==" },
	"imei":   func(g *gen) string { d := g.digits("35############"); return d + checkDigit(d) },
	"handle": func(g *gen) string {
		return pick(g, []string{"@jane_doe", "@acme", "user@host", "root@web-01", "me@laptop"})
	},
	"finger": func(g *gen) string {
		s := g.of(hexes, 2)
		for range 15 {
			s += ":" + g.of(hexes, 2)
		}
		return s
	},
	"color": func(g *gen) string { return "#" + g.digits("######") },
	"snow":  func(g *gen) string { return g.digits("1#################") },
	"arxiv": func(g *gen) string { return g.digits("2#0%.#####") },
	"doi":   func(g *gen) string { return g.digits("10.1%##/s41586-02#-0####-%") },
}

func value2(s string) int { return int(s[0]-'0')*10 + int(s[1]-'0') }
