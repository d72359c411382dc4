package dataset

import (
	"bytes"
	"fmt"

	forge "github.com/forge-ml/forge-ml"
)

// faultSet is what is wrong with one row that is well-formed; the bits are in the order of forge.RowFaults.
type faultSet uint16

const (
	sameAnswers faultSet = 1 << iota
	emptyAnswer
	noText
	rolesRepeat
	openEnd
	emptyTurn
	nullKey
)

// shownPlaces is how many places of each fault are kept: enough to look at, too few to matter.
const shownPlaces = 3

// faults counts them over a dataset.
type faults struct {
	rows  [16]int64
	first [16][]string
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
			f.first[i] = append(f.first[i], fmt.Sprintf("%s:%d", at.file, at.line))
		}
	}
}

func (f *faults) findings() []forge.RowFinding {
	out := []forge.RowFinding{}
	for i, fault := range forge.RowFaults {
		if f.rows[i] > 0 {
			out = append(out, forge.RowFinding{Fault: fault, Rows: f.rows[i], First: f.first[i]})
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

func (a answer) same(b answer) bool {
	if len(a) != len(b) || len(a) == 0 {
		return false
	}
	for i := range a {
		if a[i].role != b[i].role || !a[i].same(b[i].text) {
			return false
		}
	}
	return true
}

// plain looks at a column that is a string.
func (s *scanner) plain(c columnSet, t text) {
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
	opens := c == colMessages || c == colPrompt // others go on where the prompt ends
	switch {
	case t.role == "system" && n > 0,
		t.role == "user" && (before.role == "user" || before.role == "tool"),
		t.role == "assistant" && (before.role == "assistant" || opens && (n == 0 || before.role == "system")),
		t.role == "tool" && before.role != "assistant" && before.role != "tool" && (n > 0 || opens):
		s.faults |= rolesRepeat
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
	if (t.role == "user" || t.role == "assistant") && !t.calls && t.blank() {
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
