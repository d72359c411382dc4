package license_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/license"
)

var few = []string{"MIT", "Apache-2.0", "CC-BY-NC-4.0", "GPL-2.0-only", "GPL-2.0-only WITH Classpath-exception-2.0", "Apache-1.1+", "LicenseRef-x", "NOASSERTION", "NONE"}

func texts() *rapid.Generator[string] {
	var at func(depth int) *rapid.Generator[string]
	at = func(depth int) *rapid.Generator[string] {
		if depth == 0 {
			return rapid.SampledFrom(few)
		}
		return rapid.Custom(func(t *rapid.T) string {
			parts := rapid.SliceOfN(at(depth-1), 1, 3).Draw(t, "parts")
			return "(" + strings.Join(parts, rapid.SampledFrom([]string{" AND ", " OR "}).Draw(t, "op")) + ")"
		})
	}
	return at(3)
}

func expr(t *rapid.T, label string) license.Expr {
	e, _, err := license.Parse(texts().Draw(t, label))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func lists(t *rapid.T) license.Lists {
	pick := func(label string) *license.List {
		got := rapid.SliceOf(rapid.SampledFrom(append([]string{"*", "CC-*", "GPL-*", "*-2.0"}, few...))).Draw(t, label)
		if rapid.Bool().Draw(t, "no "+label) {
			return nil
		}
		return &license.List{Of: "x", Patterns: got}
	}
	return license.Lists{Allow: pick("allow"), Deny: pick("deny")}
}

func allowed(l license.Lists, e license.Expr) bool {
	return license.Check(l, license.Input{Name: "in", License: e}).Allowed
}

func TestANDIsCommutativeAssociativeAndIdempotentByText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := expr(t, "a"), expr(t, "b"), expr(t, "c")
		switch {
		case !license.And(a, b).Equal(license.And(b, a)):
			t.Fatalf("%s, %s", license.And(a, b), license.And(b, a))
		case !license.And(a, a).Equal(a):
			t.Fatalf("%s twice is %s", a, license.And(a, a))
		case !license.And(license.And(a, b), c).Equal(license.And(a, license.And(b, c))):
			t.Fatalf("%s, %s, %s", a, b, c)
		}
		if again, _, err := license.Parse(a.String()); err != nil || !again.Equal(a) {
			t.Fatalf("%s is read as %s, %v", a, again, err)
		}
		for _, id := range slices.Concat(a.IDs(), b.IDs()) {
			if !slices.Contains(license.And(a, b).IDs(), id) {
				t.Fatalf("%s of %s, %s is lost", id, a, b)
			}
		}
	})
}

func TestOneMoreDeniedOrOneFewerAllowedNeverAllows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, e := lists(t), expr(t, "e")
		before := allowed(l, e)
		more := license.Lists{Allow: l.Allow, Deny: &license.List{Patterns: []string{rapid.SampledFrom(few).Draw(t, "denied")}}}
		if l.Deny != nil {
			more.Deny.Patterns = append(more.Deny.Patterns, l.Deny.Patterns...)
		}
		if !before && allowed(more, e) {
			t.Fatalf("%s is allowed once %s is denied", e, more.Deny.Patterns[0])
		}
		if l.Allow != nil && len(l.Allow.Patterns) > 0 {
			fewer := license.Lists{Allow: &license.List{Patterns: l.Allow.Patterns[1:]}, Deny: l.Deny}
			if !before && allowed(fewer, e) {
				t.Fatalf("%s is allowed once %s is not on the list", e, l.Allow.Patterns[0])
			}
		}
	})
}

func TestAnANDIsAllowedWhereAllPartsAreAndAnORWhereOneIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, a, b := lists(t), expr(t, "a"), expr(t, "b")
		if allowed(l, license.And(a, b)) != (allowed(l, a) && allowed(l, b)) {
			t.Fatalf("%s AND %s", a, b)
		}
		e, _, err := license.Parse("(" + a.String() + ") OR (" + b.String() + ")")
		if err != nil || allowed(l, e) != (allowed(l, a) || allowed(l, b)) {
			t.Fatalf("%s, %v", e, err)
		}
		v := license.Check(l, license.Input{Name: "in", License: e})
		if v.Allowed != (len(v.Faults) == 0) {
			t.Fatalf("%+v", v)
		}
	})
}

// FuzzParse: whatever the text, the parser ends, and what it takes it writes in a form that it reads as the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"MIT", "(MIT OR Apache-2.0) AND gpl-2.0+", "a WITH b", "LicenseRef-", "DocumentRef-a:LicenseRef-b", "((((", "AND", "\x00", "openrail++", "MIT++", "ＭＩＴ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, _, err := license.Parse(text)
		if err != nil {
			if forge.KindOf(err) != forge.KindInvalid || forge.HintOf(err) == "" {
				t.Fatalf("%v", err)
			}
			return
		}
		again, notes, err := license.Parse(e.String())
		if err != nil || !again.Equal(e) {
			t.Fatalf("%q is %q, and that is %q, %v, %q", text, e, again, err, notes)
		}
	})
}
