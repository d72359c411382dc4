package dataset

import (
	"bytes"
	"unicode/utf8"

	forge "github.com/forge-ml/forge-ml"
)

// faultSet is what is wrong with one row that is well-formed; the bits are in the order of forge.RowFaults.
type faultSet uint16

const (
	noText faultSet = 1 << iota
	emptyAnswer
	sameAnswers
	noPrompt
	rolesRepeat
	openEnd
	emptyTurn
	nullKey
)

// shownPlaces is how many places of each fault are kept: enough to look at, too few to matter.
const shownPlaces = 3

// faults counts them over a block, and over a dataset.
type faults struct {
	rows  [16]int64
	first [16][]place
}

func (f *faults) note(set faultSet, at place) {
	if set == 0 {
		return
	}
	for i := range forge.RowFaults {
		if set&(1<<i) == 0 {
			continue
		}
		if f.rows[i]++; len(f.first[i]) < shownPlaces {
			f.first[i] = append(f.first[i], at)
		}
	}
}

// add takes those of the block that comes next.
func (f *faults) add(g *faults) {
	for i := range forge.RowFaults {
		f.rows[i] += g.rows[i]
		f.first[i] = append(f.first[i], g.first[i][:min(len(g.first[i]), shownPlaces-len(f.first[i]))]...)
	}
}

func (f *faults) reset() {
	f.rows = [16]int64{}
	for i := range f.first {
		f.first[i] = f.first[i][:0]
	}
}

func (f *faults) findings() []forge.RowFinding {
	out := []forge.RowFinding{}
	for i, fault := range forge.RowFaults {
		if f.rows[i] > 0 {
			first := make([]string, len(f.first[i]))
			for n, at := range f.first[i] {
				first[n] = at.String()
			}
			out = append(out, forge.RowFinding{Fault: fault, Rows: f.rows[i], First: first})
		}
	}
	return out
}

// text is the content of a string as it stands in the line: between its quotes, escapes and all.
type text struct {
	raw     []byte
	escaped bool
}

func (t text) value() []byte {
	if !t.escaped {
		return t.raw
	}
	return unescape(append(append([]byte{'"'}, t.raw...), '"'))
}

// blank says that there is nothing but white space, without building the text of all that is not.
func (t text) blank() bool {
	if !t.escaped {
		return len(bytes.TrimSpace(t.raw)) == 0
	}
	for i := 0; i < len(t.raw); i++ {
		switch c := t.raw[i]; {
		case c == ' ':
		case c == '\\' && bytes.IndexByte([]byte("nrtf"), t.raw[i+1]) >= 0:
			i++
		case c == '\\' && t.raw[i+1] == 'u', c >= 0x80:
			return len(bytes.TrimSpace(t.value())) == 0
		default:
			return false
		}
	}
	return true
}

func (t text) same(u text) bool {
	return bytes.Equal(t.raw, u.raw) || (t.escaped || u.escaped) && bytes.Equal(t.value(), u.value())
}

// turn is one message; a plain string is one without a role.
type turn struct {
	role string
	text
	calls bool // it calls tools
	null  bool // a key of it is null
}

// answer is what is learned of one column: chosen or rejected, kept until both are there.
type answer []turn

// shared is how many turns both begin with.
func (a answer) shared(b answer) int {
	n := 0
	for n < min(len(a), len(b)) && a[n].role == b[n].role && a[n].same(b[n].text) {
		n++
	}
	return n
}

// pair looks at the two answers of a row that has them; the prompt stands before them, or is what both begin with.
func (s *scanner) pair(sig signature) {
	a, b := s.chosen, s.rejected
	if len(a) == 0 || len(b) == 0 {
		return
	}
	n := a.shared(b)
	switch {
	case n == len(a) && n == len(b):
		s.faults |= sameAnswers
	case sig.has&colPrompt != 0:
		for _, x := range []answer{a, b} {
			if sig.list != 0 && !follows(s.asked, x[0].role) {
				s.faults |= rolesRepeat
			}
		}
	case sig.list != 0:
		if n == 0 || n == len(a) || n == len(b) {
			s.faults |= noPrompt
		}
		if !follows("", a[0].role) || !follows("", b[0].role) {
			s.faults |= rolesRepeat
		}
	default:
		x, y := a[0].value(), b[0].value()
		n := 0
		for n < min(len(x), len(y)) && x[n] == y[n] {
			n++
		}
		for n > 0 && n < len(x) && !utf8.RuneStart(x[n]) { // a letter is begun with only when it is whole
			n--
		}
		if n == 0 || len(bytes.TrimSpace(x[n:])) == 0 || len(bytes.TrimSpace(y[n:])) == 0 {
			s.faults |= noPrompt
		}
	}
}

// follows says that a turn of this role may come after one of the other; "" is the beginning of the conversation.
func follows(before, role string) bool {
	switch role {
	case "system":
		return before == ""
	case "user":
		return before == "" || before == "system" || before == "assistant"
	case "assistant":
		return before == "user" || before == "tool"
	}
	return before == "assistant" || before == "tool"
}

// single looks at a column that is a string.
func (s *scanner) single(c columnSet, t text) {
	if c != colPrompt && t.blank() {
		s.faults |= emptyAnswer
	}
	s.keep(c, turn{text: t})
}

// keep remembers what is compared once the row is read.
func (s *scanner) keep(c columnSet, t turn) {
	switch c {
	case colChosen:
		s.chosen = append(s.chosen, t)
	case colRejected:
		s.rejected = append(s.rejected, t)
	}
}

// next looks at a turn after the one before it, in the column c.
func (s *scanner) next(c columnSet, n int, before, t turn) {
	opens := c == colMessages || c == colPrompt // what others begin with depends on the prompt
	if (n > 0 || opens) && !follows(before.role, t.role) {
		s.faults |= rolesRepeat
	}
	if c == colPrompt {
		s.asked = t.role
	}
	if t.null {
		s.faults |= nullKey
	}
	if t.calls && t.blank() {
		s.faults |= noText
	}
	s.keep(c, t)
}

// empty notes a turn of white space only, where it is not the last one.
func (s *scanner) empty(t turn) {
	if !t.calls && t.blank() {
		s.faults |= emptyTurn
	}
}

// end looks at the last turn of the column c.
func (s *scanner) end(c columnSet, last turn) {
	switch {
	case c == colPrompt:
		s.empty(last)
	case last.role != "assistant":
		s.faults |= openEnd
		s.empty(last)
	case !last.calls && last.blank():
		s.faults |= emptyAnswer
	}
}
