package pii

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// What may stand in a key after its prefix.
type letters uint8

const (
	isHexRun letters = iota
	isLowHex
	isAlnumRun
	isUpperRun // upper case letters and digits
	isURLRun   // letters, digits, '-' and '_'
	isWordRun  // letters, digits and '_'
	isDotRun   // those of URLs and '.'
	is64Run    // those of base64
	isAlphaRun
)

func (l letters) has(b byte) bool {
	switch l {
	case isHexRun:
		return isHex(b)
	case isLowHex:
		return isDigit(b) || b >= 'a' && b <= 'f'
	case isAlnumRun:
		return isAlnum(b)
	case isUpperRun:
		return isDigit(b) || isUpper(b)
	case isURLRun:
		return isToken(b)
	case isWordRun:
		return isAlnum(b) || b == '_'
	case isDotRun:
		return isToken(b) || b == '.'
	case is64Run:
		return isAlnum(b) || b == '+' || b == '/'
	case isAlphaRun:
		return isLetter(b)
	}
	return false
}

// A key is a kind of secret that is known by its beginning.
type key struct {
	prefix      string
	entity      entity
	of          letters
	least, most int // how many follow
}

// keys is the table of those kinds. Of prefixes that begin another the longest counts.
var keys = []key{
	{"AKIA", "secret_aws_access_key", isUpperRun, 16, 16}, {"ASIA", "secret_aws_access_key", isUpperRun, 16, 16}, {"ABIA", "secret_aws_access_key", isUpperRun, 16, 16},
	{"ACCA", "secret_aws_access_key", isUpperRun, 16, 16}, {"A3T", "secret_aws_access_key", isUpperRun, 17, 17}, {"ABSK", "secret_aws_bedrock", is64Run, 109, 269},
	{"ghp_", "secret_github", isAlnumRun, 36, 251}, {"gho_", "secret_github", isAlnumRun, 36, 251}, {"ghu_", "secret_github", isAlnumRun, 36, 251}, {"ghs_", "secret_github", isAlnumRun, 36, 251},
	{"ghr_", "secret_github", isAlnumRun, 36, 251}, {"github_pat_", "secret_github", isWordRun, 60, 255},
	{"glpat-", "secret_gitlab", isDotRun, 20, 300}, {"gldt-", "secret_gitlab", isURLRun, 20, 64}, {"glrt-", "secret_gitlab", isDotRun, 20, 300}, {"glptt-", "secret_gitlab", isLowHex, 40, 40},
	{"glft-", "secret_gitlab", isURLRun, 20, 64}, {"gloas-", "secret_gitlab", isURLRun, 64, 64}, {"glsoat-", "secret_gitlab", isURLRun, 20, 64}, {"glcbt-", "secret_gitlab", isURLRun, 20, 64},
	{"glimt-", "secret_gitlab", isURLRun, 25, 64}, {"glagent-", "secret_gitlab", isURLRun, 50, 64}, {"glffct-", "secret_gitlab", isURLRun, 20, 64}, {"GR1348941", "secret_gitlab", isURLRun, 20, 20},
	{"xoxb-", "secret_slack", isURLRun, 20, 200}, {"xoxp-", "secret_slack", isURLRun, 20, 200}, {"xoxa-", "secret_slack", isURLRun, 20, 200}, {"xoxr-", "secret_slack", isURLRun, 20, 200},
	{"xoxs-", "secret_slack", isURLRun, 20, 200}, {"xoxe-", "secret_slack", isURLRun, 20, 300}, {"xoxe.xox", "secret_slack", isDotRun, 20, 300}, {"xoxc-", "secret_slack", isURLRun, 20, 200},
	{"xoxd-", "secret_slack", isURLRun, 20, 300}, {"xapp-", "secret_slack", isURLRun, 20, 200},
	{"sk_live_", "secret_stripe", isAlnumRun, 10, 247}, {"sk_test_", "secret_stripe", isAlnumRun, 10, 247}, {"rk_live_", "secret_stripe", isAlnumRun, 10, 247}, {"rk_test_", "secret_stripe", isAlnumRun, 10, 247},
	{"sk_prod_", "secret_stripe", isAlnumRun, 10, 247}, {"rk_prod_", "secret_stripe", isAlnumRun, 10, 247}, {"whsec_", "secret_stripe", is64Run, 24, 64},
	{"sk-ant-", "secret_anthropic", isURLRun, 24, 200}, {"sk-proj-", "secret_openai", isURLRun, 32, 250}, {"sk-svcacct-", "secret_openai", isURLRun, 32, 250}, {"sk-admin-", "secret_openai", isURLRun, 32, 250},
	{"sk-or-v1-", "secret_openrouter", isLowHex, 64, 64}, {"sk-", "secret_openai", isAlnumRun, 32, 64},
	{"hf_", "secret_huggingface", isAlnumRun, 30, 40}, {"api_org_", "secret_huggingface", isAlphaRun, 34, 34}, {"AIza", "secret_google", isURLRun, 35, 35}, {"GOCSPX-", "secret_google", isURLRun, 24, 40},
	{"ya29.", "secret_google", isDotRun, 20, 300}, {"npm_", "secret_npm", isAlnumRun, 36, 36}, {"pypi-", "secret_pypi", isURLRun, 50, 1000}, {"SG.", "secret_sendgrid", isDotRun, 60, 80},
	{"SK", "secret_twilio", isLowHex, 32, 32}, {"AC", "secret_twilio", isLowHex, 32, 32}, {"key-", "secret_mailgun", isLowHex, 32, 32}, {"dop_v1_", "secret_digitalocean", isLowHex, 64, 64},
	{"doo_v1_", "secret_digitalocean", isLowHex, 64, 64}, {"dor_v1_", "secret_digitalocean", isLowHex, 64, 64}, {"shpat_", "secret_shopify", isHexRun, 32, 32}, {"shpca_", "secret_shopify", isHexRun, 32, 32},
	{"shppa_", "secret_shopify", isHexRun, 32, 32}, {"shpss_", "secret_shopify", isHexRun, 32, 32}, {"sq0atp-", "secret_square", isURLRun, 22, 60}, {"sq0csp-", "secret_square", isURLRun, 43, 43},
	{"EAAA", "secret_square", isURLRun, 56, 60}, {"dapi", "secret_databricks", isLowHex, 32, 32}, {"hvs.", "secret_vault", isURLRun, 24, 200}, {"hvb.", "secret_vault", isURLRun, 90, 300},
	{"lin_api_", "secret_linear", isAlnumRun, 40, 40}, {"ntn_", "secret_notion", isAlnumRun, 40, 60}, {"secret_", "secret_notion", isAlnumRun, 43, 43}, {"pplx-", "secret_perplexity", isAlnumRun, 48, 56},
	{"gsk_", "secret_groq", isAlnumRun, 48, 56}, {"xai-", "secret_xai", isAlnumRun, 70, 90}, {"r8_", "secret_replicate", isAlnumRun, 37, 40}, {"PMAK-", "secret_postman", isURLRun, 59, 59},
	{"rubygems_", "secret_rubygems", isLowHex, 48, 48}, {"pul-", "secret_pulumi", isLowHex, 40, 40}, {"glsa_", "secret_grafana", isWordRun, 40, 42}, {"glc_", "secret_grafana", is64Run, 32, 400},
	{"NRAK-", "secret_newrelic", isAlnumRun, 27, 27}, {"NRII-", "secret_newrelic", isURLRun, 32, 32}, {"tfp_", "secret_typeform", isDotRun, 59, 59}, {"dckr_pat_", "secret_docker", isURLRun, 27, 27},
	{"figd_", "secret_figma", isURLRun, 40, 40}, {"sntrys_", "secret_sentry", isDotRun, 60, 300}, {"sntryu_", "secret_sentry", isLowHex, 64, 64}, {"phc_", "secret_posthog", isAlnumRun, 43, 43},
	{"phx_", "secret_posthog", isAlnumRun, 43, 43}, {"pscale_tkn_", "secret_planetscale", isDotRun, 32, 64}, {"pscale_pw_", "secret_planetscale", isDotRun, 32, 64}, {"dp.pt.", "secret_doppler", isAlnumRun, 43, 43},
	{"LTAI", "secret_alibaba", isAlnumRun, 20, 20}, {"AGE-SECRET-KEY-1", "secret_age", isUpperRun, 58, 58}, {"fo1_", "secret_fly", isURLRun, 43, 43}, {"fm2_", "secret_fly", is64Run, 100, 1000},
	{"xkeysib-", "secret_brevo", isURLRun, 64, 90}, {"ATATT3", "secret_atlassian", isURLRun, 60, 250}, {"rdme_", "secret_readme", isAlnumRun, 70, 70}, {"EZAK", "secret_easypost", isAlnumRun, 54, 54},
	{"wandb_v1_", "secret_wandb", isWordRun, 40, 120}, {"nvapi-", "secret_nvidia", isURLRun, 60, 70}, {"tskey-", "secret_tailscale", isURLRun, 20, 80}, {"sbp_", "secret_supabase", isLowHex, 40, 40},
	{"AKCp", "secret_artifactory", isAlnumRun, 69, 69}, {"p8e-", "secret_adobe", isAlnumRun, 32, 32}, {"ops_eyJ", "secret_onepassword", is64Run, 100, 1000}, {"HRKU-AA", "secret_heroku", isURLRun, 58, 58},
	{"FLWSECK_TEST-", "secret_flutterwave", isURLRun, 12, 40}, {"pnu_", "secret_prefect", isAlnumRun, 36, 36}, {"CLOJARS_", "secret_clojars", isAlnumRun, 60, 60}, {"sk_", "secret_clerk", isAlnumRun, 40, 60},
}

var keysBy [256][]key

func loadKeys() (by [256][]key) {
	for _, k := range keys {
		by[k.prefix[0]] = append(by[k.prefix[0]], k)
	}
	for i := range by {
		slices.SortStableFunc(by[i], func(a, b key) int { return cmp.Compare(len(b.prefix), len(a.prefix)) })
	}
	return by
}

// secretAt looks for a key that begins at start and gives its end, or 0.
func (s *Scanner) secretAt(start int) int {
	t := s.text
	if start >= len(t) {
		return 0
	}
	if t[start] == 'e' && bytes.HasPrefix(t[start:], []byte("eyJ")) {
		return s.jwt(start)
	}
	for _, k := range keysBy[t[start]] {
		if !hasPrefix(t[start:], k.prefix) {
			continue
		}
		from := start + len(k.prefix)
		end := from
		for end < len(t) && end-from <= k.most && k.of.has(t[end]) {
			end++
		}
		for end > from && (t[end-1] == '.' || t[end-1] == '-') {
			end--
		}
		n := end - from
		if n < k.least || n > k.most || isASCIIWord(at(t, end)) {
			continue
		}
		for k.of == is64Run && at(t, end) == '=' {
			end++
		}
		switch c := varied(t[from : from+n]); {
		case c < 6 && n < 40, c < 8 && k.of != isHexRun && k.of != isLowHex, dictated(t[from : from+n]):
			// xxxxxxxx, EXAMPLE…: what stands in manuals
			s.add(start, end, k.entity, low)
		default:
			s.add(start, end, k.entity, high)
		}
		return end
	}
	return s.slackHook(start)
}

// pointed are the prefixes that end with a point.
var pointed []string

func loadPointed() (p []string) {
	for _, k := range keys {
		if k.prefix[len(k.prefix)-1] == '.' {
			p = append(p, k.prefix)
		}
	}
	return p
}

func hasSuffix(t []byte, p string) bool { return len(t) >= len(p) && string(t[len(t)-len(p):]) == p }

// telegram is the token of a bot: its number, and 35 letters from i on.
func (s *Scanner) telegram(start, i int) int {
	if i-1-start < 8 || i-1-start > 10 || isASCIIWord(at(s.text, start-1)) {
		return 0
	}
	end := i
	for isToken(at(s.text, end)) {
		end++
	}
	if end-i < 33 || end-i > 36 {
		return 0
	}
	s.add(start, end, "secret_telegram", high)
	return end
}

func hasPrefix(t []byte, p string) bool { return len(t) >= len(p) && string(t[:len(p)]) == p }

// varied is how many different bytes there are.
func varied(w []byte) (n int) {
	var seen [4]uint64
	for _, c := range w {
		if bit := uint64(1) << (c & 63); seen[c>>6]&bit == 0 {
			seen[c>>6] |= bit
			n++
		}
	}
	return n
}

// dictated says whether a key is one of a manual: your_key_here, xxxxxxxx.
func dictated(w []byte) bool {
	run := 1
	for i, c := range w {
		if i > 0 && c|0x20 == w[i-1]|0x20 {
			if run++; run >= 8 && (c|0x20 == 'x' || c == '*' || c == '.' || c == '_' || c == '-') {
				return true
			}
		} else {
			run = 1
		}
	}
	for _, p := range [...]string{"your", "here", "placeholder", "redacted", "changeme", "insert", "dummy"} {
		if containsFold(w, p) {
			return true
		}
	}
	return false
}

// containsFold is bytes.Contains for a word in lower case.
func containsFold(w []byte, p string) bool {
	for i := 0; i+len(p) <= len(w); i++ {
		k := 0
		for k < len(p) && lower(w[i+k]) == p[k] {
			k++
		}
		if k == len(p) {
			return true
		}
	}
	return false
}

// jwt is two parts of base64 that begin as JSON does, and a signature.
func (s *Scanner) jwt(start int) int {
	t := s.text
	part := func(i int) int {
		for i < len(t) && isToken(t[i]) {
			i++
		}
		return i
	}
	a := part(start)
	if a-start < 16 || at(t, a) != '.' || !bytes.HasPrefix(t[a+1:], []byte("ey")) {
		return 0
	}
	b := part(a + 1)
	if b-a < 12 {
		return 0
	}
	end := b
	if at(t, b) == '.' {
		end = max(part(b+1), b)
	}
	s.add(start, end, "secret_jwt", high)
	return end
}

// slackHook is the path of https://hooks.slack.com/services/T…/B…/….
func (s *Scanner) slackHook(start int) int {
	t := s.text
	if t[start] != 'T' || !bytes.HasSuffix(t[max(0, start-26):start], []byte("hooks.slack.com/services/")) {
		return 0
	}
	end := start
	for end < len(t) && (isAlnum(t[end]) || t[end] == '/') {
		end++
	}
	if end-start < 30 {
		return 0
	}
	s.add(start, end, "secret_slack", high)
	return end
}

// dashes stands at two dashes: a private key begins with five, a line of a table with more.
func (s *Scanner) dashes(i int) int {
	t, j := s.text, i
	for j < len(t) && t[j] == '-' {
		j++
	}
	if j-i != 5 || !hasPrefix(t[j:], "BEGIN ") {
		return j
	}
	line := t[j:min(len(t), j+80)]
	k := bytes.Index(line, []byte("PRIVATE KEY"))
	if k < 0 || bytes.IndexByte(line[:k], '\n') >= 0 {
		return j
	}
	body := j + k + len("PRIVATE KEY")
	if hasPrefix(t[body:], " BLOCK") {
		body += 6
	}
	if !hasPrefix(t[body:], "-----") {
		return j
	}
	body += 5
	rest := t[body:min(len(t), body+16<<10)]
	end := body
	if e := bytes.Index(rest, []byte("-----END ")); e >= 0 {
		end += e + 9
		for end < len(t) && (isUpper(t[end]) || t[end] == ' ') {
			end++
		}
		for n := 0; n < 5 && at(t, end) == '-'; n++ {
			end++
		}
	} else {
		for end < len(t) && end-body < 16<<10 && (letters(is64Run).has(t[end]) || t[end] == '=' || t[end] == '\n' || t[end] == '\r' || t[end] == '\\') {
			end++
		}
	}
	c := high
	if end-body < 60 {
		c = low
	}
	s.add(i, end, "secret_private_key", c)
	s.done = end
	return end
}

// Forms are the keys of the table as extended regular expressions, for whoever wants to look for the same with grep.
func Forms() (out []string) {
	sets := [...]string{isHexRun: "[0-9a-fA-F]", isLowHex: "[0-9a-f]", isAlnumRun: "[A-Za-z0-9]", isUpperRun: "[A-Z0-9]", isURLRun: "[A-Za-z0-9_-]", isWordRun: "[A-Za-z0-9_]", isDotRun: "[A-Za-z0-9_.-]", is64Run: "[A-Za-z0-9+/]", isAlphaRun: "[A-Za-z]"}
	for _, k := range keys {
		out = append(out, strings.ReplaceAll(k.prefix, ".", `\.`)+sets[k.of]+"{"+strconv.Itoa(k.least)+",}")
	}
	return out
}
