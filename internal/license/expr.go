package license

import (
	"slices"
	"strings"
)

// The two licences that are none.
const (
	NoAssertion = "NOASSERTION" // nobody said
	None        = "NONE"        // there is none: all rights are kept
)

type op byte

const (
	leaf op = iota
	and
	or
)

// Expr is a licence expression in canonical form. The zero Expr is NOASSERTION.
type Expr struct {
	op op
	id leafID
	of []Expr
}

// leafID is one licence: an id, "or later", an exception.
type leafID struct {
	id    string
	plus  bool
	extra string // after WITH
}

func (l leafID) String() string {
	s := l.id
	if s == "" {
		s = NoAssertion
	}
	if l.plus {
		s += "+"
	}
	if l.extra != "" {
		s += " WITH " + l.extra
	}
	return s
}

// String is the canonical text, which Parse reads as the same Expr.
func (e Expr) String() string {
	if e.op == leaf {
		return e.id.String()
	}
	parts := make([]string, len(e.of))
	for i, x := range e.of {
		if parts[i] = x.String(); x.op != leaf {
			parts[i] = "(" + parts[i] + ")"
		}
	}
	if e.op == or {
		return strings.Join(parts, " OR ")
	}
	return strings.Join(parts, " AND ")
}

// Equal says whether both are the same licence by their text.
func (e Expr) Equal(x Expr) bool { return e.String() == x.String() }

// IDs are the licences that it names, each once, in alphabetical order.
func (e Expr) IDs() []string {
	var out []string
	e.leaves(func(l leafID) { out = append(out, l.String()) })
	slices.Sort(out)
	return slices.Compact(out)
}

// Known says that somebody said of every part what it is: NOASSERTION stands nowhere in it.
func (e Expr) Known() bool {
	known := true
	e.leaves(func(l leafID) { known = known && l.id != "" && l.id != NoAssertion })
	return known
}

func (e Expr) leaves(fn func(leafID)) {
	if e.op == leaf {
		fn(e.id)
	}
	for _, x := range e.of {
		x.leaves(fn)
	}
}

// And is the licence of what is made from all of them. Of nothing nobody said anything.
func And(all ...Expr) Expr { return join(and, all) }

// join flattens, sorts and leaves duplicates out.
func join(o op, all []Expr) Expr {
	type keyed struct {
		key string
		e   Expr
	}
	var flat []keyed
	for _, e := range all {
		if e.op != o {
			flat = append(flat, keyed{e.String(), e})
			continue
		}
		for _, x := range e.of {
			flat = append(flat, keyed{x.String(), x})
		}
	}
	slices.SortFunc(flat, func(a, b keyed) int { return strings.Compare(a.key, b.key) })
	flat = slices.CompactFunc(flat, func(a, b keyed) bool { return a.key == b.key })
	switch len(flat) {
	case 0:
		return Expr{}
	case 1:
		return flat[0].e
	}
	out := Expr{op: o}
	for _, k := range flat {
		out.of = append(out.of, k.e)
	}
	return out
}
