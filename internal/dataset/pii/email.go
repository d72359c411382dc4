package pii

import (
	"bytes"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

func wordSet(s string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(s) {
		m[w] = true
	}
	return m
}

// tlds are the endings of most mailboxes beside those of two letters; unlikely those of two letters that names in code end with, and no country has.
var tlds, unlikely, files map[string]bool

func loadDomains() {
	tlds = wordSet(`com org net edu gov mil int info biz name pro aero coop museum mobi tel travel jobs cat asia post xxx app dev page online site store tech shop blog cloud email live life world
		today agency company studio design digital media news xyz club top icu vip work space website fun art bank global group international network solutions services systems technology tools
		academy education school university college health clinic dental care doctor hospital pharmacy legal law attorney lawyer finance financial money fund capital insurance loan credit exchange
		marketing consulting engineering construction energy solar green eco bio earth farm garden house homes apartments properties realty estate land city town london berlin paris tokyo nyc
		hamburg koeln bayern wien swiss amsterdam brussels madrid barcelona moscow istanbul capetown sydney melbourne quebec scot wales irish kiwi africa lat eus gal bzh corsica
		chat social community support help wiki guide expert zone center plus one pub bar cafe restaurant pizza beer wine coffee food kitchen recipes game games play poker casino bet sport football
		fitness yoga run bike surf ski golf tennis dance music band audio video film movie photo photos photography gallery camera fashion clothing shoes jewelry style beauty salon hair spa makeup
		baby kids family dating love wedding events party tickets vacations tours flights hotel rentals villas cruises taxi auto cars car bargains deals discount sale cheap gift gifts toys market markets
		trade trading ventures partners holdings enterprises industries associates management ltd llc inc gmbh limited sarl srl bv ag corp foundation charity gives church bible faith
		google microsoft amazon apple example ngo ong press report review reviews science software computer hosting domains host link click download codes run builders contractors plumbing tips how new moe ninja rocks cool fyi wtf lol gmail`)
	unlikely = wordSet(`js ts vb ps rb cs hs md5 gz db id3 ml3 xz ko3 px ok ui os id_ cc_ tf kt sh_ ex fn py_ rs_ go bz ob wq dl oh hz vs an ab ac_ dr ii iv xx yy zz aa bb dd ff hh jj kk oo qq ss uu ww`)
	files = wordSet(`png jpg jpeg gif svg webp bmp ico tif tiff js ts jsx tsx css scss html htm json yaml yml toml xml md txt csv tsv log py rb rs go java kt cpp hpp cc hh sh bat ps1 pdf doc docx xls xlsx ppt pptx zip tar gz tgz
		bz2 xz zst 7z exe dll so dylib bin iso img mp3 mp4 wav avi mov service socket timer mount target slice local localhost internal lan test invalid example localdomain home corp_ cluster svc intra`)
}

func isLocal(c byte) bool {
	return isAlnum(c) || c == '.' || c == '_' || c == '-' || c == '+' || c == '%' || c == '\'' || c == '~' || c == '&' || c == '!' || c == '#' || c == '$' || c == '*'
}

// latin says whether a letter beyond ASCII of Latin script begins at i: they are in mailboxes, while letters of other scripts stand beside one.
func latin(c byte) bool { return c == 0xC3 || c == 0xC4 || c == 0xC5 }

// localStart walks back over what may stand before an @.
func (s *Scanner) localStart(i int) int {
	t, start := s.text, i
	low := max(0, i-96)
	for start > low {
		c := t[start-1]
		if isLocal(c) {
			if c == '.' && start-2 >= low && t[start-2] == '.' {
				break
			}
			start--
			continue
		}
		if c >= 0x80 && start-2 >= low && latin(t[start-2]) && c < 0xC0 {
			start -= 2
			continue
		}
		if b, size := foldBefore(t, start); c >= 0x80 && (b == gone || b > ' ' && isLocal(b)) && start-size >= low {
			start -= size
			continue
		}
		break
	}
	return start
}

// trimLocal takes off what belongs to the text before: quotes, points, the n of a \n in JSON within a string.
func (s *Scanner) trimLocal(start, end int) int {
	t := s.text
	if start > 0 && t[start-1] == '\\' && start < end {
		switch c := t[start]; {
		case (c == 'n' || c == 't' || c == 'r') && end-start > 1:
			start++
		case c == 'u' && end-start > 5 && isHex(t[start+1]) && isHex(t[start+2]) && isHex(t[start+3]) && isHex(t[start+4]):
			start += 5
		}
	}
	for start < end {
		switch c := t[start]; {
		case c == '.' || c == '\'' || c == '-' || c == '~' || c == '&' || c == '!' || c == '#' || c == '$' || c == '*' || c == '%' || c == '+':
			start++
			continue
		}
		// &lt;ann@…  %20ann@… %3Cann@
		if k := bytes.LastIndexByte(t[start:end], '%'); k >= 0 && start+k+3 < end && isHex(t[start+k+1]) && isHex(t[start+k+2]) {
			start += k + 3
			continue
		}
		for _, c := range []byte("&$#*!~") {
			if k := bytes.LastIndexByte(t[start:end], c); k >= 0 {
				start += k + 1
			}
		}
		break
	}
	return start
}

// email looks around an @, whose character ends before after.
func (s *Scanner) email(i, after int) int {
	t := s.text
	if end := s.urlPassword(i); end > i {
		s.done = end
		return end
	}
	end, conf := s.domain(after)
	if end == 0 {
		return after
	}
	start := s.trimLocal(s.localStart(i), i)
	if start == i {
		// "john doe"@example.org
		if at(t, i-1) != '"' {
			return after
		}
		q := bytes.LastIndexByte(t[max(s.done, i-66):i-1], '"')
		if q < 0 || i-2-q <= 0 {
			return after
		}
		start = max(s.done, i-66) + q
		if start == i-2 || bytes.IndexByte(t[start:i], '\n') >= 0 {
			return after
		}
		if c := at(t, start-1); c == '=' || c == ':' || isAlnum(c) {
			return after
		}
		conf = min(conf, medium)
	}
	switch {
	case s.isLogin(start, i, end):
		conf = min(conf, low)
	case t[i-1] == '.':
		conf = min(conf, low)
	case at(t, start-1) == '@', i-start > 64:
		conf = low
	case at(t, end) == '(' || at(t, end) == '@' && isAlnum(at(t, end+1)):
		conf = min(conf, low)
	case at(t, start-1) == '<' && s.around(start, start).dist(tMessage) > 0 || at(t, start-1) == '<' && i-start > 24 && digitsIn(t[start:i]) > 10:
		conf = low
	}
	s.add(start, end, forge.PIIEmail, conf)
	s.done = end
	return end
}

func digitsIn(w []byte) (n int) {
	for _, c := range w {
		if isDigit(c) {
			n++
		}
	}
	return n
}

// isLogin says whether user@host is where a program logs in: git@host:path, ssh user@host, ssh://user@host.
func (s *Scanner) isLogin(start, i, end int) bool {
	t := s.text
	if start >= 3 && t[start-1] == '/' && t[start-2] == '/' && t[start-3] == ':' {
		return true
	}
	if at(t, end) == ':' && (at(t, end+1) == '~' || at(t, end+1) == '/' || isAlnum(at(t, end+1)) || at(t, end+1) == '.' || at(t, end+1) == '_') {
		for j := end + 1; j < len(t) && j < end+120; j++ {
			c := t[j]
			if c == '/' {
				return true
			}
			if !isToken(c) && c != '.' && c != '~' {
				return false
			}
			if c == '.' && bytes.HasPrefix(t[j:], []byte(".git")) {
				return true
			}
		}
	}
	if bytes.Equal(t[start:i], []byte("git")) {
		return true
	}
	if at(t, start-1) != ' ' {
		return false
	}
	if s.around(start, start).seen&tSSH == 0 {
		return false
	}
	// on the same line, with nothing of a sentence between
	for j := start - 1; j >= 0 && j > start-60 && t[j] != '\n'; j-- {
		if t[j] == ',' || t[j] == ';' || t[j] == '@' || t[j] == '.' && at(t, j+1) == ' ' {
			return false
		}
	}
	return true
}

// domain reads a name of at least two labels and gives where it ends, as far as its last label is one that mailboxes have, and how sure that makes.
func (s *Scanner) domain(i int) (end int, c confidence) {
	t := s.text
	if at(t, i) == '[' {
		return s.literal(i)
	}
	labels, from := 0, i
	for i < len(t) && i-from < 255 {
		j := i
		var w [24]byte
		n, letters, ascii := 0, true, true
		for j < len(t) && j-i < 80 {
			b, size := fold(t, j)
			if b == gone {
				j += size
				continue
			}
			if b == 0 && latin(t[j]) && j+1 < len(t) {
				ascii = false
				j += 2
				n += 2
				continue
			}
			if !isAlnum(b) && b != '-' {
				break
			}
			if t[j] < 0x80 && b == '-' && (j == i || !isAlnum(at(t, j+1)) && at(t, j+1) != '-') {
				break
			}
			if n < len(w) {
				w[n] = lower(b)
			}
			letters = letters && isLetter(b)
			n++
			j += size
		}
		if n == 0 || n > 63 || t[i] == '-' {
			break
		}
		labels++
		if labels > 1 && ascii && n <= len(w) {
			switch word := w[:n]; {
			case letters && tlds[string(word)]:
				end, c = j, high
				if files[string(word)] {
					c = low
				}
			case letters && n == 2 && !unlikely[string(word)]:
				end, c = j, high
				if files[string(word)] {
					c = medium
				}
			case n > 4 && bytes.HasPrefix(word, []byte("xn--")):
				end, c = j, high
			case letters && n > 2 && end == 0:
				end, c = j, low
			}
		}
		i = j
		b, size := byte(0), 1
		if i < len(t) {
			b, size = fold(t, i)
		}
		if b != '.' {
			break
		}
		i += size
	}
	if end > 0 && c > low {
		// icon@2x.me
		if d := at(t, from); isDigit(d) && at(t, from+1)|0x20 == 'x' && at(t, from+2) == '.' {
			return end, low
		}
	}
	return end, c
}

// literal is user@[192.0.2.1].
func (s *Scanner) literal(i int) (int, confidence) {
	j := i + 1
	dots := 0
	for isDigit(at(s.text, j)) || at(s.text, j) == '.' {
		if s.text[j] == '.' {
			dots++
		}
		j++
	}
	if at(s.text, j) != ']' || dots != 3 {
		return 0, none
	}
	return j + 1, medium
}

// spelled looks at a bracket for ann [at] example [dot] org.
func (s *Scanner) spelled(i int) int {
	t := s.text
	if i+4 >= len(t) || t[i+1]|0x20 != 'a' || t[i+2]|0x20 != 't' || t[i+3] != ']' && t[i+3] != ')' {
		return i + 1
	}
	end := i
	for end > s.done && t[end-1] == ' ' && i-end < 2 {
		end--
	}
	start := s.localStart(end)
	if start = s.trimLocal(start, end); start == end {
		return i + 1
	}
	j, dots := i+4, 0
	for at(t, j) == ' ' && j < i+6 {
		j++
	}
	last := 0
	for dots < 5 {
		k := j
		for isAlnum(at(t, k)) || at(t, k) == '-' {
			k++
		}
		if k == j {
			break
		}
		if dots > 0 && k-j >= 2 {
			last = k
		}
		j = k
		for at(t, j) == ' ' && j < k+2 {
			j++
		}
		switch {
		case at(t, j) == '.':
			j++
		case (at(t, j) == '[' || at(t, j) == '(') && at(t, j+1)|0x20 == 'd' && at(t, j+2)|0x20 == 'o' && at(t, j+3)|0x20 == 't' && (at(t, j+4) == ']' || at(t, j+4) == ')'):
			j += 5
			for at(t, j) == ' ' && j < k+9 {
				j++
			}
		default:
			dots = 5
		}
		dots++
	}
	if last == 0 {
		return i + 1
	}
	s.add(start, last, forge.PIIEmail, medium)
	s.done = last
	return last
}
