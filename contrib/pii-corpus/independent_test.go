package main

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forge-ml/forge-ml/contrib/pii-corpus/corpus"
)

// A corpus that asked the scanner what is personal would measure nothing.
func TestTheGeneratorKnowsNothingOfTheScanner(t *testing.T) {
	files, err := filepath.Glob("corpus/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, name := range append(files, "main.go") {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			path := strings.Trim(i.Path.Value, `"`)
			if strings.Contains(path, ".") && path != "github.com/forge-ml/forge-ml/contrib/pii-corpus/corpus" {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
}

func TestTheCorpusIsTheSameForASeedAndHasManyHardNegatives(t *testing.T) {
	rows, again := corpus.Generate(3, 400), corpus.Generate(3, 400)
	hard, labels := 0, 0
	for i, r := range rows {
		if r.Text != again[i].Text {
			t.Fatalf("row %d differs", i)
		}
		hard, labels = hard+r.Hard, labels+len(r.Labels)
		for k, l := range r.Labels {
			if l.Start >= l.End || l.End > len(r.Text) || k > 0 && l.Start < r.Labels[k-1].End {
				t.Fatalf("label %v of %q", l, r.Text)
			}
		}
	}
	if 10*hard < 3*(hard+labels) {
		t.Errorf("%d hard negatives beside %d labels", hard, labels)
	}
}
