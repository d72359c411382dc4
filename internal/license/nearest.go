package license

import (
	"cmp"
	"slices"
	"strings"

	"github.com/github/go-spdx/v2/spdxexp/spdxlicenses"
)

// usual are the licences that data and models mostly have: of several that are as near, these are what was meant.
var usual = []string{"Apache-2.0", "MIT", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC0-1.0", "BSD-3-Clause", "GPL-3.0-only", "llama3.1", "gemma", "ODC-By-1.0", "openrail"}

func nearest(w string) []string          { return nearestOf(w, names(), usual) }
func nearestException(w string) []string { return nearestOf(w, spdxlicenses.GetExceptions(), nil) }

// nearestOf gives up to three ids that w may have been meant as: compared without case, dashes, dots and the like, and without the noise
// words that people put around ids.
func nearestOf(w string, all, first []string) []string {
	const longest = 60 // what is longer is no misspelling
	key := bare(w)
	if len(w) > longest || key == "" {
		return nil
	}
	type scored struct {
		id string
		d  int
	}
	var found []scored
	for _, id := range all {
		have := bare(id)
		d := 2 * distance(key, have)
		if d > 0 && (strings.HasPrefix(have, key) || strings.HasPrefix(key, have)) && len(have) >= 3 {
			d = min(d, 1+max(len(have), len(key))-min(len(have), len(key)))
		}
		if slices.Contains(first, id) {
			d--
		}
		if d <= max(2, 2*len(have)/3) {
			found = append(found, scored{id, d})
		}
	}
	slices.SortFunc(found, func(a, b scored) int { return cmp.Or(a.d-b.d, strings.Compare(a.id, b.id)) })
	var out []string
	for _, f := range found {
		if len(out) == 3 || len(out) > 0 && f.d > found[0].d+2 {
			break
		}
		out = append(out, f.id)
	}
	return out
}

// bare leaves only what tells licences apart: "The Apache License, Version 2" is apache2, and so is Apache-2.0.
func bare(w string) string {
	var b strings.Builder
	w = strings.ReplaceAll(strings.ToLower(w), ".0", "") // 2.0 is 2
	for i, c := range []byte(w) {
		if c == 'v' && i+1 < len(w) && w[i+1] >= '0' && w[i+1] <= '9' {
			continue // and so is v2
		}
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '+' {
			b.WriteByte(c)
		}
	}
	s := b.String()
	for _, noise := range []string{"licence", "license", "version"} {
		s = strings.ReplaceAll(s, noise, "")
	}
	return s
}

// distance is Levenshtein's, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diag, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diag+cost)
		}
	}
	return row[len(b)]
}
