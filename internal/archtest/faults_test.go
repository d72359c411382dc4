package archtest_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

var slurmTest = regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)

// TestEveryFaultOfSlurmHasItsRowAndItsTest: a row without a test is a promise, a test without a row is a secret.
func TestEveryFaultOfSlurmHasItsRowAndItsTest(t *testing.T) {
	var tests []string
	files, err := filepath.Glob(filepath.Join(root, "internal", "e2e", "slurm_fault_*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatal("no end-to-end tests of Slurm", err)
	}
	for _, f := range files {
		rel, err := filepath.Rel(root, f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range slurmTest.FindAllStringSubmatch(read(t, filepath.ToSlash(rel)), -1) {
			tests = append(tests, m[1])
		}
	}
	var rows []string
	for _, r := range table(t, "docs/slurm-faults.md", "The faults") {
		if len(r) != 5 || r[0] == "" || r[2] == "" || r[3] == "" {
			t.Errorf("row %q: want fault, Slurm's word, what forge did, seconds, test", r)
			continue
		}
		name := word(r[4])
		if !slices.Contains(tests, name) {
			t.Errorf("docs/slurm-faults.md names %s, which no test of internal/e2e/slurm_fault_*_test.go is", name)
		}
		rows = append(rows, name)
	}
	for _, name := range tests {
		if !slices.Contains(rows, name) {
			t.Errorf("%s has no row in docs/slurm-faults.md", name)
		}
	}
}
