package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	forge "github.com/forge-ml/forge-ml"
	"github.com/forge-ml/forge-ml/recipes"
)

func suitesOf(t *testing.T) recipes.Suites {
	t.Helper()
	s, err := recipes.BuiltinSuites()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func gatesFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gates.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestGatesOfASiteGoOverTheBuiltInOnes(t *testing.T) {
	builtin, err := readGates("", suitesOf(t))
	if err != nil {
		t.Fatal(err)
	}
	b, err := readGates(gatesFile(t, `
default:
  candidate: {digest: true}
models:
  acme/chat:
    production: {soak: 24h, suites: [{suite: safety}], no_regression: {}}
  chat:
    production: {lineage: true}
    candidate: {load_test: true}
`), suitesOf(t))
	if err != nil {
		t.Fatal(err)
	}
	p := b.of("acme", "chat").to(forge.StageProduction)
	if p.Name != "acme/chat.production" || p.Soak.D().Hours() != 24 || p.Suites[0].Bound != "lower" || p.NoRegression.Suites[0] != "safety" || p.NoRegression.Inconclusive != "block" || p.Lineage || len(p.SHA256) != 64 {
		t.Errorf("its own: %+v", p)
	}
	for want, p := range map[string]string{
		"chat.candidate": b.of("acme", "chat").to(forge.StageCandidate).Name, "chat.production": b.of("rival", "chat").to(forge.StageProduction).Name,
		"default.candidate": b.of("acme", "bot").to(forge.StageCandidate).Name, "default.production": b.of("acme", "bot").to(forge.StageProduction).Name,
	} {
		if p != want {
			t.Errorf("got %s, want %s", p, want)
		}
	}
	if b.def.Production.SHA256 != builtin.def.Production.SHA256 || !b.def.Production.Lineage {
		t.Error("a stage that the file does not name has not the built-in rules")
	}
	if again, _ := readGates(gatesFile(t, "default:\n  candidate:\n    digest: true # said otherwise\n"), suitesOf(t)); again.def.Candidate.SHA256 != b.def.Candidate.SHA256 {
		t.Error("the digest is of how the file is written, not of what it asks")
	}
}

func TestAMistakeInTheGatesIsNamedWithLineAndField(t *testing.T) {
	for text, want := range map[string]string{
		"default:\n  candidate:\n    digestt: true\n":                                        "unknown field \"digestt\"",
		"default:\n  candidate:\n    soak: soon\n":                                           "soon",
		"default:\n  candidate:\n    suites:\n      - suite: defualt\n":                      "gates.yaml:4: default.candidate.suites[0].suite: there is no suite \"defualt\"",
		"default:\n  production:\n    suites: [{suite: safety, bound: upper}]\n":             "gates.yaml:3: default.production.suites[0].bound: \"upper\"",
		"default:\n  production:\n    suites: [{suite: safety}, {suite: safety}]\n":          "stands there twice",
		"default:\n  production:\n    pii: [clean, findings]\n":                              "gates.yaml:3: default.production.pii[1]: \"findings\" will not do",
		"default:\n  production:\n    no_regression: {inconclusive: ignore}\n":               "no_regression.inconclusive: \"ignore\"",
		"default:\n  production:\n    no_regression: {}\n":                                   "nothing would be compared",
		"default:\n  production:\n    no_overlap: true\n":                                    "no suites whose questions",
		"default:\n  production:\n    no_overlap: true\n    suites: [{suite: safety}]\n":     "gates.yaml:3: default.production.no_overlap: the data of suite safety is not all its own",
		"models:\n  a/b/c:\n    candidate: {}\n":                                             "gates.yaml:3: models.a/b/c: \"a/b/c\" is the name of no model",
		"models:\n  acme/chat:\n    candidate:\n      no_regression: {suites: [default, x]}": "gates.yaml:4: models.acme/chat.candidate.no_regression.suites[1]: there is no suite \"x\"",
		"default: {candidate: {digest: true}\n":                                              "gates.yaml",
	} {
		_, err := readGates(gatesFile(t, text), suitesOf(t))
		if forge.KindOf(err) != forge.KindInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := readGates(filepath.Join(t.TempDir(), "absent"), suitesOf(t)); forge.KindOf(err) != forge.KindInvalid {
		t.Errorf("a file that is not there: %v", err)
	}
}
