package pii

import (
	"bytes"
	"math/bits"
)

// before and after bound the bytes around a number in which words count.
const (
	before = 72
	after  = 24
	topN   = 40
)

// surroundings are the topics of the words around a number, and how many words that say something lie between.
type surroundings struct {
	seen topic
	at   [topN]uint8
	word [32]byte
}

// dist is the distance to the nearest word of a topic: 1 stands beside it, 0 means that there is none.
func (n *surroundings) dist(t topic) int {
	if n.seen&t == 0 {
		return 0
	}
	best := 255
	for rest := t & n.seen; rest != 0; rest &= rest - 1 {
		best = min(best, int(n.at[bits.TrailingZeros64(uint64(rest))]))
	}
	return best
}

// speaks says whether what stands near speaks of t, and nothing nearer speaks of something else that numbers are.
func (n *surroundings) speaks(t topic) bool {
	d := n.dist(t)
	return d > 0 && (n.seen&tNot == 0 || d <= n.dist(tNot))
}

// denies says whether the nearest word that says something calls the number an order, a part, a version, and none of t is as near.
func (n *surroundings) denies(t topic) bool {
	d := n.dist(tNot)
	if d == 0 || d > 2 {
		return false
	}
	p := n.dist(t)
	return p == 0 || d < p
}

func (n *surroundings) note(t topic, d int) {
	for rest := t; rest != 0; rest &= rest - 1 {
		if k := bits.TrailingZeros64(uint64(rest)); n.seen&(1<<k) == 0 || d < int(n.at[k]) {
			n.at[k] = uint8(min(d, 250))
		}
	}
	n.seen |= t
}

// around reads the words before start, and after end to the end of the line.
func (s *Scanner) around(start, end int) *surroundings {
	n, t := &s.near, s.text
	n.seen = 0
	stop := max(0, start-before)
	d, lines, digits, isID, count, i := 1, 0, 0, 0, false, start
	for i > stop {
		c := t[i-1]
		switch {
		case c == '\n':
			if lines++; lines > 1 {
				i = stop
				continue
			}
			// The line before speaks of this one when it ends so: "Phone:"
			k := i - 1
			for k > stop && (t[k-1] == ' ' || t[k-1] == '\r') {
				k--
			}
			if at(t, k-1) != ':' {
				d += 6
			}
			i--
			continue
		case isDigit(c):
			digits++
			i--
			continue
		case c == ']':
			// What redaction has put there speaks of what it has replaced, and of nothing else.
			j := i - 2
			for j > stop && (isUpper(t[j]) || t[j] == '_' || isDigit(t[j])) {
				j--
			}
			if j >= stop && t[j] == '[' {
				i, d = j, d+1
				continue
			}
			i--
			continue
		case !isLetter(c) && c < 0x80 && c != '\'':
			i--
			continue
		case c >= 0x80:
			if size := markBefore(t, i); size > 0 {
				i -= size
				continue
			}
		}
		j := i
		for j > stop && i-j < 32 && (isLetter(t[j-1]) || t[j-1] >= 0x80 || (t[j-1] == '-' || t[j-1] == '\'') && j-2 >= stop && isLetter(t[j-2])) {
			if t[j-1] >= 0x80 && markBefore(t, j) > 0 {
				break
			}
			j--
			// cardNumber is two words, SSN is one
			if isUpper(t[j]) && j > stop && isLetter(t[j-1]) && !isUpper(t[j-1]) {
				break
			}
		}
		if j == i {
			i--
			continue
		}
		// What stands before another number speaks of that one.
		if digits > 3 {
			d += 4
		}
		digits = 0
		above := false
		w := t[j:i]
		if j == stop && j > 0 && isLetter(t[j-1]) {
			break // half a word
		}
		// In JSON within a string, the n of a \n belongs to no word.
		if at(t, j-1) == '\\' && (w[0] == 'n' || w[0] == 't' || w[0] == 'r') {
			above = w[0] == 'n' && at(t, j-2) != ':'
			w = w[1:]
		}
		if isDigit(at(t, i)) && t[i-1] < 0x80 || len(w) == 0 { // IP67, h264: no words
			if above {
				d += 6
			}
			i = j
			continue
		}
		said := n.topicOf(w)
		if said == 0 && bytes.IndexByte(w, '-') > 0 {
			for k, rest := bytes.IndexByte(w, '-'), w; ; k = bytes.IndexByte(rest, '-') {
				if k < 0 {
					said |= n.topicOf(rest)
					break
				}
				said |= n.topicOf(rest[:k])
				rest = rest[k+1:]
			}
		}
		// An id is a thing's, unless the word before says whose: tax ID, national ID, South African ID
		if isID > 0 && said&tNational == 0 {
			n.note(tNot, isID)
		}
		isID = 0
		if said == tNot && len(w) == 2 && lower(w[0]) == 'i' && lower(w[1]) == 'd' {
			isID, said = d, tFiller
			d++
		}
		// my number: nobody says so of an order's
		if count && said&tOwner != 0 {
			said |= tPhone
		}
		count = said&tCount != 0
		if said &^= tOwner | tCount; said != tFiller {
			n.note(said&^tFiller, d)
			d++
		}
		if above {
			d += 6
		}
		i = j
	}
	if isID > 0 {
		n.note(tNot, isID)
	}
	s.behind(end)
	return n
}

// markBefore is how long the mark is that ends at i, when it is one of those that Chinese and Japanese write, 0 when it is a letter or else.
func markBefore(t []byte, i int) int {
	if i < 3 {
		return 0
	}
	switch a, b, c := t[i-3], t[i-2], t[i-1]; {
	case a == 0xEF && b == 0xBC && !isAlnum(c-0x80+' '), a == 0xE3 && b == 0x80 && c <= 0x91:
		return 3
	}
	return 0
}

// behind reads the words after a number: (office), is my mobile.
func (s *Scanner) behind(end int) {
	n, t := &s.near, s.text
	stop := min(len(t), end+after)
	d := 2
	for i := end; i < stop && t[i] != '\n' && !isDigit(t[i]); {
		if t[i] == '[' || t[i] == '@' || t[i] == ',' && d > 2 || t[i] == '.' && at(t, i+1) == ' ' || t[i] == ';' || t[i] == '}' || t[i] == '{' || t[i] == '\\' && at(t, i+1) == 'n' {
			return
		}
		if !isLetter(t[i]) && t[i] < 0x80 {
			i++
			continue
		}
		j := i
		for j < stop && (isLetter(t[j]) || t[j] >= 0x80) {
			j++
		}
		if j == stop && j < len(t) && isLetter(t[j]) {
			return
		}
		// In front of the next number stands what that one is.
		for k := j; k < len(t) && k < j+3 && t[k] != '\n' && t[k] != ',' && t[k] != '\\'; k++ {
			if t[k] == ':' || t[k] == '=' || isDigit(t[k]) || t[k] == '+' || t[k] == '(' && isDigit(at(t, k+1)) {
				return
			}
		}
		if said := n.topicOf(t[i:j]) &^ (tOwner | tCount); said != tFiller {
			n.note(said&^(tFiller|tNot|tVersion), d)
			d += 3
		}
		i = j
	}
}

func (n *surroundings) topicOf(w []byte) topic {
	if len(w) > len(n.word) {
		w = w[len(w)-len(n.word):]
	}
	far := false
	for i, c := range w {
		n.word[i] = lower(c)
		far = far || c >= 0xE0
	}
	said := topic(0)
	if last := len(w) - 1; last >= 0 && topicForms[n.word[0]][last]>>(n.word[last]&63)&1 != 0 { // most words are none of them, and need no hash
		said = topics[string(n.word[:len(w)])]
	}
	if said == 0 && far {
		for _, k := range inside {
			if bytes.Contains(w, []byte(k.word)) {
				said |= k.t
			}
		}
	}
	return said
}
