package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestThePageIsWhatForgedServes(t *testing.T) {
	want, err := render()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join("..", "..", page))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) == want {
		return
	}
	a, b := strings.Split(string(got), "\n"), strings.Split(want, "\n")
	for i := range max(len(a), len(b)) {
		var x, y string
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			t.Fatalf("%s is not current; make docs writes it anew. Line %d is\n%s\nwant\n%s", page, i+1, x, y)
		}
	}
}

func TestThePageNamesEveryOperation(t *testing.T) {
	d, err := served()
	if err != nil {
		t.Fatal(err)
	}
	text, err := render()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for path, methods := range d.Paths {
		for method, op := range methods {
			n++
			if !strings.Contains(text, "### `"+strings.ToUpper(method)+" "+path+"`\n") || !strings.Contains(text, "`"+op.OperationID+"`") {
				t.Errorf("%s %s is missing", method, path)
			}
			// Whoever logs in has no role yet; of everything else the page says who may.
			if strings.HasPrefix(path, "/v1/") && !strings.HasPrefix(path, "/v1/login/") && op.Role == "" {
				t.Errorf("%s %s names no role", method, path)
			}
		}
	}
	if n < 40 {
		t.Errorf("only %d operations are served", n)
	}
}
