package pii

import (
	"bytes"
	"math"
)

// A name is how the name ends that a secret is assigned to.
type name struct {
	ends   string
	entity entity
	least  int // bytes of the value
}

var names = []name{
	{"password", "secret_password", 4}, {"passwd", "secret_password", 4}, {"passphrase", "secret_password", 6}, {"pwd", "secret_password", 4}, {"passwort", "secret_password", 4}, {"contraseña", "secret_password", 4},
	{"kennwort", "secret_password", 4}, {"mot de passe", "secret_password", 4}, {"wachtwoord", "secret_password", 4}, {"senha", "secret_password", 4}, {"hasło", "secret_password", 4}, {"пароль", "secret_password", 4},
	{"密码", "secret_password", 4}, {"パスワード", "secret_password", 4}, {"password_hash", "", 0}, {"pass", "secret_password", 5},
	{"secretaccesskey", "secret_aws_secret_key", 40}, {"secret", "secret_api_key", 12}, {"secretkey", "secret_api_key", 12}, {"apikey", "secret_api_key", 12}, {"token", "secret_api_key", 12},
	{"accesskey", "secret_api_key", 12}, {"authkey", "secret_api_key", 12}, {"privatekey", "secret_api_key", 16}, {"encryptionkey", "secret_api_key", 12}, {"signingkey", "secret_api_key", 12},
	{"credential", "secret_api_key", 12}, {"credentials", "secret_api_key", 12}, {"authorization", "secret_api_key", 12}, {"accountkey", "secret_api_key", 12}, {"masterkey", "secret_api_key", 12},
	{"connectionstring", "secret_api_key", 20}, {"licensekey", "secret_api_key", 16}, {"secretid", "secret_api_key", 12}, {"sharedkey", "secret_api_key", 12}, {"sessionkey", "secret_api_key", 12}, {"storagekey", "secret_api_key", 12},
	{"apitoken", "secret_api_key", 12}, {"xapikey", "secret_api_key", 12}, {"subscriptionkey", "secret_api_key", 12}, {"servicekey", "secret_api_key", 12},
}

// namesBy has them by their last byte, in lower case.
var namesBy [256][]name

func loadNamesBy() {
	for _, n := range names {
		c := n.ends[len(n.ends)-1]
		namesBy[c] = append(namesBy[c], n)
	}
}

// endsName are the last two bytes of all names: most of what stands before a ':' ends with others.
var endsName [1 << 16]bool

func loadEndsName() {
	for _, n := range names {
		endsName[uint16(n.ends[len(n.ends)-2])<<8|uint16(n.ends[len(n.ends)-1])] = true
	}
}

// assigned stands at a ':' or '='. Where a name that says secret stands before it, what stands behind it is looked at.
func (s *Scanner) assigned(i int) {
	t := s.text
	j := i
	for j > 0 && i-j < 4 && (t[j-1] == ' ' || t[j-1] == '"' || t[j-1] == '\'' || t[j-1] == '\\' || t[j-1] == ':' || t[j-1] == '`' || t[j-1] == ']' || t[j-1] == '*' || t[j-1] == '?') {
		j--
	}
	if j < 3 {
		return
	}
	if c := t[j-1]; c == 's' || c == 't' {
		if j = beforeIs(t, j); j < 3 {
			return
		}
	}
	if !endsName[uint16(lower(t[j-2]))<<8|uint16(lower(t[j-1]))] {
		return
	}
	n, ok := nameBefore(t, j)
	if !ok {
		return
	}
	start, end, quoted := valueAfter(t, i+1)
	if end-start < n.least {
		return
	}
	if c := judge(t[start:end], n, quoted, at(t, end)); c > none {
		s.add(start, end, n.entity, c)
	}
}

// beforeIs steps back over "is" in "my password is: …".
func beforeIs(t []byte, j int) int {
	for _, w := range [...]string{" is", " ist", " es", " est", " was"} {
		if hasSuffix(t[:j], w) {
			return j - len(w)
		}
	}
	return j
}

// told stands at a digit within a word that may be what "password is …" tells.
func (s *Scanner) told(i int) {
	t, start := s.text, i
	for start > 0 && i-start < 32 && t[start-1] > ' ' && t[start-1] < 0x80 {
		start--
	}
	if at(t, start-1) != ' ' {
		return
	}
	j := beforeIs(t, start-1)
	if j == start-1 || j == 0 || namesBy[lower(t[j-1])] == nil {
		return
	}
	if n, ok := nameBefore(t, j); ok && n.entity == "secret_password" && n.ends != "pass" {
		from, end, quoted := valueAfter(t, start)
		if end-from >= n.least && end > i {
			s.add(from, end, n.entity, judge(t[from:end], n, quoted, at(t, end)))
		}
	}
}

// nameBefore finds the name that ends at j. '_', '-' and '.' within it do not count.
func nameBefore(t []byte, j int) (best name, ok bool) {
	for _, n := range namesBy[lower(t[j-1])] {
		i, k := j, len(n.ends)
		for k > 0 && i > 0 {
			c := lower(t[i-1])
			switch {
			case c == n.ends[k-1]:
				k--
				i--
				continue
			case (c == '_' || c == '-' || c == ' ') && k < len(n.ends) && n.entity != "secret_password":
				i--
				continue
			}
			break
		}
		if k > 0 {
			continue
		}
		if n.ends == "pass" && i > 0 && isLetter(t[i-1]) && !(isUpper(t[i]) && !isUpper(t[i-1])) {
			continue // compass, bypass
		}
		if len(n.ends) > len(best.ends) {
			best, ok = n, true
		}
	}
	return best, ok && best.entity != ""
}

// valueAfter is what stands behind a ':' or '=': in quotes, or up to a blank.
func valueAfter(t []byte, i int) (start, end int, quoted bool) {
	for n := 0; n < 3 && (at(t, i) == '=' || at(t, i) == '>' || at(t, i) == ':'); n++ {
		i++
	}
	for n := 0; n < 4 && (at(t, i) == ' ' || at(t, i) == '*'); n++ {
		i++
	}
	if at(t, i) == '\\' && (at(t, i+1) == '"' || at(t, i+1) == '\'') {
		i++
	}
	q := at(t, i)
	quoted = q == '"' || q == '\'' || q == '`'
	if quoted {
		i++
	}
	for _, scheme := range [...]string{"Bearer ", "bearer ", "Basic ", "Token ", "token "} {
		if hasPrefix(t[min(i, len(t)):], scheme) {
			i += len(scheme)
		}
	}
	start, end = i, i
	for end < len(t) && end-start < 300 {
		c := t[end]
		if quoted && (c == q || c == '\n' || c == '\\') || !quoted && (c <= ' ' || c == '"' || c == '\'' || c == '`' || c == ',' || c == ';' || c == '&' || c == '<' || c == '\\' || c == ')' || c == ']' && end > start && t[start] != '[' || c == '}' || c == '|') {
			break
		}
		if c >= 0xE2 {
			break
		}
		end++
	}
	if !quoted {
		for end > start && (t[end-1] == '.' || t[end-1] == ',' || t[end-1] == '!' && end-start < 6 || t[end-1] == '?' || t[end-1] == ':') {
			end--
		}
	}
	return min(start, len(t)), min(end, len(t)), quoted
}

// judge says how sure a value is a secret and not a word, a variable, a call, what a manual puts there.
func judge(v []byte, n name, quoted bool, next byte) confidence {
	if len(v) == 0 || next == '(' {
		return none
	}
	switch v[0] {
	case '$', '<', '{', '[', '%', '*', '(', '@':
		if !(n.entity == "secret_password" && len(v) >= 8 && (v[0] == '$' || v[0] == '%' || v[0] == '*' || v[0] == '@') && isAlnum(v[1]) && classes(v) >= 3 && !upperName(v[1:])) {
			return none
		}
	}
	digits, alphas, others, upper, lowers, blanks := 0, 0, 0, 0, 0, 0
	for _, c := range v {
		switch {
		case isDigit(c):
			digits++
		case isUpper(c):
			alphas++
			upper++
		case isLetter(c):
			alphas++
			lowers++
		case c == ' ':
			blanks++
		case c == '(' || c == '{':
			if !quoted {
				return none
			}
			others++
		default:
			others++
		}
	}
	if blanks > 0 || dictated(v) || varied(v) < 4 || containsFold(v, "example") && digits == 0 || bytes.HasPrefix(v, []byte("//")) {
		return none
	}
	for _, p := range [...]string{"getenv", "environ", "process.env", "config.", "settings.", "self.", "os.", "secrets.", "vault.", "req.", "request.", "string", "params.", "args.", "data.", "user.", "props.", "this.", "env.", "response.", "input.", "form."} {
		if len(v) >= len(p) && containsFold(v[:len(p)], p) {
			return none
		}
	}
	if n.entity == "secret_password" {
		switch {
		case digits == len(v):
			if len(v) >= 4 && quoted {
				return low
			}
			return low
		case digits > 0 && alphas > 0 && len(v) >= 6:
			return medium
		case digits > 0 && others > 0 && len(v) >= 6:
			return medium
		case others > 0 && alphas > 0 && !codeName(v) && len(v) >= 6:
			return medium
		case quoted && len(v) >= 6 && upper > 0 && lowers > 0 && !camel(v):
			return low
		}
		return low
	}
	if digits == 0 && others == 0 && !(upper > 2 && lowers > 2 && len(v) >= 20) || alphas == 0 {
		return none
	}
	if codeName(v) && digits < 2 && !(upper > 2 && lowers > 2 && bits(v) > 3.8) {
		return none
	}
	if bits(v) < 3 || digits < 2 && len(v) < 20 {
		return low
	}
	if n.entity == "secret_aws_secret_key" {
		if len(v) == 40 {
			return high
		}
		return medium
	}
	if len(v) < 16 {
		return medium
	}
	return medium
}

func classes(v []byte) int {
	var up, lo, di, ot int
	for _, c := range v {
		switch {
		case isUpper(c):
			up = 1
		case isLetter(c):
			lo = 1
		case isDigit(c):
			di = 1
		default:
			ot = 1
		}
	}
	return up + lo + di + ot
}

// upperName is the name of a variable of the environment.
func upperName(v []byte) bool {
	for _, c := range v {
		if !isUpper(c) && c != '_' && !isDigit(c) && c != '}' {
			return false
		}
	}
	return true
}

// codeName says whether a value is a name in code: words with points, dashes, underscores.
func codeName(v []byte) bool {
	for _, c := range v {
		if !isLetter(c) && c != '_' && c != '.' && c != '-' && c != '/' && !isDigit(c) && c != '[' && c != ']' && c != '"' && c != '\'' {
			return false
		}
	}
	return true
}

func camel(v []byte) bool {
	for i, c := range v {
		if isUpper(c) && i > 0 && isUpper(v[i-1]) {
			return false
		}
	}
	return true
}

// bits is the entropy of a value's bytes.
func bits(v []byte) (h float64) {
	var n [256]uint16
	for _, c := range v {
		n[c]++
	}
	for _, k := range n {
		if k > 0 {
			p := float64(k) / float64(len(v))
			h -= p * math.Log2(p)
		}
	}
	return h
}

// urlPassword looks before an @ for scheme://user:password.
func (s *Scanner) urlPassword(i int) int {
	t := s.text
	low := max(0, i-200)
	j, colon := i, -1
	for j > low {
		c := t[j-1]
		if c <= ' ' || c == '"' || c == '<' || c == '>' || c >= 0x80 || c == '`' {
			return 0
		}
		if c == '/' {
			if j >= 3 && t[j-2] == '/' && t[j-3] == ':' {
				break
			}
			return 0
		}
		if c == ':' {
			colon = j - 1
		}
		j--
	}
	if j <= low || colon < 0 || j < 4 || !isLetter(t[j-4]) || i-colon < 3 {
		return 0
	}
	if !isAlnum(at(t, i+1)) && at(t, i+1) != '[' {
		return 0
	}
	v := t[colon+1 : i]
	switch v[0] {
	case '$', '{', '[', '%', '<', '*':
		if v[0] != '%' || !isHex(at(v, 1)) {
			return 0
		}
	}
	if dictated(v) || varied(v) < 2 {
		s.add(colon+1, i, "secret_url_password", none)
		return i + 1
	}
	s.add(colon+1, i, "secret_url_password", high)
	return i + 1
}
