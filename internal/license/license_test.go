package license_test

import (
	"slices"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/internal/license"
)

func must(t *testing.T, text string) license.Expr {
	t.Helper()
	e, _, err := license.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestExpressionsAreReadAsPeopleWriteThemAndWrittenInOneForm(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "NOASSERTION",
		"apache-2.0":                           "Apache-2.0",
		"MIT or Apache-2.0":                    "Apache-2.0 OR MIT",
		"MIT AND MIT":                          "MIT",
		"MIT AND (Apache-2.0 OR MIT)":          "(Apache-2.0 OR MIT) AND MIT",
		"MIT OR Apache-2.0 AND Zlib":           "(Apache-2.0 AND Zlib) OR MIT",
		"(MIT)":                                "MIT",
		"((MIT OR (Zlib OR MIT)))":             "MIT OR Zlib",
		"gpl-2.0":                              "GPL-2.0-only",
		"GPL-2.0+":                             "GPL-2.0-or-later",
		"gpl-3.0-only+":                        "GPL-3.0-or-later",
		"GPL-3.0-or-later+":                    "GPL-3.0-or-later",
		"Apache-1.1+":                          "Apache-1.1+",
		"gpl-2.0 with classpath-exception-2.0": "GPL-2.0-only WITH Classpath-exception-2.0",
		"GPL-2.0-with-classpath-exception":     "GPL-2.0-only WITH Classpath-exception-2.0",
		"licenseref-Acme.Data-1":               "LicenseRef-Acme.Data-1",
		"documentref-x:licenseref-Y":           "DocumentRef-x:LicenseRef-Y",
		"MIT WITH AdditionRef-no-weapons":      "MIT WITH AdditionRef-no-weapons",
		"noassertion AND mit":                  "MIT AND NOASSERTION",
		"none":                                 "NONE",
		"llama3.1":                             "LicenseRef-llama3.1",
		"gemma AND cc-by-4.0":                  "CC-BY-4.0 AND LicenseRef-gemma",
		"openrail++":                           "LicenseRef-openrail-plus-plus",
		"odbl":                                 "ODbL-1.0",
		"other":                                "NOASSERTION",
	} {
		e := must(t, text)
		if e.String() != want {
			t.Errorf("%q is %q; want %q", text, e, want)
		}
		if again := must(t, e.String()); !again.Equal(e) {
			t.Errorf("%q is read again as %q", e, again)
		}
	}
}

func TestWhatIsReadAsAnotherWordIsSaid(t *testing.T) {
	for text, want := range map[string]string{
		"gpl-3.0": "GPL-3.0 is deprecated and read as GPL-3.0-only", "Net-SNMP": "Net-SNMP is deprecated", "llama3": "llama3 is an id of Hugging Face cards and read as LicenseRef-llama3: the licence of its maker; read its conditions of use",
		"GPL-2.0-only+": "GPL-2.0-only+ is read as GPL-2.0-or-later", "mit": "",
	} {
		_, notes, err := license.Parse(text)
		if err != nil || strings.Join(notes, "|") != want {
			t.Errorf("%q: %q, %v; want %q", text, notes, err, want)
		}
	}
}

func TestWhatIsNoLicenceIsNamedWithWhatMayHaveBeenMeant(t *testing.T) {
	for text, want := range map[string]string{ // what the message and the hint must say
		"apache2":            `"apache2" is no licence of the SPDX list|did you mean Apache-2.0`,
		"MIT AND apache 2":   `"apache" is no licence|Apache-2.0`,
		"Apache":             `"Apache" is no licence|Apache-2.0`,
		"CC-BY":              `"CC-BY" is no licence|CC-BY-4.0`,
		"ccbync4":            `"ccbync4" is no licence|CC-BY-NC-4.0`,
		"GPLv3":              `"GPLv3" is no licence|GPL-3.0-only`,
		"LLaMA-3":            `"LLaMA-3" is no licence|llama3`,
		"proprietary":        `"proprietary" is no licence|LicenseRef-NAME`,
		"MIT AND":            "ends where a licence is expected|",
		"OR MIT":             "OR stands where a licence is expected|",
		"MIT Zlib":           `before "Zlib" there is no AND or OR|`,
		"(MIT":               "a ( without its )|",
		"MIT)":               "a ) without its (|",
		"()":                 ") stands where a licence is expected|",
		"MIT WITH":           "after WITH comes the name of an exception|",
		"MIT WITH Classpath": `"Classpath" is no exception|Classpath-exception-2.0`,
		"NOASSERTION WITH Classpath-exception-2.0":   "NOASSERTION has no exceptions|",
		"(MIT OR Zlib) WITH Classpath-exception-2.0": "WITH stands behind one licence|",
		"NONE+":                         "NONE has no later versions|",
		"LicenseRef-":                   "after LicenseRef- come letters|",
		"LicenseRef-a_b":                "after LicenseRef- come letters|",
		strings.Repeat("(", 40) + "MIT": "more than 32 parentheses|",
	} {
		says, hint, _ := strings.Cut(want, "|")
		_, _, err := license.Parse(text)
		if forge.KindOf(err) != forge.KindInvalid || !strings.HasPrefix(err.Error(), "license: ") || !strings.Contains(err.Error(), says) || !strings.Contains(forge.HintOf(err), hint) || forge.HintOf(err) == "" {
			t.Errorf("%q: %v\n\thint: %s", text, err, forge.HintOf(err))
		}
	}
	if _, _, err := license.Given(strings.Repeat("MIT OR ", 100) + "MIT"); forge.KindOf(err) != forge.KindInvalid || err == nil {
		t.Errorf("%v", err)
	}
}

func TestWhatIsMadeOfSeveralThingsHasAllTheirLicences(t *testing.T) {
	e := license.And(must(t, "MIT OR Apache-2.0"), must(t, "CC-BY-4.0 AND MIT"), must(t, ""), must(t, "MIT"))
	if e.String() != "(Apache-2.0 OR MIT) AND CC-BY-4.0 AND MIT AND NOASSERTION" || e.Known() {
		t.Errorf("%s", e)
	}
	if got := e.IDs(); !slices.Equal(got, []string{"Apache-2.0", "CC-BY-4.0", "MIT", "NOASSERTION"}) {
		t.Errorf("%q", got)
	}
	if license.And().String() != license.NoAssertion || !must(t, "MIT").Known() {
		t.Error("of nothing somebody said something")
	}
	if license.Stored("whatever it was").Known() {
		t.Error("what was stored and is no expression is known")
	}
}

func TestDenyWinsAnORNeedsOneBranchAndAnANDAll(t *testing.T) {
	deny := &license.List{Of: "tenant acme", Patterns: []string{"CC-BY-NC-*", "GPL-2.0-only", "NOASSERTION"}}
	allow := &license.List{Of: "this site", Patterns: []string{"MIT", "Apache-*", "CC-BY-NC-4.0", "GPL-3.0-only"}}
	for _, c := range []struct {
		text  string
		lists license.Lists
		want  string
	}{
		{"CC-BY-NC-4.0", license.Lists{}, "allowed"},
		{"NOASSERTION", license.Lists{}, "allowed"},
		{"CC-BY-NC-4.0", license.Lists{Deny: deny}, "denied: CC-BY-NC-4.0, by dataset chat@3, on the deny list of tenant acme as CC-BY-NC-*"},
		{"CC-BY-NC-4.0", license.Lists{Deny: deny, Allow: allow}, "denied: CC-BY-NC-4.0, by dataset chat@3, on the deny list of tenant acme as CC-BY-NC-*"},
		{"CC-BY-NC-4.0 OR MIT", license.Lists{Deny: deny, Allow: allow}, "allowed"},
		{"CC-BY-NC-4.0 AND MIT", license.Lists{Deny: deny}, "denied: CC-BY-NC-4.0, by dataset chat@3, on the deny list of tenant acme as CC-BY-NC-*"},
		{"MIT AND (Zlib OR Apache-2.0)", license.Lists{Allow: allow}, "allowed"},
		{"MIT AND Zlib", license.Lists{Allow: allow}, "not allowed: Zlib, by dataset chat@3, not on the allow list of this site"},
		{"Zlib OR gpl-2.0", license.Lists{Allow: allow, Deny: deny}, "denied: GPL-2.0-only, by dataset chat@3, on the deny list of tenant acme; not allowed: Zlib, by dataset chat@3, not on the allow list of this site"},
		{"MIT AND NOASSERTION", license.Lists{Allow: allow}, "not allowed: NOASSERTION, by dataset chat@3, not on the allow list of this site"},
		{"MIT AND NOASSERTION", license.Lists{Deny: deny}, "denied: NOASSERTION, by dataset chat@3, on the deny list of tenant acme"},
		{"NOASSERTION", license.Lists{Allow: &license.List{Of: "this site", Patterns: []string{"*"}}}, "not allowed: NOASSERTION, by dataset chat@3, not on the allow list of this site"},
		{"GPL-2.0-only WITH Classpath-exception-2.0", license.Lists{Deny: deny}, "denied: GPL-2.0-only WITH Classpath-exception-2.0, by dataset chat@3, on the deny list of tenant acme as GPL-2.0-only"},
		{"GPL-3.0-only WITH GCC-exception-3.1", license.Lists{Allow: allow}, "allowed"},
		{"MIT WITH AdditionRef-no-weapons", license.Lists{Allow: allow}, "not allowed: MIT WITH AdditionRef-no-weapons, by dataset chat@3, not on the allow list of this site"},
	} {
		v := license.Check(c.lists, license.Input{Name: "base tiny@1", License: must(t, "MIT")}, license.Input{Name: "dataset chat@3", License: must(t, c.text)})
		if v.String() != c.want || v.Allowed != (c.want == "allowed") {
			t.Errorf("%s: %s\n\twant %s", c.text, v, c.want)
		}
	}
}

func TestAListIsCheckedWhenItIsGiven(t *testing.T) {
	got, err := license.Patterns("deny", []string{"apache-2.0", "Apache-2.0 ", "cc-by-nc-*", "gpl-2.0", "LicenseRef-acme-*", "noassertion", "llama3"})
	if err != nil || !slices.Equal(got, []string{"Apache-2.0", "cc-by-nc-*", "GPL-2.0-only", "LicenseRef-acme-*", "NOASSERTION", "LicenseRef-llama3"}) {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"apache2", "CC-NC-BY-*", "MIT OR Zlib", "", strings.Repeat("x", 200)} {
		if _, err := license.Patterns("deny", []string{bad}); forge.KindOf(err) != forge.KindInvalid || !strings.HasPrefix(err.Error(), "deny: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := license.Patterns("deny", slices.Repeat([]string{"MIT"}, license.MaxList+1)); err == nil {
		t.Error("a list without end")
	}
}
