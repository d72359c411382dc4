package archtest_test

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// maxLines: what is longer is the worst-read part of every repository that was looked at.
const maxLines = 600

// vague names say nothing about what is inside, so everything ends up there.
var vague = []string{"util", "utils", "common", "helper", "helpers", "shared", "types", "manager", "misc"}

// checkName looks at a file's directories and its name without test and platform endings.
func checkName(file string) []string {
	parts := strings.Split(file, "/")
	last := len(parts) - 1
	parts[last], _, _ = strings.Cut(parts[last], ".")
	parts[last] = strings.TrimSuffix(parts[last], "_test")
	for _, p := range parts {
		if slices.Contains(vague, strings.ToLower(p)) {
			return []string{fmt.Sprintf("%s: %q is a name without a subject", file, p)}
		}
	}
	return nil
}

func checkLength(f file) []string {
	if n := len(f.lines()); n > maxLines {
		return []string{fmt.Sprintf("%s has %d lines, the limit is %d; split it by subject", f.path, n, maxLines)}
	}
	return nil
}

// The words are put together here so that this file does not find itself.
var unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)

func checkUnfinished(f file) []string {
	var found []string
	for i, line := range f.lines() {
		if w := unfinished.FindString(line); w != "" {
			found = append(found, fmt.Sprintf("%s:%d: %s: finish it, or file an issue", f.path, i+1, w))
		}
	}
	return found
}

func isCode(p string) bool {
	switch path.Ext(p) {
	case ".go", ".py", ".sh", ".ts", ".tsx":
		return true
	case "":
		return strings.HasPrefix(p, "contrib/") || path.Base(p) == "Makefile" || p == ".ci/run"
	}
	return false
}

func TestFiles(t *testing.T) {
	for _, f := range sources(t, isCode) {
		report(t, checkName(f.path))
		report(t, checkLength(f))
	}
	for _, f := range sources(t, func(p string) bool { return isCode(p) || hasExt(".md", ".yaml", ".yml", ".toml")(p) }) {
		report(t, checkUnfinished(f))
	}

	t.Run("planted violations are found", func(t *testing.T) {
		want1(t, checkName("store/util.go"), "util")
		want1(t, checkName("internal/helpers/x.go"), "helpers")
		want1(t, checkName("store/types_test.go"), "types")
		if found := checkName("store/artifact.go"); len(found) != 0 {
			t.Fatal(found)
		}
		want1(t, checkLength(file{path: "x.go", text: strings.Repeat("\n", maxLines+1)}), "601 lines")
		want1(t, checkUnfinished(file{path: "x.go", text: "a\n// " + "TO" + "DO: later\n"}), "x.go:2")
	})
}
