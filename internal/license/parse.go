package license

import (
	"fmt"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// The bounds of an expression. What people give is held to MaxGiven; what comes of many parents may be longer.
const (
	MaxGiven  = 500 // bytes
	maxLength = 1 << 20
	maxDepth  = 32
)

// field is what errors are about, everywhere where a licence is given.
const field = "license"

// Given reads what a person gave: as Parse does, within MaxGiven. Nothing given is NOASSERTION.
func Given(text string) (Expr, []string, error) {
	if len(text) > MaxGiven {
		return Expr{}, nil, forge.Invalidf(field, "%d bytes; want at most %d", len(text), MaxGiven).
			WithHint("a licence of its own has a name: LicenseRef-NAME, and its text lies beside the data")
	}
	return Parse(text)
}

// Parse reads an SPDX licence expression. notes say what was read otherwise than it was written. KindInvalid names the word that is
// wrong, what is allowed and what may have been meant.
func Parse(text string) (e Expr, notes []string, err error) {
	if len(text) > maxLength {
		return Expr{}, nil, forge.Invalidf(field, "%d bytes; want at most %d", len(text), maxLength)
	}
	p := parser{words: split(text), text: text}
	if len(p.words) == 0 {
		return Expr{}, nil, nil
	}
	if e, err = p.either(0); err != nil {
		return Expr{}, nil, err
	}
	switch w := p.peek(); {
	case w == ")":
		return Expr{}, nil, p.fault("there is a ) without its (")
	case strings.EqualFold(w, "WITH"):
		return Expr{}, nil, p.fault("WITH stands behind one licence, and has one exception")
	case w != "":
		return Expr{}, nil, p.fault("before %.60q there is no AND or OR", w)
	}
	return e, p.notes, nil
}

// Stored reads what was stored. What was given before licences were read, and is none, is NOASSERTION: nobody said what it means.
func Stored(text string) Expr {
	e, _, err := Parse(text)
	if err != nil {
		return Expr{}
	}
	return e
}

// split cuts at white space and parentheses.
func split(text string) []string {
	return strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(text))
}

type parser struct {
	text  string
	words []string
	at    int
	notes []string
}

func (p *parser) peek() string {
	if p.at < len(p.words) {
		return p.words[p.at]
	}
	return ""
}

// take goes over a word, in whatever case, if it is the next.
func (p *parser) take(word string) bool {
	if !strings.EqualFold(p.peek(), word) {
		return false
	}
	p.at++
	return true
}

func (p *parser) fault(format string, args ...any) error {
	return forge.Invalidf(field, "%.120q: %s", p.text, fmt.Sprintf(format, args...)).
		WithHint("want SPDX ids joined by AND and OR, like: MIT; \"Apache-2.0 OR MIT\"; LicenseRef-NAME for a licence of its own; NOASSERTION where nobody knows")
}

func (p *parser) either(depth int) (Expr, error) { return p.list(or, "OR", depth, p.both) }
func (p *parser) both(depth int) (Expr, error)   { return p.list(and, "AND", depth, p.one) }

func (p *parser) list(o op, word string, depth int, next func(int) (Expr, error)) (Expr, error) {
	var all []Expr
	for {
		e, err := next(depth)
		if err != nil {
			return Expr{}, err
		}
		if all = append(all, e); !p.take(word) {
			return join(o, all), nil
		}
	}
}

// one is a licence, or what stands in parentheses.
func (p *parser) one(depth int) (Expr, error) {
	switch w := p.peek(); {
	case depth > maxDepth:
		return Expr{}, p.fault("more than %d parentheses in each other", maxDepth)
	case w == "":
		return Expr{}, p.fault("ends where a licence is expected")
	case w == ")" || isOperator(w):
		return Expr{}, p.fault("%s stands where a licence is expected", w)
	case w == "(":
		p.at++
		e, err := p.either(depth + 1)
		if err == nil && !p.take(")") {
			err = p.fault("there is a ( without its )")
		}
		return e, err
	}
	e, err := p.licence()
	if err != nil || !p.take("WITH") {
		return e, err
	}
	w := p.peek()
	switch {
	case w == "" || w == "(" || w == ")" || isOperator(w):
		return Expr{}, p.fault("after WITH comes the name of an exception")
	case e.op != leaf || e.id.id == NoAssertion || e.id.id == None:
		return Expr{}, p.fault("%s has no exceptions", e)
	case e.id.extra != "":
		return Expr{}, p.fault("%s has its exception already", e)
	}
	p.at++
	name, ok := exception(w)
	if !ok {
		return Expr{}, unknown("exception", w, nearestException(w))
	}
	e.id.extra = name
	return e, nil
}

func isOperator(w string) bool {
	return strings.EqualFold(w, "AND") || strings.EqualFold(w, "OR") || strings.EqualFold(w, "WITH")
}

// licence reads one id, with the + that may follow it.
func (p *parser) licence() (Expr, error) {
	w := p.peek()
	p.at++
	word, plus := w, false
	l, note, ok := lookUp(w) // some ids have a + in them
	if !ok {
		if word, plus = strings.CutSuffix(w, "+"); plus {
			l, note, ok = lookUp(word)
		}
	}
	switch {
	case !ok && badRef(word):
		return Expr{}, forge.Invalidf(field, "%.80q: after LicenseRef- come letters, digits, '-' and '.'", w).WithHint("for example LicenseRef-acme-data-1.0")
	case !ok:
		return Expr{}, unknown("licence", word, nearest(word))
	case plus && (l.id == NoAssertion || l.id == None || strings.HasPrefix(l.id, refPrefix)):
		return Expr{}, p.fault("%s has no later versions", l)
	}
	if plus {
		if l, ok = orLater(l); ok {
			note = fmt.Sprintf("%s is read as %s", w, l)
		} else {
			l.plus = true
		}
	}
	if note != "" {
		p.notes = append(p.notes, note)
	}
	return Expr{id: l}, nil
}

// unknown names the word, what is allowed and what it may have been.
func unknown(what, word string, near []string) error {
	err := forge.Invalidf(field, "%.80q is no %s of the SPDX list (version %s), and no id of a Hugging Face card that forge knows", word, what, ListVersion())
	if what == "exception" {
		err = forge.Invalidf(field, "%.80q is no exception of the SPDX list (version %s)", word, ListVersion())
	}
	if len(near) > 0 {
		return err.WithHint("did you mean %s? A licence that has no SPDX id is written LicenseRef-NAME; NOASSERTION where nobody knows", strings.Join(near, " or "))
	}
	return err.WithHint("see spdx.org/licenses; a licence that has no SPDX id is written LicenseRef-NAME; NOASSERTION where nobody knows")
}
