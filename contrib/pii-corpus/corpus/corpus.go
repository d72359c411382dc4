// Package corpus makes labelled texts to measure a scanner for personal data with. It knows nothing of any scanner: what a label is follows from how the text was made.
package corpus

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Label is one piece of personal data: Text[Start:End], in bytes.
type Label struct {
	Start  int    `json:"start"`
	End    int    `json:"end"`
	Entity string `json:"entity"`
}

// Row is one text.
type Row struct {
	Text   string  `json:"text"`
	Labels []Label `json:"labels"`
	Hard   int     `json:"hard"` // how many things in it only look like personal data
}

// Generate makes so many texts; equal seeds make equal ones.
func Generate(seed uint64, rows int) []Row {
	g := &gen{rand.New(rand.NewPCG(seed, 0x70696932))}
	out := make([]Row, 0, rows)
	for range rows {
		out = append(out, g.row())
	}
	return out
}

type gen struct{ *rand.Rand }

func pick[T any](g *gen, of []T) T { return of[g.IntN(len(of))] }

func (g *gen) chance(percent int) bool { return g.IntN(100) < percent }

// digits replaces # by a digit, % by one but 0, N by 2 to 9, ? by a lower case letter, A by an upper case one.
func (g *gen) digits(form string) string {
	b := []byte(form)
	for i, c := range b {
		switch c {
		case '#':
			b[i] = '0' + byte(g.IntN(10))
		case '%':
			b[i] = '1' + byte(g.IntN(9))
		case 'N':
			b[i] = '2' + byte(g.IntN(8))
		case '?':
			b[i] = 'a' + byte(g.IntN(26))
		case 'A':
			b[i] = 'A' + byte(g.IntN(26))
		}
	}
	return string(b)
}

func (g *gen) of(alphabet string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[g.IntN(len(alphabet))]
	}
	return string(b)
}

// row is one or several lines, each from a template of its own.
func (g *gen) row() Row {
	var r Row
	for n := 1 + g.IntN(3); n > 0; n-- {
		var t string
		switch k := g.IntN(100); {
		case k < 42:
			t = pick(g, personal)
		case k < 82:
			t = pick(g, lookalikes)
		case k < 92:
			t = pick(g, mixed)
		default:
			t = pick(g, harmless)
		}
		g.fill(&r, t)
		r.Text += pick(g, []string{"\n", "\n", " ", "\n\n"})
	}
	if g.chance(8) {
		return inJSON(r)
	}
	return r
}

// fill appends a template with its slots filled: {kind} is personal data, {!kind} only looks like some, {~kind} is neither.
func (g *gen) fill(r *Row, template string) {
	for template != "" {
		i := strings.IndexByte(template, '{')
		if i < 0 {
			break
		}
		n := slotLen(template[i+1:])
		r.Text += template[:i]
		if n == 0 { // a brace of the text
			r.Text += "{"
			template = template[i+1:]
			continue
		}
		slot := template[i+1 : i+1+n]
		template = template[i+2+n:]
		switch {
		case slot[0] == '!':
			f, ok := looks[slot[1:]]
			if !ok {
				panic("no lookalike is called " + slot)
			}
			r.Text += f(g)
			r.Hard++
		case slot[0] == '~':
			r.Text += g.filler(slot[1:])
		default:
			f, ok := values[slot]
			if !ok {
				panic("no value is called " + slot)
			}
			v, entity := f(g)
			r.Labels = append(r.Labels, Label{len(r.Text), len(r.Text) + len(v), entity})
			r.Text += v
		}
	}
	r.Text += template
}

// slotLen is how long the name of a slot is that begins after a brace; 0 where none does.
func slotLen(s string) int {
	for i, c := range s {
		switch {
		case c == '}' && i > 1:
			return i
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || i == 0 && (c == '!' || c == '~'):
		default:
			return 0
		}
	}
	return 0
}

func (g *gen) filler(kind string) string {
	switch kind {
	case "name":
		return pick(g, names) + " " + pick(g, surnames)
	case "n":
		return g.digits("%#")
	case "time":
		return fmt.Sprintf("%02d:%02d", g.IntN(24), g.IntN(60))
	case "date":
		return g.date()
	}
	panic("no filler is called " + kind)
}

// inJSON puts a text into a string in JSON within a string, as rows of logs and tool calls have it: \n becomes two characters.
func inJSON(r Row) Row {
	out := Row{Hard: r.Hard, Text: `{"role": "tool", "content": "`}
	at, k := 0, 0
	for i := 0; i <= len(r.Text); i++ {
		for k < len(r.Labels) && r.Labels[k].Start == i {
			l := r.Labels[k]
			v := r.Text[l.Start:l.End]
			escaped := strings.NewReplacer("\n", `\n`, `"`, `\"`).Replace(v)
			out.Labels = append(out.Labels, Label{len(out.Text), len(out.Text) + len(escaped), l.Entity})
			out.Text += escaped
			i, at = l.End, l.End
			k++
		}
		if i < len(r.Text) && i >= at {
			switch c := r.Text[i]; c {
			case '\n':
				out.Text += `\n`
			case '"':
				out.Text += `\"`
			default:
				out.Text += string([]byte{c})
			}
		}
	}
	out.Text += `"}`
	return out
}
