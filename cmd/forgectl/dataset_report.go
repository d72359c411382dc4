package main

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	forge "github.com/forge-ml/forge-ml"
)

const (
	histogramWidth = 40 // cells of the longest bar
	piiLinesMost   = 20
	placesMost     = 3
)

// barEnds are what a bar ends with.
var barEnds = []string{"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"}

// histogram draws how long rows are, a bar a bin, in a width (0: any). Bins are doubles of each other; those between that are
// empty are drawn too, so that a gap is seen as one.
func histogram(bins []forge.LengthBin, width int) []string {
	bins = slices.DeleteFunc(slices.Clone(bins), func(b forge.LengthBin) bool { return b.Rows <= 0 || b.Below <= 0 })
	if len(bins) == 0 {
		return nil
	}
	slices.SortFunc(bins, func(a, b forge.LengthBin) int { return cmp.Compare(a.Below, b.Below) })
	var full []forge.LengthBin
	var most int64
	for _, b := range bins {
		for n := len(full); n > 0 && full[n-1].Below <= b.Below/4; n++ {
			full = append(full, forge.LengthBin{Below: 2 * full[n-1].Below})
		}
		full = append(full, b)
		most = max(most, b.Rows)
	}
	label := func(b forge.LengthBin) string { return "under " + thousands(b.Below) }
	wide, digits := 0, len(thousands(most))
	for _, b := range full {
		wide = max(wide, len(label(b)))
	}
	cells := histogramWidth
	if width > 0 {
		cells = max(barLeast, min(histogramWidth, width-wide-digits-6))
	}
	out := make([]string, len(full))
	for i, b := range full {
		out[i] = strings.TrimRight(fmt.Sprintf("%*s  %*s  %s", wide, label(b), digits, thousands(b.Rows), bar(b.Rows, most, cells)), " ")
	}
	return out
}

// bar is as long as n of most; what is there at all is seen.
func bar(n, most int64, cells int) string {
	if n <= 0 || most <= 0 {
		return ""
	}
	parts := max(1, int(float64(n)/float64(most)*float64(8*cells)+0.5))
	return strings.Repeat("█", parts/8) + barEnds[parts%8]
}

// report writes what the pass over the data found, for people.
func (p *printer) report(v forge.DatasetVersion) {
	if v.Scan == nil {
		return
	}
	r := belowRoot(v)
	if r.Duplicates.Rows > 0 {
		p.line("duplicates: %s of %s rows say the same as an earlier one: %s", thousands(r.Duplicates.Rows), thousands(v.Rows), places(r.Duplicates.First, r.Duplicates.Rows))
	}
	if r.Duplicates.Near > 0 {
		p.line("nearly the same: %s rows (from a similarity of %s on): %s", thousands(r.Duplicates.Near), number(r.Duplicates.Threshold), places(r.Duplicates.NearFirst, r.Duplicates.Near))
	}
	if bars := histogram(r.Lengths, p.width); bars != nil {
		p.line("characters in a row:")
		for _, l := range bars {
			p.line("  %s", l)
		}
	}
	p.pii(r.PII)
}

// belowRoot is the report with places as they are called below the root: what is above it stands once, and is long.
func belowRoot(v forge.DatasetVersion) *forge.ScanReport {
	root := v.Manifest.Root
	if len(v.Manifest.Files) == 1 && v.Manifest.Files[0].Path == "." {
		root = filepath.Dir(root)
	}
	root = strings.TrimSuffix(root, "/") + "/"
	shorter := func(places []string) []string {
		out := make([]string, len(places))
		for i, p := range places {
			out[i] = strings.ReplaceAll(p, root, "")
		}
		return out
	}
	r := *v.Scan
	r.Duplicates.First, r.Duplicates.NearFirst = shorter(r.Duplicates.First), shorter(r.Duplicates.NearFirst)
	if r.PII != nil {
		pii := *r.PII
		pii.Samples = slices.Clone(pii.Samples)
		for i := range pii.Samples {
			pii.Samples[i].Place = strings.TrimPrefix(pii.Samples[i].Place, root)
		}
		r.PII = &pii
	}
	return &r
}

// places lists the first few, and says that there are others.
func places(first []string, all int64) string {
	shown := first[:min(len(first), placesMost)]
	s := clean(strings.Join(shown, ", "))
	if int64(len(shown)) < all && len(shown) > 0 {
		s += " …"
	}
	return s
}

// pii is the table of personal data and secrets: where, how sure, how often, and one masked sample.
func (p *printer) pii(r *forge.PIIReport) {
	switch {
	case r == nil:
		p.line("personal data: nobody looked for it")
		return
	case len(r.Counts) == 0:
		p.line("personal data: none found in %s rows by %s. %s", thousands(r.Rows), scanners(r), clean(r.Note))
		return
	}
	p.line("personal data in %s of %s rows, by %s:", thousands(r.RowsFound), thousands(r.Rows), scanners(r))
	t := p.table("ENTITY", "FIELD:2", "CONFIDENCE", ">FINDINGS", ">ROWS:1", "SAMPLE")
	counts := slices.Clone(r.Counts)
	slices.SortStableFunc(counts, func(a, b forge.PIICount) int {
		return cmp.Or(confidenceRank(b.Confidence)-confidenceRank(a.Confidence), cmp.Compare(b.Findings, a.Findings), cmp.Compare(a.Entity, b.Entity))
	})
	for _, c := range counts[:min(len(counts), piiLinesMost)] {
		t.row(string(c.Entity), c.Field, string(c.Confidence), thousands(c.Findings), thousands(c.Rows), sampleOf(r, c))
	}
	t.flush()
	if more := len(counts) - piiLinesMost; more > 0 {
		p.line("and %s; all of them with -o json", plural(more, "more line"))
	}
	if r.Note != "" {
		p.line("%s", clean(r.Note))
	}
}

func scanners(r *forge.PIIReport) string {
	s := "rules " + clean(r.Scanner)
	if len(r.Sets) > 0 {
		s += " (" + clean(strings.Join(r.Sets, ", ")) + ")"
	}
	return s
}

func sampleOf(r *forge.PIIReport, c forge.PIICount) string {
	for _, s := range r.Samples {
		if s.Entity == c.Entity && s.Field == c.Field && s.Confidence == c.Confidence {
			return s.Masked + " at " + s.Place
		}
	}
	return ""
}

func confidenceRank(c forge.Confidence) int {
	return slices.Index([]forge.Confidence{forge.ConfidenceLow, forge.ConfidenceMedium, forge.ConfidenceHigh}, c)
}

// piiLine is the same in one line, for warnings.
func piiLine(r *forge.PIIReport) string {
	byEntity := map[forge.PIIEntity]int64{}
	var order []forge.PIIEntity
	for _, c := range r.Counts {
		if c.Confidence == forge.ConfidenceLow {
			continue
		}
		if byEntity[c.Entity] == 0 {
			order = append(order, c.Entity)
		}
		byEntity[c.Entity] += c.Findings
	}
	slices.SortStableFunc(order, func(a, b forge.PIIEntity) int { return cmp.Compare(byEntity[b], byEntity[a]) })
	parts := make([]string, len(order))
	for i, e := range order {
		parts[i] = thousands(byEntity[e]) + " " + string(e)
	}
	return clean(strings.Join(parts, ", "))
}
