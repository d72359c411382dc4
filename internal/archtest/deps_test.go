package archtest_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// checkDependencies holds a table (name | version | licence | why | without it) against what is
// really required: exactly those, at those versions, and every cell filled.
func checkDependencies(rows []row, required map[string]string, where string) []string {
	var found []string
	left := maps.Clone(required)
	for _, r := range rows {
		name := word(r[0])
		version, ok := required[name]
		switch {
		case len(r) != 5 || slices.Contains(r, ""):
			found = append(found, fmt.Sprintf("%s: its row needs a name, a version, a licence, why it is here, and what breaks without it", name))
		case !ok:
			found = append(found, fmt.Sprintf("%s is in docs/dependencies.md and not required directly by %s", name, where))
		case word(r[1]) != version:
			found = append(found, fmt.Sprintf("%s: docs/dependencies.md says %s, %s says %s", name, word(r[1]), where, version))
		}
		delete(left, name)
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		found = append(found, fmt.Sprintf("%s %s is required by %s and not in docs/dependencies.md", name, left[name], where))
	}
	return found
}

// goRequirements are the direct ones of go.mod, and the modules of its tools: the go command
// calls those indirect, and we chose them all the same.
func goRequirements(t *testing.T) map[string]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct {
			Path, Version string
			Indirect      bool
		}
		Tool []struct{ Path string }
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	direct := map[string]string{}
	for _, r := range mod.Require {
		tool := slices.ContainsFunc(mod.Tool, func(tool struct{ Path string }) bool { return inRoom(tool.Path, r.Path) })
		if !r.Indirect || tool {
			direct[r.Path] = r.Version
		}
	}
	return direct
}

var (
	requirement = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*)`)
	pinned      = regexp.MustCompile(`(?m)^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)`)
)

// pythonRequirements are the names in requirements*.in at the versions of the lock files.
func pythonRequirements(t *testing.T) map[string]string {
	t.Helper()
	locked := map[string]string{}
	for _, lock := range glob(t, "contrib/python-env/*.lock") {
		for _, m := range pinned.FindAllStringSubmatch(read(t, lock), -1) {
			locked[strings.ToLower(m[1])] = m[2]
		}
	}
	direct := map[string]string{}
	for _, in := range glob(t, "contrib/python-env/requirements*.in") {
		for line := range strings.Lines(read(t, in)) {
			if m := requirement.FindString(line); m != "" {
				version, ok := locked[strings.ToLower(m)]
				if !ok {
					t.Errorf("%s names %s, which no lock file in contrib/python-env pins", in, m)
				}
				direct[strings.ToLower(m)] = version
			}
		}
	}
	return direct
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil || len(found) == 0 {
		t.Fatalf("no file matches %s (%v)", pattern, err)
	}
	for i, f := range found {
		if found[i], err = filepath.Rel(root, f); err != nil {
			t.Fatal(err)
		}
	}
	return found
}

func TestDependencies(t *testing.T) {
	const page = "docs/dependencies.md"
	t.Run("the Go table is the direct requirements of go.mod", func(t *testing.T) {
		report(t, checkDependencies(table(t, page, "Go"), goRequirements(t), "go.mod"))
	})
	t.Run("the Python table is requirements.in at the locked versions", func(t *testing.T) {
		report(t, checkDependencies(table(t, page, "Python"), pythonRequirements(t), "contrib/python-env"))
	})
	t.Run("planted errors are found", func(t *testing.T) {
		good := row{"`a`", "`1`", "MIT", "because", "all"}
		want1(t, checkDependencies([]row{good}, map[string]string{"a": "2"}, "x"), "says 1")
		want1(t, checkDependencies([]row{good}, map[string]string{"a": "1", "b": "1"}, "x"), "b 1 is required")
		want1(t, checkDependencies([]row{good, good[:4]}, map[string]string{"a": "1"}, "x"), "needs a name")
		want1(t, checkDependencies([]row{good}, nil, "x"), "not required")
	})
}
