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

// checkLinks follows the links of a page that stay inside the repository. headings gives the anchors of a file that is there.
func checkLinks(f file, headings func(path string) (map[string]bool, error)) []string {
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
		there, err := headings(to)
		switch {
		case err != nil:
			found = append(found, fmt.Sprintf("%s: the link %s leads nowhere", f.path, m[1]))
		case anchor != "" && !there[anchor]:
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

// headingsInRepo reads each page once, though dozens of others link to it.
func headingsInRepo() func(path string) (map[string]bool, error) {
	known := map[string]map[string]bool{}
	return func(p string) (map[string]bool, error) {
		if set, ok := known[p]; ok {
			return set, nil
		}
		name := filepath.Join(root, p)
		st, err := os.Stat(name)
		if err != nil || st.IsDir() || path.Ext(p) != ".md" {
			return nil, err
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		known[p] = anchors(string(b))
		return known[p], nil
	}
}

func TestLinks(t *testing.T) {
	targets, inRepo := targetsOf(read(t, "Makefile")), headingsInRepo()
	only := func(page string) func(string) (map[string]bool, error) {
		return func(string) (map[string]bool, error) { return anchors(page), nil }
	}
	for _, f := range sources(t, hasExt(".md")) {
		report(t, checkLinks(f, inRepo))
		report(t, checkTargets(f, targets))
	}
	t.Run("planted ones are found", func(t *testing.T) {
		want1(t, checkLinks(file{"docs/x.md", "see [y](no-such-page.md)"}, inRepo), "nowhere")
		want1(t, checkLinks(file{"x.md", "# A heading\n[y](#another)"}, only("# A heading")), "heading")
		if found := checkLinks(file{"x.md", "# A heading, too\n[y](#a-heading-too)"}, only("# A heading, too")); len(found) != 0 {
			t.Fatal(found)
		}
		want1(t, checkTargets(file{"x.md", "type `make coffee`"}, targets), "make coffee")
	})
}
