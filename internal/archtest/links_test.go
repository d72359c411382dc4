package archtest_test

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	fence     = regexp.MustCompile("(?ms)^```.*?^```")
	inline    = regexp.MustCompile("`[^`\n]*`")
	link      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading   = regexp.MustCompile(`(?m)^#{1,6}\s+(.+?)\s*$`)
	notAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	makeWord  = regexp.MustCompile("(?m)(?:`|^\\s*\\$? ?)make ([a-z][a-z-]*)")
)

// anchors are a page's headings as GitHub names them in links.
func anchors(text string) map[string]bool {
	set := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		set[strings.ReplaceAll(notAnchor.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
	}
	return set
}

// checkLinks follows the links of a page that stay inside the repository.
func checkLinks(f file, readPage func(path string) (string, error)) []string {
	var found []string
	text := inline.ReplaceAllString(fence.ReplaceAllString(f.text, ""), "")
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		target, anchor, _ := strings.Cut(m[1], "#")
		if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
			continue
		}
		to := f.path
		if target != "" {
			to = path.Join(path.Dir(f.path), target)
		}
		page, err := readPage(to)
		switch {
		case err != nil:
			found = append(found, fmt.Sprintf("%s: the link %s leads nowhere", f.path, m[1]))
		case anchor != "" && !anchors(page)[anchor]:
			found = append(found, fmt.Sprintf("%s: the link %s names a heading that is not there", f.path, m[1]))
		}
	}
	return found
}

// checkTargets holds the make targets that a page names against the Makefile.
func checkTargets(f file, targets map[string]bool) []string {
	var found []string
	for _, m := range makeWord.FindAllStringSubmatch(f.text, -1) {
		if !targets[m[1]] {
			found = append(found, fmt.Sprintf("%s names make %s; the Makefile has no such target", f.path, m[1]))
		}
	}
	return found
}

func readInRepo(p string) (string, error) {
	name := filepath.Join(root, p)
	st, err := os.Stat(name)
	if err != nil || st.IsDir() {
		return "", err
	}
	b, err := os.ReadFile(name)
	return string(b), err
}

func TestLinks(t *testing.T) {
	targets := targetsOf(read(t, "Makefile"))
	for _, f := range sources(t, hasExt(".md")) {
		report(t, checkLinks(f, readInRepo))
		report(t, checkTargets(f, targets))
	}
	t.Run("planted ones are found", func(t *testing.T) {
		want1(t, checkLinks(file{"docs/x.md", "see [y](no-such-page.md)"}, readInRepo), "nowhere")
		want1(t, checkLinks(file{"x.md", "# A heading\n[y](#another)"}, func(string) (string, error) { return "# A heading", nil }), "heading")
		if found := checkLinks(file{"x.md", "# A heading, too\n[y](#a-heading-too)"}, func(string) (string, error) { return "# A heading, too", nil }); len(found) != 0 {
			t.Fatal(found)
		}
		want1(t, checkTargets(file{"x.md", "type `make coffee`"}, targets), "make coffee")
	})
}
