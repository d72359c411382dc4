package archtest_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var target = regexp.MustCompile(`(?m)^([a-z][a-z-]*):((?:[^=\n].*)?)$`)

// targetsOf says of every target whether it has a line of help.
func targetsOf(makefile string) map[string]bool {
	set := map[string]bool{}
	for _, m := range target.FindAllStringSubmatch(makefile, -1) {
		set[m[1]] = strings.Contains(m[2], "## ")
	}
	return set
}

func TestMakefile(t *testing.T) {
	targets := targetsOf(read(t, "Makefile"))
	for name, helped := range targets {
		if !helped {
			t.Errorf("make %s has no line of help", name)
		}
	}
	for _, name := range []string{"help", "build", "test", "test-fast", "test-long", "lint", "bench", "demo", "clean"} {
		if _, ok := targets[name]; !ok {
			t.Errorf("the Makefile has no target %s", name)
		}
	}
}

// TestCI: what CI runs is what a developer runs, or one of them is a surprise.
func TestCI(t *testing.T) {
	var work []string
	for line := range strings.Lines(read(t, ".ci/run")) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "set ") && !strings.HasPrefix(line, "cd ") {
			work = append(work, line)
		}
	}
	if len(work) != 1 || work[0] != "exec make test" {
		t.Errorf(".ci/run does %q, want make test and nothing more", work)
	}
}

// TestScriptsAreExecutable: a script that is called by name and lost its mode fails only on
// the next clone.
func TestScriptsAreExecutable(t *testing.T) {
	for _, f := range sources(t, func(p string) bool { return filepath.Ext(p) == "" || filepath.Ext(p) == ".sh" }) {
		if !strings.HasPrefix(f.text, "#!") {
			continue
		}
		st, err := os.Stat(filepath.Join(root, f.path))
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode()&0o111 == 0 {
			t.Errorf("%s begins with #! and is not executable", f.path)
		}
	}
}

func TestReadmeFirstLine(t *testing.T) {
	first, _, _ := strings.Cut(read(t, "README.md"), "\n")
	for _, tool := range []string{"git", "make"} {
		if !strings.Contains(first, tool) {
			t.Errorf("README's first line does not name %s, which the bootstrap cannot install: %q", tool, first)
		}
	}
}
