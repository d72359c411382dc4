package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRealGoTest reads what the go command of today writes, not what was once recorded of it.
func TestRealGoTest(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":             "module example.org/m\n\ngo 1.26\n",
		"fine/a_test.go":     "package fine\nimport \"testing\"\nfunc TestA(t *testing.T) { t.Run(\"x\", func(*testing.T) {}); t.Run(\"y\", func(*testing.T) {}) }\n",
		"broken/a_test.go":   "package broken\nimport \"testing\"\nfunc TestA(t *testing.T) { undefinedName() }\n",
		"panics/a_test.go":   "package panics\nimport \"testing\"\nfunc TestA(t *testing.T) { panic(\"at the disco\") }\n",
		"leaves/a_test.go":   "package leaves\nimport (\"os\"; \"testing\")\nfunc TestA(t *testing.T) {}\nfunc TestB(t *testing.T) { os.Exit(0) }\n",
		"lengthy/a_test.go":  "package lengthy\nimport \"testing\"\nfunc TestA(t *testing.T) { t.Sk" + "ip(\"not in test-fast: a Slurm cluster\") }\n",
		"nothing/nothing.go": "package nothing\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out, log bytes.Buffer
	c := command{args: []string{"go", "test", "-json", "-vet=off", "./..."}, dir: dir, env: []string{"GOWORK=off", "GOPROXY=off", "GOFLAGS="}, stdout: &out, stderr: &log}
	if err := c.run(t.Context()); err == nil {
		t.Fatal("go test called this a success")
	}
	got, err := readGoTest(&out, &log)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got.failed)
	want := []string{"example.org/m/broken (the package)", "example.org/m/leaves TestB", "example.org/m/panics TestA"}
	if got.passed != 3 || !slices.Equal(got.failed, want) || len(got.skipped) != 0 {
		t.Errorf("got %+v, want 3 passed and failed %q", got, want)
	}
	if !slices.Equal(got.leftOut, []string{"example.org/m/lengthy TestA"}) {
		t.Errorf("left out of test-fast are %q", got.leftOut)
	}
	for _, text := range []string{"undefinedName", "at the disco"} {
		if !strings.Contains(log.String(), text) {
			t.Errorf("the log does not show %q:\n%s", text, log.String())
		}
	}
}
