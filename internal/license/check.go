package license

import (
	"fmt"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

// The bounds of a list.
const (
	MaxList    = 200
	maxPattern = 128
)

// List is one list of patterns and whose it is.
type List struct {
	Of       string   // "tenant acme", "this site"
	Patterns []string // ids; * stands for any part of one
}

// Lists say what is allowed. Without an allow list everything is that is not denied.
type Lists struct {
	Allow *List // nil: no such list
	Deny  *List
}

// Input is one thing that is used, with its licence.
type Input struct {
	Name    string // "dataset chat@3"
	License Expr
}

// Fault is one licence that is not allowed.
type Fault struct {
	License string `json:"license" doc:"The licence at fault, as it stands in the expression"`
	Input   string `json:"input" doc:"What brought it, like: dataset chat@3"`
	Denied  bool   `json:"denied" doc:"On a deny list; otherwise on no allow list"`
	Pattern string `json:"pattern,omitempty" doc:"Entry of the deny list that it is"`
	List    string `json:"list" doc:"Whose list: tenant NAME, or this site"`
}

func (f Fault) String() string {
	if !f.Denied {
		return fmt.Sprintf("not allowed: %s, by %s, not on the allow list of %s", f.License, f.Input, f.List)
	}
	as := ""
	if !strings.EqualFold(f.Pattern, f.License) {
		as = " as " + f.Pattern
	}
	return fmt.Sprintf("denied: %s, by %s, on the deny list of %s%s", f.License, f.Input, f.List, as)
}

// Verdict is what Check found.
type Verdict struct {
	Allowed bool    `json:"allowed"`
	Faults  []Fault `json:"faults" doc:"Why not, in the order of the inputs; empty where it is allowed"`
}

func (v Verdict) String() string {
	if v.Allowed {
		return "allowed"
	}
	parts := make([]string, len(v.Faults))
	for i, f := range v.Faults {
		parts[i] = f.String()
	}
	return strings.Join(parts, "; ")
}

// Check says whether all inputs may be used. A licence on the deny list is not allowed, whatever else allows it; where there is an allow
// list, neither is one that is not on it. Of an OR one allowed branch is enough, of an AND all are needed. It is monotone: one more
// denied, or one fewer allowed, never allows more.
func Check(lists Lists, inputs ...Input) Verdict {
	v := Verdict{Allowed: true, Faults: []Fault{}}
	for _, in := range inputs {
		for _, f := range lists.faults(in.License) {
			f.Input = in.Name
			v.Allowed, v.Faults = false, append(v.Faults, f)
		}
	}
	return v
}

// faults are empty where the expression is allowed.
func (l Lists) faults(e Expr) (out []Fault) {
	switch e.op {
	case leaf:
		return l.leaf(e.id)
	case and:
		for _, x := range e.of {
			out = append(out, l.faults(x)...)
		}
		return out
	}
	for _, x := range e.of {
		found := l.faults(x)
		if len(found) == 0 {
			return nil
		}
		out = append(out, found...)
	}
	return out
}

func (l Lists) leaf(id leafID) []Fault {
	if l.Deny != nil {
		for _, p := range l.Deny.Patterns {
			if denies(p, id) {
				return []Fault{{License: id.String(), Denied: true, Pattern: p, List: l.Deny.Of}}
			}
		}
	}
	if l.Allow != nil && !slices.ContainsFunc(l.Allow.Patterns, func(p string) bool { return allows(p, id) }) {
		return []Fault{{License: id.String(), List: l.Allow.Of}}
	}
	return nil
}

// denies: who denies a licence denies it with any exception, and with later versions.
func denies(pattern string, l leafID) bool {
	return match(pattern, l.String()) || match(pattern, leafID{id: l.id, plus: l.plus}.String()) || match(pattern, leafID{id: l.id}.String())
}

// allows: an exception of the SPDX list only gives more, and of "or later" one may take the version that is allowed. What an AdditionRef
// adds nobody here knows: it is allowed only by name.
func allows(pattern string, l leafID) bool {
	if match(pattern, l.String()) {
		return true
	}
	if strings.HasPrefix(l.extra, addPrefix) {
		return false
	}
	return match(pattern, leafID{id: l.id, plus: l.plus}.String()) || match(pattern, leafID{id: l.id}.String())
}

// match compares without case. A pattern with * never is NOASSERTION or NONE: they are no licences, and are meant only by name.
func match(pattern, id string) bool {
	pattern, id = strings.ToLower(pattern), strings.ToLower(id)
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == id
	}
	if up := strings.ToUpper(id); up == NoAssertion || up == None {
		return false
	}
	rest, ok := strings.CutPrefix(id, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(rest, part)
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}

// Patterns checks a list and writes its ids as SPDX does. One that could never match is a misspelling, and of a deny list that is a hole.
func Patterns(name string, list []string) ([]string, error) {
	if len(list) > MaxList {
		return nil, forge.Invalidf(name, "%d entries; want at most %d", len(list), MaxList)
	}
	out := make([]string, 0, len(list))
	for _, p := range list {
		p = strings.TrimSpace(p)
		switch {
		case p == "" || len(p) > maxPattern:
			return nil, forge.Invalidf(name, "an entry has %d bytes; want 1 to %d", len(p), maxPattern)
		case strings.Contains(p, "*"):
			if !matchesAny(p) {
				return nil, forge.Invalidf(name, "%q matches no licence of the SPDX list", p).WithHint("for example CC-BY-NC-*; licences of their own begin with LicenseRef-")
			}
		default:
			e, _, err := Parse(p)
			if err != nil {
				return nil, asEntry(name, err)
			}
			if e.op != leaf {
				return nil, forge.Invalidf(name, "%q is more than one licence; want an entry for each", p)
			}
			p = e.String()
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out, nil
}

func asEntry(name string, err error) error {
	e := forge.Invalidf(name, "%s", strings.TrimPrefix(err.Error(), field+": "))
	if hint := forge.HintOf(err); hint != "" {
		return e.WithHint("%s", hint)
	}
	return e
}

func matchesAny(p string) bool {
	low := strings.ToLower(p)
	fixed, _, _ := strings.Cut(low, "*")
	ref := strings.ToLower(refPrefix)
	if strings.HasPrefix(fixed, ref) || strings.HasPrefix(ref, fixed) || strings.HasPrefix(fixed, strings.ToLower(documentPrefix)) || strings.Contains(low, " with ") {
		return true // names that their makers chose
	}
	return slices.ContainsFunc(names(), func(id string) bool { return match(p, id) || match(p, id+"+") })
}
